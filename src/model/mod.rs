//! The nouns of tenmint, each parsed once.
//!
//! What exists here is valid: a slug that is no slug cannot be made. Every room above uses these
//! types. Nothing here does I/O, waits, or asks for the time or for randomness.

pub mod access;
pub mod api_key;
pub mod ask;
pub mod audience;
mod audience_uri;
pub mod audit;
pub mod bot;
pub mod gateway_policy;
pub mod id;
pub mod import;
pub mod installation;
pub mod ip_range;
pub mod ip_rules;
pub mod journal;
pub mod ledger;
pub mod migration;
pub mod org;
pub mod owner;
pub mod path_template;
pub mod quota;
pub mod quota_counter;
pub mod raw_keys;
pub mod revocation;
pub mod role;
pub mod scope_catalogue;
pub mod secret;
pub mod short_text;
pub mod signing_key;
pub mod signing_key_schedule;
pub mod source;
pub mod space;
pub mod time;
pub mod token_id;
pub mod usage;
pub mod user;
