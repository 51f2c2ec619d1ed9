//! Deleting what is no longer needed.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::error::{Error, Result};
use crate::model::time::Timestamp;
use crate::service::call::IDEMPOTENCY_KEPT;
use crate::service::follow::{Follower, TRANSACTION_TIMEOUT, within};
use crate::service::import::clean_up_imports;
use crate::store::{changes, idempotency, revocations};

/// How long changes are kept. A node that was away for longer reads everything anew.
const KEEP_CHANGES: Duration = Duration::from_hours(24);
/// How often what is no longer needed is deleted.
const PRUNE_EVERY: Duration = Duration::from_hours(1);
/// When it is first: soon, for a node that never runs for an hour, and not in the midst of a start.
const FIRST_AFTER: Duration = Duration::from_mins(1);

impl Follower {
    /// Deletes what is no longer needed, until it is dropped. Beside the polls, none of which waits for it:
    /// what a large import left behind takes a while.
    pub async fn run_pruning(&self) {
        let mut ticks = interval_at(Instant::now() + FIRST_AFTER, PRUNE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(cause) = self.prune().await {
                tracing::warn!(%cause, "old changes cannot be pruned");
            }
        }
    }

    /// Deletes what is no longer needed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is out of reach.
    pub async fn prune(&self) -> Result<()> {
        let now = self.clock.now();
        let mint = self.mint.clone();
        // a look through a million keys would keep a worker from all else
        let forgetting = spawn_blocking(move || mint.index().forget_long_dead(now));
        forgetting.await.map_err(|cause| Error::Broken(cause.to_string()))?;
        self.mint.feed().forget(now);
        within(TRANSACTION_TIMEOUT, self.prune_revocations(now)).await?;
        while within(TRANSACTION_TIMEOUT, self.prune_some_changes(now)).await? {}
        while within(TRANSACTION_TIMEOUT, self.prune_some_repeats(now)).await? {}
        clean_up_imports(&self.store, now).await
    }

    async fn prune_revocations(&self, now: Timestamp) -> Result<()> {
        let mut write = self.store.begin().await?;
        revocations::prune(&mut write, now - self.mint.feed().kept()).await?;
        write.commit().await?;
        Ok(())
    }

    /// Says whether there are more.
    async fn prune_some_changes(&self, now: Timestamp) -> Result<bool> {
        let mut write = self.store.begin().await?;
        let more = changes::prune(&mut write, now - KEEP_CHANGES).await?;
        write.commit().await?;
        Ok(more)
    }

    /// Of what repeated requests are known by. Says whether there is more.
    async fn prune_some_repeats(&self, now: Timestamp) -> Result<bool> {
        let mut append = self.store.append().await?;
        let more = idempotency::prune(&mut append, now - IDEMPOTENCY_KEPT).await?;
        append.commit().await?;
        Ok(more)
    }
}
