//! The database: the only room that speaks SQL.
//!
//! SQLite and PostgreSQL through one pool, one folder of migrations, each statement once, in the
//! SQL that both understand. The engines differ in `engine` alone.

pub mod api_key_lists;
pub mod api_keys;
pub mod api_uses;
pub mod audiences;
pub mod audit;
pub mod bots;
pub mod changes;
mod engine;
pub mod gateway_policies;
pub mod idempotency;
pub mod imports;
pub mod indexed_api_keys;
pub mod installation;
pub mod ledger;
pub mod nodes;
pub mod orgs;
pub mod owners;
mod packed;
pub mod page;
mod pool;
pub mod quotas;
pub mod revocations;
pub mod roles;
mod row;
mod rows;
pub mod signing_keys;
pub mod spaces;
pub mod usage;
pub mod users;

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use sqlx::migrate::Migrator;
use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::sync::{Mutex, MutexGuard};

pub use crate::store::engine::{DatabaseUrl, create_private_directory, private_file};
pub use crate::store::packed::{Half, Made};

use crate::error::{Error, Result};
use crate::model::time::Timestamp;
use crate::store::changes::Subject;
use crate::store::engine::{Engine, Schema};

const MAX_CONNECTIONS: u32 = 8;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
static SCHEMA: Schema = Schema {
    migrations: &MIGRATIONS,
    table: "_sqlx_migrations",
    newest: "SELECT MAX(version) FROM _sqlx_migrations",
};

/// A connection of either engine.
pub type Connection = AnyConnection;

/// The database of an installation.
#[derive(Debug)]
pub struct Store {
    pool: AnyPool,
    engine: Engine,
    /// Writers of this process queue here, fairly, before the database sees them: SQLite answers
    /// `busy` to the unlucky, and PostgreSQL would hold a connection each.
    turn: Mutex<()>,
}

impl Store {
    /// Connects, and brings the schema up to date: for whoever sets up or serves.
    pub async fn open(url: &DatabaseUrl) -> Result<Self> {
        url.create()?;
        let store = Self::connect(url).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Connects to a database that was set up, and changes nothing about it. `None` where there is
    /// no database yet.
    pub async fn open_existing(url: &DatabaseUrl) -> Result<Option<Self>> {
        if url.is_missing() {
            return Ok(None);
        }
        let store = Self::connect(url).await?;
        Ok(SCHEMA.is_set_up(&store.pool).await?.then_some(store))
    }

    /// Whether the schema is at least the one of this program.
    ///
    /// # Errors
    /// [`Error::Setup`] where it is one of which this program knows too little.
    pub async fn is_up_to_date(&self) -> Result<bool> {
        if !SCHEMA.is_up_to_date(&self.pool).await? {
            return Ok(false);
        }
        self.check_is_known().await?;
        Ok(true)
    }

    /// A newer version may have taken away what this one uses.
    async fn check_is_known(&self) -> Result<()> {
        let needed = "SELECT min_binary FROM installation WHERE id = 1";
        let needed: i64 = sqlx::query_scalar(needed).fetch_one(&self.pool).await?;
        if SCHEMA.newest_known().is_some_and(|known| known < needed) {
            return Err(Error::Setup(
                "the database was brought up to date by a newer tenmint, and this version knows it no more\n\
                 hint: start the newer version"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    async fn connect(url: &DatabaseUrl) -> Result<Self> {
        let pool = url.connect(MAX_CONNECTIONS, url.engine.set_up()).await?;
        Ok(Self { pool, engine: url.engine.clone(), turn: Mutex::new(()) })
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// [`Error::Setup`] where that fails, or the schema is one of which this program knows too little.
    pub async fn migrate(&self) -> Result<()> {
        self.engine.migrate(&self.pool, &SCHEMA).await?;
        self.check_is_known().await
    }

    /// Begins a change, and takes the next revision before anything else, so that the order of
    /// commits is the order of revisions and no two changes overlap.
    pub async fn begin(&self) -> Result<Write<'_>> {
        let turn = self.turn.lock().await;
        let mut transaction = pool::begin_in_task(&self.pool, self.engine.begin()).await?;
        let revision = changes::take_revision(&mut transaction).await?;
        Ok(Write { transaction, revision, _turn: turn })
    }

    /// Begins what is no change of the rules, and raises no revision: what is counted or recorded
    /// for each request. Each statement sees what was committed before it.
    pub async fn append(&self) -> Result<Append<'_>> {
        let turn = if self.engine.has_one_writer() { Some(self.turn.lock().await) } else { None };
        let transaction = pool::begin_in_task(&self.pool, self.engine.begin_to_append()).await?;
        Ok(Append { transaction, engine: &self.engine, _turn: turn })
    }

    /// A look at the database at one moment: all that is read through it belongs together.
    pub async fn read(&self) -> Result<Read> {
        Ok(Read {
            transaction: pool::begin_in_task(&self.pool, self.engine.begin_to_read()).await?,
        })
    }

    /// The time of the database, which all nodes share.
    pub async fn now(&self) -> Result<Timestamp> {
        self.engine.now(&self.pool).await
    }

    /// Copies the embedded database to where another URL says. Gives the file.
    pub async fn back_up(&self, copy: &DatabaseUrl) -> Result<PathBuf> {
        self.engine.back_up(&self.pool, copy).await
    }

    /// Whether `sql` is a statement that this engine takes: for the test that asks it of each.
    pub async fn prepares(&self, sql: &'static str) -> Result<()> {
        pool::prepare(&self.pool, sql).await
    }

    /// Lets go of the database, once all that runs has ended.
    pub async fn close(&self) {
        pool::close(&self.pool).await;
    }
}

/// A change that is being made.
#[derive(Debug)]
#[must_use = "a change that is not committed did not happen"]
pub struct Write<'s> {
    transaction: Transaction<'static, Any>,
    revision: i64,
    _turn: MutexGuard<'s, ()>,
}

impl Write<'_> {
    /// The revision that this change will be.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Tells the nodes that follow what was touched.
    pub async fn touched(&mut self, subject: Subject, now: Timestamp) -> Result<()> {
        self.touched_all(&[subject], now).await
    }

    /// The same of many.
    pub async fn touched_all(&mut self, subjects: &[Subject], now: Timestamp) -> Result<()> {
        let revision = self.revision;
        changes::insert_all(self, revision, subjects, now).await
    }

    /// Makes the change durable, and says its revision.
    pub async fn commit(self) -> Result<i64> {
        self.transaction.commit().await?;
        Ok(self.revision)
    }
}

impl Deref for Write<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl DerefMut for Write<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.transaction
    }
}

/// Something that is being counted or recorded, under no revision.
#[derive(Debug)]
#[must_use = "what is not committed did not happen"]
pub struct Append<'s> {
    transaction: Transaction<'static, Any>,
    engine: &'s Engine,
    _turn: Option<MutexGuard<'s, ()>>,
}

impl Append<'_> {
    /// The time of the database, read now and not when this began.
    pub async fn now(&mut self) -> Result<Timestamp> {
        self.engine.now(&mut *self.transaction).await
    }

    /// Makes it durable.
    pub async fn commit(self) -> Result<()> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for Append<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl DerefMut for Append<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.transaction
    }
}

/// A look at the database at one moment.
#[derive(Debug)]
pub struct Read {
    transaction: Transaction<'static, Any>,
}

impl Read {
    /// Asks for nothing, so that the database does not take the reader for gone.
    pub async fn keep(&mut self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&mut **self).await?;
        Ok(())
    }
}

impl Deref for Read {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl DerefMut for Read {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.transaction
    }
}

impl From<sqlx::Error> for Error {
    fn from(cause: sqlx::Error) -> Self {
        match cause {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                Self::Broken(format!("a row cannot be read: {cause}"))
            }
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

/// Whether a statement failed because what must be unique was there already.
fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// The error of a statement: a conflict, where what must be unique was there already.
fn taken(cause: sqlx::Error, code: &'static str, message: impl Into<String>) -> Error {
    if is_taken(&cause) { Error::Conflict(code, message.into()) } else { cause.into() }
}
