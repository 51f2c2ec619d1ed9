//! API keys and their secrets' digests.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::any::AnyRow;

use crate::error::{Error, Result};
use crate::model::api_key::{ApiKey, ApiKeySecret, IndexedApiKey};
use crate::model::id::{ApiKeyId, ApiKeyNoun};
use crate::model::secret::SecretDigest;
use crate::model::time::Timestamp;
use crate::store::row::{FIELD, LINE, Packed, Row};
use crate::store::{Connection, Half, Write, is_taken};

/// Rows that are read at once when all are read.
const PAGE: i64 = 250;

/// Where a page of a list starts: behind this key, from new to old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The revision in which the last key of the page before was made.
    pub created_revision: i64,
    /// That key.
    pub id: ApiKeyId,
}

/// An API key on a list, with its place in it.
#[derive(Debug, Clone)]
pub struct ListedApiKey {
    /// The key.
    pub api_key: ApiKey,
    /// Where a page behind it starts.
    pub cursor: Cursor,
}

/// Stores a new API key.
pub async fn insert(write: &mut Write<'_>, api_key: &ApiKey) -> Result<()> {
    let revision = write.revision();
    let audiences: Vec<String> = api_key.audiences.iter().map(ToString::to_string).collect();
    sqlx::query(
        "INSERT INTO api_keys (id, organization_id, owner_id, name, description, scopes, audiences,
         expires_at, revoked_at, created_at, created_revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(api_key.id.to_string())
    .bind(api_key.org.to_string())
    .bind(api_key.owner.to_string())
    .bind(&api_key.name)
    .bind(&api_key.description)
    .bind(api_key.scopes.as_ref().map(|scopes| scopes.as_str().to_owned()))
    .bind(audiences.join(" "))
    .bind(api_key.expires_at.map(Timestamp::as_millis))
    .bind(api_key.revoked_at.map(Timestamp::as_millis))
    .bind(api_key.created_at.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Stores a secret of an API key.
pub async fn insert_secret(
    connection: &mut Connection,
    id: &ApiKeyId,
    secret: &ApiKeySecret,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO api_key_secrets (digest, api_key_id, expires_at, created_at)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(URL_SAFE_NO_PAD.encode(secret.digest.as_bytes()))
    .bind(id.to_string())
    .bind(secret.expires_at.map(Timestamp::as_millis))
    .bind(now.as_millis())
    .execute(connection)
    .await
    .map_err(|cause| match cause {
        cause if is_taken(&cause) => {
            Error::Conflict("digest_in_use", "this secret is in use already".to_owned())
        }
        cause => cause.into(),
    })?;
    Ok(())
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

/// An API key by its id.
pub async fn find(connection: &mut Connection, id: &ApiKeyId) -> Result<Option<ApiKey>> {
    let row = sqlx::query(
        "SELECT id, organization_id, owner_id, name, description, scopes, audiences, expires_at,
         revoked_at, created_at, created_revision FROM api_keys WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| listed_of(row).map(|listed| listed.api_key)).transpose()
}

/// A page of API keys, from new to old, dead ones included.
pub async fn list(
    connection: &mut Connection,
    after: Option<Cursor>,
    limit: i64,
) -> Result<Vec<ListedApiKey>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, owner_id, name, description, scopes, audiences, expires_at,
         revoked_at, created_at, created_revision FROM api_keys
         WHERE created_revision < $1 OR (created_revision = $1 AND id < $2)
         ORDER BY created_revision DESC, id DESC LIMIT $3",
    )
    .bind(after.map_or(i64::MAX, |after| after.created_revision))
    .bind(after.map(|after| after.id.to_string()).unwrap_or_default())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(listed_of).collect()
}

/// A page of active API keys, from new to old.
pub async fn list_active(
    connection: &mut Connection,
    after: Option<Cursor>,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<ListedApiKey>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, owner_id, name, description, scopes, audiences, expires_at,
         revoked_at, created_at, created_revision FROM api_keys
         WHERE (created_revision < $1 OR (created_revision = $1 AND id < $2))
         AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)
         ORDER BY created_revision DESC, id DESC LIMIT $3",
    )
    .bind(after.map_or(i64::MAX, |after| after.created_revision))
    .bind(after.map(|after| after.id.to_string()).unwrap_or_default())
    .bind(limit)
    .bind(now.as_millis())
    .fetch_all(connection)
    .await?;
    rows.iter().map(listed_of).collect()
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
        "SELECT id, organization_id, owner_id, scopes, audiences, expires_at, revoked_at
         FROM api_keys WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = &row else { return Ok(None) };
    let secrets = sqlx::query(
        "SELECT api_key_id, digest, expires_at FROM api_key_secrets WHERE api_key_id = $1",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await?;
    let mut api_key = indexed_of(row)?;
    for row in &secrets {
        api_key.secrets.push(secret_of(row)?);
    }
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
             SELECT id || $4 || organization_id || $4 || owner_id || $4 || COALESCE(scopes, '')
             || $4 || audiences || $4 || COALESCE(CAST(expires_at AS TEXT), '')
             || $4 || COALESCE(CAST(revoked_at AS TEXT), '') || $4 || COALESCE((
                 SELECT string_agg(digest || ':' || COALESCE(CAST(expires_at AS TEXT), ''), ' ')
                 FROM api_key_secrets WHERE api_key_id = api_keys.id
             ), '') AS line
             FROM api_keys WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
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

fn unpacked(mut line: Packed<'_>) -> Result<IndexedApiKey> {
    Ok(IndexedApiKey {
        id: line.parsed()?,
        org: line.parsed()?,
        owner: line.parsed()?,
        scopes: line.parsed_or_none()?,
        audiences: line.parsed_list()?,
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

/// 32 bytes of base64url.
fn parse_digest(text: &str) -> Option<SecretDigest> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(SecretDigest::from_bytes)
}

fn indexed_of(row: &AnyRow) -> Result<IndexedApiKey> {
    let row = Row::of("api_keys", row);
    Ok(IndexedApiKey {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        owner: row.parsed("owner_id")?,
        scopes: row.parsed_or_none("scopes")?,
        audiences: row.parsed_list("audiences")?,
        expires_at: row.moment_or_none("expires_at")?,
        revoked_at: row.moment_or_none("revoked_at")?,
        secrets: Vec::new(),
    })
}

fn secret_of(row: &AnyRow) -> Result<ApiKeySecret> {
    let row = Row::of("api_key_secrets", row);
    let digest = parse_digest(&row.text("digest")?);
    Ok(ApiKeySecret {
        digest: digest.ok_or_else(|| row.bad("digest", "not 32 bytes of base64url"))?,
        expires_at: row.moment_or_none("expires_at")?,
    })
}

fn listed_of(row: &AnyRow) -> Result<ListedApiKey> {
    let row = Row::of("api_keys", row);
    let id = row.parsed("id")?;
    Ok(ListedApiKey {
        api_key: ApiKey {
            id,
            org: row.parsed("organization_id")?,
            owner: row.parsed("owner_id")?,
            name: row.text("name")?,
            description: row.text("description")?,
            scopes: row.parsed_or_none("scopes")?,
            audiences: row.parsed_list("audiences")?,
            created_at: row.moment("created_at")?,
            expires_at: row.moment_or_none("expires_at")?,
            revoked_at: row.moment_or_none("revoked_at")?,
        },
        cursor: Cursor { created_revision: row.number("created_revision")?, id },
    })
}
