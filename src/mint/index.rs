//! Every API key of the installation, in memory.
//!
//! Keys point to their owner and organization, so that suspending either is one write. The service
//! applies changes in the order of their revisions, all of one look at the database under one
//! lock; a token carries the revision under which its key was read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};

use crate::mint::slab::{Place, Slab};
use crate::mint::{ClientCredential, Refused};
use crate::model::api_key::IndexedApiKey;
use crate::model::audience::Audience;
use crate::model::bot::IndexedBot;
use crate::model::id::{ApiKeyId, AudienceId, BotId, OrgId};
use crate::model::org::Org;
use crate::model::secret::{Pepper, SecretDigest};
use crate::model::time::Timestamp;

/// A poll that came just now may be this old: within this time no outage is seen at all.
const POLL_BOUND: Duration = Duration::from_secs(1);
/// How long a dead key is told apart from one that never was.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// One noun, as it is now.
#[derive(Debug)]
pub enum Change {
    /// An organization.
    Org(Org),
    /// An audience.
    Audience(Audience),
    /// A bot.
    Bot(IndexedBot),
    /// An API key.
    ApiKey(IndexedApiKey),
}

impl Change {
    /// What is pointed to comes before what points to it.
    pub fn order(&self) -> u8 {
        match self {
            Self::Org(_) => 0,
            Self::Audience(_) => 1,
            Self::Bot(_) => 2,
            Self::ApiKey(_) => 3,
        }
    }
}

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The revision that everything here is of; `None` before the index was filled.
    revision: Option<i64>,
    /// When it was last compared with the database.
    compared_at: Option<Timestamp>,
    secrets: HashMap<SecretDigest, SecretEntry>,
    api_keys: Slab<ApiKeyId, ApiKeyEntry>,
    bots: Slab<BotId, BotEntry>,
    orgs: Slab<OrgId, OrgEntry>,
    audiences: Slab<AudienceId, AudienceEntry>,
    audiences_by_uri: HashMap<Arc<str>, Place>,
    audiences_by_slug: HashMap<OrgId, HashMap<Box<str>, Place>>,
    /// Each text of scopes once: most keys of an installation have the same few.
    scope_texts: HashSet<Arc<str>>,
}

#[derive(Debug, Clone, Copy)]
struct SecretEntry {
    ends: Ending,
    api_key: Place,
}

#[derive(Debug)]
pub(super) struct ApiKeyEntry {
    pub(super) id: ApiKeyId,
    pub(super) org: Place,
    pub(super) owner: Place,
    /// Kept as text, which takes half the memory of a parsed set.
    pub(super) scopes: Option<Arc<str>>,
    pub(super) audiences: Box<[Place]>,
    pub(super) expires: Ending,
    pub(super) revoked: Ending,
}

#[derive(Debug)]
pub(super) struct BotEntry {
    pub(super) id: BotId,
    pub(super) grants: Arc<str>,
    pub(super) suspended: Ending,
}

#[derive(Debug)]
pub(super) struct OrgEntry {
    pub(super) id: OrgId,
    pub(super) default_audience: Option<AudienceId>,
    pub(super) suspended: Ending,
}

#[derive(Debug)]
pub(super) struct AudienceEntry {
    pub(super) org: OrgId,
    pub(super) uri: Arc<str>,
}

/// A moment that may never come, in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ending(i64);

impl Ending {
    const NEVER: Self = Self(i64::MAX);

    fn of(moment: Option<Timestamp>) -> Self {
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
}

/// A key whose secret matched, with the index held as it was at that moment.
#[derive(Debug)]
pub(super) struct AuthenticatedKey<'i> {
    pub(super) state: RwLockReadGuard<'i, State>,
    pub(super) api_key: Place,
    /// The end of the grace of the secret that was presented.
    pub(super) secret_ends: Ending,
}

impl Index {
    /// Finds the key of a credential. One digest, one look-up, and nothing secret to compare.
    pub(super) fn authenticate(
        &self,
        client: &ClientCredential,
        pepper: &Pepper,
    ) -> Result<AuthenticatedKey<'_>, Refused> {
        let digests: Vec<SecretDigest> =
            client.texts.iter().map(|text| pepper.digest(text.as_bytes())).collect();
        let state = self.state.read();
        let secret = digests
            .iter()
            .find_map(|digest| state.secrets.get(digest))
            .copied()
            .ok_or(Refused::UnknownClient)?;
        let entry = state.api_keys.at(secret.api_key).ok_or(Refused::UnknownClient)?;
        if client.client_id.as_ref().is_some_and(|id| id.parse() != Ok(entry.id)) {
            return Err(Refused::UnknownClient);
        }
        Ok(AuthenticatedKey { api_key: secret.api_key, secret_ends: secret.ends, state })
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

    /// Whether the index was filled, and compared with the database within `serve_for`.
    pub fn is_fresh(&self, now: Timestamp, serve_for: Duration) -> bool {
        let compared_at = self.state.read().compared_at;
        let bound = serve_for.max(POLL_BOUND);
        compared_at.is_some_and(|compared_at| now.since(compared_at) <= bound)
    }

    /// How long ago the index was last compared with the database.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.state.read().compared_at.map(|compared_at| now.since(compared_at))
    }

    /// Notes that the database was seen to be at the revision of the index.
    pub fn confirm(&self, now: Timestamp) {
        let mut state = self.state.write();
        if state.revision.is_some() {
            state.compared_at = Some(now);
        }
    }

    /// Moves the mark of the last comparison with a clock that is corrected.
    pub fn shift(&self, millis: i64) {
        let mut state = self.state.write();
        state.compared_at = state
            .compared_at
            .map(|moment| Timestamp::from_millis(moment.as_millis().saturating_add(millis)));
    }

    /// Makes the index count as not compared, so that nothing is issued until it was.
    pub fn doubt(&self) {
        self.state.write().compared_at = None;
    }

    /// Applies what changed up to a revision, at once. What is pointed to comes first.
    pub fn apply(&self, changes: Vec<Change>, revision: i64, now: Timestamp) {
        let mut state = self.state.write();
        for change in changes {
            state.put(change);
        }
        state.revision = Some(revision);
        state.compared_at = Some(now);
    }

    /// Takes a whole new content: at the start, or when the changes between were lost.
    pub fn replace(&self, filled: FilledIndex, revision: i64, now: Timestamp) {
        let mut state = filled.state;
        state.revision = Some(revision);
        state.compared_at = Some(now);
        *self.state.write() = state;
    }

    /// Forgets keys that have been dead for longer than their death is told.
    pub fn forget_long_dead(&self, now: Timestamp) {
        let mut state = self.state.write();
        let long_ago = Timestamp::from_millis(
            now.as_millis() - i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX),
        );
        let dead = state.api_keys.ids_where(|entry| {
            entry.revoked.has_come(long_ago) || entry.expires.has_come(long_ago)
        });
        let places: HashSet<Place> = dead.iter().filter_map(|id| state.api_keys.find(id)).collect();
        state.secrets.retain(|_, secret| {
            !secret.ends.has_come(long_ago) && !places.contains(&secret.api_key)
        });
        for id in &dead {
            state.api_keys.remove(id);
        }
        state.scope_texts.retain(|text| Arc::strong_count(text) > 1);
    }
}

/// An index that is being filled, aside from the one that serves.
#[derive(Debug, Default)]
pub struct FilledIndex {
    state: State,
}

impl FilledIndex {
    /// Makes room for so many API keys and bots, so that nothing grows in steps.
    pub fn with_capacity(api_keys: usize, bots: usize) -> Self {
        let mut state = State::default();
        state.secrets.reserve(api_keys);
        state.api_keys.reserve(api_keys);
        state.bots.reserve(bots);
        state.scope_texts.reserve(bots);
        Self { state }
    }

    /// Puts one noun. Organizations come first, then audiences and bots, then keys.
    pub fn put(&mut self, change: Change) {
        self.state.put(change);
    }
}

impl State {
    pub(super) fn revision(&self) -> i64 {
        self.revision.unwrap_or(0)
    }

    pub(super) fn api_key(&self, place: Place) -> Option<&ApiKeyEntry> {
        self.api_keys.at(place)
    }

    pub(super) fn bot(&self, place: Place) -> Option<&BotEntry> {
        self.bots.at(place)
    }

    pub(super) fn org(&self, place: Place) -> Option<&OrgEntry> {
        self.orgs.at(place)
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

    /// An audience of an organization by its slug.
    pub(super) fn audience_by_slug(&self, org: OrgId, slug: &str) -> Option<Place> {
        self.audiences_by_slug.get(&org)?.get(slug).copied()
    }

    fn put(&mut self, change: Change) {
        let put = match change {
            Change::Org(org) => self.put_org(&org),
            Change::Audience(audience) => self.put_audience(&audience),
            Change::Bot(bot) => self.put_bot(&bot),
            Change::ApiKey(api_key) => self.put_api_key(&api_key),
        };
        if put.is_none() {
            tracing::error!("the index met a row whose organization or owner it does not know");
        }
    }

    fn put_org(&mut self, org: &Org) -> Option<()> {
        let entry = OrgEntry {
            id: org.id,
            default_audience: org.default_audience,
            suspended: Ending::of(org.suspended_at),
        };
        self.orgs.put(&org.id, entry).map(drop)
    }

    fn put_audience(&mut self, audience: &Audience) -> Option<()> {
        let uri: Arc<str> = audience.uri.as_str().into();
        let entry = AudienceEntry { org: audience.org, uri: uri.clone() };
        let place = self.audiences.put(&audience.id, entry)?;
        self.audiences_by_uri.insert(uri, place);
        let slug = audience.slug.as_str().into();
        self.audiences_by_slug.entry(audience.org).or_default().insert(slug, place);
        Some(())
    }

    fn put_bot(&mut self, bot: &IndexedBot) -> Option<()> {
        let entry = BotEntry {
            id: bot.id,
            grants: self.shared(bot.grants.as_str()),
            suspended: Ending::of(bot.suspended_at),
        };
        self.bots.put(&bot.id, entry).map(drop)
    }

    fn put_api_key(&mut self, api_key: &IndexedApiKey) -> Option<()> {
        let places = api_key.audiences.iter().map(|id| self.audiences.find(id));
        let entry = ApiKeyEntry {
            id: api_key.id,
            org: self.orgs.find(&api_key.org)?,
            owner: self.bots.find(&api_key.owner)?,
            audiences: places.collect::<Option<_>>()?,
            scopes: api_key.scopes.as_ref().map(|scopes| self.shared(scopes.as_str())),
            expires: Ending::of(api_key.expires_at),
            revoked: Ending::of(api_key.revoked_at),
        };
        let place = self.api_keys.put(&api_key.id, entry)?;
        // a replaced secret stays in the database with its end, so none has to be taken out here
        for secret in &api_key.secrets {
            let entry = SecretEntry { ends: Ending::of(secret.expires_at), api_key: place };
            self.secrets.insert(secret.digest, entry);
        }
        Some(())
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.scope_texts.get(text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        self.scope_texts.insert(shared.clone());
        shared
    }
}
