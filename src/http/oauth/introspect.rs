//! `POST /oauth/introspect` (RFC 7662) and `POST /oauth/revoke` (RFC 7009), for callers that
//! authenticate like clients of the token endpoint, or with a token for the management API.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tenmint_verifier::{Action, Resource};

use crate::error::Error;
use crate::http::actor::origin_of;
use crate::http::oauth::client_auth::{self, Way};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::oauth::token::{caller_of, read_form};
use crate::http::{App, json_answer};
use crate::mint::Presented;
use crate::mint::introspect::{Introspected, IntrospectionRequest, Revocable};
use crate::model::access::{Actor, Credential};
use crate::model::secret::PlainSecret;

/// Tells what a token or an API key is worth.
pub(in crate::http) async fn introspect(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    match introspected(&app, &head, body).await {
        Ok(Introspected::Active(members)) => {
            json_answer(StatusCode::OK, json!(members).to_string())
        }
        Ok(Introspected::Inactive) => json_answer(StatusCode::OK, r#"{"active":false}"#),
        Err(refused) => refused.answer_to(&app, &head),
    }
}

/// Revokes a token. What is no token of the caller's organization is answered like one that was
/// revoked (RFC 7009, section 2.2), but for its API keys, which are revoked elsewhere.
pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    match revoked(&app, &head, body).await {
        Ok(()) => json_answer(StatusCode::OK, "{}"),
        Err(refused) => refused.answer_to(&app, &head),
    }
}

async fn introspected(app: &App, head: &Parts, body: Body) -> Result<Introspected, OAuthError> {
    let AuthenticatedForm { mut form, actor, way } =
        AuthenticatedForm::read(app, head, body).await?;
    let text = token_of(&mut form)?;
    let client_ip = form.take("client_ip").map(|text| text.parse::<IpAddr>()).transpose();
    let client_ip =
        client_ip.map_err(|_| OAuthError::invalid_request("client_ip is no address"))?;
    require_to_introspect(&actor.credential, way)?;
    let audience = form.take("audience");
    let request = IntrospectionRequest { text, audience, client_ip };
    let ask = || app.mint.introspect(&request, &actor.credential, app.clock.now());
    let told = app.service.with_what_others_know(app.mint.quotas(), ask).await;
    told.map_err(|refused| OAuthError::of(refused, way, None))
}

async fn revoked(app: &App, head: &Parts, body: Body) -> Result<(), OAuthError> {
    let AuthenticatedForm { mut form, actor, way } =
        AuthenticatedForm::read(app, head, body).await?;
    let text = token_of(&mut form)?;
    let text = std::str::from_utf8(text.as_bytes()).unwrap_or_default();
    let refusal = |refused| OAuthError::of(refused, way, None);
    let mut revocable = app.mint.revocable(text, &actor.credential).map_err(refusal)?;
    if matches!(revocable, Revocable::NotHeardOf) {
        app.service.hear_of_others().await.map_err(refusal)?;
        revocable = app.mint.revocable(text, &actor.credential).map_err(refusal)?;
    }
    let claims = match revocable {
        Revocable::Token(claims) => claims,
        // whoever thinks that a leaked key is dead now must learn that it is not
        Revocable::ApiKey => return Err(OAuthError::unsupported_token_type()),
        Revocable::NotHeardOf | Revocable::Nothing => return Ok(()),
    };
    app.service.revoke_token(&actor, &claims).await.map_err(|cause| match cause {
        Error::Forbidden(_) => OAuthError::not_of_this_client(),
        cause => {
            let source = std::error::Error::source(&cause).map(ToString::to_string);
            tracing::error!(%cause, source, "a token cannot be revoked");
            OAuthError::unavailable()
        }
    })
}

/// What both routes take.
struct AuthenticatedForm {
    form: Form,
    actor: Actor,
    way: Way,
}

impl AuthenticatedForm {
    async fn read(app: &App, head: &Parts, body: Body) -> Result<Self, OAuthError> {
        if head.method != Method::POST {
            return Err(OAuthError::method_not_allowed());
        }
        let mut form = read_form(app, &head.headers, body).await?;
        form.refuse_repeated().map_err(OAuthError::invalid_request)?;
        let (credential, way) = asker(app, head, &mut form)?;
        Ok(Self { form, actor: Actor { credential, origin: origin_of(app, head) }, way })
    }
}

/// Who asks about tokens, and how it said so.
pub(super) fn asker(
    app: &App,
    head: &Parts,
    form: &mut Form,
) -> Result<(Credential, Way), OAuthError> {
    let (client, way) = client_auth::take(&head.headers, form)?;
    let caller = caller_of(&head.headers, app.caller_of(head));
    let presented = Presented::of(client, way == Way::Bearer);
    let credential = app.mint.identify_for_tokens(&presented, caller, app.clock.now());
    let refusal = |refused| match &presented {
        Presented::ApiKey(_) => OAuthError::of(refused, way, None),
        Presented::Token(_) => OAuthError::of_token(refused),
    };
    Ok((credential.map_err(refusal)?, way))
}

fn token_of(form: &mut Form) -> Result<PlainSecret, OAuthError> {
    let text = form.take("token");
    text.map(PlainSecret::new).ok_or(OAuthError::invalid_request("token is missing"))
}

/// Refuses whoever does not hold `introspect` on the tokens of its organization.
pub(super) fn require_to_introspect(credential: &Credential, way: Way) -> Result<(), OAuthError> {
    let refused = || OAuthError::insufficient_scope("introspect:org/tokens/*", way);
    if may_introspect(credential) { Ok(()) } else { Err(refused()) }
}

/// Whether somebody holds `introspect` on the tokens of its organization.
pub(in crate::http) fn may_introspect(credential: &Credential) -> bool {
    let action = "introspect".parse::<Action>();
    let tokens = Resource::new(["org", "tokens", "any"]);
    let (Ok(action), Ok(tokens)) = (action, tokens) else { return false };
    let held = credential.scopes.as_ref();
    held.is_some_and(|scopes| scopes.matches(&action, &tokens))
}
