//! `POST /oauth/uses`: calls to an API that its verifier counted, raw keys and tokens alike. What the
//! way from raw keys to tokens is watched by, where questions about raw keys alone are too few.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;

use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::oauth::introspect::{asker, require_to_introspect};
use crate::http::oauth::token::read_json;
use crate::http::{App, json_answer};
use crate::mint::api_uses::ReportedUses;
use crate::model::migration;

/// Bytes of a report at most.
const MAX_BYTES: usize = 256 * 1024;
/// Keys and forms of a report at most.
const MAX_USES: usize = 500;

/// A report as it is sent.
#[derive(Debug, Deserialize)]
struct Report {
    /// The API, by URI or slug.
    audience: String,
    uses: Vec<Reported>,
}

#[derive(Debug, Deserialize)]
struct Reported {
    client_id: String,
    form: migration::Form,
    calls: u64,
    /// Seconds since the first and the last of them.
    first_ago: u64,
    last_ago: u64,
    address: Option<IpAddr>,
    user_agent: Option<String>,
}

pub(in crate::http) async fn take(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    match taken(&app, &head, body).await {
        Ok(()) => json_answer(StatusCode::OK, "{}"),
        Err(refused) => refused.answer_to(&app, &head),
    }
}

async fn taken(app: &App, head: &Parts, body: Body) -> Result<(), OAuthError> {
    if head.method != Method::POST {
        return Err(OAuthError::method_not_allowed());
    }
    let mut no_form = Form::parse(b"").map_err(OAuthError::invalid_request)?;
    let (credential, way) = asker(app, head, &mut no_form)?;
    require_to_introspect(&credential, way)?;
    let body = read_json(app, &head.headers, (body, MAX_BYTES)).await?;
    let Report { audience, uses } = serde_json::from_slice(&body).map_err(|_| {
        OAuthError::invalid_request("the report is no JSON of `audience` and `uses`")
    })?;
    if uses.len() > MAX_USES {
        return Err(OAuthError::invalid_request(
            "a report has at most 500 uses: send more of them",
        ));
    }
    let uses = uses.into_iter().map(Reported::parse).collect::<Result<Vec<_>, _>>()?;
    let now = app.clock.now();
    let counted = app.mint.count_reported(&credential, (&audience, &uses), now);
    counted.map_err(|refused| OAuthError::of(refused, way, None))
}

impl Reported {
    fn parse(self) -> Result<ReportedUses, OAuthError> {
        let Self { client_id, form, calls, first_ago, last_ago, address, user_agent } = self;
        let client_id = client_id
            .parse()
            .map_err(|_| OAuthError::invalid_request("a client_id is the id of no API key"))?;
        Ok(ReportedUses { client_id, form, calls, first_ago, last_ago, address, user_agent })
    }
}
