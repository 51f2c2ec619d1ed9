//! Every API key of the installation, in memory.
//!
//! Keys point to their owner and organization, so that suspending either is one write. The service
//! applies changes in the order of their revisions, all of one look at the database under one
//! lock; a token carries the revision under which its key was read.

mod filled;
mod forgetting;
mod freshness;
mod restored;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use tenmint_verifier::ScopeSet;

pub use filled::FilledIndex;
pub use freshness::Doubted;
pub use restored::{Restored, RestoredSecret};

use freshness::Doubts;

use crate::mint::entries::{
    ApiKeyEntry, ApiKeyExtras, AudienceEntry, Ending, OrgEntry, OwnerEntry, RoleTexts, RolesPlace,
    SecretEntry, SpaceEntry,
};
use crate::mint::served::GatewayPolicies;
use crate::mint::slab::{Place, Slab};
use crate::mint::texts::Texts;
use crate::mint::{ClientCredential, Refused};
use crate::model::api_key::{ApiKeySecret, IndexedApiKey};
use crate::model::audience::{Audience, AudienceUri};
use crate::model::gateway_policy::GatewayPolicy;
use crate::model::id::{ApiKeyId, AudienceId, GatewayPolicyId, OrgId, UserId};
use crate::model::ip_rules::IpRules;
use crate::model::org::Org;
use crate::model::owner::{IndexedOwner, OwnerId};
use crate::model::secret::{Pepper, PlainSecret, SecretDigest};
use crate::model::space::Space;
use crate::model::time::Timestamp;

/// One noun, as it is now.
#[derive(Debug)]
pub enum Change {
    /// An organization.
    Org(Org),
    /// A space.
    Space(Space),
    /// An audience.
    Audience(Audience),
    /// A bot, or a person in one organization.
    Owner(IndexedOwner),
    /// A person, in every organization that it is a member of and in no other.
    User(UserId, Vec<IndexedOwner>),
    /// An API key.
    ApiKey(IndexedApiKey),
    /// A gateway policy.
    GatewayPolicy(GatewayPolicy),
    /// A gateway policy that is there no more.
    NoGatewayPolicy(GatewayPolicyId),
}

impl Change {
    /// What is pointed to comes before what points to it.
    pub fn order(&self) -> u8 {
        match self {
            Self::Org(_) => 0,
            Self::Space(_) | Self::Audience(_) => 1,
            Self::Owner(_) | Self::User(..) => 2,
            Self::ApiKey(_) | Self::GatewayPolicy(_) | Self::NoGatewayPolicy(_) => 3,
        }
    }
}

/// The index.
#[derive(Debug)]
pub struct Index {
    pub(super) state: RwLock<State>,
    management: AudienceUri,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The revision that everything here is of; `None` before the index was filled.
    revision: Option<i64>,
    /// When it was last compared with the database.
    compared_at: Option<Timestamp>,
    doubts: Doubts,
    secrets: Slab<SecretEntry>,
    /// When those end that do.
    secret_ends: HashMap<SecretDigest, Ending>,
    api_keys: Slab<ApiKeyEntry>,
    owners: Slab<OwnerEntry>,
    /// Where each person is a member: a change of a person says where it still is.
    memberships: HashMap<UserId, Vec<OrgId>>,
    orgs: Slab<OrgEntry>,
    spaces: Slab<SpaceEntry>,
    audiences: Slab<AudienceEntry>,
    audiences_by_uri: HashMap<Arc<str>, Place>,
    pub(super) audiences_by_slug: HashMap<OrgId, HashMap<Box<str>, Place>>,
    /// Those that all organizations have, each slug once: of two, the one that was shared first.
    shared_by_slug: HashMap<Box<str>, (SharedAt, Place)>,
    pub(super) gateway_policies: GatewayPolicies,
    /// Each text of scopes once: most keys of an installation have the same few.
    scope_texts: Texts,
    role_texts: RoleTexts,
    /// Each set of rules for addresses once.
    ip_rules: HashSet<Arc<IpRules>>,
}

/// The order in which audiences were shared.
type SharedAt = (Timestamp, AudienceId);

/// A key whose secret matched, with the index held as it was at that moment.
#[derive(Debug)]
pub(super) struct AuthenticatedKey<'i> {
    pub(super) state: RwLockReadGuard<'i, State>,
    pub(super) api_key: Place,
    /// The end of the grace of the secret that was presented.
    pub(super) secret_ends: Ending,
}

impl Index {
    /// An empty index. The audience of the management API is known from the start.
    pub(super) fn new(management: AudienceUri) -> Self {
        let mut state = State::default();
        state.put_management(&management);
        Self { state: RwLock::new(state), management }
    }

    /// An index to fill aside, with room for so many API keys and bots, so that nothing grows in
    /// steps.
    pub fn begin_to_fill(&self, api_keys: usize, bots: usize) -> FilledIndex {
        let mut state = State::default();
        state.put_management(&self.management);
        state.secrets.reserve(api_keys);
        state.api_keys.reserve(api_keys);
        state.owners.reserve(bots);
        state.scope_texts.reserve(bots);
        FilledIndex { state, is_doubted: false }
    }

    /// Finds the key that a verified token was issued to.
    pub(super) fn find_client(&self, client_id: &str) -> Result<AuthenticatedKey<'_>, Refused> {
        let id: ApiKeyId = client_id.parse().map_err(|_| Refused::UnknownClient)?;
        let state = self.state.read();
        let unknown = || state.unknown_client();
        let api_key = state.api_keys.find(&id).ok_or_else(unknown)?;
        state.check_doubts(state.api_key(api_key).ok_or_else(unknown)?)?;
        Ok(AuthenticatedKey { api_key, secret_ends: Ending::NEVER, state })
    }

    /// Finds the key of a credential where the index holds. One digest, one look-up, no comparison.
    fn authenticate_where(
        &self,
        client: &ClientCredential,
        pepper: &Pepper,
        holds: impl Fn(&State) -> bool,
    ) -> Result<AuthenticatedKey<'_>, Refused> {
        let (state, secret) = self.find_secret(&client.texts, pepper, holds)?;
        let entry = state.api_key(secret.api_key).ok_or(Refused::UnknownClient)?;
        if client.client_id.as_ref().is_some_and(|id| id.parse() != Ok(entry.id)) {
            return Err(Refused::UnknownClient);
        }
        state.check_doubts(entry)?;
        let secret_ends = state.end_of(secret);
        Ok(AuthenticatedKey { api_key: secret.api_key, secret_ends, state })
    }

    fn find_secret(
        &self,
        texts: &[PlainSecret],
        pepper: &Pepper,
        holds: impl Fn(&State) -> bool,
    ) -> Result<(RwLockReadGuard<'_, State>, SecretEntry), Refused> {
        let mut refused = Refused::UnknownClient;
        for text in texts {
            // made before the lock is taken
            let digest = pepper.digest(text.as_bytes());
            let state = self.state.read();
            match state.secrets.get(&digest).copied() {
                _ if !holds(&state) => return Err(Refused::Unavailable),
                Some(secret) => return Ok((state, secret)),
                None => refused = state.unknown_client(),
            }
        }
        Err(refused)
    }

    /// Whose use it is when a key of this id comes to an API.
    pub(super) fn whose(&self, id: ApiKeyId) -> Option<(ApiKeyId, OrgId)> {
        let state = self.state.read();
        let place = state.api_keys.find(&id)?;
        Some((id, state.org(state.api_key(place)?.org)?.id))
    }

    /// Whether a text is that of an API key of an organization, dead or alive.
    pub(super) fn has_key_of(&self, org: OrgId, digest: &SecretDigest) -> bool {
        self.state.read().has_key_of(org, digest)
    }

    /// The revision that the index is of; `None` before it was filled.
    pub fn revision(&self) -> Option<i64> {
        self.state.read().revision
    }

    /// How many API keys it holds, dead ones that are remembered included.
    pub fn len(&self) -> usize {
        self.state.read().api_keys.len()
    }

    /// How many secrets its API keys are found by.
    pub fn secrets(&self) -> usize {
        self.state.read().secrets.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies what changed up to a revision, at once. What is pointed to comes first.
    pub fn apply(&self, changes: Vec<Change>, revision: i64, now: Timestamp) {
        let mut state = self.state.write();
        for change in changes {
            state.put(change);
        }
        state.compared_with(revision, now);
    }

    /// Takes a whole new content: at the start, or when the changes between were lost.
    pub fn replace(&self, filled: FilledIndex, revision: i64, now: Timestamp) {
        let FilledIndex { state: mut filled, is_doubted } = filled;
        let mut state = self.state.write();
        filled.doubts = std::mem::take(&mut state.doubts);
        filled.compared_with(revision, now);
        if is_doubted {
            filled.compared_at = None;
        }
        let before = std::mem::replace(&mut *state, filled);
        // to let go of a million keys takes longer than a request may wait
        drop(state);
        drop(before);
    }
}

impl State {
    pub(super) fn revision(&self) -> i64 {
        self.revision.unwrap_or(0)
    }

    pub(super) fn has_key_of(&self, org: OrgId, digest: &SecretDigest) -> bool {
        let api_key = self.secrets.get(digest).and_then(|secret| self.api_key(secret.api_key));
        api_key.and_then(|api_key| self.org(api_key.org)).is_some_and(|entry| entry.id == org)
    }

    fn end_of(&self, secret: SecretEntry) -> Ending {
        let end = secret.has_end.then(|| self.secret_ends.get(&secret.digest)).flatten();
        end.copied().unwrap_or(Ending::NEVER)
    }

    /// What the roles of an owner hold.
    pub(super) fn roles(&self, place: RolesPlace) -> Option<&Arc<str>> {
        self.role_texts.at(place)
    }

    pub(super) fn api_key(&self, place: Place) -> Option<&ApiKeyEntry> {
        self.api_keys.at(place)
    }

    pub(super) fn owner(&self, place: Place) -> Option<&OwnerEntry> {
        self.owners.at(place)
    }

    pub(super) fn space(&self, place: Place) -> Option<&SpaceEntry> {
        self.spaces.at(place)
    }

    pub(super) fn org(&self, place: Place) -> Option<&OrgEntry> {
        self.orgs.at(place)
    }

    pub(super) fn org_by_id(&self, id: &OrgId) -> Option<&OrgEntry> {
        self.org(self.orgs.find(id)?)
    }

    pub(super) fn audience(&self, place: Place) -> Option<&AudienceEntry> {
        self.audiences.at(place)
    }

    pub(super) fn audience_by_id(&self, id: &AudienceId) -> Option<Place> {
        self.audiences.find(id)
    }

    pub(super) fn audience_by_uri(&self, uri: &str) -> Option<Place> {
        self.audiences_by_uri.get(uri).copied()
    }

    /// The audience of the management API.
    pub(super) fn management(&self) -> Option<Place> {
        self.audiences.find(&AudienceId::MANAGEMENT)
    }

    /// An audience that an organization has, by its slug: its own one, else the shared one.
    pub(super) fn audience_by_slug(&self, org: OrgId, slug: &str) -> Option<Place> {
        let own = self.audiences_by_slug.get(&org).and_then(|own| own.get(slug).copied());
        own.or_else(|| self.shared_by_slug.get(slug).map(|(_, place)| *place))
    }

    fn put(&mut self, change: Change) {
        let put = match change {
            Change::Org(org) => self.put_org(&org),
            Change::Space(space) => self.put_space(&space),
            Change::Audience(audience) => self.put_audience(&audience),
            Change::Owner(owner) => self.put_owner(&owner),
            Change::User(id, memberships) => self.put_user(id, &memberships),
            Change::ApiKey(api_key) => self.put_api_key(&api_key),
            Change::GatewayPolicy(policy) => return self.gateway_policies.put(policy),
            Change::NoGatewayPolicy(id) => return self.gateway_policies.remove(&id),
        };
        if put.is_none() {
            tracing::error!("the index met a row whose organization or space it does not know");
        }
    }

    fn put_org(&mut self, org: &Org) -> Option<()> {
        let entry = OrgEntry {
            id: org.id,
            default_audience: org.default_audience,
            suspended: Ending::of(org.suspended_at),
        };
        self.gateway_policies.name_org(org);
        self.orgs.put(entry).map(drop)
    }

    fn put_space(&mut self, space: &Space) -> Option<()> {
        let entry = SpaceEntry {
            id: space.id,
            suspended: Ending::of(space.deleted_at.or(space.suspended_at)),
        };
        self.spaces.put(entry).map(drop)
    }

    fn put_management(&mut self, uri: &AudienceUri) {
        let uri: Arc<str> = uri.as_str().into();
        let entry = AudienceEntry::management(uri.clone());
        if let Some(place) = self.audiences.put(entry) {
            self.audiences_by_uri.insert(uri, place);
        }
    }

    fn put_audience(&mut self, audience: &Audience) -> Option<()> {
        let uri: Arc<str> = audience.uri.as_str().into();
        let entry = AudienceEntry::of(audience, uri.clone());
        let place = self.audiences.put(entry)?;
        self.audiences_by_uri.insert(uri, place);
        let slug: Box<str> = audience.slug.as_str().into();
        if let Some(shared_at) = audience.shared_at {
            let new = ((shared_at, audience.id), place);
            let first = self.shared_by_slug.entry(slug.clone()).or_insert(new);
            *first = std::cmp::min_by_key(*first, new, |(shared_at, _)| *shared_at);
        }
        self.audiences_by_slug.entry(audience.org).or_default().insert(slug, place);
        Some(())
    }

    fn put_owner(&mut self, owner: &IndexedOwner) -> Option<()> {
        let entry = OwnerEntry {
            id: owner.owner,
            org: self.orgs.find(&owner.org)?,
            grants: owner.grants.as_ref().map(|grants| self.scope_texts.share(grants.as_str())),
            roles: self.role_texts.put(owner.roles.as_ref().map(ScopeSet::as_str)),
            is_account_admin: owner.is_account_admin,
            is_suspended: owner.suspended_at.is_some(),
        };
        if let OwnerId::User(id) = owner.owner {
            let orgs = self.memberships.entry(id).or_default();
            if !orgs.contains(&owner.org) {
                orgs.push(owner.org);
            }
        }
        self.owners.put(entry).map(drop)
    }

    /// Where a person is no member any more, its keys stop.
    fn put_user(&mut self, id: UserId, memberships: &[IndexedOwner]) -> Option<()> {
        let before = self.memberships.remove(&id).unwrap_or_default();
        for org in before {
            if !memberships.iter().any(|membership| membership.org == org) {
                self.put_gone(OwnerId::User(id), org)?;
            }
        }
        memberships.iter().try_for_each(|membership| self.put_owner(membership))
    }

    /// An owner that is no longer there: what it owned is dead and known to be.
    fn put_gone(&mut self, owner: OwnerId, org: OrgId) -> Option<Place> {
        let org = self.orgs.find(&org)?;
        self.owners.put(OwnerEntry::gone(owner, org))
    }

    fn put_api_key(&mut self, api_key: &IndexedApiKey) -> Option<()> {
        let org = self.orgs.find(&api_key.org)?;
        let owner = match self.owners.find(&(api_key.owner, org)) {
            Some(place) => place,
            None => self.put_gone(api_key.owner, api_key.org)?,
        };
        let entry = ApiKeyEntry {
            id: api_key.id,
            org,
            owner,
            space: match &api_key.space {
                Some(id) => Some(self.spaces.find(id)?),
                None => None,
            },
            scopes: api_key.scopes.as_ref().map(|scopes| self.scope_texts.share(scopes.as_str())),
            expires: Ending::of(api_key.expires_at),
            revoked: Ending::of(api_key.revoked_at),
            extras: Some(self.extras_of(api_key)?)
                .filter(|extras| !extras.is_empty())
                .map(Box::new),
        };
        let place = self.api_keys.put(entry)?;
        self.put_secrets(place, &api_key.secrets);
        Some(())
    }

    /// A replaced secret stays in the database with its end, so none has to be taken out here.
    fn put_secrets(&mut self, api_key: Place, secrets: &[ApiKeySecret]) {
        for secret in secrets {
            let has_end = secret.expires_at.is_some();
            self.secrets.put(SecretEntry { digest: secret.digest, api_key, has_end });
            if has_end {
                self.secret_ends.insert(secret.digest, Ending::of(secret.expires_at));
            }
        }
    }

    /// What few keys have, aside from the entry, so that the others pay nothing for it. None where
    /// it names an audience that is not there.
    fn extras_of(&mut self, api_key: &IndexedApiKey) -> Option<ApiKeyExtras> {
        let audiences = api_key.audiences.iter().map(|id| self.audiences.find(id));
        let audiences = audiences.collect::<Option<_>>()?;
        let rules = (!api_key.ip_rules.is_empty()).then(|| self.shared_rules(&api_key.ip_rules));
        Some(ApiKeyExtras {
            audiences,
            ip_rules: rules,
            quota: api_key.quota.map(|quota| (quota, api_key.quota_counter)),
        })
    }

    fn shared_rules(&mut self, rules: &IpRules) -> Arc<IpRules> {
        if let Some(shared) = self.ip_rules.get(rules) {
            return shared.clone();
        }
        let shared = Arc::new(rules.clone());
        self.ip_rules.insert(shared.clone());
        shared
    }
}
