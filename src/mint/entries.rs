//! What the index holds of each noun, as small as can be: there are a million API keys.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

use tenmint_verifier::RawKeyPolicy;

use crate::mint::slab::{Keyed, Place};
use crate::model::audience::{Audience, TokenType};
use crate::model::id::{ApiKeyId, AudienceId, OrgId, SpaceId};
use crate::model::installation::TokenLifetime;
use crate::model::ip_rules::IpRules;
use crate::model::owner::OwnerId;
use crate::model::quota::Quota;
use crate::model::secret::SecretDigest;
use crate::model::time::Timestamp;

#[derive(Debug)]
pub(super) struct ApiKeyEntry {
    pub(super) id: ApiKeyId,
    pub(super) org: Place,
    pub(super) owner: Place,
    pub(super) space: Option<Place>,
    /// Kept as text, which takes half the memory of a parsed set.
    pub(super) scopes: Option<Arc<str>>,
    pub(super) expires: Ending,
    pub(super) revoked: Ending,
    pub(super) extras: Option<Box<ApiKeyExtras>>,
}

/// What few API keys have.
#[derive(Debug)]
pub(super) struct ApiKeyExtras {
    /// None where it is for all of the organization.
    pub(super) audiences: Box<[Place]>,
    pub(super) ip_rules: Option<Arc<IpRules>>,
    /// The quota, and the key whose counter it is counted on.
    pub(super) quota: Option<(Quota, ApiKeyId)>,
}

impl ApiKeyExtras {
    pub(super) fn is_empty(&self) -> bool {
        self.audiences.is_empty() && self.ip_rules.is_none() && self.quota.is_none()
    }
}

impl Keyed for ApiKeyEntry {
    type Key = ApiKeyId;

    fn key(&self) -> ApiKeyId {
        self.id
    }
}

impl ApiKeyEntry {
    pub(super) fn audiences(&self) -> &[Place] {
        self.extras.as_ref().map_or(&[], |extras| &extras.audiences)
    }

    pub(super) fn ip_rules(&self) -> Option<&Arc<IpRules>> {
        self.extras.as_ref()?.ip_rules.as_ref()
    }

    pub(super) fn quota(&self) -> Option<(Quota, ApiKeyId)> {
        self.extras.as_ref()?.quota
    }
}

#[derive(Debug)]
pub(super) struct OwnerEntry {
    pub(super) id: OwnerId,
    pub(super) org: Place,
    /// What a bot holds beside its roles; the same text as that of its keys, most often.
    pub(super) grants: Option<Arc<str>>,
    /// What the roles hold.
    pub(super) roles: RolesPlace,
    pub(super) is_account_admin: bool,
    pub(super) is_suspended: bool,
}

/// Where the scopes of an owner's roles are: the owners of an installation have the same few.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RolesPlace(u32);

/// What roles hold, each text once. It can be more than a set may be written with.
#[derive(Debug)]
pub(super) struct RoleTexts {
    texts: Vec<Option<Arc<str>>>,
    places: HashMap<Arc<str>, RolesPlace>,
    free: Vec<RolesPlace>,
}

impl Default for RoleTexts {
    /// The first place holds nothing.
    fn default() -> Self {
        Self { texts: vec![None], places: HashMap::new(), free: Vec::new() }
    }
}

impl RoleTexts {
    pub(super) fn put(&mut self, text: Option<&str>) -> RolesPlace {
        let Some(text) = text else { return RolesPlace::default() };
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let text: Arc<str> = text.into();
        let place = self.free.pop().unwrap_or_else(|| {
            self.texts.push(None);
            RolesPlace(u32::try_from(self.texts.len() - 1).unwrap_or_default())
        });
        if let Some(free) = self.texts.get_mut(place.0 as usize) {
            *free = Some(text.clone());
        }
        self.places.insert(text, place);
        place
    }

    /// The places that are none of these.
    pub(super) fn unused(&self, used: impl Iterator<Item = RolesPlace>) -> Vec<RolesPlace> {
        let mut is_used = vec![false; self.texts.len()];
        for place in used {
            if let Some(is_used) = is_used.get_mut(place.0 as usize) {
                *is_used = true;
            }
        }
        let is_unused = |place: &&RolesPlace| is_used.get(place.0 as usize) == Some(&false);
        self.places.values().filter(is_unused).copied().collect()
    }

    /// Forgets a text that no owner points to. Its place is used again.
    pub(super) fn forget(&mut self, place: RolesPlace) {
        if let Some(text) = self.texts.get_mut(place.0 as usize).and_then(Option::take) {
            self.places.remove(&text);
            self.free.push(place);
        }
    }

    pub(super) fn at(&self, place: RolesPlace) -> Option<&Arc<str>> {
        self.texts.get(place.0 as usize)?.as_ref()
    }
}

impl OwnerEntry {
    /// An owner that holds nothing, and whose keys get nothing.
    pub(super) fn gone(id: OwnerId, org: Place) -> Self {
        let roles = RolesPlace::default();
        Self { id, org, grants: None, roles, is_account_admin: false, is_suspended: true }
    }
}

impl Keyed for OwnerEntry {
    type Key = (OwnerId, Place);

    fn key(&self) -> (OwnerId, Place) {
        (self.id, self.org)
    }
}

/// A secret, as far as it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecretEntry {
    pub(super) digest: SecretDigest,
    pub(super) api_key: Place,
    pub(super) has_end: bool,
}

impl Keyed for SecretEntry {
    type Key = SecretDigest;

    fn key(&self) -> SecretDigest {
        self.digest
    }

    /// What a digest begins with: it is made under the pepper, so nobody chooses it.
    fn hash(digest: &SecretDigest, _: &RandomState) -> u64 {
        digest.as_bytes().first_chunk().copied().map_or(0, u64::from_be_bytes)
    }
}

#[derive(Debug)]
pub(super) struct OrgEntry {
    pub(super) id: OrgId,
    pub(super) default_audience: Option<AudienceId>,
    pub(super) suspended: Ending,
}

impl Keyed for OrgEntry {
    type Key = OrgId;

    fn key(&self) -> OrgId {
        self.id
    }
}

#[derive(Debug)]
pub(super) struct SpaceEntry {
    pub(super) id: SpaceId,
    pub(super) suspended: Ending,
}

impl Keyed for SpaceEntry {
    type Key = SpaceId;

    fn key(&self) -> SpaceId {
        self.id
    }
}

#[derive(Debug)]
pub(super) struct AudienceEntry {
    pub(super) id: AudienceId,
    /// Whose keys it takes tokens of; of all, where it is shared.
    pub(super) org: Option<OrgId>,
    /// Whose API it is; nobody's, of the management API.
    pub(super) home: Option<OrgId>,
    pub(super) uri: Arc<str>,
    pub(super) lifetime: Option<TokenLifetime>,
    pub(super) token_type: TokenType,
    /// What it does with raw keys, where it does not take them all.
    pub(super) raw_keys: Option<Arc<RawKeyPolicy>>,
}

impl Keyed for AudienceEntry {
    type Key = AudienceId;

    fn key(&self) -> AudienceId {
        self.id
    }
}

impl AudienceEntry {
    pub(super) fn of(audience: &Audience, uri: Arc<str>) -> Self {
        Self {
            id: audience.id,
            org: audience.shared_at.is_none().then_some(audience.org),
            home: Some(audience.org),
            uri,
            lifetime: audience.token_lifetime,
            token_type: audience.token_type,
            raw_keys: audience.raw_keys.as_ref().map(|raw_keys| Arc::new(raw_keys.to_policy())),
        }
    }

    /// The audience of tenmint's own management API, which takes tokens of all.
    pub(super) fn management(uri: Arc<str>) -> Self {
        Self {
            id: AudienceId::MANAGEMENT,
            org: None,
            home: None,
            uri,
            lifetime: None,
            token_type: TokenType::AccessToken,
            raw_keys: None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_owner_has_of_roles_is_forgotten_and_its_place_used_again() {
        let mut texts = RoleTexts::default();
        let [none, a, b] = [None, Some("read:a"), Some("read:b")].map(|text| texts.put(text));
        assert_eq!((texts.put(Some("read:a")), texts.unused([a, b].into_iter())), (a, vec![]));
        let unused = texts.unused([b, none].into_iter());
        for place in &unused {
            texts.forget(*place);
        }
        assert_eq!((unused, texts.at(a), texts.at(none)), (vec![a], None, None));
        assert_eq!(texts.put(Some("read:c")), a);
        assert_eq!([a, b].map(|place| &**texts.at(place).unwrap()), ["read:c", "read:b"]);
    }
}
