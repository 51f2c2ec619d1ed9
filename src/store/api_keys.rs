//! API keys and their secrets' digests. Lists, and what the index reads, have files of their own.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::any::AnyRow;

use crate::error::Result;
use crate::model::api_key::{ApiKey, ApiKeySecret};
use crate::model::id::{ApiKeyId, ImportId, OrgId, SpaceId};
use crate::model::ip_rules::IpRules;
use crate::model::owner::OwnerId;
use crate::model::quota::Quota;
use crate::model::secret::SecretDigest;
use crate::model::time::Timestamp;
use crate::store::changes::Subject;
use crate::store::row::Row;
use crate::store::rows::{self, AnyQuery};
use crate::store::{Connection, Write, taken};

/// Stores a new API key.
pub async fn insert(write: &mut Write<'_>, api_key: &ApiKey) -> Result<()> {
    insert_all(write, std::slice::from_ref(api_key), None).await
}

/// Stores new API keys, for an import that is all or nothing where one is named.
pub async fn insert_all(
    write: &mut Write<'_>,
    api_keys: &[ApiKey],
    import: Option<&ImportId>,
) -> Result<()> {
    let (revision, import) = (write.revision(), import.map(ToString::to_string));
    let insert = "INSERT INTO api_keys (id, organization_id, owner_id, name, description, scopes,
         audiences, expires_at, revoked_at, created_at, created_revision, key_type, space_id,
         name_lower, prefix, allowed, blocked, quota_limit, quota_window, quota_counter, lifetime,
         replaces_id, created_by, import_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
         $19, $20, $21, $22, $23, $24)";
    rows::insert_all(write, insert, api_keys, |query, api_key| {
        bind_new(query, api_key, revision).bind(import.clone())
    })
    .await
    .map_err(|cause| taken(cause, "refreshed", "the API key was refreshed already"))
}

fn bind_new<'q>(query: AnyQuery<'q>, api_key: &ApiKey, revision: i64) -> AnyQuery<'q> {
    let quota = api_key.quota.map(quota_numbers);
    query
        .bind(api_key.id.to_string())
        .bind(api_key.org.to_string())
        .bind(api_key.owner.to_string())
        .bind(api_key.name.clone())
        .bind(api_key.description.clone())
        .bind(api_key.scopes.as_ref().map(|scopes| scopes.as_str().to_owned()))
        .bind(joined(&api_key.audiences))
        .bind(api_key.expires_at.map(Timestamp::as_millis))
        .bind(api_key.revoked_at.map(Timestamp::as_millis))
        .bind(api_key.created_at.as_millis())
        .bind(revision)
        .bind(api_key.key_type.as_str())
        .bind(api_key.space.map(|id| id.to_string()))
        .bind(folded(&api_key.name))
        .bind(api_key.prefix.clone())
        .bind(api_key.ip_rules.allow_text())
        .bind(api_key.ip_rules.block_text())
        .bind(quota.map(|(limit, _)| limit))
        .bind(quota.map(|(_, window)| window))
        .bind(api_key.quota_counter.to_string())
        .bind(api_key.lifetime.map(millis))
        .bind(api_key.replaces.map(|id| id.to_string()))
        .bind(api_key.created_by.map(|id| id.to_string()))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A name as it is searched by, whatever the case. Character by character, so that the start of a
/// name is the start of what is stored: `to_lowercase` writes a sigma that ends a text its own way.
pub(crate) fn folded(name: &str) -> String {
    let lower = name.chars().flat_map(char::to_lowercase);
    lower.map(|c| if c == '\u{3c2}' { '\u{3c3}' } else { c }).collect()
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Stores what an edit may change.
pub async fn update(connection: &mut Connection, api_key: &ApiKey) -> Result<()> {
    let quota = api_key.quota.map(quota_numbers);
    sqlx::query(
        "UPDATE api_keys SET name = $2, name_lower = $3, description = $4, scopes = $5,
         audiences = $6, allowed = $7, blocked = $8, quota_limit = $9, quota_window = $10,
         expires_at = $11, prefix = $12, rotated_at = $13, old_secret_expires_at = $14
         WHERE id = $1",
    )
    .bind(api_key.id.to_string())
    .bind(&api_key.name)
    .bind(folded(&api_key.name))
    .bind(&api_key.description)
    .bind(api_key.scopes.as_ref().map(|scopes| scopes.as_str().to_owned()))
    .bind(joined(&api_key.audiences))
    .bind(api_key.ip_rules.allow_text())
    .bind(api_key.ip_rules.block_text())
    .bind(quota.map(|(limit, _)| limit))
    .bind(quota.map(|(_, window)| window))
    .bind(api_key.expires_at.map(Timestamp::as_millis))
    .bind(&api_key.prefix)
    .bind(api_key.rotated_at.map(Timestamp::as_millis))
    .bind(api_key.old_secret_expires_at.map(Timestamp::as_millis))
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores a secret of an API key.
///
/// # Errors
/// [`Conflict`](crate::error::Error::Conflict) `digest_in_use`, without saying where.
pub async fn insert_secret(
    connection: &mut Connection,
    id: &ApiKeyId,
    secret: &ApiKeySecret,
    now: Timestamp,
) -> Result<()> {
    insert_secrets(connection, &[(*id, *secret)], now).await
}

/// Stores a secret of each of some API keys.
///
/// # Errors
/// [`Conflict`](crate::error::Error::Conflict) `digest_in_use`, without saying where.
pub async fn insert_secrets(
    connection: &mut Connection,
    secrets: &[(ApiKeyId, ApiKeySecret)],
    now: Timestamp,
) -> Result<()> {
    let insert = "INSERT INTO api_key_secrets (digest, api_key_id, expires_at, created_at)
         VALUES ($1, $2, $3, $4)";
    rows::insert_all(connection, insert, secrets, |query, (id, secret)| {
        query
            .bind(print_digest(&secret.digest))
            .bind(id.to_string())
            .bind(secret.expires_at.map(Timestamp::as_millis))
            .bind(now.as_millis())
    })
    .await
    .map_err(|cause| taken(cause, "digest_in_use", "this secret is in use already"))
}

/// Ends a secret at a moment, unless it ends before.
pub async fn update_secret_end(
    connection: &mut Connection,
    digest: &SecretDigest,
    expires_at: Timestamp,
) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE api_key_secrets SET expires_at = $1
         WHERE digest = $2 AND (expires_at IS NULL OR expires_at > $1)",
    )
    .bind(expires_at.as_millis())
    .bind(print_digest(digest))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The secrets of a key, ended ones included, the newest last.
pub async fn list_secrets(connection: &mut Connection, id: &ApiKeyId) -> Result<Vec<ApiKeySecret>> {
    let rows = sqlx::query(
        "SELECT api_key_id, digest, expires_at FROM api_key_secrets WHERE api_key_id = $1
         ORDER BY created_at",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(secret_of).collect()
}

/// Revokes an API key for ever. Says whether it was not revoked before.
pub async fn update_revoked(
    connection: &mut Connection,
    id: &ApiKeyId,
    now: Timestamp,
) -> Result<bool> {
    let revoke = "UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
    let done =
        sqlx::query(revoke).bind(now.as_millis()).bind(id.to_string()).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Takes an API key out of the lists. Says whether it was in them.
pub async fn update_deleted(
    connection: &mut Connection,
    id: &ApiKeyId,
    now: Timestamp,
) -> Result<bool> {
    let delete = "UPDATE api_keys SET deleted_at = $1 WHERE id = $2 AND deleted_at IS NULL";
    let done =
        sqlx::query(delete).bind(now.as_millis()).bind(id.to_string()).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Revokes all API keys of an owner in an organization, and tells the nodes of each: their ids.
pub async fn revoke_all_of(
    write: &mut Write<'_>,
    org: &OrgId,
    owner: &OwnerId,
    now: Timestamp,
) -> Result<Vec<ApiKeyId>> {
    let rows = sqlx::query(
        "UPDATE api_keys SET revoked_at = $1
         WHERE organization_id = $2 AND owner_id = $3 AND revoked_at IS NULL RETURNING id",
    )
    .bind(now.as_millis())
    .bind(org.to_string())
    .bind(owner.to_string())
    .fetch_all(&mut **write)
    .await?;
    all_revoked(write, &rows, now).await
}

/// The API keys of an owner in an organization that were not revoked and have not expired: their ids.
pub async fn list_living_of(
    connection: &mut Connection,
    org: &OrgId,
    owner: &OwnerId,
    now: Timestamp,
) -> Result<Vec<ApiKeyId>> {
    let rows = sqlx::query(
        "SELECT id FROM api_keys
         WHERE organization_id = $1 AND owner_id = $2 AND revoked_at IS NULL
         AND (expires_at IS NULL OR expires_at > $3)",
    )
    .bind(org.to_string())
    .bind(owner.to_string())
    .bind(now.as_millis())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Row::of("api_keys", row).parsed("id")).collect()
}

/// Revokes all API keys of a space, and tells the nodes of each: their ids.
pub async fn revoke_all_in(
    write: &mut Write<'_>,
    space: &SpaceId,
    now: Timestamp,
) -> Result<Vec<ApiKeyId>> {
    let rows = sqlx::query(
        "UPDATE api_keys SET revoked_at = $1
         WHERE space_id = $2 AND revoked_at IS NULL RETURNING id",
    )
    .bind(now.as_millis())
    .bind(space.to_string())
    .fetch_all(&mut **write)
    .await?;
    all_revoked(write, &rows, now).await
}

async fn all_revoked(
    write: &mut Write<'_>,
    rows: &[AnyRow],
    now: Timestamp,
) -> Result<Vec<ApiKeyId>> {
    let id_of = |row| Row::of("api_keys", row).parsed("id");
    let ids = rows.iter().map(id_of).collect::<Result<Vec<ApiKeyId>>>()?;
    let subjects: Vec<Subject> = ids.iter().map(|id| Subject::ApiKey(*id)).collect();
    write.touched_all(&subjects, now).await?;
    Ok(ids)
}

/// An API key by its id.
pub async fn find(connection: &mut Connection, id: &ApiKeyId) -> Result<Option<ApiKey>> {
    let row = sqlx::query(
        "SELECT id, organization_id, owner_id, name, description, scopes, audiences, expires_at,
         revoked_at, created_at, created_revision, key_type, space_id, prefix, allowed, blocked,
         quota_limit, quota_window, quota_counter, lifetime, replaces_id, created_by, deleted_at,
         rotated_at, old_secret_expires_at
         FROM api_keys WHERE id = $1
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| api_key_of(&Row::of("api_keys", row))).transpose()
}

/// The key that replaced a key.
pub async fn find_successor(
    connection: &mut Connection,
    id: &ApiKeyId,
) -> Result<Option<ApiKeyId>> {
    let row = sqlx::query("SELECT id FROM api_keys WHERE replaces_id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(|row| Row::of("api_keys", row).parsed("id")).transpose()
}

/// How many API keys there are.
pub async fn count(connection: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM api_keys").fetch_one(connection).await?)
}

fn quota_numbers(quota: Quota) -> (i64, i64) {
    (quota.limit().into(), quota.window().as_seconds().into())
}

pub(crate) fn quota_of(limit: Option<i64>, window: Option<i64>) -> Option<Quota> {
    Quota::new(limit?, Some(window?)).ok()
}

pub(crate) fn print_digest(digest: &SecretDigest) -> String {
    URL_SAFE_NO_PAD.encode(digest.as_bytes())
}

/// 32 bytes of base64url.
pub(crate) fn parse_digest(text: &str) -> Option<SecretDigest> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(SecretDigest::from_bytes)
}

pub(crate) fn ip_rules_of(row: &Row<'_>) -> Result<IpRules> {
    IpRules::from_texts(&row.text("allowed")?, &row.text("blocked")?)
        .map_err(|cause| row.bad("allowed", cause))
}

fn secret_of(row: &AnyRow) -> Result<ApiKeySecret> {
    let row = Row::of("api_key_secrets", row);
    let digest = parse_digest(&row.text("digest")?);
    Ok(ApiKeySecret {
        digest: digest.ok_or_else(|| row.bad("digest", "not 32 bytes of base64url"))?,
        expires_at: row.moment_or_none("expires_at")?,
    })
}

pub(crate) fn api_key_of(row: &Row<'_>) -> Result<ApiKey> {
    let id = row.parsed("id")?;
    let lifetime = row.number_or_none("lifetime")?.and_then(|millis| u64::try_from(millis).ok());
    Ok(ApiKey {
        id,
        org: row.parsed("organization_id")?,
        key_type: row.parsed("key_type")?,
        owner: row.parsed("owner_id")?,
        space: row.parsed_or_none("space_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        prefix: row.text_or_none("prefix")?,
        scopes: row.parsed_or_none("scopes")?,
        audiences: row.parsed_list("audiences")?,
        ip_rules: ip_rules_of(row)?,
        quota: quota_of(row.number_or_none("quota_limit")?, row.number_or_none("quota_window")?),
        replaces: row.parsed_or_none("replaces_id")?,
        created_by: row.parsed_or_none("created_by")?,
        created_at: row.moment("created_at")?,
        rotated_at: row.moment_or_none("rotated_at")?,
        old_secret_expires_at: row.moment_or_none("old_secret_expires_at")?,
        expires_at: row.moment_or_none("expires_at")?,
        revoked_at: row.moment_or_none("revoked_at")?,
        deleted_at: row.moment_or_none("deleted_at")?,
        lifetime: lifetime.map(Duration::from_millis),
        quota_counter: row.parsed_or_none("quota_counter")?.unwrap_or(id),
    })
}
