//! Counting how API keys come to APIs, in memory: as they are or by token, as this service sees it and
//! as verifiers report it. What the way from raw keys to tokens is watched by.
//!
//! Memory: about 200 bytes for each key, API and form since the last taking, and never more than
//! half a million of them: what comes above is not counted until the database has taken the rest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::mint::served::ServedApi;
use crate::mint::usage::{SHARDS, shard_of};
use crate::mint::user_agent::{KeptCaller, keep_user_agent};
use crate::mint::{Caller, ClientCredential, Mint, Refused};
use crate::model::access::Credential;
use crate::model::id::{ApiKeyId, AudienceId, OrgId};
use crate::model::migration::{CountedUses, Form, Uses, UsesOf, Watched};
use crate::model::time::Timestamp;

/// Keys, APIs and forms that are counted between two takings: 100 MB.
const MAX_USES: usize = 1 << 19;
/// Calls that one report can tell of one key.
const MAX_CALLS: u64 = 1_000_000_000;
/// How far back a report can reach.
const MAX_AGO: Duration = Duration::from_hours(24);

/// What was counted and not taken yet.
#[derive(Debug)]
pub struct ApiUses {
    shards: [Mutex<Shard>; SHARDS],
    watched: Mutex<HashMap<AudienceId, Watched>>,
    /// Rows of one shard.
    most: usize,
}

#[derive(Debug, Default)]
struct Shard {
    api_keys: HashMap<ApiKeyId, KeyUses>,
    rows: usize,
}

#[derive(Debug)]
struct KeyUses {
    org: OrgId,
    /// One or two, nearly always.
    uses: Vec<(AudienceId, Form, Uses)>,
}

impl KeyUses {
    fn rows(&self, api_key: ApiKeyId) -> impl Iterator<Item = CountedUses> {
        self.uses.iter().map(move |(audience, form, uses)| CountedUses {
            of: UsesOf { api_key, audience: *audience, form: *form },
            org: self.org,
            uses: uses.clone(),
        })
    }
}

/// Uses that come together.
#[derive(Debug, Clone, Copy)]
pub struct NewUses<'u> {
    /// Seen by this service.
    pub seen: u64,
    /// Reported by a verifier.
    pub calls: u64,
    /// The first of them.
    pub first_at: Timestamp,
    /// The last of them.
    pub last_at: Timestamp,
    /// Who called last.
    pub from: KeptCaller<'u>,
}

/// Calls of one key to an API in one form, as a verifier of the API reports them. Moments are told by
/// how long ago they were, so that no clock but ours counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedUses {
    /// The key.
    pub client_id: ApiKeyId,
    /// In which form it came.
    pub form: Form,
    /// How often.
    pub calls: u64,
    /// Seconds since the first of them.
    pub first_ago: u64,
    /// Seconds since the last of them.
    pub last_ago: u64,
    /// From where the last came, where that is known.
    pub address: Option<IpAddr>,
    /// What the client called itself last.
    pub user_agent: Option<String>,
}

impl Mint {
    /// Counts what a verifier reports of the calls to its API. What is not its business, or of a key
    /// that is not there, is left out; nothing can be in the future.
    ///
    /// # Errors
    /// [`Refused::InvalidTarget`] for an API that the caller does not serve.
    pub fn count_reported(
        &self,
        asker: &Credential,
        (audience, reported): (&str, &[ReportedUses]),
        now: Timestamp,
    ) -> Result<(), Refused> {
        let api = self.index.served_by(asker, audience).ok_or(Refused::InvalidTarget)?;
        if !api.raw_keys.denies_all() {
            self.usage.api_uses().heard(api.id, now);
        }
        for one in reported.iter().filter(|one| one.calls > 0) {
            let Some((api_key, org)) = self.index.whose(one.client_id) else { continue };
            if !api.takes_all && org != asker.org {
                continue;
            }
            let from = Caller { address: one.address, user_agent: one.user_agent.as_deref() };
            let from = self.kept(from, asker.org, |_| false);
            let last_at = before(now, one.last_ago);
            let first_at = before(now, one.first_ago).min(last_at);
            let calls = one.calls.min(MAX_CALLS);
            let new = NewUses { seen: 0, calls, first_at, last_at, from };
            let of = UsesOf { api_key, audience: api.id, form: one.form };
            self.usage.api_uses().count(of, org, &new);
        }
        Ok(())
    }

    /// Counts a living key that came raw where no raw key is taken: its holder is locked out, which
    /// somebody has to see.
    pub(super) fn count_locked_out(
        &self,
        client: &ClientCredential,
        api: &ServedApi,
        new: &NewUses<'_>,
        now: Timestamp,
    ) {
        let Ok(key) = self.index.authenticate(client, &self.pepper) else { return };
        let Some((api_key, org)) = key.whose() else { return };
        if key.check_status(now).is_ok() && (api.takes_all || org == api.org) {
            let of = UsesOf { api_key, audience: api.id, form: Form::Raw };
            self.usage.api_uses().count(of, org, new);
        }
    }

    /// A caller whose name for itself holds no credential of this organization, nor what it came with.
    pub(super) fn kept<'c>(
        &self,
        from: Caller<'c>,
        org: OrgId,
        shows_own: impl Fn(&str) -> bool,
    ) -> KeptCaller<'c> {
        let is_key = |word: &str| self.index.has_key_of(org, &self.pepper.digest(word.as_bytes()));
        self.user_agents.kept(from, shows_own, is_key)
    }

    /// Counts a call by token to an API, where this service sees each.
    pub(super) fn count_call(&self, client_id: &str, audience: AudienceId, new: &NewUses<'_>) {
        let id = client_id.parse().ok();
        let Some((api_key, org)) = id.and_then(|id| self.index.whose(id)) else { return };
        let of = UsesOf { api_key, audience, form: Form::Token };
        self.usage.api_uses().count(of, org, new);
    }
}

/// So many seconds ago.
fn before(now: Timestamp, ago: u64) -> Timestamp {
    now - Duration::from_secs(ago).min(MAX_AGO)
}

impl<'u> NewUses<'u> {
    /// One that this service sees now.
    pub(super) fn seen(from: KeptCaller<'u>, now: Timestamp) -> Self {
        Self { seen: 1, calls: 0, first_at: now, last_at: now, from }
    }

    /// One call that this service sees, as a gateway asks about each.
    pub(super) fn call(from: KeptCaller<'u>, now: Timestamp) -> Self {
        Self { seen: 0, calls: 1, first_at: now, last_at: now, from }
    }

    fn add_to(&self, uses: &mut Uses) {
        uses.seen = uses.seen.saturating_add(self.seen);
        uses.calls = uses.calls.saturating_add(self.calls);
        uses.first_at = uses.first_at.min(self.first_at);
        if self.last_at < uses.last_at {
            return;
        }
        uses.last_at = self.last_at;
        let Caller { address, user_agent } = self.from.caller();
        uses.address = address.map(|address: IpAddr| address.to_canonical()).or(uses.address);
        // who says nothing of itself, or shows a credential, takes no name away
        if user_agent.is_some() {
            keep_user_agent(&mut uses.user_agent, self.from);
        }
    }
}

impl Default for ApiUses {
    fn default() -> Self {
        Self::with_room(MAX_USES)
    }
}

impl ApiUses {
    fn with_room(most: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, watched: Mutex::default(), most: most / SHARDS }
    }

    /// Counts uses. For what was counted since the last taking this allocates nothing, unless the
    /// user agent is new.
    pub(super) fn count(&self, of: UsesOf, org: OrgId, new: &NewUses<'_>) {
        let mut counted = shard_of(&self.shards, &of.api_key).lock();
        let has_room = counted.rows < self.most;
        if !has_room && !counted.api_keys.contains_key(&of.api_key) {
            return;
        }
        let first = || KeyUses { org, uses: Vec::with_capacity(1) };
        let rows = &mut counted.api_keys.entry(of.api_key).or_insert_with(first).uses;
        let is_same =
            |row: &&mut (AudienceId, Form, Uses)| (row.0, row.1) == (of.audience, of.form);
        if let Some((_, _, uses)) = rows.iter_mut().find(is_same) {
            new.add_to(uses);
        } else if has_room {
            let mut uses = Uses::none(new.first_at);
            new.add_to(&mut uses);
            rows.push((of.audience, of.form, uses));
            counted.rows += 1;
        }
    }

    /// Notes that an API was heard of.
    pub(super) fn heard(&self, audience: AudienceId, now: Timestamp) {
        let first = Watched { since_at: now, heard_at: now };
        let mut all = self.watched.lock();
        let watched = all.entry(audience).or_insert(first);
        watched.heard_at = watched.heard_at.max(now);
    }

    /// Takes all that was counted, in its order, and begins anew.
    pub(super) fn take(&self) -> (Vec<CountedUses>, Vec<(AudienceId, Watched)>) {
        let mut rows = Vec::new();
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock());
            rows.extend(taken.api_keys.iter().flat_map(|(id, api_key)| api_key.rows(*id)));
        }
        rows.sort_unstable_by_key(|row: &CountedUses| row.of);
        let watched = std::mem::take(&mut *self.watched.lock());
        let mut watched: Vec<_> = watched.into_iter().collect();
        watched.sort_unstable_by_key(|(id, _)| *id);
        (rows, watched)
    }

    /// How some keys came to APIs, as far as it was not taken.
    pub fn of(&self, ids: &[ApiKeyId]) -> Vec<CountedUses> {
        let mut rows = Vec::new();
        for id in ids {
            let shard = shard_of(&self.shards, id).lock();
            rows.extend(shard.api_keys.get(id).into_iter().flat_map(|api_key| api_key.rows(*id)));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mint::UserAgents;
    use crate::model::installation::ApiKeyPrefix;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn of(number: u8, form: Form) -> UsesOf {
        let audience = AudienceId::from_random([9; 16]);
        UsesOf { api_key: ApiKeyId::from_random(u128::from(number).to_be_bytes()), audience, form }
    }

    fn org() -> OrgId {
        OrgId::from_random([1; 16])
    }

    fn at(millis: i64) -> NewUses<'static> {
        let moment = Timestamp::from_millis(NOW.as_millis() + millis);
        NewUses::seen(KeptCaller::default(), moment)
    }

    #[test]
    fn what_comes_together_is_counted_together_and_taken_once() {
        let uses = ApiUses::default();
        uses.count(of(1, Form::Raw), org(), &at(5));
        uses.count(of(1, Form::Raw), org(), &NewUses { seen: 0, calls: 7, ..at(-5) });
        uses.count(of(1, Form::Token), org(), &at(0));
        let (rows, _) = uses.take();
        let told = |row: &CountedUses| {
            let Uses { seen, calls, first_at, last_at, .. } = row.uses;
            (row.of.form, seen, calls, last_at.as_millis() - first_at.as_millis())
        };
        let told: Vec<_> = rows.iter().map(told).collect();
        assert_eq!(told, [(Form::Raw, 1, 7, 10), (Form::Token, 1, 0, 0)]);
        assert!(uses.take().0.is_empty());
    }

    #[test]
    fn what_comes_above_the_bound_takes_no_memory_and_what_is_counted_goes_on() {
        let uses = ApiUses::with_room(2 * SHARDS);
        // ids of one shard, with the same last character
        for number in [1, 63, 125, 187, 63] {
            uses.count(of(number, Form::Raw), org(), &at(0));
        }
        uses.count(of(1, Form::Token), org(), &at(0));
        let held = uses.shards.iter().map(|shard| shard.lock().api_keys.len());
        assert_eq!(held.sum::<usize>(), 2);
        let seen: Vec<_> = uses.take().0.iter().map(|row| row.uses.seen).collect();
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn who_called_last_is_known_as_long_as_nobody_says_otherwise() {
        let uses = ApiUses::default();
        let agents = UserAgents::new(&ApiKeyPrefix::default());
        let from = |caller| agents.kept(caller, |_| false, |_| false);
        let address = "::ffff:192.0.2.1".parse().ok();
        let first = from(Caller { address, user_agent: Some("curl/8") });
        uses.count(of(1, Form::Raw), org(), &NewUses { from: first, ..at(0) });
        uses.count(of(1, Form::Raw), org(), &at(1));
        let secret = from(Caller { user_agent: Some("x tm_default_abc"), ..Caller::default() });
        uses.count(of(2, Form::Raw), org(), &NewUses { from: secret, ..at(1) });
        uses.count(of(1, Form::Raw), org(), &NewUses { from: secret, ..at(2) });
        let (rows, _) = uses.take();
        assert_eq!(rows[0].uses.address, "192.0.2.1".parse().ok());
        assert_eq!(rows[0].uses.user_agent.as_deref(), Some("curl/8"));
        assert_eq!(rows[1].uses.user_agent, None, "an API key is never kept");
    }
}
