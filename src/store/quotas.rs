//! The counters of quotas. Each is one row, and whoever grants of it locks the row first.
//!
//! Many counters are locked, read and written by one statement each: their ids, and what is written,
//! come as one text of records of one width, which the statement cuts up.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::id::ApiKeyId;
use crate::model::quota_counter::QuotaCounter;
use crate::model::time::Timestamp;
use crate::store::row::Row;
use crate::store::{Append, Connection};

/// Characters of an id in a record: the prefix, and the sixteen of the id.
const ID_WIDTH: usize = 20;
/// Characters of a moment in a record.
const MOMENT_WIDTH: usize = 19;

/// Counters by their id, in the order in which their rows are locked.
pub type QuotaCounters = BTreeMap<ApiKeyId, QuotaCounter>;

/// Locks these counters, makes those that are not there, and says what each has granted. Rows are
/// locked in the order of the ids, so that no two nodes ever wait for each other.
pub async fn lock(append: &mut Append<'_>, ids: &[ApiKeyId]) -> Result<QuotaCounters> {
    // the update changes nothing: it is the lock that both engines have
    let rows = sqlx::query(
        "WITH RECURSIVE places (place) AS (
             SELECT 1 UNION ALL SELECT place + 20 FROM places WHERE place + 20 <= LENGTH($1)
         )
         INSERT INTO quota_counters (api_key_id, granted, idle_at)
         SELECT SUBSTR($1, place, 20), '', 0 FROM places WHERE place < LENGTH($1) ORDER BY place
         ON CONFLICT (api_key_id) DO UPDATE SET idle_at = quota_counters.idle_at
         RETURNING api_key_id, granted",
    )
    .bind(records_of_ids(ids))
    .fetch_all(&mut **append)
    .await?;
    rows.iter()
        .map(|row| Row::of("quota_counters", row))
        .map(|row| Ok((row.parsed("api_key_id")?, row.parsed("granted")?)))
        .collect()
}

/// Writes counters that were locked.
pub async fn update(append: &mut Append<'_>, counters: &QuotaCounters) -> Result<()> {
    let texts = counters.values().map(ToString::to_string);
    let width = ID_WIDTH + MOMENT_WIDTH + texts.map(|text| text.len()).max().unwrap_or(0);
    sqlx::query(
        "WITH RECURSIVE records (place, record) AS (
             SELECT 1, SUBSTR($1, 1, CAST($2 AS INTEGER)) UNION ALL
             SELECT place + CAST($2 AS INTEGER),
             SUBSTR($1, place + CAST($2 AS INTEGER), CAST($2 AS INTEGER))
             FROM records WHERE place + CAST($2 AS INTEGER) <= LENGTH($1)
         )
         UPDATE quota_counters SET idle_at = CAST(SUBSTR(record, 21, 19) AS BIGINT),
         granted = RTRIM(SUBSTR(record, 40))
         FROM records WHERE api_key_id = SUBSTR(record, 1, 20)",
    )
    .bind(records_of_counters(counters, width))
    .bind(i64::try_from(width).unwrap_or(i64::MAX))
    .execute(&mut **append)
    .await?;
    Ok(())
}

/// Some counters that are worth nothing any more, those first that have been for longest.
pub async fn list_idle(
    connection: &mut Connection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<ApiKeyId>> {
    let rows = sqlx::query(
        "SELECT api_key_id FROM quota_counters WHERE idle_at < $1 ORDER BY idle_at LIMIT $2",
    )
    .bind(now.as_millis())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Row::of("quota_counters", row).parsed("api_key_id")).collect()
}

/// Deletes those of some counters that are still worth nothing. They must have been locked: else
/// one of two nodes could delete what the other has just granted.
pub async fn delete_idle(append: &mut Append<'_>, ids: &[ApiKeyId], now: Timestamp) -> Result<u64> {
    let done = sqlx::query(
        "WITH RECURSIVE places (place) AS (
             SELECT 1 UNION ALL SELECT place + 20 FROM places WHERE place + 20 <= LENGTH($1)
         )
         DELETE FROM quota_counters WHERE idle_at < $2
         AND api_key_id IN (SELECT SUBSTR($1, place, 20) FROM places)",
    )
    .bind(records_of_ids(ids))
    .bind(now.as_millis())
    .execute(&mut **append)
    .await?;
    Ok(done.rows_affected())
}

fn records_of_ids(ids: &[ApiKeyId]) -> String {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    // a statement cannot lock one row twice
    ids.dedup();
    ids.iter().map(ToString::to_string).collect()
}

fn records_of_counters(counters: &QuotaCounters, width: usize) -> String {
    let rest = width.saturating_sub(ID_WIDTH + MOMENT_WIDTH);
    let record = |(id, counter): (&ApiKeyId, &QuotaCounter)| {
        let idle_at = counter.idle_at().as_millis().max(0);
        format!("{id}{idle_at:0>MOMENT_WIDTH$}{:<rest$}", counter.to_string())
    };
    counters.iter().map(record).collect()
}
