//! Roles that organizations defined, and where roles are bound.

use crate::error::{Error, Result};
use crate::model::id::{OrgId, RoleId, SpaceId};
use crate::model::owner::OwnerId;
use crate::model::role::{Role, RoleBinding, RolePlace, RoleRef, RoleScopes};
use crate::store::page::{Cursor, Page};
use crate::store::row::Row;
use crate::store::rows;
use crate::store::{Connection, Write, taken};

/// Stores a new role.
pub async fn insert(write: &mut Write<'_>, role: &Role) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO roles (id, organization_id, level, name, scopes, created_at, created_revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(role.id.to_string())
    .bind(role.org.to_string())
    .bind(role.level.as_str())
    .bind(&role.name)
    .bind(role.scopes.as_str())
    .bind(role.created_at.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await
    .map_err(|cause| name_taken(cause, role))?;
    Ok(())
}

/// Stores what may change about a role.
pub async fn update(connection: &mut Connection, role: &Role) -> Result<()> {
    sqlx::query("UPDATE roles SET name = $2, scopes = $3 WHERE id = $1")
        .bind(role.id.to_string())
        .bind(&role.name)
        .bind(role.scopes.as_str())
        .execute(connection)
        .await
        .map_err(|cause| name_taken(cause, role))?;
    Ok(())
}

fn name_taken(cause: sqlx::Error, role: &Role) -> Error {
    taken(cause, "name_taken", format!("there is a role `{}` already", role.name))
}

/// Deletes a role that is bound nowhere.
pub async fn delete(connection: &mut Connection, id: &RoleId) -> Result<()> {
    sqlx::query("DELETE FROM roles WHERE id = $1").bind(id.to_string()).execute(connection).await?;
    Ok(())
}

/// A role by its id.
pub async fn find(connection: &mut Connection, id: &RoleId) -> Result<Option<Role>> {
    let row = sqlx::query(
        "SELECT id, organization_id, level, name, scopes, created_at, created_revision
         FROM roles WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| role_of(&Row::of("roles", row))).transpose()
}

/// A role of an organization by its level and name.
pub async fn find_by_name(
    connection: &mut Connection,
    org: &OrgId,
    level: &str,
    name: &str,
) -> Result<Option<Role>> {
    let row = sqlx::query(
        "SELECT id, organization_id, level, name, scopes, created_at, created_revision
         FROM roles WHERE organization_id = $1 AND level = $2 AND name = $3",
    )
    .bind(org.to_string())
    .bind(level)
    .bind(name)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| role_of(&Row::of("roles", row))).transpose()
}

/// A page of the roles that an organization defined, from new to old.
pub async fn list(
    connection: &mut Connection,
    org: &OrgId,
    after: &Cursor,
    limit: i64,
) -> Result<Page<Role>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, level, name, scopes, created_at, created_revision
         FROM roles WHERE organization_id = $1 AND (created_revision, id) < ($2, $3)
         ORDER BY created_revision DESC, id DESC LIMIT $4",
    )
    .bind(org.to_string())
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit + 1)
    .fetch_all(connection)
    .await?;
    Page::read(&rows, ("roles", "id"), limit, role_of)
}

/// All roles that an organization defined.
pub async fn list_defined_by(connection: &mut Connection, org: &OrgId) -> Result<Vec<Role>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, level, name, scopes, created_at, created_revision
         FROM roles WHERE organization_id = $1",
    )
    .bind(org.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| role_of(&Row::of("roles", row))).collect()
}

/// All roles of the installation.
pub async fn list_all(connection: &mut Connection) -> Result<Vec<Role>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, level, name, scopes, created_at, created_revision FROM roles",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| role_of(&Row::of("roles", row))).collect()
}

fn role_of(row: &Row<'_>) -> Result<Role> {
    Ok(Role {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        level: row.parsed("level")?,
        name: row.text("name")?,
        scopes: RoleScopes::stored(&row.text("scopes")?),
        created_at: row.moment("created_at")?,
    })
}

/// What stands for a place in the table.
fn place_id(place: &RolePlace) -> String {
    match place {
        RolePlace::Account => String::new(),
        RolePlace::Organization { organization } => organization.to_string(),
        RolePlace::Space { space, .. } => space.to_string(),
    }
}

/// Binds a role, in place of the one that the owner had there.
pub async fn bind(connection: &mut Connection, binding: &RoleBinding) -> Result<()> {
    bind_all(connection, std::slice::from_ref(binding)).await
}

/// Binds roles, no two of one owner at one place, in place of those that the owners had there.
pub async fn bind_all(connection: &mut Connection, bindings: &[RoleBinding]) -> Result<()> {
    let insert = "INSERT INTO role_bindings (owner_id, place_id, level, organization_id, role)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (owner_id, place_id) DO UPDATE SET role = excluded.role";
    rows::insert_all(connection, insert, bindings, |query, binding| {
        query
            .bind(binding.owner.to_string())
            .bind(place_id(&binding.place))
            .bind(binding.place.level().as_str())
            .bind(binding.place.org().map(|id| id.to_string()))
            .bind(binding.role.to_string())
    })
    .await?;
    Ok(())
}

/// Takes the role of an owner at a place away.
pub async fn unbind(connection: &mut Connection, owner: &OwnerId, place: &RolePlace) -> Result<()> {
    sqlx::query("DELETE FROM role_bindings WHERE owner_id = $1 AND place_id = $2")
        .bind(owner.to_string())
        .bind(place_id(place))
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes all roles of an owner in an organization away, those in its spaces included.
pub async fn unbind_all(connection: &mut Connection, owner: &OwnerId, org: &OrgId) -> Result<()> {
    sqlx::query("DELETE FROM role_bindings WHERE owner_id = $1 AND organization_id = $2")
        .bind(owner.to_string())
        .bind(org.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes all roles of the bots of a space away.
pub async fn unbind_all_from(connection: &mut Connection, space: &SpaceId) -> Result<()> {
    sqlx::query(
        "DELETE FROM role_bindings WHERE owner_id IN (SELECT id FROM bots WHERE space_id = $1)",
    )
    .bind(space.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// The places beyond a space that bots of it administer.
pub async fn list_led_from(connection: &mut Connection, space: &SpaceId) -> Result<Vec<RolePlace>> {
    let rows = sqlx::query(
        "SELECT DISTINCT place_id, level, organization_id FROM role_bindings
         WHERE role = 'admin' AND place_id <> $1
         AND owner_id IN (SELECT id FROM bots WHERE space_id = $1)",
    )
    .bind(space.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| place_of(&Row::of("role_bindings", row))).collect()
}

/// The role of an owner at a place.
pub async fn find_bound(
    connection: &mut Connection,
    owner: &OwnerId,
    place: &RolePlace,
) -> Result<Option<RoleRef>> {
    let row = sqlx::query("SELECT role FROM role_bindings WHERE owner_id = $1 AND place_id = $2")
        .bind(owner.to_string())
        .bind(place_id(place))
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(|row| Row::of("role_bindings", row).parsed("role")).transpose()
}

/// How many roles an owner has in an organization and its spaces.
pub async fn count_bound(connection: &mut Connection, owner: &OwnerId, org: &OrgId) -> Result<i64> {
    let count = sqlx::query_scalar(
        "SELECT COUNT(*) FROM role_bindings WHERE owner_id = $1 AND organization_id = $2",
    );
    let count = count.bind(owner.to_string()).bind(org.to_string());
    Ok(count.fetch_one(connection).await?)
}

/// All roles of an owner.
pub async fn list_bound(connection: &mut Connection, owner: &OwnerId) -> Result<Vec<RoleBinding>> {
    let rows = sqlx::query(
        "SELECT owner_id, place_id, level, organization_id, role FROM role_bindings
         WHERE owner_id = $1 ORDER BY level, place_id",
    )
    .bind(owner.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| binding_of(&Row::of("role_bindings", row))).collect()
}

/// A page of the roles that are bound at a place, by owner.
pub async fn list_at(
    connection: &mut Connection,
    place: &RolePlace,
    after: &str,
    limit: i64,
) -> Result<Vec<RoleBinding>> {
    let rows = sqlx::query(
        "SELECT owner_id, place_id, level, organization_id, role FROM role_bindings
         WHERE place_id = $1 AND owner_id > $2
         AND COALESCE((SELECT import_id FROM bots WHERE bots.id = owner_id), '')
         NOT IN (SELECT id FROM staged_imports)
         ORDER BY owner_id LIMIT $3",
    )
    .bind(place_id(place))
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| binding_of(&Row::of("role_bindings", row))).collect()
}

/// Whether a defined role is bound to anybody, wherever.
pub async fn is_bound(connection: &mut Connection, id: &RoleId) -> Result<bool> {
    let row = sqlx::query("SELECT owner_id FROM role_bindings WHERE role = $1 LIMIT 1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// How many owners that are neither suspended nor gone, nor of a suspended organization, have the
/// role `admin` at a place: bots and persons together.
pub async fn count_live_admins(connection: &mut Connection, place: &RolePlace) -> Result<i64> {
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM role_bindings WHERE place_id = $1 AND role = 'admin' AND (
             EXISTS (SELECT 1 FROM bots
                     JOIN organizations ON organizations.id = bots.organization_id
                     LEFT JOIN spaces ON spaces.id = bots.space_id
                     WHERE bots.id = owner_id AND bots.suspended_at IS NULL
                     AND bots.deleted_at IS NULL AND organizations.suspended_at IS NULL
                     AND spaces.suspended_at IS NULL AND spaces.deleted_at IS NULL)
             OR EXISTS (SELECT 1 FROM users JOIN memberships ON user_id = users.id
                        JOIN organizations ON organizations.id = memberships.organization_id
                        WHERE users.id = owner_id AND users.suspended_at IS NULL
                        AND memberships.suspended_at IS NULL
                        AND organizations.suspended_at IS NULL
                        AND ($2 = '' OR memberships.organization_id = $2))
         )",
    )
    .bind(place_id(place))
    .bind(place.org().map(|id| id.to_string()).unwrap_or_default())
    .fetch_one(connection)
    .await?)
}

fn binding_of(row: &Row<'_>) -> Result<RoleBinding> {
    let place = place_of(row)?;
    Ok(RoleBinding { owner: row.parsed("owner_id")?, place, role: row.parsed("role")? })
}

fn place_of(row: &Row<'_>) -> Result<RolePlace> {
    let level = row.text("level")?;
    Ok(match level.as_str() {
        "account" => RolePlace::Account,
        "organization" => RolePlace::Organization { organization: row.parsed("organization_id")? },
        _ => RolePlace::Space {
            organization: row.parsed("organization_id")?,
            space: row.parsed("place_id")?,
        },
    })
}
