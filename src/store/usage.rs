//! Usage by the hour, and last uses.
//!
//! Rows come by the thousand, and a statement a row would hold the turn of the writers for the way
//! to the database and back each time: a statement takes a block of them.

use sqlx::any::AnyRow;

use crate::error::Result;
use crate::model::id::ApiKeyId;
use crate::model::time::Timestamp;
use crate::model::usage::{Grain, HourCount, LastUse, Usage, UsageSubject};
use crate::store::row::{Row, signed};
use crate::store::{Append, Connection, api_uses, rows};

/// Rows that one pruning deletes, or a few more where they share hour and subject.
const PRUNED_AT_ONCE: i64 = 500;

/// A count, as it is told. The outcome may be one of a newer version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCount {
    /// The start of the hour or day.
    pub from: Timestamp,
    /// The outcome.
    pub outcome: String,
    /// How often it came.
    pub count: u64,
}

/// Adds a part of this number of a writer, unless it was added before, which it says. Parts of one
/// writer come in the order of their numbers.
///
/// The rows are locked in their order, which is the same on every node: they never wait in a circle.
pub async fn add(
    append: &mut Append<'_>,
    (writer, number): (&str, i64),
    part: &Usage,
    now: Timestamp,
) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO usage_writers (id, part, written_at) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET part = excluded.part, written_at = excluded.written_at
         WHERE usage_writers.part < excluded.part",
    )
    .bind(writer)
    .bind(number)
    .bind(now.as_millis())
    .execute(&mut **append)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    add_hours(append, &part.hours).await?;
    put_last_uses(append, &part.last_uses).await?;
    api_uses::add(append, &part.api_uses).await?;
    for watched in &part.watched {
        api_uses::put_watched(append, watched).await?;
    }
    Ok(true)
}

async fn add_hours(connection: &mut Connection, hours: &[HourCount]) -> Result<()> {
    let insert = "INSERT INTO usage_hours (subject_id, hour_at, outcome, count)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (subject_id, hour_at, outcome)
         DO UPDATE SET count = usage_hours.count + excluded.count";
    rows::insert_all(connection, insert, hours, |query, row| {
        query
            .bind(row.subject.to_string())
            .bind(row.hour_at.as_millis())
            .bind(row.outcome.as_str())
            .bind(signed(row.count))
    })
    .await?;
    Ok(())
}

async fn put_last_uses(
    connection: &mut Connection,
    last_uses: &[(UsageSubject, LastUse)],
) -> Result<()> {
    let insert = "INSERT INTO last_uses (subject_id, used_at, address, user_agent)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (subject_id) DO UPDATE SET used_at = excluded.used_at,
         address = excluded.address, user_agent = excluded.user_agent
         WHERE last_uses.used_at < excluded.used_at";
    rows::insert_all(connection, insert, last_uses, |query, (subject, last_use)| {
        query
            .bind(subject.to_string())
            .bind(last_use.used_at.as_millis())
            .bind(last_use.address.map(|address| address.to_string()))
            .bind(last_use.user_agent.as_deref().map(str::to_owned))
    })
    .await?;
    Ok(())
}

/// The newest part of a writer that was added; 0 where there is none.
pub async fn written(connection: &mut Connection, writer: &str) -> Result<i64> {
    let part = "SELECT part FROM usage_writers WHERE id = $1";
    let found: Option<i64> =
        sqlx::query_scalar(part).bind(writer).fetch_optional(connection).await?;
    Ok(found.unwrap_or(0))
}

/// The counts of a subject by hour or day, the earliest first, from a moment to before another.
pub async fn list(
    connection: &mut Connection,
    subject: UsageSubject,
    (since, until): (Timestamp, Timestamp),
    grain: Grain,
) -> Result<Vec<FoundCount>> {
    let rows = sqlx::query(
        "SELECT from_at, outcome, CAST(SUM(count) AS BIGINT) AS count FROM (
             SELECT hour_at - hour_at % $4 AS from_at, outcome, count FROM usage_hours
             WHERE subject_id = $1 AND hour_at >= $2 AND hour_at < $3
         ) AS hours GROUP BY from_at, outcome ORDER BY from_at, outcome",
    )
    .bind(subject.to_string())
    .bind(since.as_millis())
    .bind(until.as_millis())
    .bind(grain.as_millis())
    .fetch_all(connection)
    .await?;
    rows.iter().map(found_of).collect()
}

/// The last use of an API key or an organization.
pub async fn find_last_use(
    connection: &mut Connection,
    subject: UsageSubject,
) -> Result<Option<LastUse>> {
    let row = sqlx::query(
        "SELECT subject_id, used_at, address, user_agent FROM last_uses WHERE subject_id = $1",
    )
    .bind(subject.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(last_use_of).transpose()
}

/// The last uses of a page of API keys, in no order.
pub async fn list_last_uses(
    connection: &mut Connection,
    ids: &[ApiKeyId],
) -> Result<Vec<(ApiKeyId, LastUse)>> {
    let rows = sqlx::query(
        "WITH RECURSIVE ids(id, rest) AS (
             SELECT substr($1, 1, 20), substr($1, 21)
             UNION ALL SELECT substr(rest, 1, 20), substr(rest, 21) FROM ids WHERE rest <> ''
         )
         SELECT subject_id, used_at, address, user_agent FROM last_uses
         WHERE subject_id IN (SELECT id FROM ids)",
    )
    .bind(ids.iter().map(ToString::to_string).collect::<String>())
    .fetch_all(connection)
    .await?;
    let id_of = |row| Row::of("last_uses", row).parsed("subject_id");
    rows.iter().map(|row| Ok((id_of(row)?, last_use_of(row)?))).collect()
}

/// Deletes some of the counts of hours before a moment, the oldest first, and forgets writers that
/// have not written since. Says whether there may be more: a write is kept short.
pub async fn prune(append: &mut Append<'_>, before: Timestamp) -> Result<bool> {
    sqlx::query("DELETE FROM usage_writers WHERE written_at < $1")
        .bind(before.as_millis())
        .execute(&mut **append)
        .await?;
    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT MIN(hour_at) FROM usage_hours WHERE hour_at < $1")
            .bind(before.as_millis())
            .fetch_one(&mut **append)
            .await?;
    let Some(hour_at) = oldest else { return Ok(false) };
    let last: Option<String> = sqlx::query_scalar(
        "SELECT MAX(subject_id) FROM (
             SELECT subject_id FROM usage_hours WHERE hour_at = $1 ORDER BY subject_id LIMIT $2
         ) AS oldest",
    )
    .bind(hour_at)
    .bind(PRUNED_AT_ONCE)
    .fetch_one(&mut **append)
    .await?;
    sqlx::query("DELETE FROM usage_hours WHERE hour_at = $1 AND subject_id <= $2")
        .bind(hour_at)
        .bind(last)
        .execute(&mut **append)
        .await?;
    Ok(true)
}

fn found_of(row: &AnyRow) -> Result<FoundCount> {
    let row = Row::of("usage_hours", row);
    Ok(FoundCount {
        from: row.moment("from_at")?,
        outcome: row.text("outcome")?,
        count: row.number("count")?.unsigned_abs(),
    })
}

fn last_use_of(row: &AnyRow) -> Result<LastUse> {
    let row = Row::of("last_uses", row);
    Ok(LastUse {
        used_at: row.moment("used_at")?,
        address: row.parsed_or_none("address")?,
        user_agent: row.parsed_or_none::<String>("user_agent")?.map(String::into_boxed_str),
    })
}
