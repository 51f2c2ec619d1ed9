//! The use cases: parse what is asked, write it, and bring the index up to it. Every face calls
//! these; none of them knows a face.

pub mod api_keys;
mod audiences;
pub mod doctor;
pub mod init;
pub mod master_key;
pub mod refresh;
pub mod signing_keys;

use std::path::Path;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::installation::Installation;
use crate::model::org::Org;
use crate::model::secret::Pepper;
use crate::service::master_key::{MasterKey, Sealed};
use crate::service::refresh::{Follower, clock_offset};
use crate::store::{Store, installation, orgs};

pub use crate::store::DatabaseUrl;

/// The use cases on one installation.
#[derive(Debug, Clone)]
pub struct Service {
    store: Arc<Store>,
    master_key: Arc<MasterKey>,
    clock: Clock,
    installation: Installation,
    pepper: Pepper,
    /// On a node that serves: what brings its index up to a write before the write is answered.
    follower: Option<Arc<Follower>>,
}

impl Service {
    /// Opens the installation in a database, with the master key of a key directory, and changes
    /// nothing about either.
    ///
    /// # Errors
    /// [`Error::Setup`] where `tenmint init` has not run, the schema is old, or the master key is
    /// another one.
    pub async fn open(database: &DatabaseUrl, keys_dir: &Path, clock: Clock) -> Result<Self> {
        let store = Store::open_existing(database).await?.ok_or_else(|| not_set_up(database))?;
        if !store.is_up_to_date().await? {
            return Err(Error::Setup(format!(
                "the schema of {database} is older than this program\n\
                 hint: `tenmint serve` of this version brings it up to date"
            )));
        }
        Self::on(store, database, keys_dir, clock).await
    }

    /// Opens it to serve: brings the schema up to date first.
    ///
    /// # Errors
    /// Like [`Service::open`].
    pub async fn open_to_serve(
        database: &DatabaseUrl,
        keys_dir: &Path,
        clock: Clock,
    ) -> Result<Self> {
        let store = Store::open_existing(database).await?.ok_or_else(|| not_set_up(database))?;
        store.migrate().await?;
        Self::on(store, database, keys_dir, clock).await
    }

    async fn on(
        store: Store,
        database: &DatabaseUrl,
        keys_dir: &Path,
        clock: Clock,
    ) -> Result<Self> {
        clock.correct(clock_offset(&clock, &store).await?.unwrap_or(0));
        let found = installation::find(&mut *store.read().await?).await?;
        let stored = found.ok_or_else(|| not_set_up(database))?;
        let master_key = MasterKey::load(keys_dir)?;
        let pepper = master_key.open(Sealed::Pepper, &stored.sealed_pepper)?;
        let pepper: [u8; 32] = pepper
            .as_slice()
            .try_into()
            .map_err(|_| Error::Broken("the stored pepper is not 32 bytes".to_owned()))?;
        Ok(Self {
            store: Arc::new(store),
            master_key: Arc::new(master_key),
            clock,
            installation: stored.installation,
            pepper: Pepper::new(&pepper),
            follower: None,
        })
    }

    /// What the installation was set up with.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The organization of this slug, or the only one there is.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown slug, [`Error::Invalid`] where there are several and
    /// none is named.
    pub async fn get_org(&self, slug: Option<&str>) -> Result<Org> {
        let mut all = orgs::list(&mut *self.store.read().await?).await?;
        match slug {
            Some(slug) => all
                .into_iter()
                .find(|org| org.slug.as_str() == slug)
                .ok_or_else(|| Error::NotFound(format!("organization `{slug}`"))),
            None if all.len() == 1 => {
                all.pop().ok_or_else(|| Error::NotFound("organization".to_owned()))
            }
            None => Err(Error::invalid("organization", "there are several: name one by its slug")),
        }
    }

    /// Lets go of the database.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Brings this node's index up to a write that was just stored, before the write is answered.
    async fn catch_up(&self) {
        if let Some(follower) = &self.follower {
            follower.catch_up_or_doubt().await;
        }
    }
}

fn not_set_up(database: &DatabaseUrl) -> Error {
    Error::Setup(format!(
        "the database {database} has no installation yet\nhint: run `tenmint init --issuer URL`"
    ))
}

/// Bytes from the random source of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Broken("the system has no random bytes".to_owned()))?;
    Ok(bytes)
}
