//! `/forward-auth`: gateways ask whether a request may pass, before they hand it to the API (nginx's
//! `auth_request`, Traefik's `forwardAuth`, Envoy's `ext_authz`).
//!
//! `Authorization` is the end caller's here. Nothing that is told of its request is believed before
//! the gateway has shown its own key, or has reached the private listener. No body is read.

mod answer;
mod question;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, any};
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use tenmint_verifier::{InvalidToken, VerifyError};

use crate::http::App;
use crate::http::client_ip::Peer;
use crate::http::forward_auth::answer::{Denied, PASSED, Reason, passing};
use crate::http::forward_auth::question::{GatewayQuestion, presented};
use crate::http::oauth::introspect::may_introspect;
use crate::http::oauth::token::caller_of;
use crate::mint::failures::TooManyFailures;
use crate::mint::forward_auth::{Gateway, Passed, Verdict};
use crate::mint::{Caller, ClientCredential, Presented, Refused};
use crate::model::access::Credential;
use crate::model::gateway_policy::Unruled;
use crate::model::secret::PlainSecret;

pub(super) use crate::http::forward_auth::answer::DECISIONS;

/// Where gateways ask.
pub(super) const PATH: &str = "/forward-auth";
/// The key of the gateway itself: an API key or a token.
const GATEWAY_KEY: HeaderName = HeaderName::from_static("tenmint-gateway-key");

/// Whether a path is one of those where gateways ask: what follows is of somebody else's request.
pub(super) fn is_asked_at(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The routes beside all others: who asks shows a key.
pub(super) fn routes() -> Router<Arc<App>> {
    on_every_path(any(decide))
}

/// The routes of a private listener: whoever reaches it may ask.
pub(super) fn private_routes() -> Router<Arc<App>> {
    on_every_path(any(decide_privately))
}

/// A gateway that keeps the path and method of a request puts the policy before it.
fn on_every_path(handler: MethodRouter<Arc<App>>) -> Router<Arc<App>> {
    Router::new()
        .route(PATH, handler.clone())
        .route("/forward-auth/", handler.clone())
        .route("/forward-auth/{*asked}", handler)
}

async fn decide(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    let (head, _) = request.into_parts();
    let decided = async {
        let gateway = gateway_of(&app, &head)?;
        let asked = GatewayQuestion::read(&head, false)?;
        decided(&app, &head, Gateway::Known(&gateway), &asked).await
    };
    answer_of(&app, decided.await)
}

async fn decide_privately(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    let (head, _) = request.into_parts();
    let decided = async {
        let asked = GatewayQuestion::read(&head, true)?;
        decided(&app, &head, Gateway::Private(&asked.org), &asked).await
    };
    answer_of(&app, decided.await)
}

fn answer_of(app: &App, decided: Result<Box<Passed>, Denied>) -> Response<Body> {
    app.requests.decided(decided.as_ref().err().map_or(PASSED, Denied::reason));
    match decided {
        Ok(passed) => passing(&passed),
        Err(denied) => denied.into_response(),
    }
}

async fn decided(
    app: &App,
    head: &Parts,
    gateway: Gateway<'_>,
    asked: &GatewayQuestion<'_>,
) -> Result<Box<Passed>, Denied> {
    let now = app.clock.now();
    let guarding = app.mint.guarding(gateway, &asked.policy, now)?.ok_or(Reason::UnknownPolicy)?;
    let told = asked.told(&head.headers)?;
    // before the credential: a request that leads nowhere uses up no quota
    let needed = guarding.needed(told.method, told.target)?;
    let presented = presented(&head.headers)?;
    let from = caller_of(&head.headers, told.address);
    let ask = || app.mint.decide((&guarding, &needed), &presented, from, app.clock.now());
    match app.service.with_what_others_know(app.mint.quotas(), ask).await? {
        Verdict::Passes(passed) => Ok(passed),
        Verdict::Stopped(VerifyError::InvalidToken(InvalidToken::UnknownApiKey)) => {
            Err(unknown_api_key(app, &presented, told.address).into())
        }
        Verdict::Stopped(wrong) => Err(wrong.into()),
    }
}

/// The refusal of an end caller's API key, or of the address from which too many came that are nobody's.
fn unknown_api_key(app: &App, presented: &Presented, from: Option<IpAddr>) -> VerifyError {
    let unknown = InvalidToken::UnknownApiKey.into();
    if app.mint.holder_of(presented).is_some() {
        return unknown;
    }
    app.count_failure(from).map_or_else(try_later, |()| unknown)
}

fn try_later(TooManyFailures { retry_after }: TooManyFailures) -> VerifyError {
    VerifyError::TryLater { retry_after }
}

/// Who asks, held to what `POST /oauth/introspect` holds its callers to.
fn gateway_of(app: &App, head: &Parts) -> Result<Credential, Denied> {
    let text = gateway_key(&head.headers).ok_or(Reason::UnknownGateway)?;
    let client = ClientCredential::bare(PlainSecret::new(text.to_owned()));
    let presented = Presented::of(client, true);
    // who connects is the gateway; the forwarding header tells of the end caller
    let address = head.extensions.get::<Peer>().map(|peer| peer.0.ip());
    let from = Caller { address, user_agent: None };
    let credential = app.mint.identify_for_tokens(&presented, from, app.clock.now());
    let credential = credential.map_err(|refused| match refused {
        Refused::Unavailable => Reason::Unavailable.into(),
        Refused::UnknownClient if matches!(presented, Presented::ApiKey(_)) => {
            let counted = app.count_failure(address).map_err(try_later);
            counted.map_or_else(Denied::There, |()| Reason::UnknownGateway.into())
        }
        _ => Denied::Here(Reason::UnknownGateway),
    })?;
    if may_introspect(&credential) { Ok(credential) } else { Err(Reason::GatewayForbidden.into()) }
}

fn gateway_key(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(GATEWAY_KEY).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    line.to_str().ok().filter(|text| !text.is_empty())
}

impl From<Unruled> for Denied {
    fn from(unruled: Unruled) -> Self {
        Self::Here(match unruled {
            Unruled::NotCanonical => Reason::PathNotCanonical,
            Unruled::NoRule => Reason::NoRule,
        })
    }
}
