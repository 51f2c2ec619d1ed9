//! Idempotency keys: what a repeated request answers. Kept for a day.

use crate::error::Result;
use crate::model::id::ApiKeyId;
use crate::model::time::Timestamp;
use crate::store::Connection;
use crate::store::row::Row;

/// Rows that one pruning deletes.
const PRUNED_AT_ONCE: i64 = 500;

/// Under which a request is known: who sent it, where to, and the key it chose.
#[derive(Debug, Clone, Copy)]
pub struct RequestKey<'r> {
    /// With which credential.
    pub api_key: ApiKeyId,
    /// To which route.
    pub route: &'r str,
    /// The `Idempotency-Key`.
    pub key: &'r str,
}

/// What the first request of a key was, and what it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRequest {
    /// A digest of what it asked.
    pub hash: String,
    /// The id of the object.
    pub object: String,
}

/// How many keys are kept.
pub async fn count(connection: &mut Connection) -> Result<i64> {
    let count = "SELECT COUNT(*) FROM idempotency_keys";
    Ok(sqlx::query_scalar(count).fetch_one(connection).await?)
}

/// What was done under a key since a moment.
pub async fn find(
    connection: &mut Connection,
    request: RequestKey<'_>,
    since: Timestamp,
) -> Result<Option<StoredRequest>> {
    let row = sqlx::query(
        "SELECT request_hash, object_id FROM idempotency_keys
         WHERE api_key_id = $1 AND route = $2 AND idempotency_key = $3 AND created_at > $4",
    )
    .bind(request.api_key.to_string())
    .bind(request.route)
    .bind(request.key)
    .bind(since.as_millis())
    .fetch_optional(connection)
    .await?;
    let Some(row) = &row else { return Ok(None) };
    let row = Row::of("idempotency_keys", row);
    Ok(Some(StoredRequest { hash: row.text("request_hash")?, object: row.text("object_id")? }))
}

/// Notes what a request made, in place of one that is too old to count.
pub async fn insert(
    connection: &mut Connection,
    request: RequestKey<'_>,
    stored: &StoredRequest,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO idempotency_keys (api_key_id, route, idempotency_key, request_hash, object_id,
         created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (api_key_id, route, idempotency_key) DO UPDATE SET
         request_hash = excluded.request_hash, object_id = excluded.object_id,
         created_at = excluded.created_at",
    )
    .bind(request.api_key.to_string())
    .bind(request.route)
    .bind(request.key)
    .bind(&stored.hash)
    .bind(&stored.object)
    .bind(now.as_millis())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes some keys from before a moment. Says whether there may be more.
pub async fn prune(connection: &mut Connection, before: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "DELETE FROM idempotency_keys WHERE (api_key_id, route, idempotency_key) IN (
             SELECT api_key_id, route, idempotency_key FROM idempotency_keys
             WHERE created_at < $1 ORDER BY created_at LIMIT $2
         )",
    )
    .bind(before.as_millis())
    .bind(PRUNED_AT_ONCE)
    .execute(connection)
    .await?;
    Ok(i64::try_from(done.rows_affected()).is_ok_and(|rows| rows >= PRUNED_AT_ONCE))
}
