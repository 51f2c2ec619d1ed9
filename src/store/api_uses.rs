//! How API keys came to APIs, and since when APIs are watched.

use sqlx::any::AnyRow;

use crate::error::Result;
use crate::model::id::{ApiKeyId, AudienceId, OrgId};
use crate::model::migration::{CountedUses, Form, Uses, UsesOf, WATCH_GAP, Watched};
use crate::model::time::Timestamp;
use crate::store::page::Cursor;
use crate::store::row::{Row, signed};
use crate::store::{Append, Connection, rows};

/// Adds uses, in the order in which they come.
pub(super) async fn add(append: &mut Append<'_>, uses: &[CountedUses]) -> Result<()> {
    let insert =
        "INSERT INTO api_uses (api_key_id, audience_id, form, organization_id, seen, calls, first_at,
         last_at, address, user_agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (api_key_id, audience_id, form) DO UPDATE SET
         seen = api_uses.seen + excluded.seen, calls = api_uses.calls + excluded.calls,
         first_at = CASE WHEN excluded.first_at < api_uses.first_at
             THEN excluded.first_at ELSE api_uses.first_at END,
         address = CASE WHEN excluded.last_at < api_uses.last_at
             THEN COALESCE(api_uses.address, excluded.address)
             ELSE COALESCE(excluded.address, api_uses.address) END,
         user_agent = CASE WHEN excluded.last_at < api_uses.last_at
             THEN COALESCE(api_uses.user_agent, excluded.user_agent)
             ELSE COALESCE(excluded.user_agent, api_uses.user_agent) END,
         last_at = CASE WHEN excluded.last_at < api_uses.last_at
             THEN api_uses.last_at ELSE excluded.last_at END";
    rows::insert_all(append, insert, uses, |query, CountedUses { of, org, uses }| {
        query
            .bind(of.api_key.to_string())
            .bind(of.audience.to_string())
            .bind(of.form.as_str())
            .bind(org.to_string())
            .bind(signed(uses.seen))
            .bind(signed(uses.calls))
            .bind(uses.first_at.as_millis())
            .bind(uses.last_at.as_millis())
            .bind(uses.address.map(|address| address.to_string()))
            .bind(uses.user_agent.as_deref().map(str::to_owned))
    })
    .await?;
    Ok(())
}

/// Notes that an API was heard of. After a gap it is watched anew.
pub(super) async fn put_watched(
    append: &mut Append<'_>,
    (id, watched): &(AudienceId, Watched),
) -> Result<()> {
    sqlx::query(
        "INSERT INTO watched_apis (audience_id, since_at, heard_at) VALUES ($1, $2, $3)
         ON CONFLICT (audience_id) DO UPDATE SET
         since_at = CASE WHEN excluded.since_at - watched_apis.heard_at > $4
             THEN excluded.since_at ELSE watched_apis.since_at END,
         heard_at = CASE WHEN excluded.heard_at < watched_apis.heard_at
             THEN watched_apis.heard_at ELSE excluded.heard_at END",
    )
    .bind(id.to_string())
    .bind(watched.since_at.as_millis())
    .bind(watched.heard_at.as_millis())
    .bind(i64::try_from(WATCH_GAP.as_millis()).unwrap_or(i64::MAX))
    .execute(&mut **append)
    .await?;
    Ok(())
}

/// Since when an API is watched.
pub async fn find_watched(
    connection: &mut Connection,
    audience: &AudienceId,
) -> Result<Option<Watched>> {
    let row = sqlx::query(
        "SELECT audience_id, since_at, heard_at FROM watched_apis WHERE audience_id = $1",
    )
    .bind(audience.to_string())
    .fetch_optional(connection)
    .await?;
    let watched_of = |row| {
        let row = Row::of("watched_apis", row);
        Ok(Watched { since_at: row.moment("since_at")?, heard_at: row.moment("heard_at")? })
    };
    row.as_ref().map(watched_of).transpose()
}

/// How one key came to APIs, by API.
pub async fn list_of_key(connection: &mut Connection, id: &ApiKeyId) -> Result<Vec<CountedUses>> {
    let rows = sqlx::query(
        "SELECT api_key_id, audience_id, form, organization_id, seen, calls, first_at, last_at,
         address, user_agent FROM api_uses WHERE api_key_id = $1 ORDER BY audience_id, form",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(counted_of).collect()
}

/// How a page of keys came to one API, in no order.
pub async fn list_at(
    connection: &mut Connection,
    audience: &AudienceId,
    ids: &[ApiKeyId],
) -> Result<Vec<CountedUses>> {
    let rows = sqlx::query(
        "WITH RECURSIVE ids(id, rest) AS (
             SELECT substr($1, 1, 20), substr($1, 21)
             UNION ALL SELECT substr(rest, 1, 20), substr(rest, 21) FROM ids WHERE rest <> ''
         )
         SELECT api_key_id, audience_id, form, organization_id, seen, calls, first_at, last_at,
         address, user_agent FROM api_uses
         WHERE api_key_id IN (SELECT id FROM ids) AND audience_id = $2",
    )
    .bind(ids.iter().map(ToString::to_string).collect::<String>())
    .bind(audience.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(counted_of).collect()
}

/// The keys that came raw to an API since a moment, the last first: of an organization, or of all where
/// none is named. Their places say when instead of a revision.
pub async fn list_raw_since(
    connection: &mut Connection,
    (audience, org): (&AudienceId, Option<&OrgId>),
    since: Timestamp,
    after: &Cursor,
    limit: i64,
) -> Result<Vec<Cursor>> {
    let rows = sqlx::query(
        "SELECT last_at, api_key_id FROM api_uses
         WHERE audience_id = $1 AND form = 'raw' AND last_at > $2
         AND ($3 = '' OR organization_id = $3)
         AND (last_at, api_key_id) < ($4, $5)
         ORDER BY last_at DESC, api_key_id DESC LIMIT $6",
    )
    .bind(audience.to_string())
    .bind(since.as_millis())
    .bind(org.map(ToString::to_string).unwrap_or_default())
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let of = |row| {
        let row = Row::of("api_uses", row);
        Ok(Cursor { name: None, revision: row.number("last_at")?, id: row.text("api_key_id")? })
    };
    rows.iter().map(of).collect()
}

/// How many living keys came to an API in a form since a moment, up to a number: of an organization, or
/// of all where none is named.
pub async fn count_since(
    connection: &mut Connection,
    (audience, form): (&AudienceId, Form),
    (since, now): (Timestamp, Timestamp),
    org: Option<&OrgId>,
    limit: i64,
) -> Result<u64> {
    let keys: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (
             SELECT 1 FROM api_uses JOIN api_keys ON api_keys.id = api_key_id
             WHERE audience_id = $1 AND form = $2 AND last_at > $3
             AND ($4 = '' OR api_uses.organization_id = $4)
             AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $5) LIMIT $6
         ) AS living",
    )
    .bind(audience.to_string())
    .bind(form.as_str())
    .bind(since.as_millis())
    .bind(org.map(ToString::to_string).unwrap_or_default())
    .bind(now.as_millis())
    .bind(limit)
    .fetch_one(connection)
    .await?;
    Ok(keys.unsigned_abs())
}

/// When a living key came to an API in a form last: one of an organization, or any where none is
/// named.
pub async fn find_last(
    connection: &mut Connection,
    (audience, form): (&AudienceId, Form),
    org: Option<&OrgId>,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let last_at: Option<i64> = sqlx::query_scalar(
        "SELECT last_at FROM api_uses JOIN api_keys ON api_keys.id = api_key_id
         WHERE audience_id = $1 AND form = $2 AND ($3 = '' OR api_uses.organization_id = $3)
         AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)
         ORDER BY last_at DESC LIMIT 1",
    )
    .bind(audience.to_string())
    .bind(form.as_str())
    .bind(org.map(ToString::to_string).unwrap_or_default())
    .bind(now.as_millis())
    .fetch_optional(connection)
    .await?;
    Ok(last_at.map(Timestamp::from_millis))
}

fn counted_of(row: &AnyRow) -> Result<CountedUses> {
    let row = Row::of("api_uses", row);
    let number = |column| Ok::<_, crate::error::Error>(row.number(column)?.unsigned_abs());
    Ok(CountedUses {
        of: UsesOf {
            api_key: row.parsed("api_key_id")?,
            audience: row.parsed("audience_id")?,
            form: row.parsed("form")?,
        },
        org: row.parsed("organization_id")?,
        uses: Uses {
            seen: number("seen")?,
            calls: number("calls")?,
            first_at: row.moment("first_at")?,
            last_at: row.moment("last_at")?,
            address: row.parsed_or_none("address")?,
            user_agent: row.parsed_or_none::<String>("user_agent")?.map(String::into_boxed_str),
        },
    })
}
