//! One master key after another: what is secret in the database is wrapped anew.
//!
//! Digests of API keys and the ledger stay as they are: their key is derived from the pepper, and that
//! stays the same under another wrapping.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::model::signing_key::SigningKey;
use crate::service::Service;
use crate::service::call::unasked_entry;
use crate::service::follow::Stored;
use crate::service::master_key::Sealed;
use crate::store::changes::Subject;
use crate::store::{Connection, Write, audit, installation, signing_keys};

impl Service {
    /// Makes the key that follows, where there is none yet, and says where it is: every node needs it
    /// before anything is wrapped by it.
    pub fn prepare_master_key(&self) -> Result<PathBuf> {
        self.master_key.create_next()?;
        Ok(self.master_key.next_path())
    }

    /// Wraps the pepper and all signing keys by the key that follows, in one write, and makes that the
    /// master key here. Safe to be made again after it was interrupted.
    ///
    /// # Errors
    /// [`Error::Setup`] where there is no key that follows.
    pub async fn rotate_master_key(&self) -> Result<()> {
        let next = self.master_key.load_next()?;
        let now = self.clock.now();
        let mut write = self.store.begin().await?;
        let pepper = self.master_key.open(Sealed::Pepper, &sealed_pepper(&mut write).await?)?;
        let sealed = next.seal(Sealed::Pepper, &pepper)?;
        installation::update_sealed_pepper(&mut write, &sealed).await?;
        for key in signing_keys::list(&mut write).await? {
            if key.sealed_private.is_empty() {
                continue;
            }
            let what = Sealed::SigningKey(&key.kid);
            let private = self.master_key.open(what, &key.sealed_private)?;
            let sealed = next.seal(what, &private)?;
            signing_keys::update_sealed(&mut write, &key.kid, &sealed).await?;
        }
        let what = ("master_key.rotate", "installation");
        audit::insert(&mut write, &unasked_entry(now, what, None, (None, None))?).await?;
        let (touched, revision) = ([Subject::SigningKeys], write.revision());
        write.touched_all(&touched, now).await?;
        write.commit().await?;
        self.master_key.settle()?;
        self.catch_up_with(&Stored { revision, touched: &touched, org: None }).await;
        Ok(())
    }

    /// Stores a signing key, wrapped by the master key of this moment: it can have been another one
    /// when the key was made.
    pub(crate) async fn insert_signing_key(
        &self,
        write: &mut Write<'_>,
        key: &SigningKey,
    ) -> Result<()> {
        let what = Sealed::SigningKey(&key.kid);
        let private = self.master_key.open(what, &key.sealed_private)?;
        self.master_key.adopt(&sealed_pepper(write).await?)?;
        let sealed_private = self.master_key.seal(what, &private)?;
        signing_keys::insert(write, &SigningKey { sealed_private, ..key.clone() }).await
    }
}

async fn sealed_pepper(connection: &mut Connection) -> Result<String> {
    let stored = installation::find(connection).await?;
    let stored = stored.ok_or_else(|| Error::Broken("there is no installation".to_owned()))?;
    Ok(stored.sealed_pepper)
}
