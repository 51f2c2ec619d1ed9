//! All or nothing: rows are stored under the id of the import and seen by nobody, in as many short
//! transactions as it takes, and go live by losing one row.
//!
//! An import that dies leaves rows behind that nobody ever sees. They are deleted, as shortly, by the
//! next import and by every node now and then.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::id::{ImportId, OrgId};
use crate::model::time::Timestamp;
use crate::service::Service;
use crate::service::follow::{TRANSACTION_TIMEOUT, within};
use crate::store::imports::StagedImport;
use crate::store::{Connection, Store, imports};

/// An import that says nothing for so long is dead.
pub(super) const LEASE: Duration = Duration::from_secs(15);

impl Service {
    /// Begins to stage.
    ///
    /// # Errors
    /// [`Error::Conflict`] `import_running`.
    pub(super) async fn begin_to_stage(&self, id: ImportId, org: OrgId) -> Result<StagedImport> {
        let now = self.clock.now();
        let mut write = self.store.begin().await?;
        check_none_runs(&mut write, &org, now).await?;
        let staged = imports::insert(&mut write, &id, &org, now).await?;
        write.commit().await?;
        Ok(staged)
    }

    /// Says that an import goes on, though nothing came for a while.
    pub(super) async fn renew(&self, id: &ImportId) -> Result<()> {
        let renewed = async {
            let mut append = self.store.append().await?;
            let goes_on = imports::renew(&mut append, id, self.clock.now()).await?;
            append.commit().await?;
            Ok(goes_on)
        };
        if within(TRANSACTION_TIMEOUT, renewed).await? { Ok(()) } else { Err(lost()) }
    }
}

/// Refuses to import into an organization while an all-or-nothing import of it runs: what that has
/// staged would look like digests in use.
pub(super) async fn check_none_runs(
    connection: &mut Connection,
    org: &OrgId,
    now: Timestamp,
) -> Result<()> {
    match imports::find_running(connection, org, dead_since(now)).await? {
        None => Ok(()),
        Some(running) => Err(Error::Conflict(
            "import_running",
            format!(
                "the all-or-nothing import `{}` of this organization is running, or broke off \
                 less than {} seconds ago",
                running.id,
                LEASE.as_secs()
            ),
        )),
    }
}

/// Since when an import that lives has been renewed.
fn dead_since(now: Timestamp) -> Timestamp {
    now - LEASE
}

/// What an import is told that others took for dead.
pub(super) fn lost() -> Error {
    Error::Conflict(
        "import_lost",
        "the import came to a halt for too long and was given up: nothing is stored".to_owned(),
    )
}

/// Deletes what dead imports left behind.
pub(crate) async fn clean_up_imports(store: &Store, now: Timestamp) -> Result<()> {
    let since = dead_since(now);
    let dead = async { imports::list_dead(&mut *store.read().await?, since).await };
    for import in within(TRANSACTION_TIMEOUT, dead).await? {
        give_up(store, &import, since).await?;
    }
    Ok(())
}

/// Gives up an import that was not renewed since a moment, and deletes what it staged. Nothing of
/// it was ever seen, so this is no change of the rules.
pub(super) async fn give_up(store: &Store, import: &StagedImport, since: Timestamp) -> Result<()> {
    let given_up = async {
        let mut append = store.append().await?;
        let given_up = imports::give_up(&mut append, &import.id, since).await?;
        append.commit().await?;
        Ok(given_up.then_some(import.first_revision))
    };
    let mut from = within(TRANSACTION_TIMEOUT, given_up).await?;
    while let Some(revision) = from {
        let deleted = async {
            let mut append = store.append().await?;
            let next = imports::delete_staged(&mut append, import, revision).await?;
            append.commit().await?;
            Ok(next)
        };
        from = within(TRANSACTION_TIMEOUT, deleted).await?;
    }
    Ok(())
}
