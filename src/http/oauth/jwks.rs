//! `GET /.well-known/jwks.json`: the public keys (RFC 7517), from memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, Response};

use crate::http::App;
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::metadata::cacheable;

/// A node that was cut off for longer may lack a key that signs elsewhere by now: a key is published
/// for two hours at least, and a copy of the JWKS may be an hour old.
const SERVED_UNHEARD: Duration = Duration::from_hours(1);

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Response<Body> {
    let age = app.mint.index().age(app.clock.now());
    if age.is_none_or(|age| age > SERVED_UNHEARD) {
        return OAuthError::unavailable().into_response();
    }
    let public_keys = app.mint.public_keys();
    cacheable(&headers, public_keys.document, &public_keys.etag)
}
