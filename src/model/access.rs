//! Who calls, with what, and what it holds: the scopes, audiences, expiry and address rules of the
//! credential that was presented.

use std::net::IpAddr;
use std::sync::Arc;

use tenmint_verifier::{Action, Resource, Scope, ScopeSet, ScopeView, SyntaxError};

use crate::model::id::{ApiKeyId, AudienceId, OrgId};
use crate::model::ip_rules::IpRules;
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;

/// What was presented, and what it holds at this moment.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The API key itself, or the one that the token was issued to.
    pub api_key: ApiKeyId,
    /// Its owner.
    pub owner: OwnerId,
    /// Its organization.
    pub org: OrgId,
    /// What it allows: the scopes of the key, of the token where one was presented, and of the
    /// owner, intersected. Nothing where the owner lost all of them.
    pub scopes: Option<ScopeSet>,
    /// The audiences it is restricted to; none means all.
    pub audiences: Vec<AudienceId>,
    /// When the API key expires.
    pub expires_at: Option<Timestamp>,
    /// From where the API key may be used.
    pub ip_rules: Option<Arc<IpRules>>,
    /// Whether the owner is an admin of the account at this moment: such a one reaches every
    /// organization and, with a scope for it, the installation.
    pub is_account_admin: bool,
    /// The revision of the rules that this was read under.
    pub revision: u64,
}

/// Whose a credential is, whether it still holds or not: what the audit says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The API key itself, or the one that the token was issued to.
    pub api_key: ApiKeyId,
    /// Its owner.
    pub owner: OwnerId,
    /// Its organization.
    pub org: OrgId,
}

impl Credential {
    /// Whose it is.
    pub fn holder(&self) -> Holder {
        Holder { api_key: self.api_key, owner: self.owner, org: self.org }
    }
}

/// Where a call came from, for the audit.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The address of the caller, where it is known.
    pub address: Option<IpAddr>,
    /// What the caller's program calls itself.
    pub user_agent: Option<String>,
    /// The id of the request, as the answer and the log name it.
    pub request_id: String,
}

/// Who calls a use case.
#[derive(Debug, Clone)]
pub struct Actor {
    /// What was presented.
    pub credential: Credential,
    /// Where from.
    pub origin: Origin,
}

/// A thing that the management API guards, and the resources that name it. Holding the action on
/// one of them is enough.
#[derive(Debug, Clone)]
pub struct Guarded {
    org: OrgId,
    resources: Vec<Resource>,
}

impl Guarded {
    /// A thing of an organization under its management path, as `["org", "keys", id]`.
    ///
    /// # Errors
    /// A segment is empty; ids and slugs never are.
    pub fn new<'s>(
        org: OrgId,
        path: impl IntoIterator<Item = &'s str>,
    ) -> Result<Self, SyntaxError> {
        Ok(Self { org, resources: vec![Resource::new(path)?] })
    }

    /// The same thing under another path too, as one's own.
    ///
    /// # Errors
    /// Like [`Guarded::new`].
    pub fn or<'s>(mut self, path: impl IntoIterator<Item = &'s str>) -> Result<Self, SyntaxError> {
        self.resources.push(Resource::new(path)?);
        Ok(self)
    }

    /// The scope that would allow an action, for whoever lacks it.
    pub fn missing(&self, action: &Action) -> String {
        let resource = self.resources.last().map_or("*", Resource::as_str);
        format!("{action}:{resource}")
    }
}

impl Actor {
    /// Whether the actor may do this to that.
    pub fn may(&self, action: &Action, thing: &Guarded) -> bool {
        self.reaches(thing.org)
            && self.credential.scopes.as_ref().is_some_and(|scopes| {
                thing.resources.iter().any(|resource| scopes.matches(action, resource))
            })
    }

    /// Whether the actor acts in this organization at all.
    pub fn reaches(&self, org: OrgId) -> bool {
        self.credential.org == org || self.credential.is_account_admin
    }

    /// Whether the actor may do this to that part of the installation. No scope is enough by
    /// itself: the owner is an admin of the account now.
    pub fn may_on_installation(&self, action: &Action, part: &str) -> bool {
        let Ok(resource) = Resource::new(["installation", part]) else { return false };
        let scopes = self.credential.scopes.as_ref();
        self.credential.is_account_admin
            && scopes.is_some_and(|scopes| scopes.matches(action, &resource))
    }

    /// The first of these scopes that the actor does not hold; the first at all where it holds none.
    pub fn first_beyond<'s>(&self, scopes: &'s ScopeSet) -> Option<&'s str> {
        let Credential { scopes: held, is_account_admin, .. } = &self.credential;
        let place = first_not_held(held.as_ref(), *is_account_admin, scopes)?;
        scopes.iter().nth(place).map(ScopeView::as_str)
    }

    /// Whether the actor holds one scope.
    pub fn holds(&self, scope: &Scope) -> bool {
        self.credential.scopes.as_ref().is_some_and(|held| held.covers(scope))
    }
}

/// The place of the first scope that somebody does not hold. No scope of an organization reaches the
/// installation, `*:*` included: what names it is held by admins of the account alone.
pub fn first_not_held(
    held: Option<&ScopeSet>,
    is_account_admin: bool,
    asked: &ScopeSet,
) -> Option<usize> {
    let Some(held) = held else { return Some(0) };
    let beyond = held.first_uncovered(asked);
    let on_installation = if is_account_admin { None } else { first_on_installation(asked) };
    beyond.into_iter().chain(on_installation).min()
}

/// The place of the first scope that names the installation.
pub fn first_on_installation(scopes: &ScopeSet) -> Option<usize> {
    scopes.iter().position(is_on_installation)
}

/// The scopes that name the installation left out; nothing where no other is there.
pub fn without_installation(scopes: ScopeSet) -> Option<ScopeSet> {
    if first_on_installation(&scopes).is_none() {
        return Some(scopes);
    }
    let others = scopes.iter().filter(|scope| !is_on_installation(*scope));
    ScopeSet::from_scopes(others.map(ScopeView::to_scope).collect::<Vec<_>>())
}

fn is_on_installation(scope: ScopeView<'_>) -> bool {
    scope.filter().split('/').next() == Some("installation")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> ScopeSet {
        text.parse().unwrap()
    }

    #[test]
    fn what_names_the_installation_is_held_by_admins_of_the_account_alone() {
        let all = scopes("*:*");
        let asked = scopes("read:a/b admin:installation/* read:installation");
        assert_eq!(first_not_held(Some(&all), false, &asked), Some(1));
        assert_eq!(first_not_held(Some(&all), true, &asked), None);
        assert_eq!(first_not_held(Some(&scopes("read:b")), false, &asked), Some(0));
        assert_eq!(first_not_held(None, true, &asked), Some(0));
        let narrow = scopes("read:installations/a read:*/b");
        assert_eq!(first_not_held(Some(&all), false, &narrow), None);
    }

    #[test]
    fn the_scopes_that_name_the_installation_can_be_left_out() {
        let left = |text| without_installation(scopes(text)).map(|left| left.as_str().to_owned());
        assert_eq!(left("read:a admin:installation/*").as_deref(), Some("read:a"));
        assert_eq!(left("admin:installation/*"), None);
        assert_eq!(left("read:a read:a").as_deref(), Some("read:a read:a"));
    }
}
