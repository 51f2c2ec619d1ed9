//! API keys and their secrets' digests. Lists have a file of their own.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::any::AnyRow;

use crate::error::{Error, Result};
use crate::model::api_key::{ApiKey, ApiKeySecret, IndexedApiKey};
use crate::model::id::{ApiKeyId, ApiKeyNoun, ImportId, OrgId};
use crate::model::ip_rules::IpRules;
use crate::model::owner::OwnerId;
use crate::model::quota::Quota;
use crate::model::secret::SecretDigest;
use crate::model::time::Timestamp;
use crate::store::row::{FIELD, LINE, Packed, Row};
use crate::store::rows::{self, AnyQuery};
use crate::store::{Connection, Half, Write, is_taken};

/// Rows that are read at once when all are read.
const PAGE: i64 = 250;

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

/// The error of what must be unique and is there already.
fn taken(cause: sqlx::Error, code: &'static str, message: &str) -> Error {
    if is_taken(&cause) { Error::Conflict(code, message.to_owned()) } else { cause.into() }
}

/// Stores what an edit may change.
pub async fn update(connection: &mut Connection, api_key: &ApiKey) -> Result<()> {
    let quota = api_key.quota.map(quota_numbers);
    sqlx::query(
        "UPDATE api_keys SET name = $2, name_lower = $3, description = $4, scopes = $5,
         audiences = $6, allowed = $7, blocked = $8, quota_limit = $9, quota_window = $10,
         expires_at = $11, prefix = $12 WHERE id = $1",
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
    .execute(connection)
    .await?;
    Ok(())
}

/// Voids all tokens of a key that were issued before this change.
pub async fn update_void_below(write: &mut Write<'_>, id: &ApiKeyId) -> Result<()> {
    let revision = write.revision();
    sqlx::query("UPDATE api_keys SET void_below = $1 WHERE id = $2")
        .bind(revision)
        .bind(id.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Stores a secret of an API key.
///
/// # Errors
/// [`Error::Conflict`] `digest_in_use`, without saying where.
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
/// [`Error::Conflict`] `digest_in_use`, without saying where.
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
) -> Result<()> {
    sqlx::query(
        "UPDATE api_key_secrets SET expires_at = $1
         WHERE digest = $2 AND (expires_at IS NULL OR expires_at > $1)",
    )
    .bind(expires_at.as_millis())
    .bind(print_digest(digest))
    .execute(connection)
    .await?;
    Ok(())
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

/// Revokes all API keys of an owner in an organization, and tells the nodes of each.
pub async fn revoke_all_of(
    write: &mut Write<'_>,
    org: &OrgId,
    owner: &OwnerId,
    now: Timestamp,
) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO changes (revision, noun, subject_id, changed_at)
         SELECT $1, 'api_key', id, $2 FROM api_keys
         WHERE organization_id = $3 AND owner_id = $4 AND revoked_at IS NULL
         ON CONFLICT (revision, noun, subject_id) DO NOTHING",
    )
    .bind(revision)
    .bind(now.as_millis())
    .bind(org.to_string())
    .bind(owner.to_string())
    .execute(&mut **write)
    .await?;
    sqlx::query(
        "UPDATE api_keys SET revoked_at = $1
         WHERE organization_id = $2 AND owner_id = $3 AND revoked_at IS NULL",
    )
    .bind(now.as_millis())
    .bind(org.to_string())
    .bind(owner.to_string())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// An API key by its id.
pub async fn find(connection: &mut Connection, id: &ApiKeyId) -> Result<Option<ApiKey>> {
    let row = sqlx::query(
        "SELECT id, organization_id, owner_id, name, description, scopes, audiences, expires_at,
         revoked_at, created_at, created_revision, key_type, space_id, prefix, allowed, blocked,
         quota_limit, quota_window, quota_counter, lifetime, replaces_id, created_by, deleted_at
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

/// The key that a digest belongs to, and its organization.
pub async fn find_by_digest(
    connection: &mut Connection,
    digest: &SecretDigest,
) -> Result<Option<ApiKeyId>> {
    let row = sqlx::query("SELECT api_key_id FROM api_key_secrets WHERE digest = $1")
        .bind(print_digest(digest))
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(|row| Row::of("api_key_secrets", row).parsed("api_key_id")).transpose()
}

/// How many API keys there are.
pub async fn count(connection: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM api_keys").fetch_one(connection).await?)
}

/// What the index needs of one API key.
pub async fn find_indexed(
    connection: &mut Connection,
    id: &ApiKeyId,
) -> Result<Option<IndexedApiKey>> {
    let row = sqlx::query(
        "SELECT id, organization_id, owner_id, space_id, scopes, audiences, allowed, blocked,
         quota_limit, quota_window, quota_counter, void_below, expires_at, revoked_at
         FROM api_keys WHERE id = $1
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))",
    )
    .bind(id.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = &row else { return Ok(None) };
    let mut api_key = indexed_of(row)?;
    api_key.secrets = list_secrets(connection, id).await?;
    Ok(Some(api_key))
}

/// What the index needs of a page of a half of all API keys behind an id; an empty page ends the
/// list.
pub async fn list_indexed_after(
    connection: &mut Connection,
    half: Half,
    after: Option<&ApiKeyId>,
) -> Result<Vec<IndexedApiKey>> {
    let (from, below) = half.bounds::<ApiKeyNoun>();
    let page: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(line, $5) FROM (
             SELECT id || $4 || organization_id || $4 || owner_id || $4 || COALESCE(space_id, '')
             || $4 || COALESCE(scopes, '') || $4 || audiences || $4 || allowed || $4 || blocked
             || $4 || COALESCE(CAST(quota_limit AS TEXT), '')
             || $4 || COALESCE(CAST(quota_window AS TEXT), '')
             || $4 || COALESCE(quota_counter, '') || $4 || CAST(void_below AS TEXT)
             || $4 || COALESCE(CAST(expires_at AS TEXT), '')
             || $4 || COALESCE(CAST(revoked_at AS TEXT), '') || $4 || COALESCE((
                 SELECT string_agg(digest || ':' || COALESCE(CAST(expires_at AS TEXT), ''), ' ')
                 FROM api_key_secrets WHERE api_key_id = api_keys.id
             ), '') AS line
             FROM api_keys WHERE id > $1 AND id < $2
             AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
             ORDER BY id LIMIT $3
         ) AS page",
    )
    .bind(after.map_or(from, ToString::to_string))
    .bind(below)
    .bind(PAGE)
    .bind(FIELD)
    .bind(LINE)
    .fetch_one(connection)
    .await?;
    let mut api_keys =
        Packed::lines("api_keys", page.as_deref()).map(unpacked).collect::<Result<Vec<_>>>()?;
    // the order of an aggregate is nobody's promise
    api_keys.sort_unstable_by_key(|api_key| api_key.id);
    Ok(api_keys)
}

/// What the index needs of the API keys that were made for an organization in one revision.
pub async fn list_indexed_of(
    connection: &mut Connection,
    org: &OrgId,
    revision: i64,
) -> Result<Vec<IndexedApiKey>> {
    let page: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(id || $3 || organization_id || $3 || owner_id
             || $3 || COALESCE(space_id, '') || $3 || COALESCE(scopes, '') || $3 || audiences
             || $3 || allowed || $3 || blocked
             || $3 || COALESCE(CAST(quota_limit AS TEXT), '')
             || $3 || COALESCE(CAST(quota_window AS TEXT), '')
             || $3 || COALESCE(quota_counter, '') || $3 || CAST(void_below AS TEXT)
             || $3 || COALESCE(CAST(expires_at AS TEXT), '')
             || $3 || COALESCE(CAST(revoked_at AS TEXT), '') || $3 || COALESCE((
                 SELECT string_agg(digest || ':' || COALESCE(CAST(expires_at AS TEXT), ''), ' ')
                 FROM api_key_secrets WHERE api_key_id = api_keys.id
             ), ''), $4)
         FROM api_keys WHERE organization_id = $1 AND created_revision = $2
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))",
    )
    .bind(org.to_string())
    .bind(revision)
    .bind(FIELD)
    .bind(LINE)
    .fetch_one(connection)
    .await?;
    Packed::lines("api_keys", page.as_deref()).map(unpacked).collect()
}

fn unpacked(mut line: Packed<'_>) -> Result<IndexedApiKey> {
    let id = line.parsed()?;
    Ok(IndexedApiKey {
        id,
        org: line.parsed()?,
        owner: line.parsed()?,
        space: line.parsed_or_none()?,
        scopes: line.parsed_or_none()?,
        audiences: line.parsed_list()?,
        ip_rules: IpRules::from_texts(line.text()?, line.text()?)
            .map_err(|cause| line.bad(cause))?,
        quota: quota_of(line.parsed_or_none()?, line.parsed_or_none()?),
        quota_counter: line.parsed_or_none()?.unwrap_or(id),
        void_below: line.parsed()?,
        expires_at: line.moment_or_none()?,
        revoked_at: line.moment_or_none()?,
        secrets: unpacked_secrets(&mut line)?,
    })
}

fn unpacked_secrets(line: &mut Packed<'_>) -> Result<Vec<ApiKeySecret>> {
    let secrets = line.text()?.split_ascii_whitespace();
    secrets
        .map(|secret| {
            let (digest, expires_at) = secret.split_once(':').unwrap_or((secret, ""));
            let expires_at = Some(expires_at).filter(|text| !text.is_empty());
            let moment = expires_at.map(str::parse).transpose().map_err(|cause| line.bad(cause))?;
            Ok(ApiKeySecret {
                digest: parse_digest(digest).ok_or_else(|| line.bad("a digest"))?,
                expires_at: moment.map(Timestamp::from_millis),
            })
        })
        .collect()
}

fn quota_numbers(quota: Quota) -> (i64, i64) {
    (quota.limit().into(), quota.window().as_seconds().into())
}

fn quota_of(limit: Option<i64>, window: Option<i64>) -> Option<Quota> {
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

fn indexed_of(row: &AnyRow) -> Result<IndexedApiKey> {
    let row = Row::of("api_keys", row);
    let id = row.parsed("id")?;
    Ok(IndexedApiKey {
        id,
        org: row.parsed("organization_id")?,
        owner: row.parsed("owner_id")?,
        space: row.parsed_or_none("space_id")?,
        scopes: row.parsed_or_none("scopes")?,
        audiences: row.parsed_list("audiences")?,
        ip_rules: ip_rules_of(&row)?,
        quota: quota_of(row.number_or_none("quota_limit")?, row.number_or_none("quota_window")?),
        quota_counter: row.parsed_or_none("quota_counter")?.unwrap_or(id),
        void_below: row.number("void_below")?,
        expires_at: row.moment_or_none("expires_at")?,
        revoked_at: row.moment_or_none("revoked_at")?,
        secrets: Vec::new(),
    })
}

fn ip_rules_of(row: &Row<'_>) -> Result<IpRules> {
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
        expires_at: row.moment_or_none("expires_at")?,
        revoked_at: row.moment_or_none("revoked_at")?,
        deleted_at: row.moment_or_none("deleted_at")?,
        lifetime: lifetime.map(Duration::from_millis),
        quota_counter: row.parsed_or_none("quota_counter")?.unwrap_or(id),
    })
}
