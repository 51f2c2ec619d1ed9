//! Keeping the index of a node current: filled at the start, then followed by revision.
//!
//! A poll looks at one row. Only when the revision has moved does it read what the changes
//! touched, all in one look at the database, so that what is applied belongs together.

mod endings;
mod filling;
mod pruning;
mod reading;
mod stored;

pub(crate) use stored::Stored;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::mint::ledger::Ledger;
use crate::mint::{Change, Mint};
use crate::model::journal::Ended;
use crate::model::signing_key::SigningKey;
use crate::model::time::Timestamp;
use crate::service::follow::endings::ended_in;
use crate::service::follow::filling::{Before, fill};
use crate::service::follow::reading::{read_imported, read_subject};
use crate::service::journal::Journal;
use crate::service::master_key::MasterKey;
use crate::service::presence::Presence;
use crate::service::restored::BroughtBack;
use crate::service::signing_key_material::signer_of;
use crate::service::{Service, random};
use crate::store::changes::{Imported, Progress, Subject};
use crate::store::{Read, Store, api_keys, changes, owners, revocations, signing_keys};

/// How often a node looks for changes. A change holds everywhere within a second.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// A poll that takes longer has failed; one that reads a million keys anew takes ten seconds or so.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// What no request waits for gives a transaction so long: one that takes longer has failed.
pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A write waits no longer than this for the index to follow it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// More changes than this are slower to apply one by one than everything is to read anew.
const MANY_CHANGES: usize = 5_000;
/// An answer that took longer says too little about the time.
const SLOW_ANSWER: Duration = Duration::from_millis(500);
/// A clock that is so far off the database's deserves a warning.
pub(crate) const NOTABLE_CLOCK_OFFSET_MS: u64 = 2_000;

/// What keeps the index of a mint up to a database.
#[derive(Debug)]
pub struct Follower {
    store: Arc<Store>,
    master_key: Arc<MasterKey>,
    clock: Clock,
    mint: Arc<Mint>,
    /// As they were last read.
    signing_keys: parking_lot::Mutex<Vec<SigningKey>>,
    presence: Presence,
    journal: Option<Arc<Journal>>,
    /// The epoch of what was applied.
    epoch: parking_lot::Mutex<Option<String>>,
    /// What a restore has brought back, and was not ended again yet.
    brought_back: parking_lot::Mutex<BroughtBack>,
    /// What was imported and is not in the index yet, the oldest first.
    imported: parking_lot::Mutex<VecDeque<Imported>>,
    /// One look at a time, so that revisions are applied in their order: the last one that succeeded.
    turn: Mutex<u64>,
    /// How many looks have begun.
    begun: AtomicU64,
}

/// Revisions above the last one that was seen which the database may have had: a node that was killed had
/// not noted the changes of its last second.
const UNSEEN: i64 = 1_000;

/// What a look at the database led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The changes since the last one were applied, if there were any.
    Followed,
    /// Everything was read anew.
    ReadAnew,
}

impl Service {
    /// Fills a mint from the database and makes this service keep it current: with each of its own
    /// writes, and with those of others as long as [`Follower::run`] runs.
    pub async fn start_mint(
        &mut self,
        serve_for: Duration,
        ledger: Ledger,
    ) -> Result<(Arc<Mint>, Arc<Follower>)> {
        let (installation, pepper) = (self.installation.clone(), self.pepper.clone());
        let mint = Mint::new(installation, pepper, serve_for, self.clock.clone())
            .map_err(|cause| Error::Broken(cause.to_string()))?;
        let mint = Arc::new(mint.with_ledger(ledger));
        let follower = Arc::new(Follower {
            store: self.store.clone(),
            master_key: self.master_key.clone(),
            clock: self.clock.clone(),
            mint: mint.clone(),
            signing_keys: parking_lot::Mutex::default(),
            journal: self.journal.clone(),
            epoch: parking_lot::Mutex::default(),
            brought_back: parking_lot::Mutex::default(),
            presence: Presence::new(self.store.clone(), self.schedule.gone_after)?,
            imported: parking_lot::Mutex::default(),
            turn: Mutex::default(),
            begun: AtomicU64::new(0),
        });
        // before it publishes anything: from here on, a signing key waits for this node
        follower.presence.tell(0, self.clock.now()).await?;
        follower.catch_up().await?;
        self.follower = Some(follower.clone());
        Ok((mint, follower))
    }
}

impl Follower {
    /// What it keeps current.
    pub(crate) fn mint(&self) -> &Mint {
        &self.mint
    }

    /// The signing keys, as they were last read.
    pub fn signing_keys(&self) -> Vec<SigningKey> {
        self.signing_keys.lock().clone()
    }

    /// Polls until it is dropped. A poll that fails is logged once and tried again: the index ages,
    /// and past the time that the operator allows the mint refuses by itself.
    pub async fn run(&self) {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut out_of_reach = false;
        for poll in 1_u64.. {
            ticks.tick().await;
            let result = self.poll(poll > 1).await;
            match &result {
                Err(cause) if !out_of_reach => {
                    let source = std::error::Error::source(cause).map(ToString::to_string);
                    tracing::error!(%cause, source, "the database cannot be read");
                }
                Ok(()) if out_of_reach => tracing::info!("the database can be read again"),
                _ => {}
            }
            out_of_reach = result.is_err();
        }
    }

    async fn poll(&self, tell_offset: bool) -> Result<()> {
        let look = async {
            self.correct_clock(tell_offset).await?;
            self.catch_up().await
        };
        within(POLL_TIMEOUT, look).await?;
        // what the journal could not write is tried again with it
        self.note_seen(self.mint.index().revision().unwrap_or(0)).await;
        self.catch_up_with_imports().await
    }

    /// Follows the database's time. Its age must not make the index look stale meanwhile, so its
    /// mark moves with the clock: first where the clock goes ahead, after where it goes back.
    async fn correct_clock(&self, tell: bool) -> Result<()> {
        let Some(offset) = clock_offset(&self.clock, &self.store).await? else { return Ok(()) };
        if tell && offset.unsigned_abs() > NOTABLE_CLOCK_OFFSET_MS {
            tracing::warn!(offset_ms = offset, "the clock was off the database's time: corrected");
        }
        if offset > 0 {
            self.mint.index().shift(offset);
        }
        self.clock.correct(offset);
        if offset < 0 {
            self.mint.index().shift(offset);
        }
        Ok(())
    }

    /// Applies what changed since the last look. After a success, the index is at least at the
    /// revision that the database had when this was called.
    pub async fn catch_up(&self) -> Result<()> {
        let before = self.begun.load(Ordering::Acquire);
        let mut succeeded = self.turn.lock().await;
        if *succeeded > before {
            // whoever waited in line beside others is served by a look that began after it came
            return Ok(());
        }
        let look = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        // two readers fill an index, the second a moment later: another look makes them one
        loop {
            self.end_again().await?;
            if self.look().await? == Look::Followed {
                break;
            }
        }
        self.presence.keep_told(self.mint.index().revision(), self.clock.now()).await;
        *succeeded = look;
        Ok(())
    }

    /// How many nodes there are, as far as the database has told.
    pub(crate) fn nodes(&self) -> u32 {
        self.presence.nodes()
    }

    /// Lines that the journal of revocations could not write yet.
    pub(crate) fn unjournaled(&self) -> usize {
        self.journal.as_ref().map_or(0, |journal| journal.waiting())
    }

    /// Tells that this node serves no more, so that nothing waits for it.
    pub(crate) async fn leave(&self) {
        self.note_seen(self.mint.index().revision().unwrap_or(0)).await;
        self.presence.leave().await;
    }

    /// Takes what was imported into the index, a part at a time: others have their turn between.
    pub async fn catch_up_with_imports(&self) -> Result<()> {
        while !self.imported.lock().is_empty() {
            within(POLL_TIMEOUT, self.catch_up()).await?;
        }
        Ok(())
    }

    /// For an import, which no request waits for: takes all that it has stored into the index.
    pub(crate) async fn catch_up_with_import(&self, stored: &Stored<'_>) {
        let caught_up = match within(POLL_TIMEOUT, self.catch_up()).await {
            Ok(()) => self.catch_up_with_imports().await,
            failed => failed,
        };
        if let Err(cause) = caught_up {
            tracing::warn!(%cause, "imported keys are not known to this node yet");
            self.doubt(stored);
        }
    }

    async fn look(&self) -> Result<Look> {
        let now = self.clock.now();
        let applied = self.mint.index().revision();
        // before the database is looked at: what comes between was not lost; and a node that starts has
        // seen as much as its journal has
        let seen = self.mint.index().seen_revision();
        let seen = seen.or_else(|| Some(self.journal.as_ref()?.revision())).unwrap_or(0);
        let mut read = self.store.read().await?;
        let progress = changes::progress(&mut read).await?;
        if seen > progress.revision {
            drop(read);
            self.begin_epoch_above(seen, &progress).await?;
            return Ok(Look::ReadAnew);
        }
        if self.epoch.lock().as_ref() != Some(&progress.epoch) {
            // at the start; or another node saw the database go back, or this one was cut short before it
            // had read everything anew
            self.reload(&mut read, &progress, now).await?;
            return Ok(Look::ReadAnew);
        }
        match applied {
            Some(applied) if applied == progress.revision && self.imported.lock().is_empty() => {
                self.mint.index().confirm(now);
                Ok(Look::Followed)
            }
            Some(applied) if applied >= progress.pruned => {
                let touched = changes::list_after(&mut read, applied).await?;
                if touched.len() > MANY_CHANGES {
                    self.reload(&mut read, &progress, now).await?;
                    return Ok(Look::ReadAnew);
                }
                self.follow_revocations(&mut read, applied, progress.revision).await?;
                self.apply(&mut read, &touched, progress.revision, now).await?;
                Ok(Look::Followed)
            }
            _ => {
                self.reload(&mut read, &progress, now).await?;
                Ok(Look::ReadAnew)
            }
        }
    }

    /// For a write that was stored: where the index cannot follow, what it touched is refused until it
    /// can, rather than served under rules that no longer hold.
    pub(crate) async fn catch_up_or_doubt(&self, stored: &Stored<'_>) {
        if let Err(cause) = within(WRITE_TIMEOUT, self.catch_up()).await {
            let revision = stored.revision;
            tracing::error!(%cause, revision, "a stored change cannot be read back: refusing what it touched");
            self.doubt(stored);
        }
    }

    /// Has what a stored change touched refused until the index has followed it.
    pub(crate) fn doubt(&self, stored: &Stored<'_>) {
        self.mint.index().doubt_touched(stored.doubted(), stored.revision);
        // the revision of an import is applied before its last keys are
        let imported = self.imported.lock();
        let is_import = |subject: &Subject| matches!(subject, Subject::Imported(_));
        let is_to_come = self.mint.index().revision() < Some(stored.revision)
            && stored.touched.iter().any(is_import);
        if is_to_come || !imported.is_empty() {
            self.mint.index().doubt_imports(true);
        }
    }

    /// The database is behind what was seen: it was restored, or a replica took over. Its revision is raised
    /// above the old one, so that no revision ever means two things, and another epoch begins, by which
    /// every node knows that it has to read everything anew.
    async fn begin_epoch_above(&self, seen: i64, progress: &Progress) -> Result<()> {
        let found = progress.revision;
        tracing::error!(seen, found, "the database went back in time: reading everything anew");
        let mut write = self.store.begin().await?;
        if changes::progress(&mut write).await?.epoch != progress.epoch {
            // another node was quicker: its epoch is as good
            return Ok(());
        }
        changes::raise_revision_above(&mut write, seen + UNSEEN).await?;
        let epoch = URL_SAFE_NO_PAD.encode(random::<9>()?);
        revocations::update_epoch(&mut write, &epoch).await?;
        write.commit().await?;
        Ok(())
    }

    /// What was revoked is known before anything else is: a token that is issued meanwhile is of
    /// before.
    async fn follow_revocations(&self, read: &mut Read, applied: i64, revision: i64) -> Result<()> {
        let revoked = revocations::list_after(read, applied).await?;
        if !revoked.is_empty() {
            // a verifier that hears of it must not hear the same revision twice, whatever is restored
            self.note_seen(revision).await;
        }
        self.mint.feed().apply(&revoked);
        Ok(())
    }

    async fn apply(
        &self,
        read: &mut Read,
        touched: &[Subject],
        revision: i64,
        now: Timestamp,
    ) -> Result<()> {
        let mut applied = Vec::with_capacity(touched.len());
        let mut imported = self.imported.lock().clone();
        for subject in touched {
            match subject {
                Subject::SigningKeys => self.reload_signing_keys(read, revision).await?,
                Subject::Imported(more) => imported.push_back(*more),
                subject => applied.extend(read_subject(read, *subject).await?),
            }
        }
        applied.extend(read_imported(read, &mut imported).await?);
        applied.sort_by_key(Change::order);
        self.note_ended(revision, ended_in(&applied, self.mint.index())).await;
        self.mint.index().apply(applied, revision, now);
        self.leave_imported(imported);
        Ok(())
    }

    /// Keeps what is still to be read of imports. Under one lock with the doubt that comes of it, so that
    /// none outlives it.
    fn leave_imported(&self, left: VecDeque<Imported>) {
        let mut imported = self.imported.lock();
        if left.is_empty() {
            self.mint.index().doubt_imports(false);
        }
        *imported = left;
    }

    /// Reads everything anew. Until that is done, the epoch of the database is not that of this node.
    async fn reload(&self, read: &mut Read, progress: &Progress, now: Timestamp) -> Result<()> {
        let Progress { revision, epoch, .. } = progress;
        self.mint.feed().replace(epoch, &revocations::list_after(read, 0).await?);
        let known = self.journal.as_ref().map(|journal| journal.known()).unwrap_or_default();
        // what the database knows of them has a revision, and is taken in after
        self.mint.feed().withdraw(known.signing_keys.iter().map(|kid| (kid, 0)));
        self.reload_signing_keys(read, *revision).await?;
        let size = |count: i64| usize::try_from(count).unwrap_or(0);
        let (api_key_count, bot_count) =
            (api_keys::count(read).await?, owners::count_bots(read).await?);
        let empty = self.mint.index().begin_to_fill(size(api_key_count), size(bot_count));
        let before = Before { mint: self.mint.clone(), changed: self.changed_of_late(read).await? };
        let (mut filled, ended) = fill(read, &self.store, (empty, before)).await?;
        self.note_ended(*revision, ended).await;
        let brought_back = self.brought_back_by(&filled, &known);
        if !brought_back.is_empty() {
            filled.doubt();
        }
        *self.brought_back.lock() = brought_back;
        filled.forget_long_dead(now);
        self.mint.index().replace(filled, *revision, now);
        *self.epoch.lock() = Some(epoch.clone());
        self.leave_imported(VecDeque::new());
        Ok(())
    }

    /// Takes the signing keys into use. One that was withdrawn signs nothing any more before anybody is
    /// told, or it would sign the news itself; and none that a restore has brought back does.
    async fn reload_signing_keys(&self, read: &mut Read, revision: i64) -> Result<()> {
        let stored = signing_keys::list(read).await?;
        let withdrawn = stored.iter().filter_map(|key| Some((&key.kid, key.withdrawn_revision?)));
        let ended = stored.iter().filter(|key| key.withdrawn_revision.is_some());
        let ended = ended.map(|key| Ended::SigningKey(key.kid.clone(), Some(key.fingerprint())));
        let ended = ended.collect();
        let brought_back = self.withdraw_brought_back(&stored);
        let mut usable = stored.clone();
        usable.retain(|SigningKey { kid, .. }| {
            !self.mint.feed().has_withdrawn(kid) && !brought_back.contains(kid)
        });
        self.mint.replace_signer(signer_of(&usable, &self.master_key)?);
        self.mint.feed().withdraw(withdrawn);
        *self.signing_keys.lock() = stored;
        self.note_ended(revision, ended).await;
        self.presence.has_news();
        Ok(())
    }
}

/// How many milliseconds the database's time is ahead of a clock; nothing where the answer took so
/// long that it says little.
pub(crate) async fn clock_offset(clock: &Clock, store: &Store) -> Result<Option<i64>> {
    let asked_at = clock.now();
    let database = store.now().await?;
    let took = clock.now().since(asked_at);
    let answered_at = database + took / 2;
    Ok((took < SLOW_ANSWER).then(|| clock.offset_to(answered_at)))
}

/// What takes too long counts as failed: a connection that a network swallowed never fails itself.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, work).await.map_err(|elapsed| Error::Unavailable(Box::new(elapsed)))?
}
