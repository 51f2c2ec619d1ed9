//! Organizations.

use crate::error::Result;
use crate::model::id::{OrgId, Slug};
use crate::model::org::Org;
use crate::model::time::Timestamp;
use crate::store::page::{Cursor, Page};
use crate::store::row::Row;
use crate::store::{Connection, Write, taken};

/// Stores a new organization.
pub async fn insert(write: &mut Write<'_>, org: &Org) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO organizations (id, slug, default_audience_id, bootstrapped_at, suspended_at,
         created_at, created_revision, name) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(org.id.to_string())
    .bind(org.slug.as_str())
    .bind(org.default_audience.map(|id| id.to_string()))
    .bind(org.bootstrapped_at.map(Timestamp::as_millis))
    .bind(org.suspended_at.map(Timestamp::as_millis))
    .bind(org.created_at.as_millis())
    .bind(revision)
    .bind(&org.name)
    .execute(&mut **write)
    .await
    .map_err(|cause| taken(cause, "slug_taken", format!("the slug `{}` is taken", org.slug)))?;
    Ok(())
}

/// Stores what may change about an organization.
pub async fn update(connection: &mut Connection, org: &Org) -> Result<()> {
    sqlx::query(
        "UPDATE organizations SET name = $2, default_audience_id = $3, bootstrapped_at = $4,
         suspended_at = $5 WHERE id = $1",
    )
    .bind(org.id.to_string())
    .bind(&org.name)
    .bind(org.default_audience.map(|id| id.to_string()))
    .bind(org.bootstrapped_at.map(Timestamp::as_millis))
    .bind(org.suspended_at.map(Timestamp::as_millis))
    .execute(connection)
    .await?;
    Ok(())
}

/// An organization by its id.
pub async fn find(connection: &mut Connection, id: &OrgId) -> Result<Option<Org>> {
    let row = sqlx::query(
        "SELECT id, slug, name, default_audience_id, created_at, created_revision,
         bootstrapped_at, suspended_at FROM organizations WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| org_of(&Row::of("organizations", row))).transpose()
}

/// An organization by its slug.
pub async fn find_by_slug(connection: &mut Connection, slug: &str) -> Result<Option<Org>> {
    let row = sqlx::query(
        "SELECT id, slug, name, default_audience_id, created_at, created_revision,
         bootstrapped_at, suspended_at FROM organizations WHERE slug = $1",
    )
    .bind(slug)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| org_of(&Row::of("organizations", row))).transpose()
}

/// A page of all organizations, from new to old.
pub async fn list_page(
    connection: &mut Connection,
    after: &Cursor,
    limit: i64,
) -> Result<Page<Org>> {
    let rows = sqlx::query(
        "SELECT id, slug, name, default_audience_id, created_at, created_revision,
         bootstrapped_at, suspended_at FROM organizations
         WHERE (created_revision, id) < ($1, $2)
         ORDER BY created_revision DESC, id DESC LIMIT $3",
    )
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit + 1)
    .fetch_all(connection)
    .await?;
    Page::read(&rows, ("organizations", "id"), limit, org_of)
}

/// All organizations, the oldest first.
pub async fn list(connection: &mut Connection) -> Result<Vec<Org>> {
    let rows = sqlx::query(
        "SELECT id, slug, name, default_audience_id, created_at, created_revision,
         bootstrapped_at, suspended_at FROM organizations ORDER BY created_revision, id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| org_of(&Row::of("organizations", row))).collect()
}

fn org_of(row: &Row<'_>) -> Result<Org> {
    let slug: Slug = row.parsed("slug")?;
    Ok(Org {
        id: row.parsed("id")?,
        // an organization of before names were kept is called by its slug
        name: Some(row.text("name")?)
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| slug.to_string()),
        slug,
        created_at: row.moment("created_at")?,
        default_audience: row.parsed_or_none("default_audience_id")?,
        bootstrapped_at: row.moment_or_none("bootstrapped_at")?,
        suspended_at: row.moment_or_none("suspended_at")?,
    })
}
