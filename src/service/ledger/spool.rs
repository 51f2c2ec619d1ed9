//! The spool: batches in a file of this node, as long as the database does not take them.
//!
//! Each is synced before its tokens leave, and all go to the database in their order. A batch that
//! the database has already is known there by its number and value, so none is doubled. One whose place
//! another batch has goes to a chain of its own, and what cannot be read is set aside: nothing is
//! thrown away. SQLite has no spool: its file lies on the same disk.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::model::ledger::{Batch, Chain, Sealer};
use crate::model::token_id::ChainId;
use crate::service::Service;
use crate::service::refresh::within;
use crate::store::ledger::{Inserted, LedgerStore};
use crate::store::{DatabaseUrl, create_private_directory, private_file};

/// Bytes of a spool at most: ten minutes at 30,000 tokens a second.
const MAX_BYTES: u64 = 1 << 30;
/// Bytes that are read at once: a batch of the most facts, all of them long.
const MAX_BATCH_BYTES: u64 = 512 << 20;
/// A batch that takes longer has to wait for the next try.
const PATIENCE: Duration = Duration::from_secs(5);
/// The directory of spools in that of a node, and the ending of their names.
const DIRECTORY: &str = "ledger-spool";
const ENDING: &str = "batches";
/// The ending of what could not be read.
const UNREAD: &str = "unread";

/// The spool of one chain.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<File>,
    /// Bytes of whole batches.
    length: u64,
    /// Bytes of batches that the database has.
    done: u64,
    /// Batches that it does not have.
    batches: u64,
}

impl Spool {
    /// The spool of a chain in the directory of its node, where the database is on another disk.
    pub(super) fn for_database(
        database: &DatabaseUrl,
        directory: &Path,
        chain: ChainId,
    ) -> Option<Self> {
        let path = directory.join(DIRECTORY).join(format!("{chain}.{ENDING}"));
        database.is_remote().then(|| Self { path, open: Arc::default() })
    }

    /// Whether the database has all batches that came here.
    pub fn is_empty(&self) -> bool {
        self.waiting_bytes() == 0
    }

    /// Bytes that wait for the database.
    pub fn waiting_bytes(&self) -> u64 {
        let open = self.open.lock();
        open.length - open.done
    }

    /// Batches that wait for the database.
    pub fn waiting_batches(&self) -> u64 {
        self.open.lock().batches
    }

    /// Adds a batch, durably.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the spool is full or cannot be written.
    pub(super) async fn append(&self, batch: &Batch) -> Result<()> {
        let (bytes, path, open) = (batch.to_spooled(), self.path.clone(), self.open.clone());
        blocking(move || open.lock().append(&path, &bytes)).await
    }

    /// Takes what waits to the database, until all of it is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database does not take it, or where a batch cannot be read.
    pub(super) async fn replay(&self, service: &Service, store: &LedgerStore) -> Result<()> {
        loop {
            let open = self.open.clone();
            let Some((batch, length)) = blocking(move || open.lock().next()).await? else {
                return Ok(());
            };
            insert(service, store, batch).await?;
            let (open, path) = (self.open.clone(), self.path.clone());
            blocking(move || open.lock().advance(&path, length)).await?;
        }
    }
}

impl Open {
    fn append(&mut self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let end = self.length + bytes.len() as u64;
        if end > MAX_BYTES {
            return Err(std::io::Error::other("the spool of the ledger is full"));
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(path)?),
        };
        // what an earlier try wrote by half is written over
        file.seek(SeekFrom::Start(self.length))?;
        file.write_all(bytes)?;
        file.set_len(end)?;
        file.sync_data()?;
        self.length = end;
        self.batches += 1;
        Ok(())
    }

    fn next(&mut self) -> std::io::Result<Option<(Batch, u64)>> {
        let Some(file) = self.file.as_mut().filter(|_| self.done < self.length) else {
            return Ok(None);
        };
        let Some((batch, next)) = read_batch(file, self.done)? else {
            return Err(std::io::Error::other("a batch in the spool of the ledger cannot be read"));
        };
        Ok(Some((batch, next - self.done)))
    }

    /// The database has the next so many bytes. A spool that is done is begun anew.
    fn advance(&mut self, path: &Path, length: u64) -> std::io::Result<()> {
        self.done += length;
        self.batches = self.batches.saturating_sub(1);
        if self.done == self.length {
            std::fs::remove_file(path)?;
            *self = Self::default();
        }
        Ok(())
    }
}

/// A new spool, locked as long as its node runs.
fn create(path: &Path) -> std::io::Result<File> {
    if let Some(directory) = path.parent() {
        create_private_directory(directory).map_err(std::io::Error::other)?;
    }
    let file = private_file().read(true).open(path)?;
    file.lock()?;
    // a name that is lost in a crash is a file that is lost
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

/// The batch at a place of a file, and the place behind it.
fn read_batch(file: &mut File, at: u64) -> std::io::Result<Option<(Batch, u64)>> {
    file.seek(SeekFrom::Start(at))?;
    let mut head = [0; 8];
    if file.take(8).read(&mut head)? < head.len() {
        return Ok(None);
    }
    let [a, b, c, d, ..] = head;
    let length = u64::from(u32::from_be_bytes([a, b, c, d]));
    if length > MAX_BATCH_BYTES {
        return Ok(None);
    }
    let mut bytes = head.to_vec();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(Batch::from_spooled(&bytes).map(|(batch, read)| (batch, at + read as u64)))
}

/// Takes to the database what earlier runs left in the directory of a node, and deletes it.
///
/// # Errors
/// [`Error::Unavailable`] where the database does not take it: nothing is lost.
pub(super) async fn replay_left_behind(
    directory: &Path,
    service: &Service,
    store: &LedgerStore,
) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(directory.join(DIRECTORY)) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|ending| ending == ENDING) {
            replay_file(&path, service, store).await?;
        }
    }
    Ok(())
}

async fn replay_file(path: &Path, service: &Service, store: &LedgerStore) -> Result<()> {
    let mut file = File::open(path).map_err(unavailable)?;
    if file.try_lock().is_err() {
        // of a node that runs
        return Ok(());
    }
    let (mut at, mut batches) = (0, 0_u64);
    while let Some((batch, next)) = read_batch(&mut file, at).map_err(unavailable)? {
        insert(service, store, batch).await?;
        (at, batches) = (next, batches + 1);
    }
    set_rest_aside(&mut file, at, path).map_err(unavailable)?;
    tracing::info!(batches, "what an earlier run had spooled is in the ledger");
    std::fs::remove_file(path).map_err(unavailable)
}

/// Keeps what stands behind the last batch that can be read. Most likely a crash tore a write there, whose
/// tokens never left; but it may be damage, with more batches behind it.
fn set_rest_aside(file: &mut File, at: u64, path: &Path) -> std::io::Result<()> {
    let bytes = file.metadata()?.len().saturating_sub(at);
    if bytes == 0 {
        return Ok(());
    }
    let aside = path.with_extension(UNREAD);
    file.seek(SeekFrom::Start(at))?;
    let mut kept = private_file().truncate(true).open(&aside)?;
    std::io::copy(file, &mut kept)?;
    kept.sync_all()?;
    let path = aside.display();
    tracing::error!(bytes, %path, "the end of a spool cannot be read: it is kept in a file");
    Ok(())
}

async fn insert(service: &Service, store: &LedgerStore, mut batch: Batch) -> Result<()> {
    if within(PATIENCE, store.insert(&batch)).await? == Inserted::There {
        return Ok(());
    }
    let taken = batch.head();
    tracing::error!(%taken, "the ledger holds another batch in the place of a spooled one: a chain begins for it");
    let chain = chain_of(&batch);
    // where it is there, an earlier try began it
    within(PATIENCE, store.insert_chain(&chain)).await?;
    Sealer::new(service.ledger_key(), &chain).begin_anew(&mut batch, &chain);
    match within(PATIENCE, store.insert(&batch)).await? {
        Inserted::There => Ok(()),
        Inserted::Taken => Err(Error::Broken(format!("the chain {} is in use", chain.id))),
    }
}

/// A chain for one batch. It follows from the batch alone, so that another try makes the same one.
fn chain_of(batch: &Batch) -> Chain {
    let [a, b, c, ..] = *batch.value.as_bytes();
    Chain { id: ChainId::from_random([a, b, c]), started_at: batch.first_at, previous: None }
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
