//! The schema of an installation, for whoever may change tables: a node that serves need not.

use crate::error::{Error, Result};
use crate::service::DatabaseUrl;
use crate::store::Store;
use crate::store::ledger::LedgerStore;

/// Makes the tables of an installation and of its ledger where there are none, and brings those of an older
/// version up to date.
///
/// # Errors
/// [`Error::Setup`] where that fails, or a newer version has brought them further than this one knows.
pub async fn bring_up_to_date(database: &DatabaseUrl) -> Result<()> {
    Store::open(database).await?.close().await;
    LedgerStore::open(database).await?.close().await;
    Ok(())
}

/// What is said of a schema that is too old to serve on, and is to be left alone.
pub(super) fn too_old(database: &DatabaseUrl) -> Error {
    Error::Setup(format!(
        "the schema of {database} is older than this program\n\
         hint: `tenmint migrate` of this version brings it up to date, and so does `tenmint serve`, unless it is \
         told not to"
    ))
}
