//! `GET /.well-known/jwks.json`: the public keys (RFC 7517), from memory.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, Response};

use crate::http::App;
use crate::http::oauth::metadata::cacheable;

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Response<Body> {
    let public_keys = app.mint.public_keys();
    cacheable(&headers, public_keys.document, &public_keys.etag)
}
