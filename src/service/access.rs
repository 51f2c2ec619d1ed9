//! May the caller do this? Asked by every use case before it writes.
//!
//! What a caller may not know of is not there; what it may see and not touch names the scope that
//! is missing. And nobody gives what the presented credential does not hold.

use tenmint_verifier::{Action, ScopeSet, ScopeView};

use crate::error::{Error, Result};
use crate::mint::{Caller, Refused};
use crate::model::access::{Actor, Guarded};
use crate::model::api_key::ApiKey;
use crate::model::id::{AudienceId, OrgId, Slug};
use crate::model::ip_rules::IpRules;
use crate::model::owner::IndexedOwner;
use crate::model::time::Timestamp;
use crate::service::Service;

/// A thing under its management path.
pub(crate) fn guarded<'s>(org: OrgId, path: impl IntoIterator<Item = &'s str>) -> Result<Guarded> {
    Guarded::new(org, path).map_err(|cause| Error::Broken(cause.to_string()))
}

/// A part of an organization, or of a space of it where a slug is given: `keys`, `bots`, `members`.
pub(crate) fn part(org: OrgId, space: Option<&Slug>, noun: &str, id: &str) -> Result<Guarded> {
    match space {
        Some(slug) => guarded(org, ["space-management", slug.as_str(), noun, id]),
        None => guarded(org, ["org", noun, id]),
    }
}

/// An API key under its management path, and as one's own where the caller owns it.
pub(crate) fn guarded_key(
    actor: &Actor,
    api_key: &ApiKey,
    space: Option<&Slug>,
) -> Result<Guarded> {
    let id = api_key.id.to_string();
    let thing = part(api_key.org, space, "keys", &id)?;
    if actor.credential.owner != api_key.owner {
        return Ok(thing);
    }
    let broken = |cause: tenmint_verifier::SyntaxError| Error::Broken(cause.to_string());
    let own = thing.or(["org", "keys", "own", &id]).map_err(broken)?;
    match space {
        Some(slug) => {
            own.or(["space-management", slug.as_str(), "keys", "own", &id]).map_err(broken)
        }
        None => Ok(own),
    }
}

/// Lets a caller do something to a thing that it may see.
///
/// # Errors
/// [`Error::NotFound`] where it may not even see it, [`Error::Forbidden`] where it may do no more.
pub(crate) fn require(
    actor: &Actor,
    action: &Action,
    thing: &Guarded,
    what: impl FnOnce() -> String,
) -> Result<()> {
    if actor.may(action, thing) {
        return Ok(());
    }
    if !actor.may(&Action::Read, thing) {
        return Err(Error::NotFound(what()));
    }
    Err(missing(thing, action))
}

/// Lets a caller make something that is not there yet.
///
/// # Errors
/// [`Error::Forbidden`] with the scope that is missing.
pub(crate) fn require_to_make(actor: &Actor, action: &Action, thing: &Guarded) -> Result<()> {
    if actor.may(action, thing) { Ok(()) } else { Err(missing(thing, action)) }
}

/// Lets a caller list things of which it may see some: a list leaves out the others.
///
/// # Errors
/// [`Error::Forbidden`] where it could see none of them, whatever there is.
pub(crate) fn require_to_list(actor: &Actor, org: OrgId, shown_by: &str) -> Result<()> {
    let shown_by: ScopeSet =
        shown_by.parse().map_err(|cause| Error::Broken(format!("`{shown_by}`: {cause}")))?;
    let held = actor.credential.scopes.as_ref().filter(|_| actor.reaches(org));
    if held.is_some_and(|held| held.intersect(&shown_by).is_some()) {
        return Ok(());
    }
    let first = shown_by.iter().next().map(|scope| scope.as_str().to_owned()).unwrap_or_default();
    Err(Error::Forbidden(format!("this needs the scope `{first}`, or a part of it")))
}

fn missing(thing: &Guarded, action: &Action) -> Error {
    Error::Forbidden(format!("this needs the scope `{}`", thing.missing(action)))
}

/// Lets a caller touch the installation itself.
///
/// # Errors
/// [`Error::Forbidden`] for whoever is no admin of the account, and where the credential is too narrow.
pub(crate) fn require_on_installation(actor: &Actor, action: &Action, part: &str) -> Result<()> {
    if actor.may_on_installation(action, part) {
        return Ok(());
    }
    if !actor.credential.is_account_admin {
        return Err(Error::Forbidden(
            "this is for admins of the account, with a credential for the installation".to_owned(),
        ));
    }
    Err(Error::Forbidden(format!("this needs the scope `{action}:installation/{part}`")))
}

impl Service {
    /// Judges a caller by what holds now, in the middle of a call that may go on for longer than its right to.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the credential would not be taken any more.
    pub(crate) fn identify_again(&self, actor: &mut Actor) -> Result<()> {
        let Some(follower) = &self.follower else { return Ok(()) };
        let caller = Caller { address: actor.origin.address, user_agent: None };
        let still = follower.mint().identify_again(&actor.credential, caller, self.clock.now());
        actor.credential = still.map_err(|refused| match refused {
            Refused::Unavailable => Error::Unavailable("the node is not ready".into()),
            _ => Error::Unauthenticated("the credential is no longer good"),
        })?;
        Ok(())
    }
}

/// What a credential shall be able to do: the side of a key that can be given away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'g> {
    pub(crate) scopes: Option<&'g ScopeSet>,
    pub(crate) audiences: &'g [AudienceId],
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) ip_rules: &'g IpRules,
}

/// Refuses to give what the presented credential does not hold.
pub(crate) fn require_to_hold(actor: &Actor, given: Given<'_>) -> Result<()> {
    if let Some(scope) = given.scopes.and_then(|scopes| actor.first_beyond(scopes)) {
        return Err(beyond(&format!("the scope `{scope}`")));
    }
    let held = &actor.credential;
    let within = |audience: &AudienceId| held.audiences.contains(audience);
    if !held.audiences.is_empty()
        && (given.audiences.is_empty() || !given.audiences.iter().all(within))
    {
        return Err(beyond("a key for these audiences"));
    }
    if let Some(end) = held.expires_at
        && given.expires_at.is_none_or(|given| given > end)
    {
        return Err(beyond(&format!("an expiry after {end}")));
    }
    if held.ip_rules.as_ref().is_some_and(|rules| !rules.covers(given.ip_rules)) {
        return Err(beyond("a key for these addresses"));
    }
    Ok(())
}

/// Refuses a key of an admin of the account to whoever is none: such a key reaches every
/// organization and the installation, which none of its scopes tells.
pub(crate) fn require_to_reach(actor: &Actor, owner: Option<&IndexedOwner>) -> Result<()> {
    if owner.is_some_and(|owner| owner.is_account_admin) && !actor.credential.is_account_admin {
        return Err(beyond("a key of an admin of the account"));
    }
    Ok(())
}

fn beyond(what: &str) -> Error {
    Error::Forbidden(format!("{what} is beyond what the presented credential holds"))
}

/// Refuses to bind, define or take away a role whose scopes the caller does not hold.
pub(crate) fn require_to_hold_scopes(actor: &Actor, scopes: Option<&ScopeSet>) -> Result<()> {
    match scopes.and_then(|scopes| actor.first_beyond(scopes)) {
        Some(scope) => Err(beyond(&format!("the scope `{scope}`"))),
        None => Ok(()),
    }
}

/// The first scope that one set has and another does not.
pub(crate) fn first_beyond<'s>(held: Option<&ScopeSet>, asked: &'s ScopeSet) -> Option<&'s str> {
    let place = match held {
        Some(held) => held.first_uncovered(asked)?,
        None => 0,
    };
    asked.iter().nth(place).map(ScopeView::as_str)
}
