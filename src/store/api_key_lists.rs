//! Lists of API keys: one statement for each filter that an index leads with.
//!
//! A statement looks at 2,000 rows at most and says which ids are on the page; the rows themselves
//! are read by one statement for all. The other filters are asked of the rows that were looked at.

use crate::error::Result;
use crate::model::api_key::{ApiKey, ApiKeyStatus, ApiKeyType};
use crate::model::id::{OrgId, SpaceId};
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;
use crate::store::Connection;
use crate::store::api_keys::{api_key_of, folded};
use crate::store::page::{Cursor, Page, SCANNED};
use crate::store::row::Row;

/// Which API keys a list shows.
#[derive(Debug, Clone)]
pub struct ApiKeyFilter {
    /// Of this organization.
    pub org: OrgId,
    /// Of this owner.
    pub owner: Option<OwnerId>,
    /// In this space.
    pub space: Option<SpaceId>,
    /// Of this type.
    pub key_type: Option<ApiKeyType>,
    /// Whose name starts so, whatever the case.
    pub name: Option<String>,
    /// In this state; nothing for all, deleted ones included.
    pub status: Option<ApiKeyStatus>,
}

impl ApiKeyFilter {
    /// All keys of an organization, whatever their state.
    pub fn all_of(org: OrgId) -> Self {
        Self { org, owner: None, space: None, key_type: None, name: None, status: None }
    }

    /// The statement whose index selects the fewest rows.
    fn statement(&self) -> &'static str {
        match self {
            Self { name: Some(_), .. } => BY_NAME,
            Self { owner: Some(_), .. } => BY_OWNER,
            Self { space: Some(_), .. } => BY_SPACE,
            Self { key_type: Some(_), .. } => BY_TYPE,
            _ => OF_ORGANIZATION,
        }
    }
}

/// Each statement by the filter that its index leads with, for whoever looks at the plans.
pub fn statements() -> [(&'static str, &'static str); 5] {
    [
        ("all of an organization", OF_ORGANIZATION),
        ("by owner", BY_OWNER),
        ("by space", BY_SPACE),
        ("by type", BY_TYPE),
        ("by name", BY_NAME),
    ]
}

/// A page of API keys, from new to old; by name, in the order of the names.
pub async fn list(
    connection: &mut Connection,
    filter: &ApiKeyFilter,
    after: &Cursor,
    limit: i64,
    now: Timestamp,
) -> Result<Page<ApiKey>> {
    let prefix = filter.name.as_deref().map(folded).unwrap_or_default();
    if after.name.as_ref().is_some_and(|name| !name.starts_with(&prefix)) {
        return Err(Cursor::invalid());
    }
    let ids = list_ids(connection, filter, after, (limit + 1, 0), now).await?;
    let is_full = i64::try_from(ids.len()).is_ok_and(|found| found > limit);
    let mut page = Page::of(find_all(connection, &ids, filter.name.is_some()).await?, limit);
    if !is_full {
        // where rows were left out, the page ends where the look ended and not where the list does
        let unfiltered = ApiKeyFilter { status: None, ..filter.clone() };
        let last = (1, SCANNED - 1);
        let end = list_ids(connection, &unfiltered.leading(), after, last, now).await?;
        let mut end = find_all(connection, &end, filter.name.is_some()).await?;
        page.next = end.pop().map(|(_, cursor)| cursor);
    }
    Ok(page)
}

impl ApiKeyFilter {
    /// The filter that leads, without the others.
    fn leading(self) -> Self {
        let all = Self::all_of(self.org);
        match self {
            Self { name: Some(name), .. } => Self { name: Some(name), ..all },
            Self { owner: Some(owner), .. } => Self { owner: Some(owner), ..all },
            Self { space: Some(space), .. } => Self { space: Some(space), ..all },
            Self { key_type: Some(key_type), .. } => Self { key_type: Some(key_type), ..all },
            _ => all,
        }
    }
}

async fn list_ids(
    connection: &mut Connection,
    filter: &ApiKeyFilter,
    after: &Cursor,
    (limit, offset): (i64, i64),
    now: Timestamp,
) -> Result<Vec<String>> {
    let name = filter.name.as_deref().map(folded);
    let from = after.name.clone().or_else(|| name.clone()).unwrap_or_default();
    // in the order of names, the place before all is below every revision
    let revision = if name.is_some() && after.name.is_none() { -1 } else { after.revision };
    Ok(sqlx::query_scalar(filter.statement())
        .bind(filter.org.to_string())
        .bind(revision)
        .bind(&after.id)
        .bind(SCANNED)
        .bind(filter.owner.map(|id| id.to_string()).unwrap_or_default())
        .bind(filter.space.map(|id| id.to_string()).unwrap_or_default())
        .bind(filter.key_type.map(ApiKeyType::as_str).unwrap_or_default())
        .bind(from)
        .bind(name.map(|name| above(&name)).unwrap_or_default())
        .bind(filter.status.map(ApiKeyStatus::as_str).unwrap_or_default())
        .bind(now.as_millis())
        .bind(limit)
        .bind(offset)
        .fetch_all(connection)
        .await?)
}

/// A text above every text that starts with a prefix.
fn above(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// The rows of these ids, in their order, each with its place.
pub async fn find_all(
    connection: &mut Connection,
    ids: &[String],
    by_name: bool,
) -> Result<Vec<(ApiKey, Cursor)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(OF_IDS).bind(ids.concat()).fetch_all(connection).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let row = Row::of("api_keys", row);
        let api_key = api_key_of(&row)?;
        let name = if by_name { Some(row.text("name_lower")?) } else { None };
        let id = api_key.id.to_string();
        found.push((api_key, Cursor { name, revision: row.number("created_revision")?, id }));
    }
    // a join keeps no order
    let place = |cursor: &Cursor| ids.iter().position(|id| *id == cursor.id);
    found.sort_by_key(|(_, cursor)| place(cursor));
    Ok(found)
}

/// Every id has twenty characters, so a text of ids is cut by length.
const OF_IDS: &str = "WITH RECURSIVE place(at) AS (
         SELECT 1 UNION ALL SELECT at + 20 FROM place WHERE at + 20 < LENGTH($1)
     )
     SELECT id, organization_id, owner_id, name, description, scopes, audiences, expires_at,
     revoked_at, created_at, created_revision, key_type, space_id, name_lower, prefix, allowed,
     blocked, quota_limit, quota_window, quota_counter, lifetime, replaces_id, created_by,
     deleted_at, rotated_at, old_secret_expires_at
     FROM place JOIN api_keys ON id = SUBSTR($1, at, 20)";

const OF_ORGANIZATION: &str = "SELECT id FROM (
         SELECT id, created_revision, owner_id, space_id, key_type, name_lower, expires_at,
         revoked_at, deleted_at FROM api_keys
         WHERE organization_id = $1 AND (created_revision, id) < ($2, $3)
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
         ORDER BY created_revision DESC, id DESC LIMIT $4
     ) AS scanned
     WHERE ($5 = '' OR owner_id = $5) AND ($6 = '' OR space_id = $6)
     AND ($7 = '' OR key_type = $7) AND ($8 = '' OR (name_lower >= $8 AND name_lower < $9))
     AND ($10 = '' OR ($10 = 'active' AND revoked_at IS NULL
         AND (expires_at IS NULL OR expires_at > $11))
     OR ($10 = 'expired' AND revoked_at IS NULL AND expires_at <= $11)
     OR ($10 = 'revoked' AND revoked_at IS NOT NULL AND deleted_at IS NULL))
     ORDER BY created_revision DESC, id DESC LIMIT $12 OFFSET $13";

const BY_OWNER: &str = "SELECT id FROM (
         SELECT id, created_revision, owner_id, space_id, key_type, name_lower, expires_at,
         revoked_at, deleted_at FROM api_keys
         WHERE organization_id = $1 AND owner_id = $5 AND (created_revision, id) < ($2, $3)
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
         ORDER BY created_revision DESC, id DESC LIMIT $4
     ) AS scanned
     WHERE ($6 = '' OR space_id = $6)
     AND ($7 = '' OR key_type = $7) AND ($8 = '' OR (name_lower >= $8 AND name_lower < $9))
     AND ($10 = '' OR ($10 = 'active' AND revoked_at IS NULL
         AND (expires_at IS NULL OR expires_at > $11))
     OR ($10 = 'expired' AND revoked_at IS NULL AND expires_at <= $11)
     OR ($10 = 'revoked' AND revoked_at IS NOT NULL AND deleted_at IS NULL))
     ORDER BY created_revision DESC, id DESC LIMIT $12 OFFSET $13";

const BY_SPACE: &str = "SELECT id FROM (
         SELECT id, created_revision, organization_id, owner_id, key_type, name_lower, expires_at,
         revoked_at, deleted_at FROM api_keys
         WHERE space_id = $6 AND (created_revision, id) < ($2, $3)
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
         ORDER BY created_revision DESC, id DESC LIMIT $4
     ) AS scanned
     WHERE organization_id = $1 AND ($5 = '' OR owner_id = $5)
     AND ($7 = '' OR key_type = $7) AND ($8 = '' OR (name_lower >= $8 AND name_lower < $9))
     AND ($10 = '' OR ($10 = 'active' AND revoked_at IS NULL
         AND (expires_at IS NULL OR expires_at > $11))
     OR ($10 = 'expired' AND revoked_at IS NULL AND expires_at <= $11)
     OR ($10 = 'revoked' AND revoked_at IS NOT NULL AND deleted_at IS NULL))
     ORDER BY created_revision DESC, id DESC LIMIT $12 OFFSET $13";

const BY_TYPE: &str = "SELECT id FROM (
         SELECT id, created_revision, owner_id, space_id, name_lower, expires_at, revoked_at,
         deleted_at FROM api_keys
         WHERE organization_id = $1 AND key_type = $7 AND (created_revision, id) < ($2, $3)
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
         ORDER BY created_revision DESC, id DESC LIMIT $4
     ) AS scanned
     WHERE ($5 = '' OR owner_id = $5) AND ($6 = '' OR space_id = $6)
     AND ($8 = '' OR (name_lower >= $8 AND name_lower < $9))
     AND ($10 = '' OR ($10 = 'active' AND revoked_at IS NULL
         AND (expires_at IS NULL OR expires_at > $11))
     OR ($10 = 'expired' AND revoked_at IS NULL AND expires_at <= $11)
     OR ($10 = 'revoked' AND revoked_at IS NOT NULL AND deleted_at IS NULL))
     ORDER BY created_revision DESC, id DESC LIMIT $12 OFFSET $13";

const BY_NAME: &str = "SELECT id FROM (
         SELECT id, created_revision, owner_id, space_id, key_type, name_lower, expires_at,
         revoked_at, deleted_at FROM api_keys
         WHERE organization_id = $1 AND (name_lower, created_revision, id) > ($8, $2, $3)
         AND name_lower < $9
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
         ORDER BY name_lower, created_revision, id LIMIT $4
     ) AS scanned
     WHERE ($5 = '' OR owner_id = $5) AND ($6 = '' OR space_id = $6)
     AND ($7 = '' OR key_type = $7)
     AND ($10 = '' OR ($10 = 'active' AND revoked_at IS NULL
         AND (expires_at IS NULL OR expires_at > $11))
     OR ($10 = 'expired' AND revoked_at IS NULL AND expires_at <= $11)
     OR ($10 = 'revoked' AND revoked_at IS NOT NULL AND deleted_at IS NULL))
     ORDER BY name_lower, created_revision, id LIMIT $12 OFFSET $13";
