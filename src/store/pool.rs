//! Connections to a database: how one is opened, told what holds for it, looked at and given back.

use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::error::DatabaseError;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor, Transaction};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long a use case waits for a connection before it says that the database is out of reach.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection may take to say that it lives: all of a pool are asked within two acquisitions.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);
/// How long connections are waited for that are to end: a node that stops has ten seconds in all.
const CLOSES_WITHIN: Duration = Duration::from_secs(2);

/// What a connection is told first that can only read.
const SET_UP_READ_ONLY: &str = "PRAGMA query_only = ON; PRAGMA busy_timeout = 5000";

/// Connections, each of which is told `set_up` first.
pub(super) async fn connect(url: &str, most: u32, set_up: &'static str) -> Result<AnyPool> {
    sqlx::any::install_default_drivers();
    let pool = AnyPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                let can_write = can_write(connection).await?;
                let set_up = if can_write { set_up } else { SET_UP_READ_ONLY };
                connection.execute(set_up).await.map(drop)
            })
        })
        .after_release(|connection, _| Box::pin(is_kept(connection)))
        // in place of a look without end: where a network lost them all at once, one that is dead must
        // not take the time in which another could be had
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(is_fit(connection)))
        .connect(url)
        .await?;
    Ok(pool)
}

/// Whether a new connection can write. SQLite opens a file that cannot be written for reading alone, and stays at that
/// when it can.
async fn can_write(connection: &mut AnyConnection) -> sqlx::Result<bool> {
    if !is_sqlite(connection) {
        return Ok(true);
    }
    // asks to write and has nothing to write: `BEGIN IMMEDIATE` would be content to read. SQLite looks whether it may
    // write before it looks whether somebody else does, and whoever does is not waited for
    match connection.execute("PRAGMA busy_timeout = 0; PRAGMA incremental_vacuum(1)").await {
        Ok(_) => Ok(true),
        Err(cause) => match cause.as_database_error().map(DatabaseError::message) {
            Some(message) if message.contains("locked") => Ok(true),
            Some(message) if message.contains("readonly") => Ok(false),
            _ => Err(cause),
        },
    }
}

/// Whether an idle connection can be used. One that does not answer is dropped.
///
/// SQLite ends a transaction by itself where the disk takes no more. The driver goes on to think that the
/// connection is in it, and would begin no other one.
async fn is_fit(connection: &mut AnyConnection) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        return Ok(false);
    }
    match timeout(ANSWERS_WITHIN, connection.ping()).await {
        Ok(answered) => answered.map(|()| true),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

/// Whether a connection that was used is kept: one that can only read would outlast the trouble.
async fn is_kept(connection: &mut AnyConnection) -> sqlx::Result<bool> {
    if !is_sqlite(connection) {
        return Ok(true);
    }
    let only_reads: i64 = sqlx::query_scalar("PRAGMA query_only").fetch_one(connection).await?;
    Ok(only_reads == 0)
}

fn is_sqlite(connection: &AnyConnection) -> bool {
    connection.backend_name() == "SQLite"
}

/// Begins a transaction, in a task of its own: where whoever asked goes away while the database begins it, the driver
/// would give the connection to the next without knowing of it, and what that one writes would never be committed.
pub(super) async fn begin_in_task(
    pool: &AnyPool,
    statement: &'static str,
) -> Result<Transaction<'static, Any>> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(statement).await });
    Ok(begun.await.map_err(|cause| Error::Broken(cause.to_string()))??)
}

/// Prepares a statement, which fails where the engine does not take it.
pub(super) async fn prepare(pool: &AnyPool, sql: &'static str) -> Result<()> {
    let mut connection = pool.acquire().await?;
    connection.prepare(sqlx::SqlStr::from_static(sql)).await?;
    Ok(())
}

/// Lets go of connections; those that do not answer are left to themselves.
pub(super) async fn close(pool: &AnyPool) {
    if timeout(CLOSES_WITHIN, pool.close()).await.is_err() {
        tracing::warn!("the database does not answer: its connections are left as they are");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::Executor;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use crate::store::DatabaseUrl;
    use crate::store::pool::connect;

    /// As one is that was opened while the disk was read-only. A lock that another has makes it look no better.
    #[tokio::test]
    async fn a_connection_that_can_only_read_serves_once_and_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::in_directory(directory.path());
        url.create().unwrap();
        let whole = url.connect(1, url.engine.set_up()).await.unwrap();
        let file = directory.path().join("tenmint.db");
        let text = format!("sqlite://{}?mode=ro", file.display());
        let pool = connect(&text, 1, url.engine.set_up()).await.unwrap();
        for lock in ["BEGIN", "BEGIN IMMEDIATE"] {
            let lock = whole.begin_with(lock).await.unwrap();
            let mut connection = pool.acquire().await.unwrap();
            connection.execute("PRAGMA user_version").await.unwrap();
            let written = connection.execute("PRAGMA user_version = 1").await.unwrap_err();
            assert!(written.to_string().contains("readonly"), "{written}");
            drop((lock, connection));
            until(|| pool.size() == 0).await;
        }
        drop(whole.acquire().await.unwrap());
        until(|| whole.num_idle() == 1).await;
    }

    /// What is given back is given back by a task.
    async fn until(is_so: impl Fn() -> bool) {
        let is_so = async {
            while !is_so() {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), is_so).await.unwrap();
    }
}
