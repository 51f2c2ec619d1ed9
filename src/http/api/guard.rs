//! What stands before and behind every operation: who calls, in which organization, and the audit
//! of what was refused.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::IntoResponse;
use http::Response;
use http::request::Parts;

use crate::error::{Error, Result};
use crate::http::actor::actor_of;
use crate::http::api::operation::Plane;
use crate::http::api::request::Query;
use crate::http::error::Said;
use crate::http::oauth::form::decode;
use crate::http::{App, Route};
use crate::model::access::Actor;
use crate::model::id::OrgId;

/// What the guard of an operation knows of it.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) app: Arc<App>,
    pub(super) path: &'static str,
    pub(super) action: Option<&'static str>,
    pub(super) plane: Plane,
}

/// Who calls, and which organization it is about: what the guard found out.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    pub(super) actor: Actor,
    pub(super) org: OrgId,
    pub(super) query: Query,
}

/// Lets nobody through who is not known, and writes refusals of changes to the audit.
pub(super) async fn guard(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let actor = match guard.identify(&head).await {
        Ok(actor) => actor,
        Err(cause) => return cause.into_response(),
    };
    let object = object_of(head.uri.path());
    let (org, mut response) = match guard.admit(&head, &actor).await {
        Ok(admitted) => {
            let org = admitted.org;
            head.extensions.insert(admitted);
            (org, next.run(Request::from_parts(head, body)).await)
        }
        // a change of what is none of the caller's business is told in the caller's own audit
        Err(cause) => (actor.credential.org, cause.into_response()),
    };
    response.extensions_mut().insert(Route(guard.path));
    match (guard.action, response.extensions().get::<Said>()) {
        (Some(action), Some(said)) if response.status().is_client_error() => {
            let what = (action, object.as_str());
            let said = (said.code, said.detail.as_str());
            match guard.app.service.audit_refusal(&actor, org, what, said).await {
                Ok(()) => response,
                Err(cause) => cause.into_response(),
            }
        }
        _ => response,
    }
}

impl Guard {
    async fn identify(&self, head: &Parts) -> Result<Actor> {
        // judged by what holds at the moment of the call, on whichever node it arrives
        self.app.service.follow().await?;
        actor_of(&self.app, head)
    }

    async fn admit(&self, head: &Parts, actor: &Actor) -> Result<Admitted> {
        if !is_text(head.uri.path()) {
            return Err(Error::NotFound("such path".to_owned()));
        }
        let mut query = Query::parse(head.uri.query().unwrap_or_default())?;
        let org = match query.take("organization") {
            Some(_) if self.plane != Plane::Organization => {
                return Err(Error::invalid("organization", "this is of no one organization"));
            }
            Some(name) => self.app.service.find_org(actor, &name).await?.id,
            None => actor.credential.org,
        };
        Ok(Admitted { actor: actor.clone(), org, query })
    }
}

/// Whether a path decodes to a text that can be looked for.
fn is_text(path: &str) -> bool {
    decode(path).is_ok_and(|text| !text.contains('\0'))
}

/// The thing that a path names: its third segment, as `/v1/keys/key_...`.
fn object_of(path: &str) -> String {
    let mut segments = path.split('/').skip(2);
    let noun = segments.next().unwrap_or_default();
    let name = segments.next().unwrap_or_default();
    let plain = |text: &str| text.chars().filter(char::is_ascii_graphic).take(64).collect();
    if name.is_empty() { plain(noun) } else { plain(name) }
}
