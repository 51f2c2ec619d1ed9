//! The nouns of tenmint, each parsed once.
//!
//! What exists here is valid: a slug that is no slug cannot be made. Every room above uses these
//! types. Nothing here does I/O, waits, or asks for the time or for randomness.

pub mod api_key;
pub mod audience;
pub mod bot;
pub mod id;
pub mod installation;
pub mod org;
pub mod secret;
pub mod signing_key;
pub mod time;
