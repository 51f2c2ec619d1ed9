//! How often each API key called this process, for an API that holds its callers to their quotas.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::claims::Claims;
use crate::error::VerifyError;
use crate::quota::Quota;
use crate::token::Token;
use crate::verify::Verifier;

/// Locks over the keys: a request holds one for less than a microsecond.
const SHARDS: usize = 16;
/// Calls are counted together where they are closer than this part of a window: then the last of
/// them decides when all of them leave it. So there is never one call too many, and at most one part
/// of a window is lost to whoever is at its limit.
const PARTS: u32 = 64;
/// A shard is cleared of idle keys when it has this many, and again at twice of what was left.
const FIRST_CLEARING: usize = 64;

impl Verifier {
    /// Counts a call of the key of a token, if the key has a quota: at most so many calls reach this
    /// process within any window. Every process counts by itself, and the issuer counts tokens by
    /// itself too, so that an API on three nodes lets through three times the quota at most.
    ///
    /// Memory is bounded by the keys that called within their window, about 1 KiB each.
    ///
    /// # Errors
    /// [`VerifyError::QuotaSpent`]. A call that is refused is not counted.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let verifier = issuer.verifier();
    /// let text = issuer.token("org_0000000000000000", "chat").quota(2, 60).sign();
    /// let token = verifier.verify_held(&text).unwrap();
    /// assert!(verifier.count(&token).is_ok() && verifier.count(&token).is_ok());
    /// assert!(verifier.count(&token).is_err());
    /// # }
    /// ```
    pub fn count(&self, token: &Token) -> Result<(), VerifyError> {
        self.count_call(token).map(drop)
    }

    /// The same, with what it takes to take the call back.
    pub(crate) fn count_call(&self, token: &Token) -> Result<Option<CountedAt>, VerifyError> {
        let Claims { quota, client_id, .. } = token.claims();
        quota.map(|quota| self.quotas().count(client_id, quota)).transpose()
    }

    /// Counts a call no more that was refused after all.
    #[cfg(feature = "axum")]
    pub(crate) fn take_back(&self, token: &Token, counted: CountedAt) {
        self.quotas().take_back(&token.claims().client_id, counted);
    }
}

/// When a call was counted, by the clock of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CountedAt(Duration);

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
    fn count(&self, api_key: &str, quota: Quota) -> Result<CountedAt, VerifyError> {
        // not the time of day, which a correction of the clock would move
        let now = self.began.elapsed();
        self.count_at(api_key, quota, now).map(|()| CountedAt(now))
    }

    fn count_at(&self, api_key: &str, quota: Quota, now: Duration) -> Result<(), VerifyError> {
        let Some(mut shard) = self.shard(api_key) else { return Ok(()) };
        shard.count(api_key, quota, now).map_err(|wait| VerifyError::QuotaSpent {
            quota,
            retry_after: wait.as_secs() + u64::from(wait.subsec_nanos() > 0),
        })
    }

    #[cfg(feature = "axum")]
    fn take_back(&self, api_key: &str, CountedAt(at): CountedAt) {
        let mut shard = self.shard(api_key);
        if let Some(calls) = shard.as_mut().and_then(|shard| shard.calls.get_mut(api_key)) {
            calls.take_back(at);
        }
    }

    fn shard(&self, api_key: &str) -> Option<MutexGuard<'_, Shard>> {
        let place = self.hasher.hash_one(api_key) % SHARDS as u64;
        let shard = self.shards.get(usize::try_from(place).ok()?)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
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

    /// Counts the call of this moment no more: that one and no later one, which stays for longer.
    #[cfg(feature = "axum")]
    fn take_back(&mut self, at: Duration) {
        let is_in = |span: &Span| span.first <= at && at <= span.last;
        let Some(place) = self.spans.iter().rposition(is_in) else { return };
        self.total -= 1;
        match self.spans.get_mut(place) {
            Some(span) if span.calls > 1 => span.calls -= 1,
            _ => drop(self.spans.remove(place)),
        }
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
                let is_inside = |at: &&Duration| **at + Duration::from_secs(window) > now;
                let inside = admitted.iter().filter(is_inside).count();
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

    #[cfg(feature = "axum")]
    #[test]
    fn a_call_that_is_taken_back_leaves_room_and_a_later_one_stays_for_its_time() {
        let counters = QuotaCounters::default();
        let second = Duration::from_secs;
        let count = |at: u64| counters.count_at("key_a", quota(2, 10), second(at)).is_ok();
        assert!(count(0) && count(1));
        counters.take_back("key_a", CountedAt(second(0)));
        counters.take_back("key_b", CountedAt(second(1)));
        assert!(count(2) && !count(3));
        assert!(!count(10), "the calls of 1 and 2 are in the window");
        assert!(count(11) && !count(11));
        counters.take_back("key_a", CountedAt(second(1)));
        assert!(!count(11), "what has left the window is not there to be taken back");
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
