//! Bots.

use crate::error::Result;
use crate::model::bot::Bot;
use crate::model::id::{BotId, ImportId, OrgId, SpaceId};
use crate::model::time::Timestamp;
use crate::store::page::{Cursor, Page};
use crate::store::row::Row;
use crate::store::rows;
use crate::store::{Connection, Write};

/// Stores a new bot.
pub async fn insert(write: &mut Write<'_>, bot: &Bot) -> Result<()> {
    insert_all(write, std::slice::from_ref(bot), None).await
}

/// Stores new bots, for an import that is all or nothing where one is named.
pub async fn insert_all(
    write: &mut Write<'_>,
    bots: &[Bot],
    import: Option<&ImportId>,
) -> Result<()> {
    let (revision, import) = (write.revision(), import.map(ToString::to_string));
    let insert = "INSERT INTO bots (id, organization_id, space_id, name, grants, created_at,
         created_revision, import_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    rows::insert_all(write, insert, bots, |query, bot| {
        query
            .bind(bot.id.to_string())
            .bind(bot.org.to_string())
            .bind(bot.space.map(|id| id.to_string()))
            .bind(bot.name.clone())
            .bind(grants_text(bot))
            .bind(bot.created_at.as_millis())
            .bind(revision)
            .bind(import.clone())
    })
    .await?;
    Ok(())
}

/// Stores what may change about a bot.
pub async fn update(connection: &mut Connection, bot: &Bot) -> Result<()> {
    sqlx::query(
        "UPDATE bots SET name = $2, grants = $3, suspended_at = $4, deleted_at = $5 WHERE id = $1",
    )
    .bind(bot.id.to_string())
    .bind(&bot.name)
    .bind(grants_text(bot))
    .bind(bot.suspended_at.map(Timestamp::as_millis))
    .bind(bot.deleted_at.map(Timestamp::as_millis))
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes all bots of a space: their ids.
pub async fn delete_all_in(
    write: &mut Write<'_>,
    space: &SpaceId,
    now: Timestamp,
) -> Result<Vec<BotId>> {
    let rows = sqlx::query(
        "UPDATE bots SET deleted_at = $1 WHERE space_id = $2 AND deleted_at IS NULL RETURNING id",
    )
    .bind(now.as_millis())
    .bind(space.to_string())
    .fetch_all(&mut **write)
    .await?;
    rows.iter().map(|row| Row::of("bots", row).parsed("id")).collect()
}

fn grants_text(bot: &Bot) -> String {
    bot.grants.as_ref().map(|grants| grants.as_str().to_owned()).unwrap_or_default()
}

/// A bot by its id.
pub async fn find(connection: &mut Connection, id: &BotId) -> Result<Option<Bot>> {
    let row = sqlx::query(
        "SELECT id, organization_id, space_id, name, grants, created_at, created_revision,
         suspended_at, deleted_at FROM bots WHERE id = $1
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| bot_of(&Row::of("bots", row))).transpose()
}

/// A page of the bots of an organization, from new to old, deleted ones left out.
pub async fn list(
    connection: &mut Connection,
    org: &OrgId,
    after: &Cursor,
    limit: i64,
) -> Result<Page<Bot>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, space_id, name, grants, created_at, created_revision,
         suspended_at, deleted_at FROM bots
         WHERE organization_id = $1 AND (created_revision, id) < ($2, $3) AND deleted_at IS NULL
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
         ORDER BY created_revision DESC, id DESC LIMIT $4",
    )
    .bind(org.to_string())
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit + 1)
    .fetch_all(connection)
    .await?;
    Page::read(&rows, ("bots", "id"), limit, bot_of)
}

/// A page of the bots of a space, from new to old, deleted ones left out.
pub async fn list_of_space(
    connection: &mut Connection,
    space: &SpaceId,
    after: &Cursor,
    limit: i64,
) -> Result<Page<Bot>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, space_id, name, grants, created_at, created_revision,
         suspended_at, deleted_at FROM bots
         WHERE space_id = $1 AND (created_revision, id) < ($2, $3) AND deleted_at IS NULL
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
         ORDER BY created_revision DESC, id DESC LIMIT $4",
    )
    .bind(space.to_string())
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit + 1)
    .fetch_all(connection)
    .await?;
    Page::read(&rows, ("bots", "id"), limit, bot_of)
}

fn bot_of(row: &Row<'_>) -> Result<Bot> {
    Ok(Bot {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        space: row.parsed_or_none("space_id")?,
        name: row.text("name")?,
        grants: row.parsed_unless_empty("grants")?,
        created_at: row.moment("created_at")?,
        suspended_at: row.moment_or_none("suspended_at")?,
        deleted_at: row.moment_or_none("deleted_at")?,
    })
}
