//! The use cases: parse what is asked, write it, and bring the index up to it. Every face calls
//! these; none of them knows a face.

pub(crate) mod access;
mod api_key_edits;
mod api_key_life;
pub mod api_keys;
pub(crate) mod asks;
pub mod audiences;
pub mod audit;
mod backup;
pub mod bots;
pub mod call;
pub mod cursors;
pub mod doctor;
mod first_roles;
pub mod follow;
pub mod gateway_policies;
pub mod import;
pub mod init;
mod journal;
pub mod ledger;
pub mod master_key;
mod master_key_rotation;
pub mod migration;
pub(crate) mod new_api_key;
pub mod node;
pub mod orgs;
pub(crate) mod owners;
pub(crate) mod panics;
mod presence;
mod quota_shares;
pub mod quotas;
pub mod recover;
pub mod refusals;
mod restored;
pub mod roles;
pub mod schema;
mod sealing;
mod side_changes;
pub(crate) mod signing_key_material;
pub mod signing_keys;
pub mod spaces;
mod tokens;
pub mod usage;
pub mod usage_writer;
pub mod users;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::installation::Installation;
use crate::model::secret::Pepper;
use crate::model::signing_key_schedule::RotationSchedule;
use crate::service::follow::{Follower, Stored, clock_offset, within};
use crate::service::journal::Journal;
use crate::service::master_key::MasterKey;
use crate::service::usage_writer::UsageWriter;
use crate::store::{Store, installation};

pub use crate::service::cursors::SealedCursor;
pub use crate::store::DatabaseUrl;
pub use crate::store::page::{Cursor, Page};

/// How long a call of the management API waits to be judged by what holds now.
const FOLLOW_WITHIN: Duration = Duration::from_secs(3);

/// The use cases on one installation.
#[derive(Debug, Clone)]
pub struct Service {
    database: DatabaseUrl,
    store: Arc<Store>,
    master_key: Arc<MasterKey>,
    clock: Clock,
    installation: Installation,
    pepper: Pepper,
    schedule: RotationSchedule,
    /// Where a node serves: what has ended, kept apart from the database.
    journal: Option<Arc<Journal>>,
    /// On a node that serves: what brings its index up to a write before the write is answered.
    follower: Option<Arc<Follower>>,
    /// On a node that serves: what has the usage that is not in the database yet.
    usage_writer: Option<Arc<UsageWriter>>,
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
            return Err(schema::too_old(database));
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
        let pepper = master_key.adopt(&stored.sealed_pepper)?;
        let pepper: &[u8; 32] = pepper
            .as_slice()
            .try_into()
            .map_err(|_| Error::Broken("the stored pepper is not 32 bytes".to_owned()))?;
        Ok(Self {
            database: database.clone(),
            store: Arc::new(store),
            master_key: Arc::new(master_key),
            clock,
            schedule: RotationSchedule::for_lifetime(stored.installation.token_lifetime.duration()),
            installation: stored.installation,
            pepper: Pepper::new(pepper),
            journal: None,
            follower: None,
            usage_writer: None,
        })
    }

    /// What the installation was set up with.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// When signing keys take turns.
    pub fn schedule(&self) -> RotationSchedule {
        self.schedule
    }

    /// The same use cases, under another schedule.
    #[must_use]
    pub fn with_schedule(self, schedule: RotationSchedule) -> Self {
        Self { schedule, ..self }
    }

    /// The same use cases, where a node keeps a journal of revocations in this file.
    pub(crate) fn with_journal(self, path: &Path) -> Result<Self> {
        Ok(Self { journal: Some(Arc::new(Journal::open(path)?)), ..self })
    }

    /// Whether all that has ended here for ever is noted apart from the database.
    pub fn has_journaled(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.waiting() == 0)
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Lets go of the database.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Brings this node's index up to the database, so that a call is judged by what holds now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database cannot be read, or not soon: of many that come while it is
    /// away, none waits for the tries of the others.
    pub async fn follow(&self) -> Result<()> {
        match &self.follower {
            Some(follower) => within(FOLLOW_WITHIN, Box::pin(follower.catch_up())).await,
            None => Ok(()),
        }
    }

    /// Brings this node's index up to a write that was just stored, before the write is answered.
    async fn catch_up_with(&self, stored: &Stored<'_>) {
        if let Some(follower) = &self.follower {
            follower.catch_up_or_doubt(stored).await;
        }
    }
}

fn not_set_up(database: &DatabaseUrl) -> Error {
    Error::Setup(format!(
        "the database {database} has no installation yet\nhint: run `tenmint init --issuer URL`"
    ))
}

/// The rows of a page, within what a page may have.
pub(crate) fn page_limit(asked: u32) -> i64 {
    i64::from(asked.clamp(1, api_keys::MAX_PAGE))
}

/// Bytes from the random source of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Broken("the system has no random bytes".to_owned()))?;
    Ok(bytes)
}
