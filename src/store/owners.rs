//! What the index needs of owners: what each holds in an organization, roles not yet resolved.

use sqlx::any::AnyRow;

use crate::error::Result;
use crate::model::id::{BotId, OrgId, UserId};
use crate::model::owner::{BoundRole, OwnerId, StoredOwner};
use crate::store::packed::{Packed, half_after, made_after, made_in};
use crate::store::row::Row;
use crate::store::{Connection, Half, Made};

/// How many bots there are.
pub async fn count_bots(connection: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM bots").fetch_one(connection).await?)
}

/// A bot.
pub async fn find_bot(connection: &mut Connection, id: &BotId) -> Result<Option<StoredOwner>> {
    let row = sqlx::query(
        "SELECT bots.id AS owner_id, organization_id, grants,
         COALESCE(deleted_at, suspended_at) AS suspended_at, (
             SELECT string_agg(bound.level || ':' || bound.role || ':' || bound.place_id, ' ')
             FROM role_bindings AS bound WHERE bound.owner_id = bots.id
         ) AS roles FROM bots WHERE bots.id = $1
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(stored_of).transpose()
}

/// A person, once for each organization that it is a member of.
pub async fn list_user(connection: &mut Connection, id: &UserId) -> Result<Vec<StoredOwner>> {
    let rows = sqlx::query(
        "SELECT users.id AS owner_id, memberships.organization_id, '' AS grants,
         COALESCE(users.suspended_at, memberships.suspended_at) AS suspended_at, (
             SELECT string_agg(bound.level || ':' || bound.role || ':' || bound.place_id, ' ')
             FROM role_bindings AS bound WHERE bound.owner_id = users.id
             AND (bound.organization_id = memberships.organization_id OR bound.level = 'account')
         ) AS roles
         FROM users JOIN memberships ON memberships.user_id = users.id WHERE users.id = $1",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(stored_of).collect()
}

/// The bots that have something to do with a role, or with a space: a binding names it.
pub async fn list_bots_bound(connection: &mut Connection, bound: &str) -> Result<Vec<StoredOwner>> {
    let rows = sqlx::query(
        "SELECT bots.id AS owner_id, organization_id, grants,
         COALESCE(deleted_at, suspended_at) AS suspended_at, (
             SELECT string_agg(bound.level || ':' || bound.role || ':' || bound.place_id, ' ')
             FROM role_bindings AS bound WHERE bound.owner_id = bots.id
         ) AS roles FROM bots
         WHERE bots.id IN (SELECT owner_id FROM role_bindings WHERE role = $1 OR place_id = $1)
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))",
    )
    .bind(bound)
    .fetch_all(connection)
    .await?;
    rows.iter().map(stored_of).collect()
}

/// The persons of the same, once for each organization that they are members of, one after the other.
pub async fn list_users_bound(
    connection: &mut Connection,
    bound: &str,
) -> Result<Vec<StoredOwner>> {
    let rows = sqlx::query(
        "SELECT users.id AS owner_id, memberships.organization_id, '' AS grants,
         COALESCE(users.suspended_at, memberships.suspended_at) AS suspended_at, (
             SELECT string_agg(bound.level || ':' || bound.role || ':' || bound.place_id, ' ')
             FROM role_bindings AS bound WHERE bound.owner_id = users.id
             AND (bound.organization_id = memberships.organization_id OR bound.level = 'account')
         ) AS roles
         FROM users JOIN memberships ON memberships.user_id = users.id
         WHERE users.id IN (SELECT owner_id FROM role_bindings WHERE role = $1 OR place_id = $1)
         ORDER BY users.id",
    )
    .bind(bound)
    .fetch_all(connection)
    .await?;
    rows.iter().map(stored_of).collect()
}

/// All persons, once for each organization that they are members of.
pub async fn list_users(connection: &mut Connection) -> Result<Vec<StoredOwner>> {
    let rows = sqlx::query(
        "SELECT users.id AS owner_id, memberships.organization_id, '' AS grants,
         COALESCE(users.suspended_at, memberships.suspended_at) AS suspended_at, (
             SELECT string_agg(bound.level || ':' || bound.role || ':' || bound.place_id, ' ')
             FROM role_bindings AS bound WHERE bound.owner_id = users.id
             AND (bound.organization_id = memberships.organization_id OR bound.level = 'account')
         ) AS roles
         FROM users JOIN memberships ON memberships.user_id = users.id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(stored_of).collect()
}

/// A page of all bots, without their roles, and where it ended; nothing ends the list.
pub async fn list_bots_after(
    connection: &mut Connection,
    after: &Made,
) -> Result<(Vec<StoredOwner>, Option<Made>)> {
    let page_of = (
        "bots",
        "SELECT string_agg(line, $5) FROM (
             SELECT concat_ws($4, id, organization_id, grants,
             COALESCE(CAST(COALESCE(deleted_at, suspended_at) AS TEXT), ''), '',
             CAST(created_revision AS TEXT)) AS line
             FROM bots WHERE (created_revision, id) > ($1, $2)
             AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))
             ORDER BY created_revision, id LIMIT $3
         ) AS page",
    );
    made_after(connection, page_of, after, unpacked).await
}

/// The roles of a page of a half of all bots behind an id; an empty page ends the list.
pub async fn list_roles_of_bots_after(
    connection: &mut Connection,
    half: Half,
    after: Option<&BotId>,
) -> Result<Vec<(BotId, Vec<BoundRole>)>> {
    let page_of = (
        "role_bindings",
        "SELECT string_agg(line, $5) FROM (
             SELECT owner_id || $4 || string_agg(level || ':' || role || ':' || place_id, ' ')
             AS line FROM role_bindings WHERE owner_id > $1 AND owner_id < $2
             GROUP BY owner_id ORDER BY owner_id LIMIT $3
         ) AS page",
    );
    half_after(connection, page_of, (half, after), unpacked_roles).await
}

/// The bots that were made for an organization in one revision.
pub async fn list_bots_of(
    connection: &mut Connection,
    org: &OrgId,
    revision: i64,
) -> Result<Vec<StoredOwner>> {
    let page_of = (
        "bots",
        "SELECT string_agg(concat_ws($3, id, organization_id, grants,
             COALESCE(CAST(COALESCE(deleted_at, suspended_at) AS TEXT), ''), COALESCE((
                 SELECT string_agg(bound.level || ':' || bound.role || ':' || bound.place_id, ' ')
                 FROM role_bindings AS bound WHERE bound.owner_id = bots.id
             ), '')), $4)
         FROM bots WHERE organization_id = $1 AND created_revision = $2
         AND (import_id IS NULL OR import_id NOT IN (SELECT id FROM staged_imports))",
    );
    made_in(connection, page_of, (org, revision), unpacked).await
}

fn unpacked(line: &mut Packed<'_>) -> Result<StoredOwner> {
    Ok(StoredOwner {
        owner: OwnerId::Bot(line.parsed()?),
        org: line.parsed()?,
        grants: line.parsed_or_none()?,
        suspended_at: line.moment_or_none()?,
        roles: unpacked_roles(line)?,
    })
}

fn unpacked_roles(line: &mut Packed<'_>) -> Result<Vec<BoundRole>> {
    line.parsed_list()
}

fn stored_of(row: &AnyRow) -> Result<StoredOwner> {
    let row = Row::of("owners", row);
    let roles = row.text_or_none("roles")?.unwrap_or_default();
    let roles = roles.split_ascii_whitespace().map(str::parse::<BoundRole>);
    Ok(StoredOwner {
        owner: row.parsed("owner_id")?,
        org: row.parsed("organization_id")?,
        grants: row.parsed_unless_empty("grants")?,
        suspended_at: row.moment_or_none("suspended_at")?,
        roles: roles
            .collect::<std::result::Result<_, _>>()
            .map_err(|cause| row.bad("roles", cause))?,
    })
}
