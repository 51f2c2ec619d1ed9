//! Leasing permits of quotas from the database, for all requests of a node that wait together.
//!
//! [`LeaseFetcher::run`] takes one batch of counters after the other, each in one short transaction.
//! Where the database does not grant in time, this node grants of its own share, until the database
//! answers again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::clock::Clock;
use crate::error::Result;
use crate::mint::quotas::{LeaseBatch, Quotas};
use crate::mint::{Mint, Refused};
use crate::model::id::ApiKeyId;
use crate::model::quota_counter::Lease;
use crate::service::Service;
use crate::service::follow::{Follower, within};
use crate::service::quota_shares::QuotaShares;
use crate::store::{Store, quotas};

/// How long a database that failed is left alone.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often unused permits are given back and counters out of use are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Sweeps between two prunings.
const SWEEPS_PER_PRUNING: u64 = 10;
/// Rows that one pruning deletes.
const PRUNED_AT_ONCE: u16 = 500;

/// Makes a call for which a permit may have to be leased, and makes it again when it is there.
///
/// # Errors
/// What the call says; [`Refused::Unavailable`] where no permit came in time.
pub async fn with_lease<T>(
    quotas: &Quotas,
    mut call: impl FnMut() -> std::result::Result<T, Refused>,
) -> std::result::Result<T, Refused> {
    let mut deadline = None;
    loop {
        let ticket = match call() {
            Err(Refused::NeedsLease(ticket)) => ticket,
            result => return result,
        };
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + quotas.patience());
        // once more where another request takes the permit, or the slot is over by then; boxed, or each request
        // would keep room for a timer
        let leased = Box::pin(timeout_at(deadline, quotas.leased(ticket)));
        leased.await.map_err(|_| Refused::Unavailable)??;
    }
}

/// What leases permits for a node.
#[derive(Debug)]
pub struct LeaseFetcher {
    store: Arc<Store>,
    clock: Clock,
    mint: Arc<Mint>,
    /// What knows how many nodes there are.
    follower: Option<Arc<Follower>>,
    alone: Mutex<Alone>,
}

/// How a node grants without the database.
#[derive(Debug, Default)]
struct Alone {
    shares: QuotaShares,
    /// When the database is asked again, by the steady clock; nothing while it answers.
    until: Option<Duration>,
}

impl Service {
    /// What leases the permits of a mint; it does as long as [`LeaseFetcher::run`] runs.
    pub fn lease_fetcher(&self, mint: &Arc<Mint>) -> LeaseFetcher {
        LeaseFetcher {
            store: self.store.clone(),
            clock: self.clock.clone(),
            mint: mint.clone(),
            follower: self.follower.clone(),
            alone: Mutex::default(),
        }
    }
}

impl LeaseFetcher {
    /// How long a transaction may take: a request that waited for it in vain still gets of the share. One
    /// that ends after its time may have granted all the same, and nobody uses what it granted.
    fn patience(&self) -> Duration {
        self.mint.quotas().patience() * 4 / 5
    }

    /// Leases until it is asked to stop, and then gives back what this node holds, as far as the
    /// database takes it. The first failure of several is logged.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut ticks = interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sweeps, mut backlog, mut out_of_reach) = (0_u64, false, false);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return self.give_back().await,
                () = self.mint.quotas().asked() => {}
                _ = ticks.tick() => {
                    sweeps += 1;
                    self.mint.quotas().sweep();
                    if backlog || sweeps.is_multiple_of(SWEEPS_PER_PRUNING) {
                        backlog = self.prune_or_warn().await;
                    }
                }
            }
            while let Some(batch) = self.mint.quotas().next_batch() {
                out_of_reach = self.lease(&batch, out_of_reach).await;
            }
        }
    }

    async fn give_back(&self) {
        loop {
            // a batch that was on the queue may still lease, so the next round gives that back too
            self.mint.quotas().retire();
            self.mint.quotas().sweep();
            let Some(batch) = self.mint.quotas().next_batch() else { return };
            if self.lease(&batch, false).await {
                return;
            }
        }
    }

    /// Leases a batch. Says whether the database was out of reach.
    async fn lease(&self, batch: &LeaseBatch, was_out_of_reach: bool) -> bool {
        if batch.asks.is_empty() {
            self.mint.quotas().done(batch, Some((Vec::new(), Duration::ZERO)));
            return was_out_of_reach;
        }
        if self.alone.lock().until.is_some_and(|until| self.clock.steady() < until) {
            self.grant_alone(batch);
            return true;
        }
        match within(self.patience(), self.grant(batch)).await {
            Ok(granted) => {
                if was_out_of_reach {
                    tracing::info!("permits of quotas can be leased again");
                }
                // what was granted alone stays granted: outages that follow each other share a window
                self.alone.lock().until = None;
                self.mint.quotas().done(batch, Some(granted));
                false
            }
            Err(cause) => {
                if !was_out_of_reach {
                    let source = std::error::Error::source(&cause).map(ToString::to_string);
                    tracing::error!(%cause, source, "permits of quotas cannot be leased");
                }
                self.alone.lock().until = Some(self.clock.steady() + ASK_AGAIN);
                self.grant_alone(batch);
                true
            }
        }
    }

    /// Grants of the share of this node.
    fn grant_alone(&self, batch: &LeaseBatch) {
        let nodes = self.follower.as_ref().map_or(1, |follower| follower.nodes());
        // in this order, as in `grant`
        let granted_at = self.clock.steady();
        let leases = self.alone.lock().shares.grant(&batch.asks, nodes, self.clock.now());
        self.mint.quotas().done(batch, Some((leases, granted_at)));
    }

    async fn grant(&self, batch: &LeaseBatch) -> Result<(Vec<Lease>, Duration)> {
        let ids: Vec<ApiKeyId> = batch.asks.iter().map(|(counter, _)| *counter).collect();
        let mut append = self.store.append().await?;
        let mut counters = quotas::lock(&mut append, &ids).await?;
        // in this order: a lease then ends too early by the way between the two, and never too late
        let granted_at = self.clock.steady();
        let now = self.clock.database_time(append.now().await?);
        let leases = batch
            .asks
            .iter()
            .map(|(counter, ask)| counters.entry(*counter).or_default().grant(ask, now));
        let leases = leases.collect();
        quotas::update(&mut append, &counters).await?;
        append.commit().await?;
        Ok((leases, granted_at))
    }

    /// Deletes some counters that are worth nothing any more. Says whether there may be more.
    async fn prune_or_warn(&self) -> bool {
        let pruned = within(self.patience(), self.prune()).await;
        if let Err(cause) = &pruned {
            tracing::warn!(%cause, "old counters of quotas cannot be deleted");
        }
        pruned.unwrap_or(false)
    }

    /// Deletes some counters that are worth nothing any more. Says whether there may be more.
    pub async fn prune(&self) -> Result<bool> {
        let now = self.clock.database_time(self.store.now().await?);
        let limit = PRUNED_AT_ONCE;
        let idle = quotas::list_idle(&mut *self.store.read().await?, now, limit.into()).await?;
        if !idle.is_empty() {
            let mut append = self.store.append().await?;
            quotas::lock(&mut append, &idle).await?;
            quotas::delete_idle(&mut append, &idle, now).await?;
            append.commit().await?;
        }
        Ok(idle.len() >= limit.into())
    }
}
