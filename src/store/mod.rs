//! The database: the only room that speaks SQL.
//!
//! SQLite and PostgreSQL through one pool, one folder of migrations, each statement once, in the
//! SQL that both understand. The engines differ in this file alone.

pub mod api_key_lists;
pub mod api_keys;
pub mod api_uses;
pub mod audiences;
pub mod audit;
pub mod bots;
pub mod changes;
pub mod gateway_policies;
pub mod idempotency;
pub mod imports;
pub mod indexed_api_keys;
pub mod installation;
pub mod orgs;
pub mod owners;
pub mod page;
pub mod quotas;
pub mod revocations;
pub mod roles;
mod row;
mod rows;
pub mod signing_keys;
pub mod spaces;
pub mod usage;
pub mod users;

use std::fs::{File, OpenOptions};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{Any, AnyConnection, AnyPool, Executor, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::clock::system_time;
use crate::error::{Error, Result};
use crate::model::id::Noun;
use crate::model::time::Timestamp;
use crate::store::changes::Subject;

/// How long a use case waits for a connection before it says that the database is out of reach.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_CONNECTIONS: u32 = 8;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// A connection of either engine.
pub type Connection = AnyConnection;

/// A half of all ids: two readers fill an index in half the time of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Ids that start with `0` to `U`.
    Lower,
    /// Ids that start with `V` to `z`.
    Upper,
}

impl Half {
    /// The text that every id of this half and of this noun is above, and the one it is below.
    fn bounds<N: Noun>(self) -> (String, String) {
        let (from, below) = match self {
            Self::Lower => ('0', 'V'),
            // above every letter and digit
            Self::Upper => ('V', '~'),
        };
        (format!("{}{from}", N::PREFIX), format!("{}{below}", N::PREFIX))
    }
}

/// Where the database is. Printing it never shows a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    engine: Engine,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Engine {
    Sqlite { file: PathBuf },
    Postgres,
}

impl DatabaseUrl {
    /// The embedded database in this directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self::sqlite(directory.join("tenmint.db"))
    }

    /// A database by its URL: `sqlite:PATH` or `postgres://...`.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('?') {
                return Err(Error::invalid("database_url", "write `sqlite:PATH`"));
            }
            return Ok(Self::sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self { text: text.to_owned(), engine: Engine::Postgres });
        }
        Err(Error::invalid("database_url", "write `sqlite:PATH` or `postgres://...`"))
    }

    fn sqlite(file: PathBuf) -> Self {
        // absolute and encoded, so that nothing in the path is read as a host or a parameter
        let path = std::path::absolute(&file).unwrap_or_else(|_| file.clone());
        let path = path.to_string_lossy();
        let encoded = path.bytes().map(|byte| match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        let encoded: Vec<String> = encoded.collect();
        Self {
            text: format!("sqlite://{}?mode=rwc", encoded.concat()),
            engine: Engine::Sqlite { file },
        }
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.engine {
            Engine::Sqlite { file } => write!(f, "sqlite:{}", file.display()),
            Engine::Postgres => {
                // what follows `?` can hold a password, and one with an `@` in it
                let place = self.text.split(['?', '#']).next().unwrap_or_default();
                let place = place.split_once("//").map_or(place, |(_, place)| place);
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                write!(f, "postgres://{place}")
            }
        }
    }
}

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
        if let Engine::Sqlite { file } = &url.engine {
            create_private_file(file)?;
        }
        let store = Self::connect(url).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Connects to a database that was set up, and changes nothing about it. `None` where there is
    /// no database yet.
    pub async fn open_existing(url: &DatabaseUrl) -> Result<Option<Self>> {
        if let Engine::Sqlite { file } = &url.engine
            && !file.exists()
        {
            return Ok(None);
        }
        let store = Self::connect(url).await?;
        match store.schema_version().await {
            Ok(_) => Ok(Some(store)),
            // a database without the table of migrations was never set up
            Err(sqlx::Error::Database(_)) => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Whether the schema is at least the one of this program.
    pub async fn is_up_to_date(&self) -> Result<bool> {
        let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
        Ok(self.schema_version().await? >= newest)
    }

    async fn schema_version(&self) -> sqlx::Result<Option<i64>> {
        let newest = "SELECT MAX(version) FROM _sqlx_migrations";
        sqlx::query_scalar(newest).fetch_one(&self.pool).await
    }

    async fn connect(url: &DatabaseUrl) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let set_up = url.engine.set_up();
        let pool = AnyPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(set_up).await.map(drop) })
            })
            .connect(&url.text)
            .await?;
        Ok(Self { pool, engine: url.engine.clone(), turn: Mutex::new(()) })
    }

    /// Brings the schema up to date.
    ///
    /// Several processes may start at once: SQLite's wait at a file lock beside the database,
    /// PostgreSQL's at its advisory lock, which sqlx takes.
    pub async fn migrate(&self) -> Result<()> {
        let _lock = match &self.engine {
            Engine::Sqlite { file } => Some(lock_beside(file.clone()).await?),
            Engine::Postgres => {
                // what sorts by bytes on SQLite sorts by bytes here too
                let collation =
                    r#"CREATE COLLATION IF NOT EXISTS "binary" (provider = libc, locale = 'C')"#;
                // two that look at once both find none, and the slower one is told that it is taken
                match self.pool.execute(collation).await {
                    Err(cause) if !is_taken(&cause) => return Err(cause.into()),
                    _ => None,
                }
            }
        };
        // `ignore_missing`: the previous version keeps running on a newer schema
        let mut migrator = Migrator { ..Migrator::DEFAULT };
        migrator.migrations.clone_from(&MIGRATIONS.migrations);
        migrator.set_ignore_missing(true);
        migrator.run(&self.pool).await.map_err(|cause| {
            Error::Setup(format!("the schema cannot be brought up to date: {cause}"))
        })
    }

    /// Begins a change, and takes the next revision before anything else, so that the order of
    /// commits is the order of revisions and no two changes overlap.
    pub async fn begin(&self) -> Result<Write<'_>> {
        let turn = self.turn.lock().await;
        let mut transaction = self.pool.begin_with(self.engine.begin()).await?;
        let revision = changes::take_revision(&mut transaction).await?;
        Ok(Write { transaction, revision, _turn: turn })
    }

    /// Begins what is no change of the rules, and raises no revision: what is counted or recorded
    /// for each request. Each statement sees what was committed before it.
    pub async fn append(&self) -> Result<Append<'_>> {
        let (turn, begin) = match self.engine {
            Engine::Sqlite { .. } => (Some(self.turn.lock().await), "BEGIN IMMEDIATE"),
            // here only a row that two write makes one of them wait
            Engine::Postgres => (None, "BEGIN ISOLATION LEVEL READ COMMITTED"),
        };
        let transaction = self.pool.begin_with(begin).await?;
        Ok(Append { transaction, engine: &self.engine, _turn: turn })
    }

    /// A look at the database at one moment: all that is read through it belongs together.
    pub async fn read(&self) -> Result<Read> {
        let begin = match self.engine {
            Engine::Sqlite { .. } => "BEGIN",
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(Read { transaction: self.pool.begin_with(begin).await? })
    }

    /// The time of the database, which all nodes share.
    pub async fn now(&self) -> Result<Timestamp> {
        self.engine.now(&self.pool).await
    }

    /// Whether `sql` is a statement that this engine takes: for the test that asks it of each.
    pub async fn prepares(&self, sql: &'static str) -> Result<()> {
        let mut connection = self.pool.acquire().await?;
        connection.prepare(sqlx::SqlStr::from_static(sql)).await?;
        Ok(())
    }

    /// Lets go of the database, once all that runs has ended.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Engine {
    /// How a transaction that writes begins.
    fn begin(&self) -> &'static str {
        match self {
            // a plain BEGIN would fail half way when two processes both read before they write
            Self::Sqlite { .. } => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// What each connection is told first.
    fn set_up(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => {
                // pages are cached by the system too: enough here that a batch of an import fits
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8192; \
                 PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000"
            }
            Self::Postgres => {
                "SET lock_timeout = '2s'; SET statement_timeout = '5s'; \
                 SET idle_in_transaction_session_timeout = '5s'"
            }
        }
    }

    async fn now<'c>(&self, connection: impl Executor<'c, Database = Any>) -> Result<Timestamp> {
        match self {
            Self::Sqlite { .. } => Ok(system_time()),
            Self::Postgres => {
                // cut to the millisecond, as everywhere: the time that it says has begun
                let now =
                    "SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)";
                Ok(Timestamp::from_millis(sqlx::query_scalar(now).fetch_one(connection).await?))
            }
        }
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

/// Creates a directory that its owner alone can enter, unless it is there.
pub fn create_private_directory(directory: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(directory)
        .map_err(|cause| Error::Setup(format!("cannot create `{}`: {cause}", directory.display())))
}

/// Creates a file that its owner alone can read, and its directory, unless it is there. SQLite gives
/// the files beside a database the mode of the database.
fn create_private_file(file: &Path) -> Result<()> {
    if let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_private_directory(directory)?;
    }
    private_file()
        .open(file)
        .map(drop)
        .map_err(|cause| Error::Setup(format!("cannot open `{}`: {cause}", file.display())))
}

fn private_file() -> OpenOptions {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Waits for the exclusive lock on a file beside the database.
async fn lock_beside(database: PathBuf) -> Result<File> {
    let path = database.with_extension("lock");
    let shown = path.display().to_string();
    let lock = move || {
        let file = private_file().open(path)?;
        file.lock()?;
        Ok::<File, std::io::Error>(file)
    };
    tokio::task::spawn_blocking(lock)
        .await
        .map_err(|cause| Error::Broken(cause.to_string()))?
        .map_err(|cause| Error::Setup(format!("cannot lock `{shown}`: {cause}")))
}
