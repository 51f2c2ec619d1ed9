//! Persons, and their memberships of organizations.

use crate::error::Result;
use crate::model::id::{OrgId, UserId};
use crate::model::time::Timestamp;
use crate::model::user::{EmailAddress, Member, Person};
use crate::store::page::{Cursor, Page};
use crate::store::row::Row;
use crate::store::{Connection, Write, taken};

/// Stores a person that the installation does not know yet.
pub async fn insert(
    write: &mut Write<'_>,
    id: &UserId,
    email: &EmailAddress,
    now: Timestamp,
) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO users (id, email, created_at, created_revision) VALUES ($1, $2, $3, $4)",
    )
    .bind(id.to_string())
    .bind(email.as_str())
    .bind(now.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// A person by the address.
pub async fn find_by_email(
    connection: &mut Connection,
    email: &EmailAddress,
) -> Result<Option<Person>> {
    let row = sqlx::query("SELECT id, email, created_at, suspended_at FROM users WHERE email = $1")
        .bind(email.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(|row| person_of(&Row::of("users", row))).transpose()
}

/// Whether the installation knows a person.
pub async fn exists(connection: &mut Connection, id: &UserId) -> Result<bool> {
    let row = sqlx::query("SELECT id FROM users WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// A person as the installation knows it.
pub async fn find(connection: &mut Connection, id: &UserId) -> Result<Option<Person>> {
    let row = sqlx::query("SELECT id, email, created_at, suspended_at FROM users WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(|row| person_of(&Row::of("users", row))).transpose()
}

/// Suspends a person in the whole installation, or lets it go on.
pub async fn update_suspended(
    connection: &mut Connection,
    id: &UserId,
    suspended_at: Option<Timestamp>,
) -> Result<()> {
    sqlx::query("UPDATE users SET suspended_at = $1 WHERE id = $2")
        .bind(suspended_at.map(Timestamp::as_millis))
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores a membership.
///
/// # Errors
/// [`Conflict`](crate::error::Error::Conflict) `already_member`.
pub async fn insert_member(write: &mut Write<'_>, member: &Member) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO memberships (user_id, organization_id, name, created_at, created_revision)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(member.id.to_string())
    .bind(member.org.to_string())
    .bind(&member.name)
    .bind(member.created_at.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await
    .map_err(|cause| {
        taken(cause, "already_member", format!("`{}` is a member already", member.email))
    })?;
    Ok(())
}

/// Stores what may change about a membership.
pub async fn update_member(connection: &mut Connection, member: &Member) -> Result<()> {
    sqlx::query(
        "UPDATE memberships SET name = $3, suspended_at = $4
         WHERE user_id = $1 AND organization_id = $2",
    )
    .bind(member.id.to_string())
    .bind(member.org.to_string())
    .bind(&member.name)
    .bind(member.suspended_at.map(Timestamp::as_millis))
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a membership.
pub async fn delete_member(connection: &mut Connection, org: &OrgId, id: &UserId) -> Result<()> {
    sqlx::query("DELETE FROM memberships WHERE user_id = $1 AND organization_id = $2")
        .bind(id.to_string())
        .bind(org.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// A person as an organization knows it.
pub async fn find_member(
    connection: &mut Connection,
    org: &OrgId,
    id: &UserId,
) -> Result<Option<Member>> {
    let row = sqlx::query(
        "SELECT users.id AS user_id, organization_id, email, name, memberships.created_at,
         memberships.created_revision, memberships.suspended_at,
         users.suspended_at AS person_suspended_at
         FROM memberships JOIN users ON users.id = memberships.user_id
         WHERE memberships.user_id = $1 AND organization_id = $2",
    )
    .bind(id.to_string())
    .bind(org.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| member_of(&Row::of("memberships", row))).transpose()
}

/// A page of the members of an organization, from new to old.
pub async fn list_members(
    connection: &mut Connection,
    org: &OrgId,
    after: &Cursor,
    limit: i64,
) -> Result<Page<Member>> {
    let rows = sqlx::query(
        "SELECT users.id AS user_id, organization_id, email, name, memberships.created_at,
         memberships.created_revision, memberships.suspended_at,
         users.suspended_at AS person_suspended_at
         FROM memberships JOIN users ON users.id = memberships.user_id
         WHERE organization_id = $1 AND (memberships.created_revision, memberships.user_id) < ($2, $3)
         ORDER BY memberships.created_revision DESC, memberships.user_id DESC LIMIT $4",
    )
    .bind(org.to_string())
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit + 1)
    .fetch_all(connection)
    .await?;
    Page::read(&rows, ("memberships", "user_id"), limit, member_of)
}

fn person_of(row: &Row<'_>) -> Result<Person> {
    Ok(Person {
        id: row.parsed("id")?,
        email: row.parsed("email")?,
        created_at: row.moment("created_at")?,
        suspended_at: row.moment_or_none("suspended_at")?,
    })
}

fn member_of(row: &Row<'_>) -> Result<Member> {
    Ok(Member {
        id: row.parsed("user_id")?,
        org: row.parsed("organization_id")?,
        email: row.parsed("email")?,
        name: row.text("name")?,
        created_at: row.moment("created_at")?,
        suspended_at: row.moment_or_none("suspended_at")?,
        person_suspended_at: row.moment_or_none("person_suspended_at")?,
    })
}
