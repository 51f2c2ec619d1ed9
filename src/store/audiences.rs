//! Audiences.

use crate::error::{Error, Result};
use crate::model::audience::{Audience, AudienceUri};
use crate::model::id::{AudienceId, OrgId};
use crate::model::installation::TokenLifetime;
use crate::model::raw_keys::RawKeys;
use crate::model::scope_catalogue::ScopeCatalogue;
use crate::model::time::Timestamp;
use crate::store::page::{Cursor, Page};
use crate::store::row::Row;
use crate::store::{Connection, Write, taken};

/// Stores a new audience.
pub async fn insert(write: &mut Write<'_>, audience: &Audience) -> Result<()> {
    let revision = write.revision();
    let (actions, paths) = catalogue_texts(audience);
    sqlx::query(
        "INSERT INTO audiences (id, organization_id, slug, uri, created_at, created_revision,
         actions, paths, token_lifetime_seconds, token_type, shared_at, raw_keys)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(audience.id.to_string())
    .bind(audience.org.to_string())
    .bind(audience.slug.as_str())
    .bind(audience.uri.as_str())
    .bind(audience.created_at.as_millis())
    .bind(revision)
    .bind(actions)
    .bind(paths)
    .bind(lifetime_number(audience))
    .bind(audience.token_type.as_str())
    .bind(audience.shared_at.map(Timestamp::as_millis))
    .bind(raw_keys_text(audience))
    .execute(&mut **write)
    .await
    .map_err(|cause| {
        let message = format!("the audience `{}` or its slug is taken", audience.uri);
        taken(cause, "audience_taken", message)
    })?;
    Ok(())
}

/// Stores what may change about an audience.
pub async fn update(connection: &mut Connection, audience: &Audience) -> Result<()> {
    let (actions, paths) = catalogue_texts(audience);
    sqlx::query(
        "UPDATE audiences SET actions = $2, paths = $3, token_lifetime_seconds = $4,
         token_type = $5, raw_keys = $6 WHERE id = $1",
    )
    .bind(audience.id.to_string())
    .bind(actions)
    .bind(paths)
    .bind(lifetime_number(audience))
    .bind(audience.token_type.as_str())
    .bind(raw_keys_text(audience))
    .execute(connection)
    .await?;
    Ok(())
}

fn catalogue_texts(audience: &Audience) -> (Option<String>, Option<String>) {
    let catalogue = audience.catalogue.as_ref();
    (
        catalogue.map(|catalogue| catalogue.actions.join(" ")),
        catalogue.map(|catalogue| catalogue.paths.join(" ")),
    )
}

/// In the words of the verifier: what is stored is what verifiers are told.
fn raw_keys_text(audience: &Audience) -> Option<String> {
    let policy = audience.raw_keys.as_ref().map(RawKeys::to_policy);
    policy.and_then(|policy| serde_json::to_string(&policy).ok())
}

fn lifetime_number(audience: &Audience) -> Option<i64> {
    audience.token_lifetime.and_then(|lifetime| i64::try_from(lifetime.as_seconds()).ok())
}

/// An audience by its id.
pub async fn find(connection: &mut Connection, id: &AudienceId) -> Result<Option<Audience>> {
    let row = sqlx::query(
        "SELECT id, organization_id, slug, uri, actions, paths, token_lifetime_seconds, token_type,
         created_at, created_revision, shared_at, raw_keys FROM audiences WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| audience_of(&Row::of("audiences", row))).transpose()
}

/// An audience by its URI, whosever it is.
pub async fn find_by_uri(connection: &mut Connection, uri: &str) -> Result<Option<Audience>> {
    let row = sqlx::query(
        "SELECT id, organization_id, slug, uri, actions, paths, token_lifetime_seconds, token_type,
         created_at, created_revision, shared_at, raw_keys FROM audiences WHERE uri = $1",
    )
    .bind(uri)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| audience_of(&Row::of("audiences", row))).transpose()
}

/// An audience of an organization by its slug.
pub async fn find_by_slug(
    connection: &mut Connection,
    org: &OrgId,
    slug: &str,
) -> Result<Option<Audience>> {
    let row = sqlx::query(
        "SELECT id, organization_id, slug, uri, actions, paths, token_lifetime_seconds, token_type,
         created_at, created_revision, shared_at, raw_keys FROM audiences
         WHERE organization_id = $1 AND slug = $2",
    )
    .bind(org.to_string())
    .bind(slug)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| audience_of(&Row::of("audiences", row))).transpose()
}

/// The audience of a slug that all organizations have. Of two, the one that was shared first: what the
/// index of the mint says too.
pub async fn find_shared_by_slug(
    connection: &mut Connection,
    slug: &str,
) -> Result<Option<Audience>> {
    let row = sqlx::query(
        "SELECT id, organization_id, slug, uri, actions, paths, token_lifetime_seconds, token_type,
         created_at, created_revision, shared_at, raw_keys FROM audiences
         WHERE slug = $1 AND shared_at IS NOT NULL ORDER BY shared_at, id LIMIT 1",
    )
    .bind(slug)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| audience_of(&Row::of("audiences", row))).transpose()
}

/// A page of the audiences of an organization, from new to old, with those that all share.
pub async fn list(
    connection: &mut Connection,
    org: &OrgId,
    after: &Cursor,
    limit: i64,
) -> Result<Page<Audience>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, slug, uri, actions, paths, token_lifetime_seconds, token_type,
         created_at, created_revision, shared_at, raw_keys FROM audiences
         WHERE (organization_id = $1 OR shared_at IS NOT NULL)
         AND (created_revision, id) < ($2, $3)
         ORDER BY created_revision DESC, id DESC LIMIT $4",
    )
    .bind(org.to_string())
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit + 1)
    .fetch_all(connection)
    .await?;
    Page::read(&rows, ("audiences", "id"), limit, audience_of)
}

/// All audiences, the oldest first.
pub async fn list_all(connection: &mut Connection) -> Result<Vec<Audience>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, slug, uri, actions, paths, token_lifetime_seconds, token_type,
         created_at, created_revision, shared_at, raw_keys FROM audiences ORDER BY created_revision, id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| audience_of(&Row::of("audiences", row))).collect()
}

fn audience_of(row: &Row<'_>) -> Result<Audience> {
    Ok(Audience {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        slug: row.parsed("slug")?,
        uri: AudienceUri::stored(&row.text("uri")?),
        catalogue: catalogue_of(row)?,
        token_lifetime: row
            .number_or_none("token_lifetime_seconds")?
            .and_then(TokenLifetime::from_seconds),
        token_type: row.parsed("token_type")?,
        created_at: row.moment("created_at")?,
        shared_at: row.moment_or_none("shared_at")?,
        raw_keys: raw_keys_of(row)?,
    })
}

fn raw_keys_of(row: &Row<'_>) -> Result<Option<RawKeys>> {
    let Some(text) = row.text_or_none("raw_keys")? else { return Ok(None) };
    let policy = serde_json::from_str(&text).map_err(|cause| row.bad("raw_keys", cause))?;
    Ok(Some(RawKeys::from_policy(policy)))
}

fn catalogue_of(row: &Row<'_>) -> Result<Option<ScopeCatalogue>> {
    let words = |text: String| text.split_ascii_whitespace().map(str::to_owned).collect();
    let (actions, paths) = (row.text_or_none("actions")?, row.text_or_none("paths")?);
    let catalogue = match (actions, paths) {
        (None, None) => return Ok(None),
        (actions, paths) => {
            let (actions, paths) = (actions.unwrap_or_default(), paths.unwrap_or_default());
            ScopeCatalogue::parse(words(actions), words(paths))
        }
    };
    catalogue.map(Some).map_err(|fields| row.bad("paths", Error::Invalid(fields)))
}
