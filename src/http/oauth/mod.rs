//! The OAuth endpoints: the token endpoint and what clients discover it by.

pub(super) mod client_auth;
mod error;
pub(super) mod form;
pub(super) mod jwks;
pub(super) mod metadata;
mod rate_limit;
pub(super) mod token;
