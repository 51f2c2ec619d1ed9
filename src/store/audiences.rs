//! Audiences.

use crate::error::{Error, Result};
use crate::model::audience::Audience;
use crate::model::id::AudienceId;
use crate::model::time::Timestamp;
use crate::store::row::Row;
use crate::store::{Connection, Write, is_taken};

/// Stores a new audience.
pub async fn insert(write: &mut Write<'_>, audience: &Audience, now: Timestamp) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO audiences (id, organization_id, slug, uri, created_at, created_revision)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(audience.id.to_string())
    .bind(audience.org.to_string())
    .bind(audience.slug.as_str())
    .bind(audience.uri.as_str())
    .bind(now.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await
    .map_err(|cause| match cause {
        cause if is_taken(&cause) => Error::Conflict(
            "audience_taken",
            format!("the audience `{}` or its slug is taken", audience.uri),
        ),
        cause => cause.into(),
    })?;
    Ok(())
}

/// An audience by its id.
pub async fn find(connection: &mut Connection, id: &AudienceId) -> Result<Option<Audience>> {
    let row = sqlx::query("SELECT id, organization_id, slug, uri FROM audiences WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(audience_of).transpose()
}

/// All audiences, the oldest first.
pub async fn list(connection: &mut Connection) -> Result<Vec<Audience>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, slug, uri FROM audiences ORDER BY created_revision, id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(audience_of).collect()
}

fn audience_of(row: &sqlx::any::AnyRow) -> Result<Audience> {
    let row = Row::of("audiences", row);
    Ok(Audience {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        slug: row.parsed("slug")?,
        uri: row.parsed("uri")?,
    })
}
