//! The OAuth endpoints: tokens, what they are worth, what was revoked, and what clients discover all
//! of it by.

pub(super) mod client_auth;
pub(super) mod error;
pub(super) mod feed;
pub(super) mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
pub(super) mod introspect;
pub(super) mod jwks;
pub(super) mod metadata;
mod rate_limit;
pub(super) mod raw_keys;
pub(super) mod token;
pub(super) mod uses;

use axum::body::Body;
use axum::response::IntoResponse;
use http::Response;

use crate::http::oauth::error::OAuthError;

/// The refusal for trouble of our own.
pub(super) fn unavailable() -> Response<Body> {
    OAuthError::unavailable().into_response()
}
