//! Quotas on the hot path: permits that this node has leased, counted in memory.
//!
//! [`Quotas::admit`] never waits. Where no permit is at hand it puts the counter on a queue and says
//! so; the service leases from the database for all that wait, and the caller asks again. Permits
//! are used within their slot of the database's time, measured with a clock that is never corrected.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub use crate::mint::lease_queue::Ticket;

use crate::clock::Clock;
use crate::mint::Refused;
use crate::mint::lease_queue::{LeaseQueue, Want};
use crate::mint::permits::{Permits, Taken};
use crate::model::id::ApiKeyId;
use crate::model::quota::Quota;
use crate::model::quota_counter::{Lease, LeaseAsk, Slot};

/// Locks over the counters: a request holds one for less than a microsecond.
const SHARDS: usize = 64;

type Shard = HashMap<ApiKeyId, Permits>;

/// The permits of all counters that were asked for lately.
#[derive(Debug)]
pub struct Quotas {
    clock: Clock,
    shards: [Mutex<Shard>; SHARDS],
    queue: Mutex<LeaseQueue>,
    /// Wakes who leases.
    asked: Notify,
    leased: watch::Sender<Leased>,
    /// How long a request waits for a permit.
    patience: Mutex<Duration>,
}

/// How long a request waits for a permit, where nothing else is said.
const PATIENCE: Duration = Duration::from_millis(250);

/// How far the batches have come.
#[derive(Debug, Clone, Copy, Default)]
struct Leased {
    /// All batches below this number are done.
    below: u64,
    /// The last batch that failed, plus one.
    failed: u64,
}

/// Counters that are leased together, in the order of their ids.
#[derive(Debug)]
pub struct LeaseBatch {
    number: u64,
    /// What is asked of each.
    pub asks: Vec<(ApiKeyId, LeaseAsk)>,
}

/// Where a quota stands, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The quota.
    pub quota: Quota,
    /// How many more requests would be admitted now.
    pub remaining: u32,
    /// Whole seconds until the oldest use leaves the window, one at least.
    pub resets_in: u64,
}

/// One request is admitted. It counts once it is [`Permit::used`]; dropped, it goes back.
#[derive(Debug)]
#[must_use = "a permit that is dropped goes back"]
pub struct Permit<'q> {
    quotas: &'q Quotas,
    counter: ApiKeyId,
    slot: Slot,
    rate_limit: RateLimit,
    used: bool,
}

impl Permit<'_> {
    /// Where the quota stands with this request.
    pub fn rate_limit(&self) -> RateLimit {
        self.rate_limit
    }

    /// Counts the request for good.
    pub fn used(mut self) {
        self.used = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.used
            && let Some(permits) = self.quotas.shard(&self.counter).lock().get_mut(&self.counter)
        {
            permits.put_back(self.slot);
        }
    }
}

impl Quotas {
    /// Quotas without a permit at hand.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            shards: std::array::from_fn(|_| Mutex::default()),
            queue: Mutex::default(),
            asked: Notify::new(),
            leased: watch::Sender::new(Leased::default()),
            patience: Mutex::new(PATIENCE),
        }
    }

    /// How long a request waits for a permit: a quarter of a second, unless it is set.
    pub fn patience(&self) -> Duration {
        *self.patience.lock()
    }

    /// Lets requests wait for longer, or not for so long.
    pub fn set_patience(&self, patience: Duration) {
        *self.patience.lock() = patience;
    }

    /// Admits a request, if there is a permit at hand.
    ///
    /// # Errors
    /// [`Refused::QuotaSpent`], or [`Refused::NeedsLease`] with what to wait for before the call is
    /// made again.
    pub fn admit(&self, counter: ApiKeyId, quota: Quota) -> Result<Permit<'_>, Refused> {
        let now = self.clock.steady();
        let mut shard = self.shard(&counter).lock();
        let permits = shard.entry(counter).or_insert_with(|| Permits::new(quota, now));
        let taken = permits.take(quota, now);
        let rate_limit = rate_limit(quota, permits, now);
        if matches!(taken, Taken::LastHalf(_) | Taken::NeedsLease) {
            permits.note_asking(true);
        }
        drop(shard);
        match taken {
            Taken::Permit(slot) => Ok(self.permit(counter, slot, rate_limit)),
            Taken::LastHalf(slot) => {
                self.ask(counter, 0, true);
                Ok(self.permit(counter, slot, rate_limit))
            }
            Taken::Spent => Err(Refused::QuotaSpent(RateLimit { remaining: 0, ..rate_limit })),
            Taken::NeedsLease => Err(Refused::NeedsLease(self.ask(counter, 1, true))),
        }
    }

    fn permit(&self, counter: ApiKeyId, slot: Slot, rate_limit: RateLimit) -> Permit<'_> {
        Permit { quotas: self, counter, slot, rate_limit, used: false }
    }

    /// Waits until the batch of a ticket is done.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] where the database did not grant.
    pub async fn leased(&self, ticket: Ticket) -> Result<(), Refused> {
        let mut leased = self.leased.subscribe();
        let done = leased.wait_for(|leased| leased.below > ticket.0).await;
        match done {
            Ok(leased) if leased.failed != ticket.0 + 1 => Ok(()),
            _ => Err(Refused::Unavailable),
        }
    }

    /// Waits until something is asked for.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The next batch to lease, if there is one. Each must be [`Quotas::done`].
    pub fn next_batch(&self) -> Option<LeaseBatch> {
        let (number, wants) = self.queue.lock().pop()?;
        let now = self.clock.steady();
        let mut asks: Vec<_> = wants
            .into_iter()
            .filter_map(|(counter, want)| self.ask_of(counter, &want, now))
            .collect();
        asks.sort_unstable_by_key(|(counter, _)| *counter);
        Some(LeaseBatch { number, asks })
    }

    fn ask_of(
        &self,
        counter: ApiKeyId,
        want: &Want,
        now: Duration,
    ) -> Option<(ApiKeyId, LeaseAsk)> {
        let mut shard = self.shard(&counter).lock();
        let permits = shard.get_mut(&counter)?;
        let ask = permits.ask(want.waiting, !want.ahead, now);
        let asks_nothing = ask.waiting == 0 && ask.ahead == 0 && ask.unused.is_empty();
        permits.note_asking(!asks_nothing);
        (!asks_nothing).then_some((counter, ask))
    }

    /// Puts to use what a batch was granted, one lease an ask, at a moment of the steady clock that
    /// was read before the database's. `None` where the batch failed: what it gave back is lost.
    pub fn done(&self, batch: &LeaseBatch, granted: Option<(Vec<Lease>, Duration)>) {
        let failed = granted.is_none();
        let (leases, granted_at) = granted.unwrap_or_default();
        for (place, (counter, ask)) in batch.asks.iter().enumerate() {
            if let Some(permits) = self.shard(counter).lock().get_mut(counter) {
                match leases.get(place) {
                    Some(lease) => permits.put(ask, *lease, granted_at),
                    None => permits.note_asking(false),
                }
            }
        }
        let below = batch.number + 1;
        self.leased.send_modify(|leased| {
            let failed = if failed { below } else { leased.failed };
            *leased = Leased { below, failed };
        });
    }

    /// Puts on the queue what is to be given back, and forgets counters that are not in use.
    pub fn sweep(&self) {
        let now = self.clock.steady();
        for shard in &self.shards {
            let mut unused = Vec::new();
            shard.lock().retain(|counter, permits| {
                if permits.has_unused(now) {
                    permits.note_asking(true);
                    unused.push(*counter);
                }
                !permits.is_idle(now)
            });
            for counter in unused {
                self.ask(counter, 0, false);
            }
        }
    }

    /// Ends every lease, so that the sweep gives all of it back: for a stop.
    pub fn retire(&self) {
        for shard in &self.shards {
            shard.lock().values_mut().for_each(Permits::retire);
        }
    }

    /// How many counters are in memory.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ask(&self, counter: ApiKeyId, waiting: u32, ahead: bool) -> Ticket {
        let ticket = self.queue.lock().push(counter, waiting, ahead);
        self.asked.notify_one();
        ticket
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
    fn shard(&self, counter: &ApiKeyId) -> &Mutex<Shard> {
        // an id is random to its last character
        let last = counter.characters().bytes().next_back().unwrap_or_default();
        &self.shards[usize::from(last) % SHARDS]
    }
}

fn rate_limit(quota: Quota, permits: &Permits, now: Duration) -> RateLimit {
    let leaves = permits.oldest_leaves(now);
    let resets_in = leaves.as_secs() + u64::from(leaves.subsec_nanos() > 0);
    let remaining = permits.remaining().min(quota.limit());
    RateLimit { quota, remaining, resets_in: resets_in.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    fn counter(number: u8) -> ApiKeyId {
        ApiKeyId::from_random([number; 16])
    }

    #[test]
    fn many_counters_are_leased_in_batches() {
        let quotas = Quotas::new(Clock::wound(Timestamp::from_millis(0)));
        let quota = "10".parse().unwrap();
        for number in (0..250).rev() {
            for _ in 0..3 {
                assert!(quotas.admit(counter(number), quota).is_err());
            }
        }
        let mut counters = 0;
        for size in [50, 50, 50, 50, 50] {
            let batch = quotas.next_batch().unwrap();
            assert_eq!(batch.asks.len(), size);
            assert!(batch.asks.is_sorted_by_key(|(counter, _)| *counter));
            assert!(batch.asks.iter().all(|(_, ask)| ask.waiting == 3));
            counters += size;
            quotas.done(&batch, None);
        }
        assert_eq!((counters, quotas.next_batch().is_none()), (250, true));
    }

    #[tokio::test]
    async fn who_waits_for_a_batch_that_fails_is_told_so() {
        let quotas = Quotas::new(Clock::wound(Timestamp::from_millis(0)));
        let ticket = |quotas: &Quotas| match quotas.admit(counter(1), "10".parse().unwrap()) {
            Err(Refused::NeedsLease(ticket)) => ticket,
            other => panic!("{other:?}"),
        };
        let first = ticket(&quotas);
        quotas.done(&quotas.next_batch().unwrap(), None);
        assert_eq!(quotas.leased(first).await, Err(Refused::Unavailable));
        let second = ticket(&quotas);
        quotas.done(&quotas.next_batch().unwrap(), Some((Vec::new(), Duration::ZERO)));
        assert_eq!(quotas.leased(second).await, Ok(()));
    }
}
