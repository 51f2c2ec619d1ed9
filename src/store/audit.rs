//! The audit: appended to, never changed.

use crate::error::Result;
use crate::model::audit::AuditEntry;
use crate::model::id::{AuditId, OrgId};
use crate::model::time::Timestamp;
use crate::store::Connection;
use crate::store::row::Row;
use crate::store::rows;

/// Which entries a list shows.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this organization; nothing for those of the installation itself.
    pub org: Option<OrgId>,
    /// Of this actor.
    pub actor: Option<String>,
    /// With this API key, by itself or by a token of it.
    pub api_key: Option<String>,
    /// On this object.
    pub object: Option<String>,
    /// Of actions that start so, as `api_key.`.
    pub action: Option<String>,
    /// `done`, or the code of a refusal.
    pub outcome: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Entries that a list looks at for one page.
const SCANNED: i64 = 5_000;

/// Appends an entry.
pub async fn insert(connection: &mut Connection, entry: &AuditEntry) -> Result<()> {
    insert_all(connection, std::slice::from_ref(entry)).await
}

/// Appends entries.
pub async fn insert_all(connection: &mut Connection, entries: &[AuditEntry]) -> Result<()> {
    let insert = "INSERT INTO audit (id, at, organization_id, actor_id, api_key_id, action, object,
         outcome, address, user_agent, request_id, state_before, state_after)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    rows::insert_all(connection, insert, entries, |query, entry| {
        query
            .bind(entry.id.to_string())
            .bind(entry.at.as_millis())
            .bind(entry.organization.map(|id| id.to_string()).unwrap_or_default())
            .bind(entry.actor.map(|id| id.to_string()))
            .bind(entry.api_key.map(|id| id.to_string()))
            .bind(entry.action.clone())
            .bind(entry.object.clone())
            .bind(entry.outcome.clone())
            .bind(entry.address.clone())
            .bind(entry.user_agent.clone())
            .bind(entry.request_id.clone())
            .bind(json(&entry.before))
            .bind(json(&entry.after))
    })
    .await?;
    Ok(())
}

/// Whether an entry is there: this very one, by its request, as the id tells no more than a moment and a
/// revision.
pub async fn exists(connection: &mut Connection, entry: &AuditEntry) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT at FROM audit WHERE id = $1 AND object = $2 AND COALESCE(request_id, '') = $3",
    )
    .bind(entry.id.to_string())
    .bind(&entry.object)
    .bind(entry.request_id.clone())
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// A page of entries before an id, from new to old, and the id where the next page starts.
pub async fn list(
    connection: &mut Connection,
    filter: &AuditFilter,
    before: Option<AuditId>,
    limit: i64,
) -> Result<(Vec<AuditEntry>, Option<AuditId>)> {
    let mut entries = read(connection, filter, before, (limit + 1, 0)).await?;
    if i64::try_from(entries.len()).is_ok_and(|found| found > limit) {
        entries.pop();
        let next = entries.last().map(|last| last.id);
        return Ok((entries, next));
    }
    // where entries were left out, the page ends where the look ended and not where the list does
    let leading = leading(filter);
    let end = read(connection, &leading, before, (1, SCANNED - 1)).await?;
    Ok((entries, end.first().map(|last| last.id)))
}

/// What a look follows an index by, without what it asks of each entry besides.
fn leading(filter: &AuditFilter) -> AuditFilter {
    let AuditFilter { org, actor, object, since, until, .. } = filter.clone();
    let actor = actor.filter(|_| object.is_none());
    AuditFilter { org, actor, object, since, until, ..AuditFilter::default() }
}

async fn read(
    connection: &mut Connection,
    filter: &AuditFilter,
    before: Option<AuditId>,
    (limit, offset): (i64, i64),
) -> Result<Vec<AuditEntry>> {
    let statement = match filter {
        AuditFilter { object: Some(_), .. } => BY_OBJECT,
        AuditFilter { actor: Some(_), .. } => BY_ACTOR,
        _ => OF_ORGANIZATION,
    };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let until = filter.until.map_or_else(|| LAST_ID.to_owned(), first_id_at);
    let before = before.map_or(until.clone(), |before| until.min(before.to_string()));
    let rows = sqlx::query(statement)
        .bind(filter.org.map(|id| id.to_string()).unwrap_or_default())
        .bind(before)
        .bind(filter.since.map(first_id_at).unwrap_or_default())
        .bind(text(&filter.object))
        .bind(text(&filter.actor))
        .bind(text(&filter.action))
        .bind(text(&filter.outcome))
        .bind(SCANNED)
        .bind(limit)
        .bind(offset)
        .bind(text(&filter.api_key))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| entry_of(&Row::of("audit", row))).collect()
}

/// Above every id.
const LAST_ID: &str = "evt_~";

fn first_id_at(moment: Timestamp) -> String {
    AuditId::at(moment, [0; 6]).to_string()
}

const OF_ORGANIZATION: &str =
    "SELECT id, at, organization_id, actor_id, api_key_id, action, object,
     outcome, address, user_agent, request_id, state_before, state_after FROM (
         SELECT id, at, organization_id, actor_id, api_key_id, action, object, outcome, address,
         user_agent, request_id, state_before, state_after FROM audit
         WHERE organization_id = $1 AND id < $2 AND id >= $3 ORDER BY id DESC LIMIT $8
     ) AS scanned
     WHERE ($4 = '' OR object = $4) AND ($5 = '' OR actor_id = $5)
     AND ($6 = '' OR SUBSTR(action, 1, LENGTH($6)) = $6) AND ($7 = '' OR outcome = $7)
     AND ($11 = '' OR api_key_id = $11)
     ORDER BY id DESC LIMIT $9 OFFSET $10";
const BY_OBJECT: &str = "SELECT id, at, organization_id, actor_id, api_key_id, action, object,
     outcome, address, user_agent, request_id, state_before, state_after FROM (
         SELECT id, at, organization_id, actor_id, api_key_id, action, object, outcome, address,
         user_agent, request_id, state_before, state_after FROM audit
         WHERE organization_id = $1 AND object = $4 AND id < $2 AND id >= $3
         ORDER BY id DESC LIMIT $8
     ) AS scanned
     WHERE ($5 = '' OR actor_id = $5)
     AND ($6 = '' OR SUBSTR(action, 1, LENGTH($6)) = $6) AND ($7 = '' OR outcome = $7)
     AND ($11 = '' OR api_key_id = $11)
     ORDER BY id DESC LIMIT $9 OFFSET $10";
const BY_ACTOR: &str = "SELECT id, at, organization_id, actor_id, api_key_id, action, object,
     outcome, address, user_agent, request_id, state_before, state_after FROM (
         SELECT id, at, organization_id, actor_id, api_key_id, action, object, outcome, address,
         user_agent, request_id, state_before, state_after FROM audit
         WHERE organization_id = $1 AND actor_id = $5 AND id < $2 AND id >= $3
         ORDER BY id DESC LIMIT $8
     ) AS scanned
     WHERE ($4 = '' OR object = $4)
     AND ($6 = '' OR SUBSTR(action, 1, LENGTH($6)) = $6) AND ($7 = '' OR outcome = $7)
     AND ($11 = '' OR api_key_id = $11)
     ORDER BY id DESC LIMIT $9 OFFSET $10";

fn entry_of(row: &Row<'_>) -> Result<AuditEntry> {
    let json = |column: &'static str| -> Result<Option<serde_json::Value>> {
        let text = row.text_or_none(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|cause| row.bad(column, cause)))
            .transpose()
    };
    Ok(AuditEntry {
        id: row.parsed("id")?,
        at: row.moment("at")?,
        organization: row.parsed_unless_empty("organization_id")?,
        actor: row.parsed_or_none("actor_id")?,
        api_key: row.parsed_or_none("api_key_id")?,
        action: row.text("action")?,
        object: row.text("object")?,
        outcome: row.text("outcome")?,
        address: row.text_or_none("address")?,
        user_agent: row.text_or_none("user_agent")?,
        request_id: row.text("request_id")?,
        before: json("state_before")?,
        after: json("state_after")?,
    })
}
