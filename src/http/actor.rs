//! Who calls the management API: an API key, or a token of this very service for its audience.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, USER_AGENT};
use http::request::Parts;

use crate::error::{Error, Result};
use crate::http::error::NO_CREDENTIAL;
use crate::http::oauth::client_auth::read_authorization_of;
use crate::http::{App, RequestId};
use crate::mint::{Caller, Presented, Refused};
use crate::model::access::{Actor, Holder, Origin};

/// Bytes of a user agent that the audit keeps.
const MAX_USER_AGENT: usize = 200;

/// Takes the one credential of a request and says who calls.
///
/// # Errors
/// [`Error::Unauthenticated`] for all that is wrong with a credential, and [`Error::Unavailable`]
/// where the node cannot tell.
pub(super) fn actor_of(app: &App, head: &Parts) -> Result<Actor> {
    let presented = presented(head)?;
    let origin = origin_of(app, head);
    let caller = Caller { address: origin.address, user_agent: origin.user_agent.as_deref() };
    let credential =
        app.mint.identify(&presented, caller, app.clock.now()).map_err(
            |refused| match refused {
                Refused::Unavailable => Error::Unavailable("the node is not ready".into()),
                Refused::InvalidTarget => {
                    Error::Unauthenticated("the credential is not for the management API")
                }
                Refused::AddressNotAllowed => {
                    Error::Unauthenticated("the credential may not be used from this address")
                }
                _ => Error::Unauthenticated("the credential is not known, or no longer good"),
            },
        )?;
    Ok(Actor { credential, origin })
}

/// Whose a credential is that was refused; nobody's where it is not known at all.
pub(super) fn holder_of(app: &App, head: &Parts) -> Option<Holder> {
    app.mint.holder_of(&presented(head).ok()?)
}

/// Whether it is an API key that is presented, whoever has it.
pub(super) fn is_api_key(head: &Parts) -> bool {
    matches!(presented(head), Ok(Presented::ApiKey(_)))
}

/// The credential that is presented.
///
/// # Errors
/// [`Error::Unauthenticated`] where there is none, or none that can be read.
pub(super) fn presented(head: &Parts) -> Result<Presented> {
    let mut values = head.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Error::Unauthenticated(NO_CREDENTIAL));
    };
    let unreadable = || Error::Unauthenticated("the Authorization header cannot be read");
    let value = value.to_str().map_err(|_| unreadable())?;
    let (client, is_bearer) = read_authorization_of(value).ok_or_else(unreadable)?;
    Ok(Presented::of(client, is_bearer))
}

pub(super) fn origin_of(app: &App, head: &Parts) -> Origin {
    let address: Option<IpAddr> = app.caller_of(head);
    let request_id = head.extensions.get::<RequestId>();
    Origin {
        address,
        user_agent: user_agent_of(app, head),
        request_id: request_id.map(|id| id.0.clone()).unwrap_or_default(),
    }
}

/// What the caller's program calls itself; nothing where somebody put a key there by mistake.
fn user_agent_of(app: &App, head: &Parts) -> Option<String> {
    let text = head.headers.get(USER_AGENT)?.to_str().ok()?;
    if let Ok(Presented::ApiKey(client)) = presented(head)
        && client.texts.iter().any(|secret| secret.is_shown_in(text))
    {
        return None;
    }
    let prefix = format!("{}_", app.mint.installation().api_key_prefix.as_str());
    if text.contains(&prefix) || text.contains("eyJ") {
        return None;
    }
    Some(text.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT).collect())
}
