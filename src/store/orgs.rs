//! Organizations.

use crate::error::{Error, Result};
use crate::model::id::OrgId;
use crate::model::org::Org;
use crate::model::time::Timestamp;
use crate::store::row::Row;
use crate::store::{Connection, Write, is_taken};

/// Stores a new organization.
pub async fn insert(write: &mut Write<'_>, org: &Org, now: Timestamp) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO organizations (id, slug, default_audience_id, bootstrapped_at, suspended_at,
         created_at, created_revision) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(org.id.to_string())
    .bind(org.slug.as_str())
    .bind(org.default_audience.map(|id| id.to_string()))
    .bind(org.bootstrapped_at.map(Timestamp::as_millis))
    .bind(org.suspended_at.map(Timestamp::as_millis))
    .bind(now.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await
    .map_err(|cause| match cause {
        cause if is_taken(&cause) => {
            Error::Conflict("slug_taken", format!("the slug `{}` is taken", org.slug))
        }
        cause => cause.into(),
    })?;
    Ok(())
}

/// Suspends an organization, or lets it go on.
pub async fn update_suspended(
    connection: &mut Connection,
    id: &OrgId,
    suspended_at: Option<Timestamp>,
) -> Result<()> {
    sqlx::query("UPDATE organizations SET suspended_at = $1 WHERE id = $2")
        .bind(suspended_at.map(Timestamp::as_millis))
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// An organization by its id.
pub async fn find(connection: &mut Connection, id: &OrgId) -> Result<Option<Org>> {
    let row = sqlx::query(
        "SELECT id, slug, default_audience_id, bootstrapped_at, suspended_at
         FROM organizations WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(org_of).transpose()
}

/// All organizations, the oldest first.
pub async fn list(connection: &mut Connection) -> Result<Vec<Org>> {
    let rows = sqlx::query(
        "SELECT id, slug, default_audience_id, bootstrapped_at, suspended_at
         FROM organizations ORDER BY created_revision, id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(org_of).collect()
}

fn org_of(row: &sqlx::any::AnyRow) -> Result<Org> {
    let row = Row::of("organizations", row);
    Ok(Org {
        id: row.parsed("id")?,
        slug: row.parsed("slug")?,
        default_audience: row.parsed_or_none("default_audience_id")?,
        bootstrapped_at: row.moment_or_none("bootstrapped_at")?,
        suspended_at: row.moment_or_none("suspended_at")?,
    })
}
