//! The face of a node that waits for its database: alive, not ready, and to everything else a refusal
//! that says when to come again.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::{any, get};
use http::{Response, StatusCode};

use crate::error::Error;
use crate::http::listener::{Face, Limits};
use crate::http::tls::Tls;
use crate::http::{health, json_answer, oauth};

/// The face until there is a node.
pub fn waiting_face(limits: Limits, tls: Option<Arc<Tls>>) -> Face {
    let router = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(not_ready))
        .route("/oauth/{*rest}", any(async || oauth::unavailable()))
        .fallback(async || Error::Unavailable("there is no node yet".into()).into_response());
    Face::plain(router, limits).over(tls)
}

async fn not_ready() -> Response<Body> {
    json_answer(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"waiting_for_the_database"}"#)
}
