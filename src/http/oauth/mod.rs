//! The OAuth endpoints: the token endpoint and what clients discover it by.

mod client_auth;
mod error;
mod form;
pub(super) mod jwks;
pub(super) mod metadata;
pub(super) mod token;
