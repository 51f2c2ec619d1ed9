//! How often each API key called this process, for an API that holds its callers to their quotas.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::VerifyError;
use crate::quota::Quota;

/// Locks over the keys: a request holds one for less than a microsecond.
const SHARDS: usize = 16;
/// Calls are counted together where they are closer than this part of a window: then the last of
/// them decides when all of them leave it. So there is never one call too many, and at most one part
/// of a window is lost to whoever is at its limit.
const PARTS: u32 = 64;
/// A shard is cleared of idle keys when it has this many, and again at twice of what was left.
const FIRST_CLEARING: usize = 64;

/// The calls of all keys with a quota.
#[derive(Debug)]
pub(crate) struct QuotaCounters {
    began: Instant,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug)]
struct Shard {
    calls: HashMap<Box<str>, Calls>,
    clear_at: usize,
}

/// The calls of one key within its window.
#[derive(Debug, Default)]
struct Calls {
    window: Duration,
    total: u64,
    spans: VecDeque<Span>,
}

#[derive(Debug)]
struct Span {
    first: Duration,
    last: Duration,
    calls: u64,
}

impl Default for QuotaCounters {
    fn default() -> Self {
        let shard = || Shard { calls: HashMap::new(), clear_at: FIRST_CLEARING };
        Self {
            began: Instant::now(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(shard())),
        }
    }
}

impl QuotaCounters {
    /// Counts a call, unless the key has used up its quota in this process.
    pub(crate) fn count(&self, api_key: &str, quota: Quota) -> Result<(), VerifyError> {
        // not the time of day, which a correction of the clock would move
        self.count_at(api_key, quota, self.began.elapsed())
    }

    fn count_at(&self, api_key: &str, quota: Quota, now: Duration) -> Result<(), VerifyError> {
        let place = self.hasher.hash_one(api_key) % SHARDS as u64;
        let Some(shard) = usize::try_from(place).ok().and_then(|place| self.shards.get(place))
        else {
            return Ok(());
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.count(api_key, quota, now).map_err(|wait| VerifyError::QuotaSpent {
            quota,
            retry_after: wait.as_secs() + u64::from(wait.subsec_nanos() > 0),
        })
    }
}

impl Shard {
    fn count(&mut self, api_key: &str, quota: Quota, now: Duration) -> Result<(), Duration> {
        if let Some(calls) = self.calls.get_mut(api_key) {
            return calls.count(quota, now);
        }
        if self.calls.len() >= self.clear_at {
            self.calls.retain(|_, calls| !calls.is_idle(now));
            self.clear_at = FIRST_CLEARING.max(2 * self.calls.len());
        }
        self.calls.entry(api_key.into()).or_default().count(quota, now)
    }
}

impl Calls {
    /// Counts a call, or says how long the oldest ones stay.
    fn count(&mut self, quota: Quota, now: Duration) -> Result<(), Duration> {
        self.window = Duration::from_secs(quota.window());
        while let Some(oldest) = self.spans.front()
            && oldest.last + self.window <= now
        {
            self.total -= oldest.calls;
            self.spans.pop_front();
        }
        if self.total >= quota.limit() {
            let leaves = self.spans.front().map_or(now, |oldest| oldest.last + self.window);
            return Err(leaves.saturating_sub(now));
        }
        self.total += 1;
        let counts_each = quota.limit() <= u64::from(PARTS);
        match self.spans.back_mut() {
            Some(span) if !counts_each && now < span.first + self.window / PARTS => {
                span.last = now.max(span.last);
                span.calls += 1;
            }
            _ => self.spans.push_back(Span { first: now, last: now, calls: 1 }),
        }
        Ok(())
    }

    fn is_idle(&self, now: Duration) -> bool {
        self.spans.back().is_none_or(|span| span.last + self.window <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(limit: u64, window: u64) -> Quota {
        Quota::new(limit, window).unwrap()
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_the_limit(
            limit in prop_oneof![1..6_u64, 60..200_u64],
            gaps in proptest::collection::vec(0..4_000_u64, 1..600),
        ) {
            let (counters, window) = (QuotaCounters::default(), 10);
            let (mut now, mut admitted) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap / if limit > 50 { 40 } else { 1 });
                match counters.count_at("key_a", quota(limit, window), now) {
                    Ok(()) => admitted.push(now),
                    Err(VerifyError::QuotaSpent { retry_after, .. }) => {
                        prop_assert!((1..=window).contains(&retry_after));
                    }
                    Err(other) => panic!("{other:?}"),
                }
                let since = now.saturating_sub(Duration::from_secs(window));
                let inside = admitted.iter().filter(|at| **at > since || since.is_zero()).count();
                prop_assert!(inside as u64 <= limit);
            }
        }
    }

    #[test]
    fn who_waits_as_long_as_it_is_told_is_let_in() {
        let counters = QuotaCounters::default();
        let second = Duration::from_secs;
        for at in [0, 4] {
            assert_eq!(counters.count_at("key_a", quota(2, 10), second(at)), Ok(()));
        }
        let spent = counters.count_at("key_a", quota(2, 10), second(5));
        assert_eq!(spent, Err(VerifyError::QuotaSpent { quota: quota(2, 10), retry_after: 5 }));
        assert_eq!(counters.count_at("key_b", quota(2, 10), second(5)), Ok(()), "each by itself");
        assert_eq!(counters.count_at("key_a", quota(2, 10), second(10)), Ok(()));
        assert!(counters.count_at("key_a", quota(2, 10), second(13)).is_err());
    }

    #[test]
    fn keys_that_no_longer_call_are_forgotten() {
        let counters = QuotaCounters::default();
        for key in 0..100_000_u64 {
            let now = Duration::from_secs(key);
            assert_eq!(counters.count_at(&format!("key_{key}"), quota(5, 60), now), Ok(()));
        }
        let held = counters.shards.iter().map(|shard| shard.lock().unwrap().calls.len());
        assert!(held.sum::<usize>() <= SHARDS * FIRST_CLEARING);
    }

    #[test]
    fn a_key_takes_bounded_memory_whatever_its_limit() {
        let counters = QuotaCounters::default();
        for call in 0..50_000 {
            let now = Duration::from_millis(call);
            assert_eq!(counters.count_at("key_a", quota(1_000_000, 10), now), Ok(()));
        }
        let spans = counters.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            shard.calls.values().map(|calls| calls.spans.len()).sum::<usize>()
        });
        assert!(spans.sum::<usize>() <= 66);
    }
}
