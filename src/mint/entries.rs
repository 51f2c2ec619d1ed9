//! What the index holds of each noun, as small as can be: there are a million API keys.

use std::sync::Arc;

use crate::mint::slab::Place;
use crate::model::audience::{Audience, TokenType};
use crate::model::id::{ApiKeyId, AudienceId, OrgId, SpaceId};
use crate::model::installation::TokenLifetime;
use crate::model::ip_rules::IpRules;
use crate::model::owner::OwnerId;
use crate::model::quota::Quota;
use crate::model::time::Timestamp;

#[derive(Debug)]
pub(super) struct ApiKeyEntry {
    pub(super) id: ApiKeyId,
    pub(super) org: Place,
    pub(super) owner: Place,
    pub(super) space: Option<Place>,
    /// Kept as text, which takes half the memory of a parsed set.
    pub(super) scopes: Option<Arc<str>>,
    pub(super) audiences: Box<[Place]>,
    pub(super) expires: Ending,
    pub(super) revoked: Ending,
    pub(super) extras: Option<Box<ApiKeyExtras>>,
}

/// What few API keys have.
#[derive(Debug)]
pub(super) struct ApiKeyExtras {
    pub(super) ip_rules: Option<Arc<IpRules>>,
    /// The quota, and the key whose counter it is counted on.
    pub(super) quota: Option<(Quota, ApiKeyId)>,
    /// The revision below which tokens of the key are void.
    pub(super) void_below: i64,
}

impl ApiKeyExtras {
    pub(super) fn is_empty(&self) -> bool {
        self.ip_rules.is_none() && self.quota.is_none() && self.void_below == 0
    }
}

impl ApiKeyEntry {
    pub(super) fn ip_rules(&self) -> Option<&Arc<IpRules>> {
        self.extras.as_ref()?.ip_rules.as_ref()
    }

    pub(super) fn quota(&self) -> Option<(Quota, ApiKeyId)> {
        self.extras.as_ref()?.quota
    }

    pub(super) fn void_below(&self) -> i64 {
        self.extras.as_ref().map_or(0, |extras| extras.void_below)
    }
}

#[derive(Debug)]
pub(super) struct OwnerEntry {
    pub(super) id: OwnerId,
    /// What a bot holds beside its roles; the same text as that of its keys, most often.
    pub(super) grants: Option<Arc<str>>,
    /// What the roles hold, which can be more than a set may be written with.
    pub(super) roles: Option<Arc<str>>,
    pub(super) is_account_admin: bool,
    pub(super) suspended: Ending,
}

impl OwnerEntry {
    /// An owner that holds nothing, and whose keys get nothing.
    pub(super) fn gone(id: OwnerId) -> Self {
        let suspended = Ending::of(Some(Timestamp::from_millis(0)));
        Self { id, grants: None, roles: None, is_account_admin: false, suspended }
    }
}

#[derive(Debug)]
pub(super) struct OrgEntry {
    pub(super) id: OrgId,
    pub(super) default_audience: Option<AudienceId>,
    pub(super) suspended: Ending,
}

#[derive(Debug)]
pub(super) struct SpaceEntry {
    pub(super) id: SpaceId,
    pub(super) suspended: Ending,
}

#[derive(Debug)]
pub(super) struct AudienceEntry {
    pub(super) id: AudienceId,
    /// Whose keys it takes tokens of; of all, where it is shared.
    pub(super) org: Option<OrgId>,
    pub(super) uri: Arc<str>,
    pub(super) lifetime: Option<TokenLifetime>,
    pub(super) token_type: TokenType,
}

impl AudienceEntry {
    pub(super) fn of(audience: &Audience, uri: Arc<str>) -> Self {
        Self {
            id: audience.id,
            org: audience.shared_at.is_none().then_some(audience.org),
            uri,
            lifetime: audience.token_lifetime,
            token_type: audience.token_type,
        }
    }

    /// The audience of tenmint's own management API, which takes tokens of all.
    pub(super) fn management(uri: Arc<str>) -> Self {
        let id = AudienceId::MANAGEMENT;
        Self { id, org: None, uri, lifetime: None, token_type: TokenType::AccessToken }
    }

    pub(super) fn is_management(&self) -> bool {
        self.id == AudienceId::MANAGEMENT
    }
}

/// A moment that may never come, in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ending(i64);

impl Ending {
    pub(super) const NEVER: Self = Self(i64::MAX);

    pub(super) fn of(moment: Option<Timestamp>) -> Self {
        moment.map_or(Self::NEVER, |moment| Self(moment.as_millis()))
    }

    /// Whether the moment was ever set: a revocation holds, whatever a clock says of its moment.
    pub(super) fn is_set(self) -> bool {
        self != Self::NEVER
    }

    pub(super) fn has_come(self, now: Timestamp) -> bool {
        self != Self::NEVER && self.0 <= now.as_millis()
    }

    /// In whole seconds since 1970, rounded down; the largest number for never.
    pub(super) fn as_seconds(self) -> u64 {
        if self == Self::NEVER { u64::MAX } else { Timestamp::from_millis(self.0).as_seconds() }
    }

    pub(super) fn moment(self) -> Option<Timestamp> {
        self.is_set().then(|| Timestamp::from_millis(self.0))
    }
}
