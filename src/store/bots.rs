//! Bots.

use crate::error::Result;
use crate::model::bot::{Bot, IndexedBot};
use crate::model::id::{BotId, BotNoun};
use crate::model::time::Timestamp;
use crate::store::row::{FIELD, LINE, Packed, Row};
use crate::store::{Connection, Half, Write};

/// Rows that are read at once when all are read.
const PAGE: i64 = 250;

/// Stores a new bot.
pub async fn insert(write: &mut Write<'_>, bot: &Bot, now: Timestamp) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO bots (id, organization_id, name, grants, created_at, created_revision)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(bot.id.to_string())
    .bind(bot.org.to_string())
    .bind(&bot.name)
    .bind(bot.grants.as_str())
    .bind(now.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Suspends a bot, or lets it go on.
pub async fn update_suspended(
    connection: &mut Connection,
    id: &BotId,
    suspended_at: Option<Timestamp>,
) -> Result<()> {
    sqlx::query("UPDATE bots SET suspended_at = $1 WHERE id = $2")
        .bind(suspended_at.map(Timestamp::as_millis))
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// How many bots there are.
pub async fn count(connection: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM bots").fetch_one(connection).await?)
}

/// A bot by its id.
pub async fn find(connection: &mut Connection, id: &BotId) -> Result<Option<Bot>> {
    let row = sqlx::query(
        "SELECT id, organization_id, name, grants, suspended_at FROM bots WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(bot_of).transpose()
}

/// What the index needs of a page of a half of all bots behind an id; an empty page ends the list.
pub async fn list_indexed_after(
    connection: &mut Connection,
    half: Half,
    after: Option<&BotId>,
) -> Result<Vec<IndexedBot>> {
    let (from, below) = half.bounds::<BotNoun>();
    let page: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(line, $5) FROM (
             SELECT id || $4 || grants || $4 || COALESCE(CAST(suspended_at AS TEXT), '') AS line
             FROM bots WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
         ) AS page",
    )
    .bind(after.map_or(from, ToString::to_string))
    .bind(below)
    .bind(PAGE)
    .bind(FIELD)
    .bind(LINE)
    .fetch_one(connection)
    .await?;
    let mut bots = Packed::lines("bots", page.as_deref())
        .map(|mut line| {
            Ok(IndexedBot {
                id: line.parsed()?,
                grants: line.parsed()?,
                suspended_at: line.moment_or_none()?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    // the order of an aggregate is nobody's promise
    bots.sort_unstable_by_key(|bot| bot.id);
    Ok(bots)
}

fn bot_of(row: &sqlx::any::AnyRow) -> Result<Bot> {
    let row = Row::of("bots", row);
    Ok(Bot {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        name: row.text("name")?,
        grants: row.parsed("grants")?,
        suspended_at: row.moment_or_none("suspended_at")?,
    })
}
