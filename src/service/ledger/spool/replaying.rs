//! From the spool to the database.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::ledger::{Batch, Chain, Sealer};
use crate::model::token_id::ChainId;
use crate::service::Service;
use crate::service::follow::within;
use crate::service::ledger::spool::segment::{read_some, set_rest_aside};
use crate::service::ledger::spool::{DIRECTORY, ENDING, unavailable};
use crate::store::ledger::{Inserted, LedgerStore};

/// What takes longer has to wait for the next try.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes to the database what earlier runs left in the directory of a node, and deletes it.
///
/// # Errors
/// [`Error::Unavailable`] where the database does not take it: nothing is lost.
pub(in crate::service::ledger) async fn replay_left_behind(
    directory: &Path,
    service: &Service,
    store: &LedgerStore,
) -> Result<()> {
    let directory = directory.join(DIRECTORY);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => {
            let directory = directory.display();
            return Err(Error::Setup(format!("the spool `{directory}` cannot be read: {cause}")));
        }
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
    paths.sort();
    for path in paths {
        replay_file(&path, service, store).await?;
    }
    Ok(())
}

async fn replay_file(path: &Path, service: &Service, store: &LedgerStore) -> Result<()> {
    // to be written too: a file system over a network locks no other file for one alone
    let mut file = File::options().read(true).write(true).open(path).map_err(unavailable)?;
    if file.metadata().map_err(unavailable)?.len() == 0 {
        // of a node that begins to write it, or could not
        return Ok(());
    }
    match file.try_lock() {
        // of one that runs
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(cause)) => return Err(unavailable(cause)),
        Ok(()) => {}
    }
    let (mut at, mut count) = (0, 0);
    loop {
        let (batches, next) = read_some(&mut file, at, u64::MAX).map_err(unavailable)?;
        if batches.is_empty() {
            break;
        }
        count += batches.len();
        insert(service, store, batches).await?;
        at = next;
    }
    let end = file.metadata().map_err(unavailable)?.len();
    set_rest_aside(&mut file, (at, end), path).map_err(unavailable)?;
    tracing::info!(batches = count, "what an earlier run had spooled is in the ledger");
    std::fs::remove_file(path).map_err(unavailable)
}

/// Has the database take batches, together where their places are free.
pub(super) async fn insert(
    service: &Service,
    store: &LedgerStore,
    batches: Vec<Batch>,
) -> Result<()> {
    if matches!(within(PATIENCE, store.insert_all(&batches)).await, Ok(Inserted::There)) {
        return Ok(());
    }
    // a place is taken, or a database that is far away is slow: one by one, it comes on all the same
    for batch in batches {
        if within(PATIENCE, store.insert(&batch)).await? == Inserted::Taken {
            insert_elsewhere(service, store, batch).await?;
        }
    }
    Ok(())
}

/// Has it take a batch whose place another one has, in a chain of its own.
async fn insert_elsewhere(service: &Service, store: &LedgerStore, mut batch: Batch) -> Result<()> {
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
