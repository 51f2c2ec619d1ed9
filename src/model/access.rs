//! Who calls, with what, and what it holds: the scopes, audiences, expiry and address rules of the
//! credential that was presented (contract, section 3).

use std::net::IpAddr;
use std::sync::Arc;

use tenmint_verifier::{Action, Resource, Scope, ScopeSet, SyntaxError};

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
        let place = match &self.credential.scopes {
            Some(held) => held.first_uncovered(scopes)?,
            None => 0,
        };
        scopes.iter().nth(place).map(tenmint_verifier::ScopeView::as_str)
    }

    /// Whether the actor holds one scope.
    pub fn holds(&self, scope: &Scope) -> bool {
        self.credential.scopes.as_ref().is_some_and(|held| held.covers(scope))
    }
}
