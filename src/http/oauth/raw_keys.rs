//! `GET /oauth/raw-keys?audience=URI`: what an API does with API keys that are sent to it as they are,
//! told to the verifier of that API. The revocation feed says when to ask again.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tenmint_verifier::ToldRawKeyPolicy;

use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::oauth::introspect::{asker, require_to_introspect};
use crate::http::{App, json_answer};

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, _) = request.into_parts();
    match policy(&app, &head) {
        Ok(text) => json_answer(StatusCode::OK, text),
        Err(refused) => refused.answer_to(&app, &head),
    }
}

fn policy(app: &App, head: &Parts) -> Result<String, OAuthError> {
    // a credential in a URL ends up in logs, so that none is looked for there
    let mut no_form = Form::parse(b"").map_err(OAuthError::invalid_request)?;
    let (credential, way) = asker(app, head, &mut no_form)?;
    require_to_introspect(&credential, way)?;
    let query = head.uri.query().unwrap_or_default();
    let mut query = Form::parse(query.as_bytes()).map_err(OAuthError::invalid_request)?;
    query.refuse_repeated().map_err(OAuthError::invalid_request)?;
    let audience =
        query.take("audience").ok_or(OAuthError::invalid_request("audience is missing"))?;
    let policy = app.mint.raw_key_policy(&credential, &audience, app.clock.now());
    let (policy, rev) = policy.map_err(|refused| OAuthError::of(refused, way, None))?;
    Ok(serde_json::to_string(&ToldRawKeyPolicy { rev, policy: (*policy).clone() })
        .unwrap_or_default())
}
