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
use crate::http::actor::{actor_of, holder_of, is_api_key, origin_of, presented};
use crate::http::api::operation::Plane;
use crate::http::api::request::Query;
use crate::http::error::{self, RefusalForAudit};
use crate::http::oauth::form::decode;
use crate::http::{App, Route};
use crate::model::access::{Actor, Holder, Origin};
use crate::model::id::OrgId;
use crate::service::refusals::RefusedChange;

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

/// Who is refused, and in whose audit that is told.
struct RefusedCaller {
    holder: Holder,
    origin: Origin,
    org: OrgId,
    /// Where names are looked up; nowhere before it is clear which organization is meant.
    names_of: Option<OrgId>,
    reaches_all: bool,
}

/// Lets nobody through who is not known, and writes refusals of changes to the audit.
pub(super) async fn guard(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let route = Route(guard.path);
    let mut response = guarded(&guard, request, next).await;
    response.extensions_mut().insert(route);
    response
}

async fn guarded(guard: &Guard, request: Request, next: Next) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let names = names_in(guard.path, head.uri.path());
    let actor = match guard.identify(&head).await {
        Ok(actor) => actor,
        Err(cause) => {
            let known = guard.known(&head, &cause);
            if guard.is_failure(&head, &cause)
                && let Err(too_many) = guard.app.count_failure(guard.app.caller_of(&head))
            {
                return error::too_many_failures(too_many);
            }
            let response = cause.into_response();
            let Some(refusee) = known else { return response };
            return guard.audited(&refusee, &names, response).await;
        }
    };
    let mut refusee = RefusedCaller::new(actor.credential.holder(), actor.origin.clone(), &head);
    refusee.reaches_all = actor.credential.is_account_admin;
    let response = match guard.admit(&head, &actor).await {
        Ok(admitted) => {
            refusee.org = admitted.org;
            refusee.names_of = Some(admitted.org);
            head.extensions.insert(admitted);
            next.run(Request::from_parts(head, body)).await
        }
        // a change of what is none of the caller's business is told in the caller's own audit
        Err(cause) => cause.into_response(),
    };
    guard.audited(&refusee, &names, response).await
}

impl RefusedCaller {
    /// Somebody whose call goes no further for now.
    fn new(holder: Holder, origin: Origin, head: &Parts) -> Self {
        let names_another = head.uri.query().is_some_and(|query| query.contains("organization"));
        let is_clear = !names_another && is_text(head.uri.path());
        let names_of = is_clear.then_some(holder.org);
        Self { holder, origin, org: holder.org, names_of, reaches_all: false }
    }
}

impl Guard {
    async fn identify(&self, head: &Parts) -> Result<Actor> {
        // nobody who shows nothing has the database looked at
        presented(head)?;
        // judged by what holds at the moment of the call, on whichever node it arrives
        self.app.service.follow().await?;
        actor_of(&self.app, head)
    }

    /// Whether it counts against the address it came from: an API key that nobody has, which may be a guess,
    /// or that holds no more and would change something, of which the audit must not grow as fast as somebody
    /// can ask. A token dies within minutes, in the hands of good clients too.
    fn is_failure(&self, head: &Parts, cause: &Error) -> bool {
        matches!(cause, Error::Unauthenticated(_))
            && is_api_key(head)
            && (self.action.is_some() || holder_of(&self.app, head).is_none())
    }

    /// Who would change something with a credential that is refused and known all the same.
    fn known(&self, head: &Parts, cause: &Error) -> Option<RefusedCaller> {
        if self.action.is_none() || !matches!(cause, Error::Unauthenticated(_)) {
            return None;
        }
        let holder = holder_of(&self.app, head)?;
        Some(RefusedCaller::new(holder, origin_of(&self.app, head), head))
    }

    async fn admit(&self, head: &Parts, actor: &Actor) -> Result<Admitted> {
        if !is_text(head.uri.path()) {
            return Err(Error::NotFound("such path".to_owned()));
        }
        let mut query = Query::parse(head.uri.query().unwrap_or_default())?;
        let org = match query.take("organization") {
            Some(_) if self.plane != Plane::Organization => {
                query.refuse("organization", "this is of no one organization");
                actor.credential.org
            }
            Some(name) => self.app.service.find_org(actor, &name).await?.id,
            None => actor.credential.org,
        };
        Ok(Admitted { actor: actor.clone(), org, query })
    }

    /// An answer, once the audit has it where it refuses a change.
    async fn audited(
        &self,
        refusee: &RefusedCaller,
        names: &[(&str, String)],
        response: Response<Body>,
    ) -> Response<Body> {
        let said = response.extensions().get::<RefusalForAudit>();
        let (Some(action), Some(said), true) =
            (self.action, said, response.status().is_client_error())
        else {
            return response;
        };
        let RefusedCaller { holder, ref origin, org, names_of, reaches_all } = *refusee;
        let change = RefusedChange {
            holder,
            origin,
            org,
            names_of,
            reaches_all,
            action,
            names,
            code: said.code,
            said: &said.detail,
        };
        match self.app.service.audit_refusal(&change).await {
            Ok(()) => response,
            Err(cause) => cause.into_response(),
        }
    }
}

/// Whether a path decodes to a text that can be looked for.
fn is_text(path: &str) -> bool {
    decode(path).is_ok_and(|text| !text.contains('\0'))
}

/// What a path names, each behind the noun that its template has before it: of `/v1/keys/{id}/rotate` the
/// key. Where it names nothing, its noun alone.
fn names_in(template: &'static str, path: &str) -> Vec<(&'static str, String)> {
    let (mut noun, mut names) = ("", Vec::new());
    for (told, sent) in template.split('/').zip(path.split('/')).skip(2) {
        if told.starts_with('{') {
            names.push((noun, text_of(sent)));
        } else {
            noun = told;
        }
    }
    if names.is_empty() {
        names.push((template.split('/').nth(2).unwrap_or_default(), String::new()));
    }
    names
}

/// A segment of a path as handlers read it, where a `+` is a `+`.
fn text_of(segment: &str) -> String {
    match decode(&segment.replace('+', "%2B")) {
        Ok(text) => text.into_owned(),
        Err(_) => segment.to_owned(),
    }
}
