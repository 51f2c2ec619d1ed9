//! Counting what became of each request, in memory: a token, or why there was none.
//!
//! [`Mint::issue`](crate::mint::Mint::issue) counts once the secret has matched: a wrong secret is
//! nobody's use of a key. The service takes what was counted to the database every few seconds, so
//! no request writes.
//!
//! Memory: about 200 bytes a key that was used since the last taking. While the database is away
//! nothing is taken, and each hour adds a count to each key that goes on; above [`MAX_COUNTS`]
//! none is added where the key has one of the same outcome, which then stands for later hours too.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::mint::Refused;
use crate::mint::api_uses::ApiUses;
use crate::mint::index::AuthenticatedKey;
use crate::mint::user_agent::{KeptCaller, keep_user_agent};
use crate::model::access::Holder;
use crate::model::id::{ApiKeyId, OrgId};
use crate::model::time::Timestamp;
use crate::model::usage::{Grain, HourCount, LastUse, Outcome, Usage, UsageSubject};

/// Parts of the keys, each under a lock of its own.
pub(super) const SHARDS: usize = 16;
/// Counts that all shards keep together before hours collapse: 50 MB.
const MAX_COUNTS: usize = 2 << 20;

/// Who sends a request, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'c> {
    /// The address.
    pub address: Option<IpAddr>,
    /// The `User-Agent`, as it was sent.
    pub user_agent: Option<&'c str>,
}

/// One use of an API key.
#[derive(Debug, Clone, Copy)]
pub struct Used<'u> {
    /// The key whose secret matched.
    pub api_key: ApiKeyId,
    /// Its organization.
    pub org: OrgId,
    /// What became of the request.
    pub outcome: Outcome,
    /// Who sent it.
    pub from: KeptCaller<'u>,
}

/// What was counted and not taken yet.
#[derive(Debug)]
pub struct UsageCounters {
    shards: [Mutex<Shard>; SHARDS],
    api_uses: ApiUses,
    counts_per_shard: usize,
}

#[derive(Debug, Default)]
struct Shard {
    api_keys: HashMap<ApiKeyId, ApiKeyUsage>,
    counts: usize,
}

#[derive(Debug)]
struct ApiKeyUsage {
    org: OrgId,
    /// One or two, nearly always.
    counts: Vec<Counter>,
    last_use: Option<LastUse>,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    hour_at: Timestamp,
    outcome: Outcome,
    count: u64,
}

impl Default for UsageCounters {
    fn default() -> Self {
        Self::with_room(MAX_COUNTS)
    }
}

impl UsageCounters {
    fn with_room(counts: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            api_uses: ApiUses::default(),
            counts_per_shard: counts / SHARDS,
        }
    }

    /// Counts one use. For a key that was counted since the last taking this allocates nothing,
    /// unless its hour, outcome or user agent is new.
    pub fn count(&self, used: &Used<'_>, now: Timestamp) {
        let mut shard = shard_of(&self.shards, &used.api_key).lock();
        let has_room = shard.counts < self.counts_per_shard;
        let usage = shard.of(used.api_key, used.org);
        let grown = usage.count(Grain::Hour.start_of(now), used.outcome, has_room);
        if matches!(used.outcome, Outcome::Issued | Outcome::Introspected) {
            usage.use_now(used.from, now);
        }
        shard.counts += usize::from(grown);
    }

    /// Notes a use that is no request for a token: it is the last one, and is counted as nothing.
    pub fn note_use(&self, holder: Holder, from: KeptCaller<'_>, now: Timestamp) {
        let mut shard = shard_of(&self.shards, &holder.api_key).lock();
        shard.of(holder.api_key, holder.org).use_now(from, now);
    }

    /// Takes all that was counted, and begins anew.
    pub fn take(&self) -> Usage {
        let mut orgs = Sums::default();
        let mut usage = Usage::default();
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock());
            for (id, api_key) in taken.api_keys {
                orgs.add(UsageSubject::Org(api_key.org), &api_key);
                let subject = UsageSubject::ApiKey(id);
                usage.hours.extend(api_key.counts.iter().map(|count| count.of(subject)));
                usage.last_uses.extend(api_key.last_use.map(|last_use| (subject, last_use)));
            }
        }
        orgs.append_to(&mut usage);
        (usage.api_uses, usage.watched) = self.api_uses.take();
        usage.hours.sort_unstable_by_key(|row| (row.subject, row.hour_at, row.outcome));
        usage.last_uses.sort_unstable_by_key(|(subject, _)| *subject);
        usage
    }

    /// How keys came to APIs.
    pub fn api_uses(&self) -> &ApiUses {
        &self.api_uses
    }

    /// What was counted for one subject, without taking it.
    pub fn of(&self, subject: UsageSubject) -> Usage {
        let mut sums = Sums::default();
        match subject {
            UsageSubject::ApiKey(id) => {
                if let Some(api_key) = shard_of(&self.shards, &id).lock().api_keys.get(&id) {
                    sums.add(subject, api_key);
                }
            }
            UsageSubject::Org(id) => {
                for shard in &self.shards {
                    let shard = shard.lock();
                    for api_key in shard.api_keys.values().filter(|api_key| api_key.org == id) {
                        sums.add(subject, api_key);
                    }
                }
            }
        }
        let mut usage = Usage::default();
        sums.append_to(&mut usage);
        usage
    }
}

/// The shard of a key. Ids are random, so any character of them parts the keys.
pub(super) fn shard_of<'s, T>(shards: &'s [T; SHARDS], id: &ApiKeyId) -> &'s T {
    let [first, ..] = shards;
    let place = id.characters().bytes().last().map_or(0, usize::from) % SHARDS;
    shards.get(place).unwrap_or(first)
}

impl Shard {
    fn of(&mut self, api_key: ApiKeyId, org: OrgId) -> &mut ApiKeyUsage {
        let unused = || ApiKeyUsage { org, counts: Vec::with_capacity(1), last_use: None };
        self.api_keys.entry(api_key).or_insert_with(unused)
    }
}

impl ApiKeyUsage {
    /// Says whether a count was added.
    fn count(&mut self, hour_at: Timestamp, outcome: Outcome, has_room: bool) -> bool {
        let same = |count: &&mut Counter| count.outcome == outcome && count.hour_at == hour_at;
        if let Some(known) = self.counts.iter_mut().find(same) {
            known.count += 1;
            return false;
        }
        let newest = self.counts.iter_mut().rev().find(|count| count.outcome == outcome);
        if let (Some(known), false) = (newest, has_room) {
            known.count += 1;
            return false;
        }
        self.counts.push(Counter { hour_at, outcome, count: 1 });
        true
    }

    /// The last use only moves forward.
    fn use_now(&mut self, from: KeptCaller<'_>, now: Timestamp) {
        let address = from.caller().address.map(|address| address.to_canonical());
        let last_use =
            self.last_use.get_or_insert(LastUse { used_at: now, address: None, user_agent: None });
        if now < last_use.used_at {
            return;
        }
        (last_use.used_at, last_use.address) = (now, address);
        keep_user_agent(&mut last_use.user_agent, from);
    }
}

impl Counter {
    fn of(self, subject: UsageSubject) -> HourCount {
        let Self { hour_at, outcome, count } = self;
        HourCount { subject, hour_at, outcome, count }
    }
}

/// Sums over keys, of an organization.
#[derive(Default)]
struct Sums {
    hours: HashMap<(UsageSubject, Timestamp, Outcome), u64>,
    last_uses: HashMap<UsageSubject, LastUse>,
}

impl Sums {
    fn add(&mut self, subject: UsageSubject, api_key: &ApiKeyUsage) {
        for Counter { hour_at, outcome, count } in &api_key.counts {
            *self.hours.entry((subject, *hour_at, *outcome)).or_default() += count;
        }
        let Some(last_use) = &api_key.last_use else { return };
        let known = self.last_uses.entry(subject).or_insert_with(|| last_use.clone());
        if known.used_at < last_use.used_at {
            known.clone_from(last_use);
        }
    }

    fn append_to(self, usage: &mut Usage) {
        let of =
            |((subject, hour_at, outcome), count)| HourCount { subject, hour_at, outcome, count };
        usage.hours.extend(self.hours.into_iter().map(of));
        usage.last_uses.extend(self.last_uses);
    }
}

impl Refused {
    /// As what a refusal is counted, where it is anybody's.
    pub(super) fn outcome(self) -> Option<Outcome> {
        Some(match self {
            // a request that waits for a lease, or for a look at the database, comes again
            Self::UnknownClient | Self::NeedsLease(_) | Self::Behind => return None,
            Self::AddressNotAllowed => Outcome::AddressRefused,
            Self::QuotaSpent(_) => Outcome::QuotaSpent,
            Self::Revoked => Outcome::Revoked,
            Self::Expired => Outcome::Expired,
            Self::Replaced => Outcome::Replaced,
            Self::Suspended => Outcome::Suspended,
            Self::InvalidTarget | Self::ManagementInGrace => Outcome::InvalidTarget,
            Self::TargetsDiffer => Outcome::TargetsDiffer,
            Self::NoTarget => Outcome::NoTarget,
            Self::MalformedScope => Outcome::MalformedScope,
            Self::ScopeBeyondKey(_) => Outcome::ScopeBeyondKey,
            Self::NoScope => Outcome::NoScope,
            Self::TooMuchScope => Outcome::TooMuchScope,
            Self::Unavailable => Outcome::Unavailable,
        })
    }
}

/// As what a request is counted, where it is anybody's.
pub(super) fn outcome_of<T>(issued: &Result<T, Refused>) -> Option<Outcome> {
    match issued {
        Ok(_) => Some(Outcome::Issued),
        Err(refused) => refused.outcome(),
    }
}

impl AuthenticatedKey<'_> {
    /// Whose use it is.
    pub(super) fn whose(&self) -> Option<(ApiKeyId, OrgId)> {
        let api_key = self.state.api_key(self.api_key)?;
        Some((api_key.id, self.state.org(api_key.org)?.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mint::{ClientCredential, UserAgents};
    use crate::model::installation::ApiKeyPrefix;
    use crate::model::secret::PlainSecret;

    /// The first moment of an hour.
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const HOUR: i64 = 3_600_000;

    fn api_key(number: u8) -> ApiKeyId {
        ApiKeyId::from_random([number; 16])
    }

    fn org() -> OrgId {
        OrgId::from_random([1; 16])
    }

    fn later(millis: i64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() + millis)
    }

    fn count(counters: &UsageCounters, number: u8, outcome: Outcome, now: Timestamp) {
        count_from(counters, Caller::default(), (number, outcome), now);
    }

    fn count_from(
        counters: &UsageCounters,
        from: Caller<'_>,
        (number, outcome): (u8, Outcome),
        now: Timestamp,
    ) {
        let texts = vec![PlainSecret::new("an imported key".to_owned())];
        let client = ClientCredential { client_id: None, texts };
        let agents = UserAgents::new(&ApiKeyPrefix::default());
        let from = agents.kept(from, |text| client.is_shown_in(text), |_| false);
        let used = Used { api_key: api_key(number), org: org(), outcome, from };
        counters.count(&used, now);
    }

    /// The counts of a subject, as `hour: outcome count`, hours from that of `NOW`.
    fn told(usage: &Usage, subject: UsageSubject) -> Vec<String> {
        let own = usage.hours.iter().filter(|row| row.subject == subject);
        own.map(|row| {
            let hour = (row.hour_at.as_millis() - NOW.as_millis()) / HOUR;
            format!("{hour}: {} {}", row.outcome.as_str(), row.count)
        })
        .collect()
    }

    fn counters() -> UsageCounters {
        UsageCounters::default()
    }

    /// What is kept of a user agent.
    fn kept_of(counters: &UsageCounters, user_agent: &str) -> Option<String> {
        let from = Caller { user_agent: Some(user_agent), ..Caller::default() };
        count_from(counters, from, (1, Outcome::Issued), NOW);
        let usage = counters.of(UsageSubject::ApiKey(api_key(1)));
        usage.last_uses[0].1.user_agent.as_deref().map(str::to_owned)
    }

    #[test]
    fn a_use_counts_for_the_key_and_for_its_organization() {
        let counters = counters();
        for (number, outcome) in [(1, Outcome::Issued), (1, Outcome::Issued), (2, Outcome::Expired)]
        {
            count(&counters, number, outcome, NOW);
        }
        let one = counters.of(UsageSubject::ApiKey(api_key(1)));
        let of_org = counters.of(UsageSubject::Org(org()));
        let all = counters.take();
        for usage in [&one, &all] {
            assert_eq!(told(usage, UsageSubject::ApiKey(api_key(1))), ["0: issued 2"]);
        }
        for usage in [&of_org, &all] {
            let mut told = told(usage, UsageSubject::Org(org()));
            told.sort();
            assert_eq!(told, ["0: expired 1", "0: issued 2"]);
        }
        let used: Vec<_> = all.last_uses.iter().map(|(subject, _)| *subject).collect();
        let expected = [UsageSubject::ApiKey(api_key(1)), UsageSubject::Org(org())];
        assert_eq!(used, expected, "a refused request is no use");
        assert_eq!(counters.take(), Usage::default(), "taken once");
    }

    #[test]
    fn hours_are_told_apart_at_their_border() {
        let counters = counters();
        for millis in [0, HOUR - 1, HOUR, HOUR, -1] {
            count(&counters, 1, Outcome::Issued, later(millis));
        }
        let hours = told(&counters.take(), UsageSubject::ApiKey(api_key(1)));
        assert_eq!(hours, ["-1: issued 1", "0: issued 2", "1: issued 2"]);
    }

    #[test]
    fn where_there_is_no_room_hours_collapse_and_no_count_is_lost() {
        let counters = UsageCounters::with_room(SHARDS);
        for hour in 0..100 {
            count(&counters, 1, Outcome::Issued, later(hour * HOUR));
            count(&counters, 1, Outcome::Revoked, later(hour * HOUR));
        }
        let usage = counters.take();
        let told = told(&usage, UsageSubject::ApiKey(api_key(1)));
        assert_eq!(told, ["0: issued 100", "0: revoked 100"]);
    }

    #[test]
    fn the_last_use_only_moves_forward() {
        let counters = counters();
        for (millis, user_agent) in [(5, "new"), (0, "old")] {
            let from = Caller { user_agent: Some(user_agent), ..Caller::default() };
            count_from(&counters, from, (1, Outcome::Issued), later(millis));
        }
        for (_, last_use) in counters.take().last_uses {
            assert_eq!((last_use.used_at, last_use.user_agent), (later(5), Some("new".into())));
        }
    }

    #[test]
    fn an_address_is_kept_in_its_one_form() {
        let counters = counters();
        let from = Caller { address: "::ffff:192.0.2.1".parse().ok(), user_agent: None };
        count_from(&counters, from, (1, Outcome::Issued), NOW);
        assert_eq!(counters.take().last_uses[0].1.address, "192.0.2.1".parse().ok());
    }

    #[test]
    fn a_user_agent_is_kept_short_and_printable() {
        let counters = counters();
        assert_eq!(kept_of(&counters, "curl/8").as_deref(), Some("curl/8"));
        assert_eq!(kept_of(&counters, "a\u{1b}[31m\tb\0").as_deref(), Some("a?[31m?b?"));
        assert_eq!(kept_of(&counters, "\u{202e}x\u{e9}").as_deref(), Some("???x??"));
        let long = "x".repeat(300);
        for text in [&long, &long[..200], &long[..201]] {
            assert_eq!(kept_of(&counters, text).as_deref(), Some(&long[..200]));
        }
        assert_eq!(kept_of(&counters, &long[..199]).as_deref(), Some(&long[..199]));
        for empty in ["", "  "] {
            assert_eq!(kept_of(&counters, empty), None);
        }
    }

    #[test]
    fn an_api_key_sent_as_user_agent_is_not_kept() {
        let counters = counters();
        for secret in ["tm_default_0123456789abcdef", "x tm_a", "python an imported key/1"] {
            assert_eq!(kept_of(&counters, "curl/8").as_deref(), Some("curl/8"));
            assert_eq!(kept_of(&counters, secret), None, "{secret}");
        }
        let behind_the_cut = format!("{}an imported key", "x".repeat(195));
        assert_eq!(kept_of(&counters, &behind_the_cut), None);
    }

    #[test]
    fn uses_from_many_threads_are_counted_exactly_while_others_take() {
        let counters = counters();
        let taken = Mutex::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0..3_000_u32 {
                        count(&counters, (round % 40) as u8, Outcome::Issued, NOW);
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..50 {
                    *taken.lock() += sum(&counters.take());
                }
            });
        });
        assert_eq!(*taken.lock() + sum(&counters.take()), 9_000);
    }

    fn sum(usage: &Usage) -> u64 {
        let of_org = usage.hours.iter().filter(|row| row.subject == UsageSubject::Org(org()));
        of_org.map(|row| row.count).sum()
    }
}
