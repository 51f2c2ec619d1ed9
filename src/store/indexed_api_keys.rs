//! What the index reads of API keys: few columns, and pages of them packed into one text.

use sqlx::any::AnyRow;

use crate::error::Result;
use crate::model::api_key::{ApiKeySecret, IndexedApiKey};
use crate::model::id::{ApiKeyId, OrgId};
use crate::model::ip_rules::IpRules;
use crate::model::time::Timestamp;
use crate::store::api_keys::{ip_rules_of, list_secrets, parse_digest, quota_of};
use crate::store::packed::{Packed, half_after, made_after, made_in};
use crate::store::row::Row;
use crate::store::{Connection, Half, Made};

/// What the index needs of one API key.
pub async fn find(connection: &mut Connection, id: &ApiKeyId) -> Result<Option<IndexedApiKey>> {
    let row = sqlx::query(
        "SELECT id, organization_id, owner_id, space_id, scopes, audiences, allowed, blocked,
         quota_limit, quota_window, quota_counter, expires_at, revoked_at
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

/// What the index needs of a page of all API keys, without their secrets, and where it ended; nothing
/// ends the list.
pub async fn list_after(
    connection: &mut Connection,
    after: &Made,
) -> Result<(Vec<IndexedApiKey>, Option<Made>)> {
    let page_of = (
        "api_keys",
        "SELECT string_agg(line, $5) FROM (
             SELECT concat_ws($4, id, organization_id, owner_id, COALESCE(space_id, ''),
             COALESCE(scopes, ''), audiences, allowed, blocked,
             COALESCE(CAST(quota_limit AS TEXT), ''), COALESCE(CAST(quota_window AS TEXT), ''),
             COALESCE(quota_counter, ''), COALESCE(CAST(expires_at AS TEXT), ''),
             COALESCE(CAST(revoked_at AS TEXT), ''), '', CAST(created_revision AS TEXT)) AS line
             FROM api_keys WHERE (created_revision, id) > ($1, $2)
             AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
             ORDER BY created_revision, id LIMIT $3
         ) AS page",
    );
    made_after(connection, page_of, after, unpacked).await
}

/// The secrets of a page of a half of all API keys behind an id, staged ones among them; an empty page
/// ends the list.
pub async fn list_secrets_after(
    connection: &mut Connection,
    half: Half,
    after: Option<&ApiKeyId>,
) -> Result<Vec<(ApiKeyId, Vec<ApiKeySecret>)>> {
    let page_of = (
        "api_key_secrets",
        "SELECT string_agg(line, $5) FROM (
             SELECT api_key_id || $4
             || string_agg(digest || ':' || COALESCE(CAST(expires_at AS TEXT), ''), ' ') AS line
             FROM api_key_secrets WHERE api_key_id > $1 AND api_key_id < $2
             GROUP BY api_key_id ORDER BY api_key_id LIMIT $3
         ) AS page",
    );
    half_after(connection, page_of, (half, after), unpacked_secrets).await
}

/// What the index needs of the API keys that were made for an organization in one revision.
pub async fn list_of(
    connection: &mut Connection,
    org: &OrgId,
    revision: i64,
) -> Result<Vec<IndexedApiKey>> {
    let page_of = (
        "api_keys",
        "SELECT string_agg(concat_ws($3, id, organization_id, owner_id, COALESCE(space_id, ''),
             COALESCE(scopes, ''), audiences, allowed, blocked,
             COALESCE(CAST(quota_limit AS TEXT), ''), COALESCE(CAST(quota_window AS TEXT), ''),
             COALESCE(quota_counter, ''), COALESCE(CAST(expires_at AS TEXT), ''),
             COALESCE(CAST(revoked_at AS TEXT), ''), COALESCE((
                 SELECT string_agg(digest || ':' || COALESCE(CAST(expires_at AS TEXT), ''), ' ')
                 FROM api_key_secrets WHERE api_key_id = api_keys.id
             ), '')), $4)
         FROM api_keys WHERE organization_id = $1 AND created_revision = $2
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))",
    );
    made_in(connection, page_of, (org, revision), unpacked).await
}

fn unpacked(line: &mut Packed<'_>) -> Result<IndexedApiKey> {
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
        expires_at: line.moment_or_none()?,
        revoked_at: line.moment_or_none()?,
        secrets: unpacked_secrets(line)?,
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
        expires_at: row.moment_or_none("expires_at")?,
        revoked_at: row.moment_or_none("revoked_at")?,
        secrets: Vec::new(),
    })
}
