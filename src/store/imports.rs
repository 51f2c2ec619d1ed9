//! Imports of API keys: which digests are known, and what an all-or-nothing import staged.

use std::collections::HashMap;

use crate::error::Result;
use crate::model::api_key::ApiKey;
use crate::model::id::{ImportId, OrgId};
use crate::model::secret::SecretDigest;
use crate::model::time::Timestamp;
use crate::store::api_keys::{api_key_of, parse_digest, print_digest};
use crate::store::row::Row;
use crate::store::rows::fetch_for_all;
use crate::store::{Connection, Write};

/// An import whose rows nobody sees yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagedImport {
    /// Its id.
    pub id: ImportId,
    /// Its organization.
    pub org: OrgId,
    /// The revision below which it has no rows.
    pub first_revision: i64,
}

/// A key that a digest belongs to.
#[derive(Debug, Clone)]
pub struct KnownApiKey {
    /// The key.
    pub api_key: ApiKey,
    /// The import that staged it, where nobody sees it yet.
    pub staged_by: Option<ImportId>,
}

/// The keys that these digests belong to, staged ones included.
pub async fn find_by_digests(
    connection: &mut Connection,
    digests: &[SecretDigest],
) -> Result<HashMap<SecretDigest, KnownApiKey>> {
    let owned = list_owned(connection, digests).await?;
    if owned.is_empty() {
        return Ok(HashMap::new());
    }
    let mut found = HashMap::with_capacity(owned.len());
    let rows = fetch_for_all(
        connection,
        "SELECT id, organization_id, owner_id, name, description, scopes, audiences,
         expires_at, revoked_at, created_at, key_type, space_id, prefix, allowed,
         blocked, quota_limit, quota_window, quota_counter, lifetime, replaces_id, created_by,
         deleted_at, rotated_at, old_secret_expires_at,
         (SELECT id FROM staged_imports WHERE staged_imports.id = import_id) AS staged_by
         FROM (VALUES ($1)) AS wanted JOIN api_keys ON id = column1",
        &owned,
        |query, (_, id)| query.bind(id.clone()),
    )
    .await?;
    for row in &rows {
        let row = Row::of("api_keys", row);
        let known =
            KnownApiKey { api_key: api_key_of(&row)?, staged_by: row.parsed_or_none("staged_by")? };
        found.insert(known.api_key.id.to_string(), known);
    }
    let known = owned.iter().filter_map(|(digest, id)| Some((*digest, found.get(id)?.clone())));
    Ok(known.collect())
}

/// Which of these digests belong to a key, and the id of that. One look into the index for each: a join
/// would read all secrets where PostgreSQL knows little of the table yet.
async fn list_owned(
    connection: &mut Connection,
    digests: &[SecretDigest],
) -> Result<Vec<(SecretDigest, String)>> {
    let rows = fetch_for_all(
        connection,
        "SELECT column1 AS digest, (
             SELECT api_key_id FROM api_key_secrets WHERE digest = column1
         ) AS api_key_id FROM (VALUES ($1)) AS looked_up",
        digests,
        |query, digest| query.bind(print_digest(digest)),
    )
    .await?;
    rows.iter()
        .map(|row| {
            let row = Row::of("api_key_secrets", row);
            let Some(api_key_id) = row.text_or_none("api_key_id")? else { return Ok(None) };
            let digest = parse_digest(&row.text("digest")?);
            let digest = digest.ok_or_else(|| row.bad("digest", "not 32 bytes of base64url"))?;
            Ok(Some((digest, api_key_id)))
        })
        .filter_map(Result::transpose)
        .collect()
}

/// Notes an import that begins to stage.
pub async fn insert(
    write: &mut Write<'_>,
    id: &ImportId,
    org: &OrgId,
    now: Timestamp,
) -> Result<StagedImport> {
    let first_revision = write.revision();
    sqlx::query(
        "INSERT INTO staged_imports (id, organization_id, first_revision, renewed_at)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(id.to_string())
    .bind(org.to_string())
    .bind(first_revision)
    .bind(now.as_millis())
    .execute(&mut **write)
    .await?;
    Ok(StagedImport { id: *id, org: *org, first_revision })
}

/// Says that an import goes on. `false` where it was given up meanwhile.
pub async fn renew(connection: &mut Connection, id: &ImportId, now: Timestamp) -> Result<bool> {
    let renew = "UPDATE staged_imports SET renewed_at = $1 WHERE id = $2 AND renewed_at > 0";
    let done =
        sqlx::query(renew).bind(now.as_millis()).bind(id.to_string()).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Makes all that an import staged seen by everybody. `false` where it was given up meanwhile.
pub async fn delete(connection: &mut Connection, id: &ImportId) -> Result<bool> {
    let show = "DELETE FROM staged_imports WHERE id = $1 AND renewed_at > 0";
    let done = sqlx::query(show).bind(id.to_string()).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Gives up an import that was not renewed since a moment. `false` where it was.
pub async fn give_up(connection: &mut Connection, id: &ImportId, since: Timestamp) -> Result<bool> {
    let give_up = "UPDATE staged_imports SET renewed_at = 0 WHERE id = $1 AND renewed_at <= $2";
    let done = sqlx::query(give_up)
        .bind(id.to_string())
        .bind(since.as_millis())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The imports that were not renewed since a moment: given up, or dead.
pub async fn list_dead(connection: &mut Connection, since: Timestamp) -> Result<Vec<StagedImport>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, first_revision FROM staged_imports WHERE renewed_at <= $1",
    )
    .bind(since.as_millis())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| staged_of(&Row::of("staged_imports", row))).collect()
}

/// An import of an organization that was renewed since a moment.
pub async fn find_running(
    connection: &mut Connection,
    org: &OrgId,
    since: Timestamp,
) -> Result<Option<StagedImport>> {
    let row = sqlx::query(
        "SELECT id, organization_id, first_revision FROM staged_imports
         WHERE organization_id = $1 AND renewed_at > $2 LIMIT 1",
    )
    .bind(org.to_string())
    .bind(since.as_millis())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| staged_of(&Row::of("staged_imports", row))).transpose()
}

fn staged_of(row: &Row<'_>) -> Result<StagedImport> {
    Ok(StagedImport {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        first_revision: row.number("first_revision")?,
    })
}

/// Deletes what an import that was given up staged in its first revision, and says which one that
/// was; nothing once all is gone, its own row included.
pub async fn delete_staged(
    connection: &mut Connection,
    import: &StagedImport,
    from: i64,
) -> Result<Option<i64>> {
    let next: Option<i64> = sqlx::query_scalar(
        "SELECT created_revision FROM api_keys
         WHERE organization_id = $1 AND created_revision >= $2 AND import_id = $3
         ORDER BY created_revision LIMIT 1",
    )
    .bind(import.org.to_string())
    .bind(from)
    .bind(import.id.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(revision) = next else {
        let end = "DELETE FROM staged_imports WHERE id = $1 AND renewed_at = 0";
        sqlx::query(end).bind(import.id.to_string()).execute(connection).await?;
        return Ok(None);
    };
    for delete in DELETE_STAGED {
        sqlx::query(delete)
            .bind(import.org.to_string())
            .bind(revision)
            .bind(import.id.to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(Some(revision))
}

/// What points to a row goes before it.
const DELETE_STAGED: [&str; 4] = [
    "DELETE FROM api_key_secrets WHERE api_key_id IN (
         SELECT id FROM api_keys
         WHERE organization_id = $1 AND created_revision = $2 AND import_id = $3)",
    "DELETE FROM api_keys
     WHERE organization_id = $1 AND created_revision = $2 AND import_id = $3",
    "DELETE FROM role_bindings WHERE owner_id IN (
         SELECT id FROM bots
         WHERE organization_id = $1 AND created_revision = $2 AND import_id = $3)",
    "DELETE FROM bots WHERE organization_id = $1 AND created_revision = $2 AND import_id = $3",
];
