//! Keeping the index of a node current: filled at the start, then followed by revision.
//!
//! A poll looks at one row. Only when the revision has moved does it read what the changes
//! touched, all in one look at the database, so that what is applied belongs together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::mint::{Change, FilledIndex, Mint};
use crate::model::signing_key::{SigningKey, SigningKeyState};
use crate::model::time::Timestamp;
use crate::service::Service;
use crate::service::master_key::MasterKey;
use crate::service::signing_keys::signer_of;
use crate::store::changes::{Progress, Subject};
use crate::store::{Half, Read, Store, api_keys, audiences, bots, changes, orgs, signing_keys};

/// How often a node looks for changes. A change holds everywhere within a second.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// How long changes are kept. A node that was away for longer reads everything anew.
const KEEP_CHANGES: Duration = Duration::from_hours(24);
/// Polls between two prunings: an hour.
const POLLS_PER_PRUNING: u64 = 4 * 3600;
/// A poll that takes longer has failed; one that reads a million keys anew takes ten seconds or so.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
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
    signing_keys: parking_lot::Mutex<SigningKeys>,
    /// One look at a time, so that revisions are applied in their order.
    turn: Mutex<()>,
}

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
    pub async fn start_mint(&mut self, serve_for: Duration) -> Result<(Arc<Mint>, Arc<Follower>)> {
        let mint = Arc::new(Mint::new(self.installation.clone(), self.pepper.clone(), serve_for));
        let follower = Arc::new(Follower {
            store: self.store.clone(),
            master_key: self.master_key.clone(),
            clock: self.clock.clone(),
            mint: mint.clone(),
            signing_keys: parking_lot::Mutex::default(),
            turn: Mutex::new(()),
        });
        follower.catch_up().await?;
        self.follower = Some(follower.clone());
        Ok((mint, follower))
    }
}

impl Follower {
    /// Polls until it is dropped. A poll that fails is logged once and tried again: the index ages,
    /// and past the time that the operator allows the mint refuses by itself.
    pub async fn run(&self) {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut out_of_reach = false;
        for poll in 1_u64.. {
            ticks.tick().await;
            let result = within(POLL_TIMEOUT, self.poll(poll > 1)).await;
            match &result {
                Err(cause) if !out_of_reach => {
                    let source = std::error::Error::source(cause).map(ToString::to_string);
                    tracing::error!(%cause, source, "the database cannot be read");
                }
                Ok(()) if out_of_reach => tracing::info!("the database can be read again"),
                _ => {}
            }
            out_of_reach = result.is_err();
            if poll.is_multiple_of(POLLS_PER_PRUNING)
                && let Err(cause) = within(POLL_TIMEOUT, self.prune()).await
            {
                tracing::warn!(%cause, "old changes cannot be pruned");
            }
        }
    }

    async fn poll(&self, tell_offset: bool) -> Result<()> {
        self.correct_clock(tell_offset).await?;
        self.catch_up().await
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
        let _turn = self.turn.lock().await;
        // two readers fill an index, the second a moment later: another look makes them one
        while self.look().await? == Look::ReadAnew {}
        self.renew_signer()
    }

    async fn look(&self) -> Result<Look> {
        let now = self.clock.now();
        let mut read = self.store.read().await?;
        let progress = changes::progress(&mut read).await?;
        match self.mint.index().revision() {
            Some(applied) if applied == progress.revision => {
                self.mint.index().confirm(now);
                Ok(Look::Followed)
            }
            Some(applied) if applied > progress.revision => {
                drop(read);
                self.recover(applied, progress).await?;
                Ok(Look::ReadAnew)
            }
            Some(applied) if applied >= progress.pruned => {
                let touched = changes::list_after(&mut read, applied).await?;
                if touched.len() > MANY_CHANGES {
                    self.reload(&mut read, progress.revision, now).await?;
                    return Ok(Look::ReadAnew);
                }
                self.apply(&mut read, &touched, progress.revision, now).await?;
                Ok(Look::Followed)
            }
            _ => {
                self.reload(&mut read, progress.revision, now).await?;
                Ok(Look::ReadAnew)
            }
        }
    }

    /// For a write that was stored: where the index cannot follow, nothing is issued until it can,
    /// rather than under rules that no longer hold.
    pub(crate) async fn catch_up_or_doubt(&self) {
        if let Err(cause) = within(WRITE_TIMEOUT, self.catch_up()).await {
            tracing::error!(%cause, "a stored change cannot be read back: refusing until it can");
            self.mint.index().doubt();
        }
    }

    /// The database is behind what was seen: it was restored, or a replica took over. Its revision
    /// is raised above the old one, so that no revision ever means two things.
    async fn recover(&self, applied: i64, progress: Progress) -> Result<()> {
        tracing::error!(
            applied,
            found = progress.revision,
            "the database went back in time: reading everything anew"
        );
        let mut write = self.store.begin().await?;
        changes::raise_revision_above(&mut write, applied).await?;
        write.commit().await?;
        let mut read = self.store.read().await?;
        let revision = changes::progress(&mut read).await?.revision;
        self.reload(&mut read, revision, self.clock.now()).await
    }

    async fn apply(
        &self,
        read: &mut Read,
        touched: &[Subject],
        revision: i64,
        now: Timestamp,
    ) -> Result<()> {
        let mut applied = Vec::with_capacity(touched.len());
        for subject in touched {
            match subject {
                Subject::Installation => {}
                Subject::SigningKeys => self.reload_signing_keys(read).await?,
                Subject::Org(id) => applied.extend(orgs::find(read, id).await?.map(Change::Org)),
                Subject::Audience(id) => {
                    applied.extend(audiences::find(read, id).await?.map(Change::Audience));
                }
                Subject::Bot(id) => {
                    let bot = bots::find(read, id).await?;
                    applied.extend(bot.map(|bot| Change::Bot(bot.into())));
                }
                Subject::ApiKey(id) => {
                    applied.extend(api_keys::find_indexed(read, id).await?.map(Change::ApiKey));
                }
            }
        }
        applied.sort_by_key(Change::order);
        self.mint.index().apply(applied, revision, now);
        Ok(())
    }

    async fn reload(&self, read: &mut Read, revision: i64, now: Timestamp) -> Result<()> {
        self.reload_signing_keys(read).await?;
        let size = |count: i64| usize::try_from(count).unwrap_or(0);
        let (api_key_count, bot_count) = (api_keys::count(read).await?, bots::count(read).await?);
        let mut filled = FilledIndex::with_capacity(size(api_key_count), size(bot_count));
        for org in orgs::list(read).await? {
            filled.put(Change::Org(org));
        }
        for audience in audiences::list(read).await? {
            filled.put(Change::Audience(audience));
        }
        // the second reader looks a moment later: what it sees too early is applied again, in its
        // turn, by the look that follows
        let mut other = self.store.read().await?;
        let filling = parking_lot::Mutex::new(filled);
        tokio::try_join!(
            fill_bots(read, Half::Lower, &filling),
            fill_bots(&mut other, Half::Upper, &filling),
        )?;
        tokio::try_join!(
            fill_api_keys(read, Half::Lower, &filling),
            fill_api_keys(&mut other, Half::Upper, &filling),
        )?;
        self.mint.index().replace(filling.into_inner(), revision, now);
        self.mint.index().forget_long_dead(now);
        Ok(())
    }

    async fn reload_signing_keys(&self, read: &mut Read) -> Result<()> {
        let stored = signing_keys::list(read).await?;
        *self.signing_keys.lock() = SigningKeys { stored, states: None };
        Ok(())
    }

    /// Takes the signing keys into use as their moments come, whether a change or the clock brought
    /// them.
    fn renew_signer(&self) -> Result<()> {
        let now = self.clock.now();
        let mut held = self.signing_keys.lock();
        let states: Vec<SigningKeyState> = held.stored.iter().map(|key| key.state(now)).collect();
        if held.states.as_ref() != Some(&states) {
            self.mint.replace_signer(signer_of(&held.stored, &self.master_key, now)?);
            held.states = Some(states);
        }
        Ok(())
    }

    async fn prune(&self) -> Result<()> {
        let now = self.clock.now();
        self.mint.index().forget_long_dead(now);
        let kept = i64::try_from(KEEP_CHANGES.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(now.as_millis() - kept);
        loop {
            let mut write = self.store.begin().await?;
            let more = changes::prune(&mut write, before).await?;
            write.commit().await?;
            if !more {
                return Ok(());
            }
        }
    }
}

/// Signing keys as they were read, and the states in which the mint knows them.
#[derive(Debug, Default)]
struct SigningKeys {
    stored: Vec<SigningKey>,
    states: Option<Vec<SigningKeyState>>,
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
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, work).await.map_err(|elapsed| Error::Unavailable(Box::new(elapsed)))?
}

async fn fill_bots(
    read: &mut Read,
    half: Half,
    filling: &parking_lot::Mutex<FilledIndex>,
) -> Result<()> {
    let mut after = None;
    loop {
        let page = bots::list_indexed_after(read, half, after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        let mut filled = filling.lock();
        for bot in page {
            filled.put(Change::Bot(bot));
        }
    }
}

async fn fill_api_keys(
    read: &mut Read,
    half: Half,
    filling: &parking_lot::Mutex<FilledIndex>,
) -> Result<()> {
    let mut after = None;
    loop {
        let page = api_keys::list_indexed_after(read, half, after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        let mut filled = filling.lock();
        for api_key in page {
            filled.put(Change::ApiKey(api_key));
        }
    }
}
