//! The ledger: on SQLite a file of its own, so that no management write waits for it; on PostgreSQL
//! tables beside the others, over connections of its own.
//!
//! A batch is one row and is never changed. An insert that may have happened before is made again
//! without harm: the row that is there is compared.

use std::path::PathBuf;

use sqlx::any::AnyRow;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool};
use tokio::sync::Mutex;

use crate::error::Result;
use crate::model::ledger::{Batch, Chain, ChainValue, FactWriter, Filter, Head, Pruning};
use crate::model::time::Timestamp;
use crate::model::token_id::ChainId;
use crate::store::engine::{DatabaseUrl, Engine, Schema};
use crate::store::row::{Row, signed};
use crate::store::{Connection, Store, is_taken, pool};

/// One writes, one moves the log, and others search or drop what grew old.
const MAX_CONNECTIONS: u32 = 4;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/ledger");
static SCHEMA: Schema = Schema {
    migrations: &MIGRATIONS,
    table: "_ledger_migrations",
    newest: "SELECT MAX(version) FROM _ledger_migrations",
};

/// The database of the ledger.
#[derive(Debug)]
pub struct LedgerStore {
    pool: AnyPool,
    engine: Engine,
    /// The connection that writes. A pool asks a connection whether it lives when it is taken and again when it
    /// is given back, which is twice as much work as to insert a batch.
    writer: Mutex<Option<PoolConnection<Any>>>,
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The batch is there, by this insert or an earlier one.
    There,
    /// Another batch has its place.
    Taken,
}

/// Where a batch stands among all, by the time of its last fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The moment of its last fact.
    pub last_at: Timestamp,
    /// Its chain.
    pub chain: ChainId,
    /// Its number there.
    pub number: u64,
}

impl Place {
    /// Before every batch.
    pub const START: Self = Self {
        last_at: Timestamp::from_millis(i64::MIN),
        chain: ChainId::from_number(0),
        number: 0,
    };
    /// Behind every batch.
    pub const END: Self = Self {
        last_at: Timestamp::from_millis(i64::MAX),
        chain: ChainId::from_number(u32::MAX),
        number: i64::MAX.cast_unsigned(),
    };
}

/// What a search reads of a batch before it opens it.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Where it stands.
    pub place: Place,
    /// What is not in it.
    pub filter: Filter,
}

impl LedgerStore {
    /// Opens the ledger that belongs to a database, and brings its schema up to date.
    pub async fn open(database: &DatabaseUrl) -> Result<Self> {
        let url = database.of_ledger();
        url.create()?;
        let ledger = Self::connect(&url).await?;
        ledger.engine.migrate(&ledger.pool, &SCHEMA).await?;
        Ok(ledger)
    }

    /// Opens the ledger that belongs to a database, if there is one.
    pub async fn open_existing(database: &DatabaseUrl) -> Result<Option<Self>> {
        let url = database.of_ledger();
        if url.is_missing() {
            return Ok(None);
        }
        let ledger = Self::connect(&url).await?;
        Ok(SCHEMA.is_set_up(&ledger.pool).await?.then_some(ledger))
    }

    /// Whether the schema is at least the one of this program.
    pub async fn is_up_to_date(&self) -> Result<bool> {
        SCHEMA.is_up_to_date(&self.pool).await
    }

    /// Copies the ledger of an embedded database to beside a copy of that. Gives the file.
    pub async fn back_up(&self, copy: &DatabaseUrl) -> Result<PathBuf> {
        self.engine.back_up(&self.pool, &copy.of_ledger()).await
    }

    async fn connect(url: &DatabaseUrl) -> Result<Self> {
        let pool = url.connect(MAX_CONNECTIONS, url.engine.set_up_ledger()).await?;
        Ok(Self { pool, engine: url.engine.clone(), writer: Mutex::default() })
    }

    /// Records where a new chain begins. `false` where its id is taken.
    pub async fn insert_chain(&self, chain: &Chain) -> Result<bool> {
        let previous = chain.previous;
        let inserted = sqlx::query(
            "INSERT INTO ledger_chains
             (chain, started_at, previous_chain, previous_number, previous_value)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(i64::from(chain.id.as_number()))
        .bind(chain.started_at.as_millis())
        .bind(previous.map(|head| i64::from(head.chain.as_number())))
        .bind(previous.map(|head| signed(head.number)))
        .bind(previous.map(|head| head.value.to_string()))
        .execute(&self.pool)
        .await;
        match inserted {
            Ok(_) => Ok(true),
            Err(cause) if is_taken(&cause) => Ok(false),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Records a batch, durably.
    pub async fn insert(&self, batch: &Batch) -> Result<Inserted> {
        let mut writer = self.writer.lock().await;
        // taken out, so that a connection that failed or was given up half way is not used again
        if let Some(mut connection) = writer.take()
            && let Ok(inserted) = self.insert_over(&mut connection, batch).await
        {
            *writer = Some(connection);
            return Ok(inserted);
        }
        // it may have died of age: another one says what is the matter
        let mut connection = self.pool.acquire().await?;
        let inserted = self.insert_over(&mut connection, batch).await?;
        *writer = Some(connection);
        Ok(inserted)
    }

    /// Moves the write-ahead log of an embedded ledger into its file: whoever records has little left to move.
    pub async fn move_log(&self) -> Result<()> {
        let Some(statement) = self.engine.move_ledger_log() else { return Ok(()) };
        sqlx::query(statement).execute(&self.pool).await?;
        Ok(())
    }

    /// Records batches together, durably: all of them, or none where another batch has a place of theirs.
    pub async fn insert_all(&self, batches: &[Batch]) -> Result<Inserted> {
        let mut transaction =
            pool::begin_in_task(&self.pool, self.engine.begin_to_append()).await?;
        for batch in batches {
            if self.insert_over(&mut transaction, batch).await? == Inserted::Taken {
                return Ok(Inserted::Taken);
            }
        }
        transaction.commit().await?;
        Ok(Inserted::There)
    }

    async fn insert_over(&self, connection: &mut Connection, batch: &Batch) -> Result<Inserted> {
        let inserted = sqlx::query(
            "INSERT INTO ledger_batches
             (chain, number, facts, first_at, last_at, value, filter, body)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (chain, number) DO NOTHING",
        )
        .bind(i64::from(batch.chain.as_number()))
        .bind(signed(batch.number))
        .bind(signed(batch.facts))
        .bind(batch.first_at.as_millis())
        .bind(batch.last_at.as_millis())
        .bind(batch.value.as_bytes().to_vec())
        .bind(batch.filter.as_bytes().to_vec())
        .bind(batch.body.clone())
        .execute(&mut *connection)
        .await?;
        if inserted.rows_affected() > 0 {
            return Ok(Inserted::There);
        }
        let found = find(connection, batch.chain, batch.number).await?;
        let is_same = found.is_some_and(|found| found.value == batch.value);
        Ok(if is_same { Inserted::There } else { Inserted::Taken })
    }

    /// A batch by its number.
    pub async fn find(&self, chain: ChainId, number: u64) -> Result<Option<Batch>> {
        find(&mut *self.pool.acquire().await?, chain, number).await
    }

    /// The batches of a chain behind a number.
    pub async fn list_after(&self, chain: ChainId, number: u64, limit: i64) -> Result<Vec<Batch>> {
        let rows = sqlx::query(
            "SELECT chain, number, facts, first_at, last_at, value, filter, body
             FROM ledger_batches WHERE chain = $1 AND number > $2 ORDER BY number LIMIT $3",
        )
        .bind(i64::from(chain.as_number()))
        .bind(signed(number))
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| batch_of(&row_of(row))).collect()
    }

    /// Where a chain ends, if it has a batch.
    pub async fn head(&self, chain: ChainId) -> Result<Option<Head>> {
        let row = sqlx::query(
            "SELECT number, value FROM ledger_batches
             WHERE chain = $1 ORDER BY number DESC LIMIT 1",
        )
        .bind(i64::from(chain.as_number()))
        .fetch_optional(&self.pool)
        .await?;
        let head = |row: Row<'_>| {
            Ok(Head { chain, number: count(&row, "number")?, value: value_of(&row)? })
        };
        row.as_ref().map(row_of).map(head).transpose()
    }

    /// The lowest chain above one that has a batch.
    pub async fn next_chain_with_batches(&self, above: i64) -> Result<Option<ChainId>> {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT MIN(chain) FROM ledger_batches WHERE chain > $1")
                .bind(above)
                .fetch_one(&self.pool)
                .await?;
        Ok(found.map(chain_of))
    }

    /// All chains, as they were begun.
    pub async fn list_chains(&self) -> Result<Vec<Chain>> {
        let rows = sqlx::query(
            "SELECT chain, started_at, previous_chain, previous_number, previous_value
             FROM ledger_chains ORDER BY started_at, chain",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let row = Row::of("ledger_chains", row);
                let previous = (
                    row.number_or_none("previous_chain")?,
                    row.number_or_none("previous_number")?,
                    row.parsed_or_none("previous_value")?,
                );
                let previous = match previous {
                    (Some(chain), Some(number), Some(value)) => {
                        let number = number.cast_unsigned();
                        Some(Head { chain: chain_of(chain), number, value })
                    }
                    _ => None,
                };
                let id = chain_of(row.number("chain")?);
                Ok(Chain { id, started_at: row.moment("started_at")?, previous })
            })
            .collect()
    }

    /// The outlines of batches with facts between two moments, from new to old and before a place.
    pub async fn list_before(
        &self,
        range: (Timestamp, Timestamp),
        before: Place,
        limit: i64,
    ) -> Result<Vec<Outline>> {
        let statement = "SELECT chain, number, last_at, filter FROM ledger_batches
             WHERE last_at >= $1 AND last_at <= $2 AND first_at <= $3
             AND (last_at, chain, number) < ($4, $5, $6)
             ORDER BY last_at DESC, chain DESC, number DESC LIMIT $7";
        self.list_outlines(statement, range, before, limit).await
    }

    /// The same from old to new, behind a place.
    pub async fn list_behind(
        &self,
        range: (Timestamp, Timestamp),
        after: Place,
        limit: i64,
    ) -> Result<Vec<Outline>> {
        let statement = "SELECT chain, number, last_at, filter FROM ledger_batches
             WHERE last_at >= $1 AND last_at <= $2 AND first_at <= $3
             AND (last_at, chain, number) > ($4, $5, $6)
             ORDER BY last_at, chain, number LIMIT $7";
        self.list_outlines(statement, range, after, limit).await
    }

    async fn list_outlines(
        &self,
        statement: &'static str,
        (since, until): (Timestamp, Timestamp),
        from: Place,
        limit: i64,
    ) -> Result<Vec<Outline>> {
        let rows = sqlx::query(statement)
            .bind(since.as_millis())
            .bind(latest_end(until).as_millis())
            .bind(until.as_millis())
            .bind(from.last_at.as_millis())
            .bind(i64::from(from.chain.as_number()))
            .bind(signed(from.number))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| outline_of(&row_of(row))).collect()
    }

    /// The batches that may hold a fact of a moment: of one chain, or of all.
    pub async fn list_at(&self, at: Timestamp, chain: Option<ChainId>) -> Result<Vec<Place>> {
        let any = i64::from(chain.is_none());
        let rows = sqlx::query(
            "SELECT chain, number, last_at FROM ledger_batches
             WHERE last_at >= $1 AND last_at <= $2 AND first_at <= $1 AND (chain = $3 OR $4 = 1)
             ORDER BY last_at, chain, number",
        )
        .bind(at.as_millis())
        .bind(latest_end(at).as_millis())
        .bind(chain.map_or(0, |chain| i64::from(chain.as_number())))
        .bind(any)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| place_of(&row_of(row))).collect()
    }

    /// What was dropped of each chain, with its seal.
    pub async fn list_prunings(&self) -> Result<Vec<(Pruning, ChainValue)>> {
        let rows =
            sqlx::query("SELECT chain, number, value, facts, pruned_at, seal FROM ledger_prunings")
                .fetch_all(&self.pool)
                .await?;
        let pruning = |row: &AnyRow| {
            let row = Row::of("ledger_prunings", row);
            let (head, facts) = (head_of(&row)?, count(&row, "facts")?);
            let pruning = Pruning { head, facts, pruned_at: row.moment("pruned_at")? };
            Ok((pruning, row.parsed("seal")?))
        };
        rows.iter().map(pruning).collect()
    }

    /// Drops all batches of a chain behind a number and up to one, and records that. `false` where another node
    /// has dropped some of them: what it counted is counted.
    pub async fn prune(&self, after: u64, pruning: &Pruning, seal: ChainValue) -> Result<bool> {
        let Head { chain, number, value } = pruning.head;
        let mut transaction =
            pool::begin_in_task(&self.pool, self.engine.begin_to_append()).await?;
        let recorded = sqlx::query(
            "INSERT INTO ledger_prunings (chain, number, value, facts, pruned_at, seal)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (chain) DO UPDATE SET number = excluded.number, value = excluded.value,
             facts = excluded.facts, pruned_at = excluded.pruned_at, seal = excluded.seal
             WHERE ledger_prunings.number = $7",
        )
        .bind(i64::from(chain.as_number()))
        .bind(signed(number))
        .bind(value.to_string())
        .bind(signed(pruning.facts))
        .bind(pruning.pruned_at.as_millis())
        .bind(seal.to_string())
        .bind(signed(after))
        .execute(&mut *transaction)
        .await?;
        if recorded.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM ledger_batches WHERE chain = $1 AND number <= $2")
            .bind(i64::from(chain.as_number()))
            .bind(signed(number))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Whether `sql` is a statement that this engine takes: for the test that asks it of each.
    pub async fn prepares(&self, sql: &'static str) -> Result<()> {
        pool::prepare(&self.pool, sql).await
    }

    /// Lets go of the database, once all that runs has ended.
    pub async fn close(&self) {
        drop(self.writer.lock().await.take());
        pool::close(&self.pool).await;
    }
}

impl Store {
    /// Says where a chain was seen to end. Never takes one back.
    pub async fn put_ledger_checkpoint(&self, head: &Head, now: Timestamp) -> Result<()> {
        let mut append = self.append().await?;
        sqlx::query(
            "INSERT INTO ledger_checkpoints (chain, number, value, seen_at)
             VALUES ($1, $2, $3, $4) ON CONFLICT (chain) DO UPDATE
             SET number = excluded.number, value = excluded.value, seen_at = excluded.seen_at
             WHERE ledger_checkpoints.number < excluded.number",
        )
        .bind(i64::from(head.chain.as_number()))
        .bind(signed(head.number))
        .bind(head.value.to_string())
        .bind(now.as_millis())
        .execute(&mut *append as &mut Connection)
        .await?;
        append.commit().await
    }

    /// Where each chain was seen to end, and when.
    pub async fn list_ledger_checkpoints(&self) -> Result<Vec<(Head, Timestamp)>> {
        let mut read = self.read().await?;
        let rows = sqlx::query("SELECT chain, number, value, seen_at FROM ledger_checkpoints")
            .fetch_all(&mut *read as &mut Connection)
            .await?;
        let checkpoint = |row: &AnyRow| {
            let row = Row::of("ledger_checkpoints", row);
            Ok((head_of(&row)?, row.moment("seen_at")?))
        };
        rows.iter().map(checkpoint).collect()
    }
}

/// The last moment of any batch with a fact of this moment.
fn latest_end(at: Timestamp) -> Timestamp {
    at + FactWriter::MAX_SPAN
}

fn chain_of(number: i64) -> ChainId {
    ChainId::from_number(u32::try_from(number).unwrap_or(u32::MAX))
}

fn row_of(row: &AnyRow) -> Row<'_> {
    Row::of("ledger_batches", row)
}

fn count(row: &Row<'_>, column: &'static str) -> Result<u64> {
    row.number(column).map(i64::cast_unsigned)
}

/// A head whose value is told as text.
fn head_of(row: &Row<'_>) -> Result<Head> {
    let chain = chain_of(row.number("chain")?);
    Ok(Head { chain, number: count(row, "number")?, value: row.parsed("value")? })
}

fn value_of(row: &Row<'_>) -> Result<ChainValue> {
    let value: std::result::Result<[u8; 32], _> = row.bytes("value")?.try_into();
    value.map(ChainValue::from_bytes).map_err(|_| row.bad("value", "it is not 32 bytes"))
}

fn place_of(row: &Row<'_>) -> Result<Place> {
    Ok(Place {
        last_at: row.moment("last_at")?,
        chain: chain_of(row.number("chain")?),
        number: count(row, "number")?,
    })
}

fn outline_of(row: &Row<'_>) -> Result<Outline> {
    Ok(Outline { place: place_of(row)?, filter: Filter::from_bytes(row.bytes("filter")?) })
}

async fn find(connection: &mut Connection, chain: ChainId, number: u64) -> Result<Option<Batch>> {
    let row = sqlx::query(
        "SELECT chain, number, facts, first_at, last_at, value, filter, body
         FROM ledger_batches WHERE chain = $1 AND number = $2",
    )
    .bind(i64::from(chain.as_number()))
    .bind(signed(number))
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| batch_of(&row_of(row))).transpose()
}

fn batch_of(row: &Row<'_>) -> Result<Batch> {
    Ok(Batch {
        chain: chain_of(row.number("chain")?),
        number: count(row, "number")?,
        facts: count(row, "facts")?,
        first_at: row.moment("first_at")?,
        last_at: row.moment("last_at")?,
        value: value_of(row)?,
        filter: Filter::from_bytes(row.bytes("filter")?),
        body: row.bytes("body")?,
    })
}
