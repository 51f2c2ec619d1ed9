//! The audit as its readers see it.

use tenmint_verifier::Action;

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::audit::AuditEntry;
use crate::model::id::AuditId;
use crate::service::access::{guarded, require, require_on_installation};
use crate::service::{Service, page_limit};
use crate::store::audit;

pub use crate::store::audit::AuditFilter;

impl Service {
    /// A page of entries from new to old, and where the next page starts. Without an organization,
    /// the entries of the installation, for admins of the account.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a cursor that no page gave.
    pub async fn list_audit(
        &self,
        actor: &Actor,
        filter: &AuditFilter,
        (limit, before): (u32, Option<String>),
    ) -> Result<(Vec<AuditEntry>, Option<String>)> {
        match filter.org {
            Some(org) => {
                let thing = guarded(org, ["org", "audit"])?;
                require(actor, &Action::Read, &thing, || "audit".to_owned())?;
            }
            None => require_on_installation(actor, &Action::Read, "audit")?,
        }
        if before.as_ref().is_some_and(|before| before.parse::<AuditId>().is_err()) {
            return Err(Error::invalid("cursor", "take the cursor that the page before gave"));
        }
        let mut read = self.store.read().await?;
        audit::list(&mut read, filter, before.as_deref(), page_limit(limit)).await
    }
}
