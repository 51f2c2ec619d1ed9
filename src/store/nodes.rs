//! The nodes that serve, and how far each has come.

use crate::error::Result;
use crate::model::time::Timestamp;
use crate::store::Connection;

/// Notes that a node is there, and the revision that it has applied.
pub async fn upsert(
    connection: &mut Connection,
    id: &str,
    applied: i64,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO nodes (id, applied_revision, seen_at) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET
         applied_revision = excluded.applied_revision, seen_at = excluded.seen_at",
    )
    .bind(id)
    .bind(applied)
    .bind(now.as_millis())
    .execute(connection)
    .await?;
    Ok(())
}

/// The revision that every node has applied that was seen since a moment; nothing without a node.
pub async fn applied_everywhere(
    connection: &mut Connection,
    since: Timestamp,
) -> Result<Option<i64>> {
    let lowest = "SELECT MIN(applied_revision) FROM nodes WHERE seen_at >= $1";
    Ok(sqlx::query_scalar(lowest).bind(since.as_millis()).fetch_one(connection).await?)
}

/// How many nodes were seen since a moment.
pub async fn count(connection: &mut Connection, since: Timestamp) -> Result<i64> {
    let count = "SELECT COUNT(*) FROM nodes WHERE seen_at >= $1";
    Ok(sqlx::query_scalar(count).bind(since.as_millis()).fetch_one(connection).await?)
}

/// Forgets a node that has stopped.
pub async fn delete(connection: &mut Connection, id: &str) -> Result<()> {
    sqlx::query("DELETE FROM nodes WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// Forgets the nodes that were not seen since a moment.
pub async fn prune(connection: &mut Connection, before: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM nodes WHERE seen_at < $1")
        .bind(before.as_millis())
        .execute(connection)
        .await?;
    Ok(())
}
