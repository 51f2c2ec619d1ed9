//! The spool: batches in files of this node, as long as the database does not take them.
//!
//! Each is synced before its tokens leave, and all go to the database in their order. A batch that
//! the database has already is known there by its number and value, so none is doubled. One whose place
//! another batch has goes to a chain of its own, and what cannot be read is set aside: nothing is
//! thrown away. SQLite has no spool: its file lies on the same disk.

mod replaying;
mod segment;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::model::ledger::Batch;
use crate::model::token_id::ChainId;
use crate::service::Service;
use crate::store::DatabaseUrl;
use crate::store::ledger::LedgerStore;

pub(super) use replaying::replay_left_behind;

use segment::Segment;

/// Bytes of a spool at most: ten minutes at 30,000 tokens a second.
const MAX_BYTES: u64 = 1 << 30;
/// Bytes of a file, from which on another one is begun: a file is deleted once the database has all of it,
/// so that a spool that fills while it drains takes no more room than what waits.
const SEGMENT_BYTES: u64 = 64 << 20;
/// The directory of spools in that of a node, and the ending of their names.
const DIRECTORY: &str = "ledger-spool";
const ENDING: &str = "batches";

/// The spool of one chain.
#[derive(Debug)]
pub struct Spool {
    /// Held while the disk is waited for: by a thread that may wait.
    open: Arc<Mutex<Open>>,
    waiting: Arc<Waiting>,
}

/// What waits for the database, for whoever must not wait for the disk.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicU64,
    batches: AtomicU64,
}

#[derive(Debug)]
struct Open {
    directory: PathBuf,
    chain: ChainId,
    /// From so many bytes on, a segment grows no more.
    segment_bytes: u64,
    /// From old to new; the last one grows.
    segments: VecDeque<Segment>,
    /// How many there were before.
    begun: u32,
    waiting: Arc<Waiting>,
}

impl Spool {
    /// The spool of a chain in the directory of its node, where the database is on another disk.
    pub(super) fn for_database(
        database: &DatabaseUrl,
        directory: &Path,
        chain: ChainId,
    ) -> Option<Self> {
        database.is_remote().then(|| Self::new(directory.join(DIRECTORY), chain, SEGMENT_BYTES))
    }

    fn new(directory: PathBuf, chain: ChainId, segment_bytes: u64) -> Self {
        let (segments, waiting) = (VecDeque::new(), Arc::<Waiting>::default());
        let shared = waiting.clone();
        let open = Open { directory, chain, segment_bytes, segments, begun: 0, waiting: shared };
        Self { open: Arc::new(Mutex::new(open)), waiting }
    }

    /// Whether the database has all batches that came here.
    pub fn is_empty(&self) -> bool {
        self.waiting_bytes() == 0
    }

    /// Bytes that wait for the database.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting.bytes.load(Ordering::Acquire)
    }

    /// Batches that wait for the database.
    pub fn waiting_batches(&self) -> u64 {
        self.waiting.batches.load(Ordering::Acquire)
    }

    /// Adds a batch, durably.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the spool is full or cannot be written.
    pub(super) async fn append(&self, batch: &Batch) -> Result<()> {
        let (bytes, open) = (batch.to_spooled(), self.open.clone());
        blocking(move || open.lock().append(&bytes)).await
    }

    /// Takes the oldest batches that wait to the database. Says whether there were any.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database does not take them, or the disk does not answer.
    pub(super) async fn replay_some(&self, service: &Service, store: &LedgerStore) -> Result<bool> {
        let open = self.open.clone();
        let (batches, bytes) = blocking(move || open.lock().next()).await?;
        let count = batches.len() as u64;
        if count > 0 {
            replaying::insert(service, store, batches).await?;
            let open = self.open.clone();
            blocking(move || open.lock().advance(bytes, count)).await?;
        }
        Ok(count > 0)
    }
}

impl Open {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let there: u64 = self.segments.iter().map(Segment::length).sum();
        if there + bytes.len() as u64 > MAX_BYTES {
            return Err(std::io::Error::other("the spool of the ledger is full"));
        }
        if self.segments.back().is_none_or(|last| last.length() >= self.segment_bytes) {
            // numbered, so that names sort in the order of the batches
            let name = format!("{}-{:06}.{ENDING}", self.chain, self.begun);
            self.segments.push_back(Segment::create(self.directory.join(name))?);
            self.begun += 1;
        }
        if let Some(last) = self.segments.back_mut() {
            last.append(bytes)?;
        }
        self.tell_waiting();
        Ok(())
    }

    fn tell_waiting(&self) {
        let batches = self.segments.iter().map(Segment::batches).sum();
        self.waiting.batches.store(batches, Ordering::Release);
        let bytes = self.segments.iter().map(Segment::waiting).sum();
        self.waiting.bytes.store(bytes, Ordering::Release);
    }

    /// The oldest batches, and how many bytes they take. A file whose next batch cannot be read is kept aside, and
    /// the next one has its turn: damage to one must not hold up all that comes after it.
    fn next(&mut self) -> std::io::Result<(Vec<Batch>, u64)> {
        while let Some(first) = self.segments.front_mut() {
            let (batches, bytes) = first.next()?;
            if !batches.is_empty() {
                return Ok((batches, bytes));
            }
            first.set_rest_aside()?;
            self.drop_first()?;
        }
        Ok((Vec::new(), 0))
    }

    /// The database has the next so many bytes and batches. A file that is done is deleted.
    fn advance(&mut self, bytes: u64, batches: u64) -> std::io::Result<()> {
        let Some(first) = self.segments.front_mut() else { return Ok(()) };
        first.advance(bytes, batches);
        if first.waiting() == 0 {
            return self.drop_first();
        }
        self.tell_waiting();
        Ok(())
    }

    fn drop_first(&mut self) -> std::io::Result<()> {
        let first = self.segments.pop_front();
        self.tell_waiting();
        first.map_or(Ok(()), Segment::delete)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|cause| Error::Broken(cause.to_string()))?.map_err(unavailable)
}

fn unavailable(cause: std::io::Error) -> Error {
    Error::Unavailable(Box::new(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ledger::{ChainValue, Filter};
    use crate::model::time::Timestamp;

    fn batch(number: u64) -> Batch {
        Batch {
            chain: ChainId::from_number(1),
            number,
            facts: 1,
            first_at: Timestamp::from_millis(1),
            last_at: Timestamp::from_millis(1),
            value: ChainValue::from_bytes([1; 32]),
            filter: Filter::from_bytes(Vec::new()),
            body: vec![7; 300],
        }
    }

    fn files(directory: &Path) -> usize {
        std::fs::read_dir(directory).map_or(0, Iterator::count)
    }

    #[tokio::test]
    async fn what_the_database_has_takes_no_room_while_more_comes() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path().join(DIRECTORY), ChainId::from_number(1), 1_000);
        let (mut appended, mut taken) = (0, Vec::new());
        for _ in 0..100 {
            for _ in 0..10 {
                appended += 1;
                spool.append(&batch(appended)).await.unwrap();
            }
            while spool.waiting_batches() > 2 {
                let mut open = spool.open.lock();
                let (batches, bytes) = open.next().unwrap();
                open.advance(bytes, batches.len() as u64).unwrap();
                taken.extend(batches.iter().map(|batch| batch.number));
            }
            assert!(files(&directory.path().join(DIRECTORY)) <= 2);
        }
        assert!(taken.iter().copied().eq(1..=taken.len() as u64), "in their order: {taken:?}");
        assert_eq!(taken.len() as u64 + spool.waiting_batches(), appended);
        while !spool.is_empty() {
            let mut open = spool.open.lock();
            let (batches, bytes) = open.next().unwrap();
            open.advance(bytes, batches.len() as u64).unwrap();
        }
        assert_eq!((files(&directory.path().join(DIRECTORY)), spool.waiting_batches()), (0, 0));
    }

    #[tokio::test]
    async fn what_reached_the_disk_and_was_not_answered_for_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path().join(DIRECTORY), ChainId::from_number(1), 1_000);
        for number in 1..=2 {
            spool.append(&batch(number)).await.unwrap();
        }
        let mut open = spool.open.lock();
        let of_one = open.segments[0].length() / 2;
        // as after a write that came through before its sync failed
        open.segments[0].pretend(of_one);
        let (batches, bytes) = open.next().unwrap();
        assert_eq!((batches.len(), bytes), (1, of_one));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_kept_aside_and_holds_up_nothing_that_came_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join(DIRECTORY);
        let spool = Spool::new(directory.clone(), ChainId::from_number(1), 1_000);
        for number in 1..=10 {
            spool.append(&batch(number)).await.unwrap();
        }
        let first = directory.join(format!("{}-000000.{ENDING}", ChainId::from_number(1)));
        let bytes = std::fs::read(&first).unwrap();
        let of_one = batch(1).to_spooled().len();
        let (good, damaged) = bytes.split_at(of_one);
        std::fs::write(&first, [good, &vec![0xff; damaged.len()]].concat()).unwrap();
        let mut taken = Vec::new();
        while !spool.is_empty() {
            let mut open = spool.open.lock();
            let (batches, bytes) = open.next().unwrap();
            open.advance(bytes, batches.len() as u64).unwrap();
            taken.extend(batches.iter().map(|batch| batch.number));
        }
        let in_first = (bytes.len() / of_one) as u64;
        assert!(taken.iter().copied().eq(std::iter::once(1).chain(in_first + 1..=10)), "{taken:?}");
        let kept = std::fs::read(first.with_extension("unread")).unwrap();
        assert_eq!((kept.len(), spool.waiting_batches()), (damaged.len(), 0));
        spool.append(&batch(11)).await.unwrap();
        assert_eq!(spool.waiting_batches(), 1, "it takes more");
    }

    #[tokio::test]
    async fn a_spool_takes_so_much_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path().join(DIRECTORY), ChainId::from_number(1), 1_000);
        spool.append(&batch(1)).await.unwrap();
        // a file with a hole takes no room on the disk
        spool.open.lock().segments[0].pretend(MAX_BYTES - 1);
        let refused = spool.append(&batch(2)).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
        assert_eq!(spool.waiting_batches(), 1);
    }
}
