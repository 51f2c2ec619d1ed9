//! The keeper: takes the spool to the database when it is back, says once a minute where the chain
//! ends, moves the write-ahead log of an embedded ledger into its file, and drops what has grown old.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::join;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Error, Result};
use crate::model::ledger::{Batch, Chain, Head, LedgerKey, Pruning};
use crate::model::time::Timestamp;
use crate::service::Service;
use crate::service::follow::within;
use crate::service::ledger::LedgerConfig;
use crate::service::ledger::last_chain::LastChain;
use crate::service::ledger::recorder::ChainEnd;
use crate::service::ledger::spool::{Spool, replay_left_behind};
use crate::store::ledger::LedgerStore;

const TICK: Duration = Duration::from_secs(1);
const TICKS_PER_CHECKPOINT: u64 = 60;
/// How often the write-ahead log is moved: at full load it grows by a quarter meanwhile.
const MOVE_LOG_EVERY: Duration = Duration::from_millis(500);
/// How often what grew old is dropped.
const PRUNE_EVERY: Duration = Duration::from_hours(1);
/// Work that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the spool is replayed at once: it may fill meanwhile.
const REPLAY_FOR: Duration = Duration::from_secs(5);
/// Batches that one transaction drops.
const PRUNED_AT_ONCE: i64 = 200;

/// What looks after the ledger of a node.
#[derive(Debug)]
pub struct Keeper {
    service: Service,
    key: LedgerKey,
    store: Arc<LedgerStore>,
    directory: PathBuf,
    spool: Option<Arc<Spool>>,
    seen: ChainEnd,
    /// Where the chain ended when that was told last.
    told: Mutex<Option<Head>>,
    keep: Option<Duration>,
}

impl Keeper {
    pub(super) fn new(
        service: &Service,
        (store, spool): (Arc<LedgerStore>, Option<Arc<Spool>>),
        config: LedgerConfig,
    ) -> Self {
        let LedgerConfig { directory, keep, .. } = config;
        let key = service.ledger_key();
        let (seen, told) = (ChainEnd::default(), Mutex::default());
        Self { service: service.clone(), key, store, directory, spool, seen, told, keep }
    }

    /// Where the recorder says how far it came.
    pub(super) fn seen(&self) -> ChainEnd {
        self.seen.clone()
    }

    /// What waits for the database, where that is on another disk.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_deref()
    }

    /// Looks after it until it is dropped. What grew old is dropped beside the rest: of a ledger that was never
    /// pruned that takes hours, in which a spool would fill.
    pub async fn run(&self) {
        join!(self.run_looking_after(), self.run_moving_log(), self.run_pruning());
    }

    /// Nothing where nothing was recorded meanwhile. Whoever records writes to the log alone, and would never tell
    /// that it cannot be moved.
    async fn run_moving_log(&self) {
        let mut ticks = interval(MOVE_LOG_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut moved, mut fails) = (None, false);
        loop {
            ticks.tick().await;
            let seen = *self.seen.lock();
            if seen == moved {
                continue;
            }
            let result = within(PATIENCE, self.store.move_log()).await;
            if result.is_ok() {
                moved = seen;
            }
            note(
                &mut fails,
                &result,
                "the write-ahead log of the ledger cannot be moved into its file",
            );
        }
    }

    async fn run_pruning(&self) {
        let mut ticks = interval(PRUNE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(cause) = self.prune(self.service.clock.now()).await {
                let source = std::error::Error::source(&cause).map(ToString::to_string);
                tracing::warn!(%cause, source, "what grew old in the ledger cannot be dropped");
            }
        }
    }

    async fn run_looking_after(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fails = false;
        for tick in 0_u64.. {
            ticks.tick().await;
            let result = self.look_after(tick).await;
            note(&mut fails, &result, "the ledger cannot be looked after");
        }
    }

    async fn look_after(&self, tick: u64) -> Result<()> {
        self.replay().await?;
        if tick.is_multiple_of(TICKS_PER_CHECKPOINT) {
            self.replay_left_behind().await?;
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Takes what was spooled to the database, as long as the rest of the work can wait. Says how many bytes
    /// there were.
    pub async fn replay(&self) -> Result<u64> {
        let waiting = self.spool.as_ref().map(|spool| (spool, spool.waiting_bytes()));
        let Some((spool, bytes @ 1..)) = waiting else { return Ok(0) };
        let until = self.service.clock.steady() + REPLAY_FOR;
        while self.service.clock.steady() < until {
            if !spool.replay_some(&self.service, &self.store).await? {
                tracing::info!(bytes, "all that was spooled is in the ledger");
                break;
            }
        }
        Ok(bytes)
    }

    /// Takes to the database what another run has left since this one began: it was still stopping then.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database does not take it.
    pub async fn replay_left_behind(&self) -> Result<()> {
        replay_left_behind(&self.directory, &self.service, &self.store).await
    }

    /// Says where the chain ends, where it has moved: in the database of the installation, and in the log and the
    /// data directory, which whoever holds the database cannot change.
    pub async fn checkpoint(&self) -> Result<()> {
        let Some(head) = *self.seen.lock() else { return Ok(()) };
        if self.spool().is_some_and(|spool| !spool.is_empty()) {
            // the end of the chain is not in the database yet: it would look cut off there
            return Ok(());
        }
        if *self.told.lock() == Some(head) {
            return Ok(());
        }
        tracing::info!(%head, "the ledger ends here");
        let put = self.service.store.put_ledger_checkpoint(&head, self.service.clock.now());
        within(PATIENCE, put).await?;
        let directory = self.directory.clone();
        let written = spawn_blocking(move || LastChain::note_end(&directory, head)).await;
        written.map_err(|cause| Error::Broken(cause.to_string()))??;
        *self.told.lock() = Some(head);
        Ok(())
    }

    /// Drops all batches that are older than they are kept.
    pub async fn prune(&self, now: Timestamp) -> Result<()> {
        let Some(keep) = self.keep else { return Ok(()) };
        let prunings = within(PATIENCE, self.store.list_prunings()).await?;
        for chain in within(PATIENCE, self.store.list_chains()).await? {
            let pruned = prunings.iter().map(|(pruning, _)| pruning);
            let pruned = pruned.copied().find(|pruning| pruning.head.chain == chain.id);
            self.prune_chain(&chain, pruned, (now, now - keep)).await?;
        }
        Ok(())
    }

    async fn prune_chain(
        &self,
        chain: &Chain,
        mut pruned: Option<Pruning>,
        (now, before): (Timestamp, Timestamp),
    ) -> Result<()> {
        loop {
            let from = pruned.map_or(0, |pruning| pruning.head.number);
            let batches = self.store.list_after(chain.id, from, PRUNED_AT_ONCE);
            let batches = within(PATIENCE, batches).await?;
            let old: Vec<&Batch> =
                batches.iter().take_while(|batch| batch.last_at < before).collect();
            let Some(last) = old.last() else { return Ok(()) };
            let facts = pruned.map_or(0, |pruning| pruning.facts);
            let facts = old.iter().fold(facts, |sum, batch| sum.saturating_add(batch.facts));
            let pruning = Pruning { head: last.head(), facts, pruned_at: now };
            let seal = self.key.value_of_pruning(&pruning);
            if !within(PATIENCE, self.store.prune(from, &pruning, seal)).await? {
                // another node is at it
                return Ok(());
            }
            pruned = Some(pruning);
        }
    }
}

/// A failure is logged when it begins.
fn note(fails: &mut bool, result: &Result<()>, what: &str) {
    if let Err(cause) = result
        && !*fails
    {
        let source = std::error::Error::source(cause).map(ToString::to_string);
        tracing::warn!(%cause, source, "{what}");
    }
    *fails = result.is_err();
}
