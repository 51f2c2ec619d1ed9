//! Spaces.

use crate::error::Result;
use crate::model::id::{OrgId, SpaceId};
use crate::model::space::Space;
use crate::model::time::Timestamp;
use crate::store::page::{Cursor, Page};
use crate::store::row::Row;
use crate::store::{Connection, Write, taken};

/// Stores a new space.
pub async fn insert(write: &mut Write<'_>, space: &Space) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO spaces (id, organization_id, slug, name, created_at, created_revision)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(space.id.to_string())
    .bind(space.org.to_string())
    .bind(space.slug.as_str())
    .bind(&space.name)
    .bind(space.created_at.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await
    .map_err(|cause| {
        let message = format!("the slug `{}` is or was another space's", space.slug);
        taken(cause, "slug_taken", message)
    })?;
    Ok(())
}

/// Stores what may change about a space.
pub async fn update(connection: &mut Connection, space: &Space) -> Result<()> {
    sqlx::query("UPDATE spaces SET name = $2, suspended_at = $3, deleted_at = $4 WHERE id = $1")
        .bind(space.id.to_string())
        .bind(&space.name)
        .bind(space.suspended_at.map(Timestamp::as_millis))
        .bind(space.deleted_at.map(Timestamp::as_millis))
        .execute(connection)
        .await?;
    Ok(())
}

/// A space by its id.
pub async fn find(connection: &mut Connection, id: &SpaceId) -> Result<Option<Space>> {
    let row = sqlx::query(
        "SELECT id, organization_id, slug, name, created_at, created_revision, suspended_at,
         deleted_at FROM spaces WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| space_of(&Row::of("spaces", row))).transpose()
}

/// The living spaces of a name; no more than two, since nobody asks for more.
pub async fn find_by_name(
    connection: &mut Connection,
    org: &OrgId,
    name: &str,
) -> Result<Vec<Space>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, slug, name, created_at, created_revision, suspended_at,
         deleted_at FROM spaces
         WHERE organization_id = $1 AND name = $2 AND deleted_at IS NULL LIMIT 2",
    )
    .bind(org.to_string())
    .bind(name)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| space_of(&Row::of("spaces", row))).collect()
}

/// A space of an organization by its slug.
pub async fn find_by_slug(
    connection: &mut Connection,
    org: &OrgId,
    slug: &str,
) -> Result<Option<Space>> {
    let row = sqlx::query(
        "SELECT id, organization_id, slug, name, created_at, created_revision, suspended_at,
         deleted_at FROM spaces WHERE organization_id = $1 AND slug = $2",
    )
    .bind(org.to_string())
    .bind(slug)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| space_of(&Row::of("spaces", row))).transpose()
}

/// A page of the spaces of an organization, from new to old, deleted ones left out.
pub async fn list(
    connection: &mut Connection,
    org: &OrgId,
    after: &Cursor,
    limit: i64,
) -> Result<Page<Space>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, slug, name, created_at, created_revision, suspended_at,
         deleted_at FROM spaces
         WHERE organization_id = $1 AND (created_revision, id) < ($2, $3) AND deleted_at IS NULL
         ORDER BY created_revision DESC, id DESC LIMIT $4",
    )
    .bind(org.to_string())
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit + 1)
    .fetch_all(connection)
    .await?;
    Page::read(&rows, ("spaces", "id"), limit, space_of)
}

/// All living spaces of an organization.
pub async fn list_living_of(connection: &mut Connection, org: &OrgId) -> Result<Vec<Space>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, slug, name, created_at, created_revision, suspended_at,
         deleted_at FROM spaces WHERE organization_id = $1 AND deleted_at IS NULL",
    )
    .bind(org.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| space_of(&Row::of("spaces", row))).collect()
}

/// All spaces of the installation, the oldest first.
pub async fn list_all(connection: &mut Connection) -> Result<Vec<Space>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, slug, name, created_at, created_revision, suspended_at,
         deleted_at FROM spaces ORDER BY created_revision, id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| space_of(&Row::of("spaces", row))).collect()
}

fn space_of(row: &Row<'_>) -> Result<Space> {
    Ok(Space {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        slug: row.parsed("slug")?,
        name: row.text("name")?,
        created_at: row.moment("created_at")?,
        suspended_at: row.moment_or_none("suspended_at")?,
        deleted_at: row.moment_or_none("deleted_at")?,
    })
}
