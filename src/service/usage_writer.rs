//! Taking what the mint counted to the database: every few seconds, and at a clean stop.
//!
//! What was taken is cut into parts, each a short write under a number of its own. A part stays here,
//! unchanged, until the database has it; a part whose commit was lost sight of is written again
//! under its number, which the database then knows. So a count is added once, whatever fails or is
//! dropped between. A node that is killed loses what it counted since its last writing began.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::clock::Clock;
use crate::error::Result;
use crate::mint::Mint;
use crate::model::id::ApiKeyId;
use crate::model::migration::CountedUses;
use crate::model::time::Timestamp;
use crate::model::usage::{HourCount, LastUse, Usage, UsageSubject};
use crate::service::follow::within;
use crate::service::{Service, random};
use crate::store::{Connection, Store, usage};

/// How often what was counted is written.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// Writings between two prunings: an hour.
const WRITINGS_PER_PRUNING: u64 = 360;
/// How long the counts of an hour are kept.
const KEEP_HOURS: Duration = Duration::from_hours(90 * 24);
/// Rows of one write, which others wait for.
const ROWS_PER_PART: usize = 400;
/// A part that takes longer has failed.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node that stops tries to write the rest.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A pause of a node that stops, after a failure.
const STOP_PAUSE: Duration = Duration::from_millis(200);

/// What carries usage from a mint to a database.
#[derive(Debug)]
pub struct UsageWriter {
    store: Arc<Store>,
    clock: Clock,
    mint: Arc<Mint>,
    /// Tells the parts of this run from those of every other.
    id: String,
    pending: RwLock<Pending>,
}

/// What was taken from the mint and is not known to be in the database.
#[derive(Debug, Default)]
struct Pending {
    /// The number of the last part that is; those that wait have the numbers behind it.
    written: i64,
    parts: VecDeque<Usage>,
}

impl Service {
    /// Makes this service write what a mint counts, as long as [`UsageWriter::run`] runs, and tell
    /// what is not written yet.
    pub fn start_usage(&mut self, mint: Arc<Mint>) -> Result<Arc<UsageWriter>> {
        let writer = Arc::new(UsageWriter {
            store: self.store.clone(),
            clock: self.clock.clone(),
            mint,
            id: URL_SAFE_NO_PAD.encode(random::<16>()?),
            pending: RwLock::default(),
        });
        self.usage_writer = Some(writer.clone());
        Ok(writer)
    }
}

impl Service {
    /// What this node has counted and not written, where it counts at all.
    pub(super) async fn hold_usage(&self) -> Option<Unwritten<'_>> {
        match &self.usage_writer {
            Some(writer) => Some(writer.hold().await),
            None => None,
        }
    }
}

impl UsageWriter {
    /// Writes until it is dropped. A writing that fails is logged once and goes on later.
    pub async fn run(&self) {
        let mut ticks = interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fails = false;
        for writing in 1_u64.. {
            ticks.tick().await;
            let result = self.write_all().await;
            match &result {
                Err(cause) if !fails => {
                    let source = std::error::Error::source(cause).map(ToString::to_string);
                    tracing::warn!(%cause, source, "usage cannot be written: it is kept for later");
                }
                Ok(()) if fails => tracing::info!("usage can be written again"),
                _ => {}
            }
            fails = result.is_err();
            // soon after the start too: a node that starts often prunes all the same
            if writing % WRITINGS_PER_PRUNING == 1
                && let Err(cause) = self.prune().await
            {
                tracing::warn!(%cause, "old usage cannot be pruned");
            }
        }
    }

    /// Writes the rest, for a node that stops and counts no more.
    pub async fn finish(&self) {
        let writing = async {
            while let Err(cause) = self.write_all().await {
                tracing::warn!(%cause, "usage cannot be written: trying again");
                sleep(STOP_PAUSE).await;
            }
        };
        if timeout(STOP_TIMEOUT, writing).await.is_err() {
            tracing::error!("usage that was counted since the last writing is lost");
        }
    }

    /// Writes all that was counted until now. What fails stays here.
    pub async fn write_all(&self) -> Result<()> {
        // nothing is taken while parts wait: the mint adds up counts, and parts would pile up
        self.write_pending().await?;
        {
            // under the lock, so that whoever reads finds each count in one place
            let mut pending = self.pending.write().await;
            pending.parts.extend(self.mint.usage().take().into_parts(ROWS_PER_PART));
        }
        self.write_pending().await
    }

    async fn write_pending(&self) -> Result<()> {
        while self.write_next().await? {}
        Ok(())
    }

    /// Writes the part whose turn it is. Says whether there was one.
    async fn write_next(&self) -> Result<bool> {
        let mut pending = self.pending.write().await;
        let number = pending.written + 1;
        let Some(part) = pending.parts.front() else { return Ok(false) };
        within(PART_TIMEOUT, self.write(number, part)).await?;
        pending.parts.pop_front();
        pending.written = number;
        Ok(true)
    }

    async fn write(&self, number: i64, part: &Usage) -> Result<()> {
        let mut append = self.store.append().await?;
        if usage::add(&mut append, (&self.id, number), part, self.clock.now()).await? {
            append.commit().await?;
        }
        Ok(())
    }

    /// Deletes counts that are older than they are kept, in short writes.
    pub async fn prune(&self) -> Result<()> {
        let before = self.clock.now() - KEEP_HOURS;
        while within(PART_TIMEOUT, self.prune_some(before)).await? {}
        Ok(())
    }

    async fn prune_some(&self, before: Timestamp) -> Result<bool> {
        let mut append = self.store.append().await?;
        let more = usage::prune(&mut append, before).await?;
        append.commit().await?;
        Ok(more)
    }

    /// What is counted here, for a reader. As long as it is held, nothing moves to the database.
    pub(super) async fn hold(&self) -> Unwritten<'_> {
        Unwritten { writer: self, pending: self.pending.read().await }
    }
}

/// What a node has counted and not written.
pub(super) struct Unwritten<'w> {
    writer: &'w UsageWriter,
    pending: RwLockReadGuard<'w, Pending>,
}

impl Unwritten<'_> {
    /// The counts of a subject that are not in what `read` sees.
    pub(super) async fn hours_of(
        &self,
        read: &mut Connection,
        subject: UsageSubject,
    ) -> Result<Vec<HourCount>> {
        let waiting = self.waiting(read).await?;
        let mut hours: Vec<HourCount> =
            waiting.flat_map(|part| part.hours_of(subject)).copied().collect();
        hours.extend(self.writer.mint.usage().of(subject).hours);
        Ok(hours)
    }

    /// How keys came to APIs, as far as it is not in what `read` sees.
    pub(super) async fn api_uses_of(
        &self,
        read: &mut Connection,
        ids: &[ApiKeyId],
    ) -> Result<Vec<CountedUses>> {
        let waiting = self.waiting(read).await?;
        let waiting = waiting.flat_map(|part| ids.iter().flat_map(|id| part.api_uses_of(id)));
        let mut uses: Vec<CountedUses> = waiting.cloned().collect();
        uses.extend(self.writer.mint.usage().api_uses().of(ids));
        Ok(uses)
    }

    /// The parts that are not in what `read` sees. One that was lost sight of may be there all the same.
    async fn waiting(&self, read: &mut Connection) -> Result<impl Iterator<Item = &Usage>> {
        let written = usage::written(read, &self.writer.id).await? - self.pending.written;
        Ok(self.pending.parts.iter().skip(usize::try_from(written).unwrap_or(0)))
    }

    /// The last use of a subject, where there is one that may not be in the database.
    pub(super) fn last_use_of(&self, subject: UsageSubject) -> Option<LastUse> {
        let counted = self.writer.mint.usage().of(subject);
        let waiting = self.pending.parts.iter();
        let found = waiting.filter_map(|part| part.last_use_of(subject));
        found.chain(counted.last_use_of(subject)).max_by_key(|found| found.used_at).cloned()
    }
}
