//! The recorder: takes the facts that wait on the hot path to the database, one batch after the
//! other, and lets their tokens leave.
//!
//! A batch is sealed once and keeps its number. Where the database does not take it in time it goes
//! to the spool under that number; where there is no spool or it is full, the tokens of the batch
//! are refused, no more facts are taken, and the batch is tried again as it is, because nobody
//! knows whether the database has it. So a record can tell of a token that never left, and no
//! token leaves without a record.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::error::{Error, Result};
use crate::mint::Mint;
use crate::mint::ledger::LedgerFigures;
use crate::model::ledger::{Batch, Head, Sealer};
use crate::service::Service;
use crate::service::follow::within;
use crate::service::ledger::spool::Spool;
use crate::store::ledger::{Inserted, LedgerStore};

/// After how long one has failed that cannot go there: a disk may be slow.
const FAILED_AFTER: Duration = Duration::from_secs(10);
/// A pause before a batch that failed is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// How long facts are waited for, at most, so that one commit serves all who are at hand.
const GATHER: Duration = Duration::from_millis(4);
/// Facts that are enough for one commit: shared by so many it costs each of them little.
const ENOUGH: u64 = 256;
/// How often all others have their turn and bring nothing, until nobody is waited for any longer.
const QUIET_TURNS: u32 = 8;
/// How often a node that stops tries to record the rest, and for how long.
const LAST_TRIES: u32 = 20;
const TRY_LAST_FOR: Duration = Duration::from_secs(10);

/// Where the chain ends, for whoever keeps it.
pub(super) type ChainEnd = Arc<parking_lot::Mutex<Option<Head>>>;

/// What records.
#[derive(Debug)]
pub struct Recorder {
    service: Service,
    mint: Arc<Mint>,
    store: Arc<LedgerStore>,
    spool: Option<Arc<Spool>>,
    spool_after: Duration,
    sealer: Sealer,
    seen: ChainEnd,
}

impl Recorder {
    pub(super) fn new(
        service: &Service,
        mint: Arc<Mint>,
        (store, spool, spool_after): (Arc<LedgerStore>, Option<Arc<Spool>>, Duration),
        (sealer, seen): (Sealer, ChainEnd),
    ) -> Self {
        Self { service: service.clone(), mint, store, spool, spool_after, sealer, seen }
    }

    /// Records until it is asked to stop, and then what still waits.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mint = self.mint.clone();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = mint.ledger().some() => {}
            }
            self.gather().await;
            if let Some(mut failed) = self.record().await {
                tokio::select! {
                    () = &mut stop => break self.try_last(failed).await,
                    () = self.retry(&mut failed) => {}
                }
            }
        }
        while self.mint.ledger().waiting() > 0 {
            if let Some(failed) = self.record().await {
                self.try_last(failed).await;
            }
        }
        self.store.close().await;
    }

    /// Waits while more come: a commit costs as much as a few signatures, and the more it serves the less
    /// it costs each. Turns of the runtime say when all who are at hand have come; its timers count whole
    /// milliseconds, which is longer than a commit.
    async fn gather(&self) {
        let ledger = self.mint.ledger();
        let until = self.service.clock.steady() + GATHER;
        let (mut waiting, mut quiet_turns) = (ledger.waiting(), 0);
        while quiet_turns < QUIET_TURNS && waiting < ENOUGH && self.service.clock.steady() < until {
            yield_now().await;
            let before = std::mem::replace(&mut waiting, ledger.waiting());
            quiet_turns = if waiting > before { 0 } else { quiet_turns + 1 };
        }
    }

    /// Records all that waits. A batch that cannot be is given back, and its tokens are refused.
    async fn record(&mut self) -> Option<Batch> {
        let (facts, waiting) = self.mint.ledger().take()?;
        let mut batch = self.sealer.seal(facts);
        let began = self.service.clock.steady();
        self.figures().taken(batch.first_at);
        match self.keep(&mut batch).await {
            Ok(()) => {
                *self.seen.lock() = self.sealer.head();
                let took = self.service.clock.steady().saturating_sub(began);
                self.figures().commits.record(took);
                self.figures().recorded(batch.facts);
                waiting.recorded();
                None
            }
            Err(cause) => {
                let source = std::error::Error::source(&cause).map(ToString::to_string);
                tracing::error!(%cause, source, "tokens cannot be recorded: none is issued");
                self.mint.ledger().close();
                drop(waiting);
                self.mint.ledger().refuse_waiting();
                Some(batch)
            }
        }
    }

    /// Tries a batch until it is recorded, and takes facts again.
    async fn retry(&mut self, batch: &mut Batch) {
        loop {
            sleep(RETRY_EVERY).await;
            if self.keep(batch).await.is_ok() {
                break;
            }
        }
        *self.seen.lock() = self.sealer.head();
        self.figures().recorded(batch.facts);
        self.mint.ledger().reopen();
        tracing::info!("tokens can be recorded again");
    }

    async fn try_last(&mut self, mut batch: Batch) {
        let until = self.service.clock.steady() + TRY_LAST_FOR;
        for _ in 0..LAST_TRIES {
            if self.keep(&mut batch).await.is_ok() {
                self.figures().recorded(batch.facts);
                return;
            }
            if self.service.clock.steady() >= until {
                break;
            }
            sleep(RETRY_EVERY).await;
        }
        let facts = batch.facts;
        tracing::error!(
            facts,
            "a batch is lost; with `ledger.mode = \"durable\"`, its tokens never left"
        );
    }

    fn figures(&self) -> &LedgerFigures {
        self.mint.ledger().figures()
    }

    /// Makes a batch durable, and counts where it cannot.
    async fn keep(&mut self, batch: &mut Batch) -> Result<()> {
        let kept = self.keep_somewhere(batch).await;
        if kept.is_err() {
            self.figures().failures.add(1);
        }
        kept
    }

    /// Makes a batch durable, in the database or in the spool.
    async fn keep_somewhere(&mut self, batch: &mut Batch) -> Result<()> {
        let Some(spool) = self.spool.clone() else {
            return self.insert(batch, FAILED_AFTER).await;
        };
        if spool.is_empty() {
            match self.insert(batch, self.spool_after).await {
                Err(Error::Unavailable(cause)) => {
                    tracing::warn!(%cause, "a batch of the ledger goes to the spool");
                }
                result => return result,
            }
        }
        spool.append(batch).await?;
        self.figures().spooled.add(1);
        Ok(())
    }

    async fn insert(&mut self, batch: &mut Batch, patience: Duration) -> Result<()> {
        match within(patience, self.store.insert(batch)).await? {
            Inserted::There => Ok(()),
            Inserted::Taken => within(patience, self.begin_anew(batch)).await,
        }
    }

    /// Another batch has the place of ours: somebody else writes to this chain, or the database was
    /// restored. The facts go to a chain of their own, under which the batch is tried from now on.
    async fn begin_anew(&mut self, batch: &mut Batch) -> Result<()> {
        let taken = batch.head();
        tracing::error!(%taken, "the ledger holds another batch in this place: a new chain begins");
        let previous = self.store.head(batch.chain).await?;
        let chain = self.service.begin_chain(&self.store, previous).await?;
        self.sealer.begin_anew(batch, &chain);
        match self.store.insert(batch).await? {
            Inserted::There => Ok(()),
            Inserted::Taken => Err(Error::Broken("a new chain has a batch already".to_owned())),
        }
    }
}
