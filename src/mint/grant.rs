//! From an authenticated key to what its token will say: each step takes the proof of the one
//! before it.

use std::net::IpAddr;
use std::sync::Arc;

use tenmint_verifier::{Net, NewClaims, ScopeSet};

use crate::mint::entries::{ApiKeyEntry, Ending, OrgEntry, OwnerEntry};
use crate::mint::few::Few;
use crate::mint::index::AuthenticatedKey;
use crate::mint::quotas::{Permit, Quotas};
use crate::mint::targets::Targets;
use crate::mint::{Caller, Refused, TokenRequest};
use crate::model::access::{Credential, first_on_installation, without_installation};
use crate::model::audience::TokenType;
use crate::model::id::{ApiKeyId, AudienceId, OrgId, SpaceId};
use crate::model::installation::{Issuer, TokenLifetime};
use crate::model::ip_range::IpRange;
use crate::model::ip_rules::IpRules;
use crate::model::ledger::Fact;
use crate::model::owner::OwnerId;
use crate::model::quota::Quota;
use crate::model::time::Timestamp;
use crate::model::token_id::TokenId;

/// A key that may get a token now, from here.
#[derive(Debug)]
pub(super) struct AdmittedKey<'i> {
    key: AuthenticatedKey<'i>,
}

/// All that a token will say.
#[derive(Debug)]
pub(super) struct Grant {
    subject: OwnerId,
    org: OrgId,
    api_key: ApiKeyId,
    audience_ids: Few<AudienceId>,
    /// Their URIs, in the same order.
    audiences: Few<Arc<str>>,
    pub(super) token_type: TokenType,
    pub(super) scope: ScopeSet,
    space: Option<SpaceId>,
    ip_rules: Option<Arc<IpRules>>,
    quota: Option<Quota>,
    revision: u64,
    issued_at: u64,
    expires_at: u64,
}

/// The entries that a key points to.
#[derive(Clone, Copy)]
struct Entries<'s> {
    api_key: &'s ApiKeyEntry,
    owner: &'s OwnerEntry,
    /// What the roles of the owner hold.
    roles: Option<&'s Arc<str>>,
    org: &'s OrgEntry,
}

impl<'i> AuthenticatedKey<'i> {
    /// Status, then owner, then address: the first that fails is what the refusal tells.
    pub(super) fn admit(
        self,
        caller: Caller<'_>,
        now: Timestamp,
    ) -> Result<AdmittedKey<'i>, Refused> {
        self.check_status(now)?;
        let allowed = |rules: &Arc<IpRules>| caller.address.is_some_and(|from| rules.allows(from));
        if !self.entries()?.api_key.ip_rules().is_none_or(allowed) {
            return Err(Refused::AddressNotAllowed);
        }
        Ok(AdmittedKey { key: self })
    }

    /// Whether the key is alive, and nothing that it belongs to is suspended.
    pub(super) fn check_status(&self, now: Timestamp) -> Result<(), Refused> {
        let Entries { api_key, owner, org, .. } = self.entries()?;
        if api_key.revoked.is_set() {
            return Err(Refused::Revoked);
        }
        if api_key.expires.has_come(now) {
            return Err(Refused::Expired);
        }
        if self.secret_ends.has_come(now) {
            return Err(Refused::Replaced);
        }
        let space = api_key.space.and_then(|place| self.state.space(place));
        if owner.is_suspended
            || org.suspended.is_set()
            || space.is_some_and(|space| space.suspended.is_set())
        {
            return Err(Refused::Suspended);
        }
        Ok(())
    }

    fn entries(&self) -> Result<Entries<'_>, Refused> {
        let api_key = self.state.api_key(self.api_key).ok_or(Refused::UnknownClient)?;
        let owner = self.state.owner(api_key.owner).ok_or(Refused::UnknownClient)?;
        let org = self.state.org(api_key.org).ok_or(Refused::UnknownClient)?;
        Ok(Entries { api_key, owner, roles: self.state.roles(owner.roles), org })
    }
}

impl AdmittedKey<'_> {
    /// Whose use it is.
    pub(super) fn whose(&self) -> Option<(ApiKeyId, OrgId)> {
        self.key.whose()
    }

    /// The organization of the key.
    pub(super) fn org(&self) -> Result<OrgId, Refused> {
        Ok(self.key.entries()?.org.id)
    }

    /// Quota: after the address, before audience and scope. The permit goes back unless it is used.
    pub(super) fn permit<'q>(&self, quotas: &'q Quotas) -> Result<Option<Permit<'q>>, Refused> {
        let api_key = self.key.entries()?.api_key;
        quota_of(api_key).map(|(counter, quota)| quotas.admit(counter, quota)).transpose()
    }

    /// Audience, then scope. The lock on the index ends with this step.
    pub(super) fn grant(
        self,
        request: &TokenRequest,
        lifetime: TokenLifetime,
        now: Timestamp,
    ) -> Result<Grant, Refused> {
        let scope = |entries: Entries<'_>| grant_scope(entries, request.scope.as_deref());
        self.grant_with(request, lifetime, now, scope)
    }

    /// The same for a key that is sent as it is: all that it holds, whether a token has room for it or
    /// not.
    pub(super) fn grant_to_raw_key(
        self,
        request: &TokenRequest,
        lifetime: TokenLifetime,
        now: Timestamp,
    ) -> Result<Grant, Refused> {
        self.grant_with(request, lifetime, now, held_scope)
    }

    fn grant_with(
        self,
        request: &TokenRequest,
        lifetime: TokenLifetime,
        now: Timestamp,
        scope: impl FnOnce(Entries<'_>) -> Result<ScopeSet, Refused>,
    ) -> Result<Grant, Refused> {
        let state = &*self.key.state;
        let entries @ Entries { api_key, owner, org, .. } = self.key.entries()?;
        let targets = Targets { state, api_key, org }.select(request)?;
        // a token does not tell by which secret it was fetched, so that its holder could not be held
        // to the end of the grace
        if targets.is_management && self.key.secret_ends.is_set() {
            return Err(Refused::ManagementInGrace);
        }
        let scope = scope(entries)?;
        let lifetime = targets.lifetime.map_or(lifetime, |shorter| shorter.min(lifetime));
        let issued_at = now.as_seconds();
        let ends = [api_key.expires, self.key.secret_ends].map(Ending::as_seconds);
        let expires_at = ends.into_iter().fold(issued_at + lifetime.as_seconds(), u64::min);
        if expires_at <= issued_at {
            // less than a second is left, and a token counts in seconds
            return Err(Refused::Expired);
        }
        let space = api_key.space.and_then(|place| state.space(place));
        Ok(Grant {
            subject: owner.id,
            org: org.id,
            api_key: api_key.id,
            audience_ids: targets.audience_ids,
            audiences: targets.audiences,
            token_type: targets.token_type,
            scope,
            space: space.map(|space| space.id),
            ip_rules: api_key.ip_rules().cloned(),
            quota: api_key.quota().map(|(quota, _)| quota),
            revision: u64::try_from(state.revision()).unwrap_or(0),
            issued_at,
            expires_at,
        })
    }

    /// What the key holds on the management API, narrowed by the token where one was presented.
    pub(super) fn credential(&self, token: Option<&ScopeSet>) -> Result<Credential, Refused> {
        let holder = self.holder()?;
        let is_for = |id: &AudienceId| holder.audiences.contains(id);
        if !holder.audiences.is_empty() && !is_for(&AudienceId::MANAGEMENT) {
            return Err(Refused::InvalidTarget);
        }
        let scopes = match token {
            Some(token) => holder.scopes.as_ref().and_then(|held| held.intersect(token)),
            None => holder.scopes,
        };
        Ok(Credential { scopes, ..holder })
    }

    /// What the key holds, whichever audiences it is for.
    pub(super) fn holder(&self) -> Result<Credential, Refused> {
        let state = &*self.key.state;
        let held_by @ Entries { api_key, owner, org, .. } = self.key.entries()?;
        let entries = api_key.audiences().iter().filter_map(|place| state.audience(*place));
        let audiences: Vec<AudienceId> = entries.map(|audience| audience.id).collect();
        let scopes = held_scope(held_by).ok();
        Ok(Credential {
            api_key: api_key.id,
            owner: owner.id,
            org: org.id,
            scopes,
            audiences,
            // whoever presents a secret in its grace holds no more than that: a leaked one must not
            // give itself another, or a key that outlives it
            expires_at: api_key.expires.min(self.key.secret_ends).moment(),
            ip_rules: api_key.ip_rules().cloned(),
            is_account_admin: owner.is_account_admin,
            revision: u64::try_from(state.revision()).unwrap_or(0),
        })
    }
}

impl Grant {
    pub(super) fn lifetime(&self) -> u64 {
        self.expires_at - self.issued_at
    }

    pub(super) fn audience_ids(&self) -> impl Iterator<Item = AudienceId> {
        self.audience_ids.iter().copied()
    }

    /// The fact that its token was issued, to whoever asked from there.
    pub(super) fn fact(&self, token_id: TokenId, address: Option<IpAddr>) -> Fact<'_> {
        Fact {
            token_id,
            api_key: self.api_key,
            audiences: &self.audience_ids,
            scope: self.scope.as_str(),
            lifetime: self.lifetime(),
            address,
        }
    }

    /// Signs what the grant says: the claims exist as long as `sign` runs.
    pub(super) fn with_claims<T>(
        &self,
        issuer: &Issuer,
        token_id: &str,
        sign: impl FnOnce(&NewClaims<'_>) -> T,
    ) -> T {
        let audiences = self.audiences.map(|uri| &**uri);
        let net = self.ip_rules.as_deref().and_then(net_of);
        let space = self.space.map(|space| space.text());
        sign(&NewClaims {
            iss: issuer.as_str(),
            sub: &self.subject.text(),
            aud: &audiences,
            client_id: &self.api_key.text(),
            scope: &self.scope,
            org: &self.org.text(),
            iat: self.issued_at,
            exp: self.expires_at,
            jti: token_id,
            rev: self.revision,
            space: space.as_deref(),
            net: net.as_ref(),
            quota: self.quota.and_then(quota_claim),
        })
    }
}

/// The quota of a key, and the counter that it is counted by.
fn quota_of(api_key: &ApiKeyEntry) -> Option<(ApiKeyId, Quota)> {
    api_key.quota().map(|(quota, counter)| (counter, quota))
}

/// The address rules as the verifier reads them.
fn net_of(rules: &IpRules) -> Option<Net> {
    let ranges = |list: &[IpRange]| -> Vec<tenmint_verifier::IpRange> {
        list.iter().filter_map(|range| range.to_string().parse().ok()).collect()
    };
    Net::from_lists(ranges(rules.allow()), ranges(rules.block()))
}

fn quota_claim(quota: Quota) -> Option<tenmint_verifier::Quota> {
    tenmint_verifier::Quota::new(quota.limit().into(), quota.window().as_seconds().into())
}

/// What is asked for, whole and in the client's own spelling; or all that the key still has.
fn grant_scope(entries: Entries<'_>, asked: Option<&str>) -> Result<ScopeSet, Refused> {
    let Some(asked) = asked else {
        let held = held_scope(entries)?;
        // what roles and an intersection made may be longer than a scope may be written
        if held.as_str().parse::<ScopeSet>().is_err() {
            return Err(Refused::TooMuchScope);
        }
        return Ok(held);
    };
    let asked: ScopeSet = asked.parse().map_err(|_| Refused::MalformedScope)?;
    let own = entries.api_key.scopes.as_ref().filter(|text| !has_each(text, &asked));
    let own = own.map(|text| parse_stored(text)).transpose()?;
    // an owner that holds nothing is no owner without limits
    let is_within_owner = has_no_more_than(entries);
    let owners = (!is_within_owner).then(|| owner_scope(entries)?.ok_or(Refused::NoScope));
    for held in [own, owners.transpose()?].into_iter().flatten() {
        if let Some(place) = held.first_uncovered(&asked) {
            return Err(Refused::ScopeBeyondKey(place));
        }
    }
    match first_on_installation(&asked).filter(|_| !entries.owner.is_account_admin) {
        Some(place) => Err(Refused::ScopeBeyondKey(place)),
        None => Ok(asked),
    }
}

/// All that the key still has: its scopes that the owner has too, covered ones dropped.
fn held_scope(entries: Entries<'_>) -> Result<ScopeSet, Refused> {
    let held = match &entries.api_key.scopes {
        None => owner_scope(entries)?.map(|all| all.without_covered()),
        Some(own) if has_no_more_than(entries) => Some(parse_stored(own)?.without_covered()),
        Some(own) => match owner_scope(entries)? {
            Some(owners) => parse_stored(own)?.intersect(&owners),
            None => None,
        },
    };
    let is_account_admin = entries.owner.is_account_admin;
    let reached = if is_account_admin { held } else { held.and_then(without_installation) };
    reached.ok_or(Refused::NoScope)
}

/// Equal texts are one allocation, so most keys are seen to have exactly what their bot was given.
fn has_no_more_than(Entries { api_key, owner, .. }: Entries<'_>) -> bool {
    matches!((&api_key.scopes, &owner.grants), (Some(own), Some(grants)) if Arc::ptr_eq(own, grants))
}

/// What an owner holds: its grants and its roles together, covered ones among them. They can be thousands.
fn owner_scope(entries: Entries<'_>) -> Result<Option<ScopeSet>, Refused> {
    match (&entries.owner.grants, entries.roles) {
        (Some(grants), Some(roles)) => parse_stored(&format!("{grants} {roles}")).map(Some),
        (Some(part), None) | (None, Some(part)) => parse_stored(part).map(Some),
        (None, None) => Ok(None),
    }
}

/// Whether each scope that is asked for stands among the stored ones as it is written. Most do, and then
/// nothing needs to be parsed; one that does not may be covered all the same.
fn has_each(stored: &str, asked: &ScopeSet) -> bool {
    asked.iter().all(|scope| stored.split(' ').any(|held| held == scope.as_str()))
}

/// Stored scopes parsed once already; should a row be bad all the same, the key has none.
fn parse_stored(text: &str) -> Result<ScopeSet, Refused> {
    ScopeSet::parse_any_length(text).map_err(|_| Refused::NoScope)
}
