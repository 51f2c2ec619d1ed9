//! The two engines: where a database is, and all in which they differ.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Any, AnyPool, Executor};

use crate::clock::system_time;
use crate::error::{Error, Result};
use crate::model::time::Timestamp;
use crate::store::{is_taken, pool};

/// The name of the embedded database, without its ending.
const MAIN_STEM: &str = "tenmint";

/// Where the database is. Printing it never shows a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    pub(super) engine: Engine,
}

/// What keeps the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite { file: PathBuf },
    Postgres,
}

impl DatabaseUrl {
    /// The embedded database in this directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self::sqlite(directory.join(MAIN_STEM).with_extension("db"))
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

impl DatabaseUrl {
    /// Creates the file of a database, readable by its owner alone, unless it is there.
    pub(super) fn create(&self) -> Result<()> {
        match &self.engine {
            Engine::Sqlite { file } => create_private_file(file),
            Engine::Postgres => Ok(()),
        }
    }

    /// Whether it is on another machine, or could be.
    pub fn is_remote(&self) -> bool {
        self.engine == Engine::Postgres
    }

    /// Where the ledger of this database is: on SQLite in a file beside it.
    pub(super) fn of_ledger(&self) -> Self {
        let Engine::Sqlite { file } = &self.engine else { return self.clone() };
        let stem = file.file_stem().unwrap_or_default();
        if stem == MAIN_STEM {
            return Self::sqlite(file.with_file_name("ledger.db"));
        }
        let mut name = stem.to_owned();
        name.push(".ledger.db");
        Self::sqlite(file.with_file_name(name))
    }

    /// Whether it is known without asking that there is no database.
    pub(super) fn is_missing(&self) -> bool {
        matches!(&self.engine, Engine::Sqlite { file } if !file.exists())
    }

    /// Connections, each of which is told `set_up` first.
    pub(super) async fn connect(&self, most: u32, set_up: &'static str) -> Result<AnyPool> {
        pool::connect(&self.text, most, set_up).await
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

/// A schema, and where it keeps count of its migrations.
pub(super) struct Schema {
    pub(super) migrations: &'static Migrator,
    /// The table of those that a database has.
    pub(super) table: &'static str,
    /// The statement that asks it for the newest.
    pub(super) newest: &'static str,
}

impl Schema {
    /// The newest migration that this program knows.
    pub(super) fn newest_known(&self) -> Option<i64> {
        self.migrations.iter().map(|migration| migration.version).max()
    }

    /// Whether a database has its table of migrations: without, it was never set up.
    pub(super) async fn is_set_up(&self, pool: &AnyPool) -> Result<bool> {
        match self.newest_there(pool).await {
            Ok(_) => Ok(true),
            Err(cause) if lacks_table(&cause) => Ok(false),
            Err(cause) if is_denied(&cause) => {
                Err(Error::Setup(format!("the database may not be read: {cause}")))
            }
            Err(cause) => Err(cause.into()),
        }
    }

    /// Whether a database that was set up has all that this program knows.
    pub(super) async fn is_up_to_date(&self, pool: &AnyPool) -> Result<bool> {
        Ok(self.newest_there(pool).await? >= self.newest_known())
    }

    async fn newest_there(&self, pool: &AnyPool) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar(self.newest).fetch_one(pool).await
    }
}

impl Engine {
    /// Brings a schema up to date. One that is so already is left alone, since whoever serves may have no right
    /// to change a table.
    ///
    /// Several processes may start at once: SQLite's wait at a file lock beside the database,
    /// PostgreSQL's at its advisory lock, which sqlx takes.
    pub(super) async fn migrate(&self, pool: &AnyPool, schema: &Schema) -> Result<()> {
        if schema.is_set_up(pool).await? && schema.is_up_to_date(pool).await? {
            return Ok(());
        }
        let _lock = match self {
            Self::Sqlite { file } => Some(lock_beside(file.clone()).await?),
            Self::Postgres => {
                create_collation(pool).await?;
                None
            }
        };
        // `ignore_missing`: the previous version keeps running on a newer schema
        let mut migrator = Migrator { ..Migrator::DEFAULT };
        migrator.migrations.clone_from(&schema.migrations.migrations);
        migrator.set_ignore_missing(true);
        migrator.table_name = schema.table.into();
        let mut connection = pool.acquire().await?;
        if *self == Self::Postgres {
            // whoever starts beside this one waits until it is done, and an index may take its time
            connection.execute("SET lock_timeout = 0; SET statement_timeout = 0").await?;
        }
        let migrated = migrator.run_direct(None, &mut *connection, false).await;
        connection.close().await?;
        migrated.map_err(|cause| match cause {
            MigrateError::Execute(cause) => not_migrated(cause),
            MigrateError::ExecuteMigration(cause, _) if is_denied(&cause) => not_migrated(cause),
            cause => Error::Setup(format!("the schema cannot be brought up to date: {cause}")),
        })
    }

    /// Whether writers wait for each other, whatever they write.
    pub(super) fn has_one_writer(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// How a transaction begins that raises no revision.
    pub(super) fn begin_to_append(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "BEGIN IMMEDIATE",
            // here only a row that two write makes one of them wait
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// How a look at one moment begins.
    pub(super) fn begin_to_read(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// How a transaction that writes begins.
    pub(super) fn begin(&self) -> &'static str {
        match self {
            // a plain BEGIN would fail half way when two processes both read before they write
            Self::Sqlite { .. } => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// What each connection is told first.
    pub(super) fn set_up(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => {
                // pages are cached by the system too: enough here that a batch of an import fits
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8192; \
                 PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000"
            }
            Self::Postgres => {
                // what was answered has to outlive the server: where that is switched off, it is not for us
                "SET lock_timeout = '2s'; SET statement_timeout = '5s'; \
                 SET idle_in_transaction_session_timeout = '5s'; \
                 SELECT set_config('synchronous_commit', 'on', false) \
                 WHERE current_setting('synchronous_commit') = 'off'"
            }
        }
    }

    /// What each connection to the ledger is told first.
    pub(super) fn set_up_ledger(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => {
                // whoever records moves what is left of the log of 64 MB into the file, and begins it anew where
                // it lies: to write over a log takes half the time of making it longer. That takes a while however
                // long it is, so not at 4 MB, as SQLite would. What a long search kept is cut off above 128 MB
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA wal_autocheckpoint = 16000; PRAGMA journal_size_limit = 134217728; \
                 PRAGMA busy_timeout = 5000"
            }
            Self::Postgres => self.set_up(),
        }
    }

    /// What moves the log of the ledger into its file as far as nobody is held up by that, where there is one.
    pub(super) fn move_ledger_log(&self) -> Option<&'static str> {
        match self {
            Self::Sqlite { .. } => Some("PRAGMA wal_checkpoint(PASSIVE)"),
            Self::Postgres => None,
        }
    }

    /// Copies an embedded database into a new file, as it is at one moment, while others go on.
    pub(super) async fn back_up(&self, pool: &AnyPool, copy: &DatabaseUrl) -> Result<PathBuf> {
        let Engine::Sqlite { file } = &copy.engine else {
            return Err(Error::Broken("a copy is a file".to_owned()));
        };
        if file.exists() {
            let place = file.display();
            return Err(Error::Setup(format!(
                "there is a `{place}` already: name another directory"
            )));
        }
        // empty, so that the copy is as private as the file
        create_private_file(file)?;
        sqlx::query("VACUUM INTO $1").bind(file.display().to_string()).execute(pool).await?;
        sync(file.clone()).await?;
        Ok(file.clone())
    }

    /// What time the database has.
    pub(super) async fn now<'c>(
        &self,
        connection: impl Executor<'c, Database = Any>,
    ) -> Result<Timestamp> {
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

/// What sorts by bytes on SQLite sorts by bytes on PostgreSQL too.
async fn create_collation(pool: &AnyPool) -> Result<()> {
    let collation = r#"CREATE COLLATION IF NOT EXISTS "binary" (provider = libc, locale = 'C')"#;
    match pool.execute(collation).await {
        // two that look at once both find none, and the slower one is told that it is taken
        Err(cause) if !is_taken(&cause) => Err(not_migrated(cause)),
        _ => Ok(()),
    }
}

/// Why a schema is as it was. Out of reach is no fault of it.
fn not_migrated(cause: sqlx::Error) -> Error {
    if !matches!(cause, sqlx::Error::Database(_)) {
        return cause.into();
    }
    let hint = "\nhint: run `tenmint migrate` as somebody who may change tables";
    let hint = if is_denied(&cause) { hint } else { "" };
    Error::Setup(format!("the schema cannot be brought up to date: {cause}{hint}"))
}

/// Whether a statement failed because a table is not there.
fn lacks_table(cause: &sqlx::Error) -> bool {
    let Some(cause) = cause.as_database_error() else { return false };
    // SQLite has one code for all that is wrong with a statement
    cause.code().is_some_and(|code| code == "42P01") || cause.message().contains("no such table")
}

/// Whether PostgreSQL says that this role may not do so.
fn is_denied(cause: &sqlx::Error) -> bool {
    let code = cause.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == "42501")
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

/// How a file is opened that its owner alone can read: created where it is not there, and kept as it is.
pub fn private_file() -> OpenOptions {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Has a file on the disk, and its name: SQLite syncs no copy.
async fn sync(file: PathBuf) -> Result<()> {
    in_thread("sync", file, |file| {
        File::open(file)?.sync_all()?;
        file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    })
    .await
}

/// Waits for the exclusive lock on a file beside the database.
async fn lock_beside(database: PathBuf) -> Result<File> {
    in_thread("lock", database.with_extension("lock"), |path| {
        let file = private_file().open(path)?;
        file.lock()?;
        Ok(file)
    })
    .await
}

/// Does something with a file in a thread that may wait for it.
async fn in_thread<T: Send + 'static>(
    what: &str,
    path: PathBuf,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let shown = path.display().to_string();
    tokio::task::spawn_blocking(move || work(&path))
        .await
        .map_err(|cause| Error::Broken(cause.to_string()))?
        .map_err(|cause| Error::Setup(format!("cannot {what} `{shown}`: {cause}")))
}

#[cfg(test)]
mod tests {
    use crate::store::DatabaseUrl;

    #[tokio::test]
    async fn sqlite_syncs_each_commit_to_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::in_directory(directory.path());
        url.create().unwrap();
        for set_up in [url.engine.set_up(), url.engine.set_up_ledger()] {
            let pool = url.connect(1, set_up).await.unwrap();
            let synchronous = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&pool);
            let journal = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool);
            let (synchronous, journal): (i64, String) =
                (synchronous.await.unwrap(), journal.await.unwrap());
            assert_eq!((synchronous, journal.as_str()), (2, "wal"), "FULL: {set_up}");
        }
    }
}
