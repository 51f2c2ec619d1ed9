//! A copy of the embedded database and of its ledger, consistent while a node serves.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::service::Service;
use crate::store::ledger::LedgerStore;
use crate::store::{DatabaseUrl, create_private_directory};

impl Service {
    /// Copies the database, and then the ledger, into a directory that has neither: the files, in the
    /// places where a node with that data directory finds them.
    ///
    /// # Errors
    /// [`Error::Setup`] on PostgreSQL, which has tools of its own, and where a file is there already.
    pub async fn back_up(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        if self.database.is_remote() {
            return Err(Error::Setup(
                "this copies the embedded database\nhint: `pg_dump` copies one of PostgreSQL"
                    .to_owned(),
            ));
        }
        create_private_directory(directory)?;
        let copy = DatabaseUrl::in_directory(directory);
        let mut files = vec![self.store.back_up(&copy).await?];
        if let Some(ledger) = LedgerStore::open_existing(&self.database).await? {
            files.push(ledger.back_up(&copy).await?);
        }
        Ok(files)
    }
}
