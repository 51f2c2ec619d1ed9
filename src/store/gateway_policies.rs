//! Gateway policies.

use crate::error::{Error, Result};
use crate::model::gateway_policy::GatewayPolicy;
use crate::model::id::{GatewayPolicyId, OrgId};
use crate::store::page::{Cursor, Page};
use crate::store::row::Row;
use crate::store::{Connection, Write, taken};

/// Stores a new policy.
pub async fn insert(write: &mut Write<'_>, policy: &GatewayPolicy) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO gateway_policies (id, organization_id, name, audience_id, rules, created_at,
         created_revision) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(policy.id.to_string())
    .bind(policy.org.to_string())
    .bind(policy.name.as_str())
    .bind(policy.audience.to_string())
    .bind(rules_text(policy)?)
    .bind(policy.created_at.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await
    .map_err(|cause| {
        let message = format!("there is a gateway policy `{}` already", policy.name);
        taken(cause, "name_taken", message)
    })?;
    Ok(())
}

/// Stores what may change about a policy.
pub async fn update(connection: &mut Connection, policy: &GatewayPolicy) -> Result<()> {
    sqlx::query("UPDATE gateway_policies SET audience_id = $2, rules = $3 WHERE id = $1")
        .bind(policy.id.to_string())
        .bind(policy.audience.to_string())
        .bind(rules_text(policy)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes a policy.
pub async fn delete(connection: &mut Connection, id: &GatewayPolicyId) -> Result<()> {
    sqlx::query("DELETE FROM gateway_policies WHERE id = $1")
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// A policy by its id.
pub async fn find(
    connection: &mut Connection,
    id: &GatewayPolicyId,
) -> Result<Option<GatewayPolicy>> {
    let row = sqlx::query(
        "SELECT id, organization_id, name, audience_id, rules, created_at, created_revision
         FROM gateway_policies WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| policy_of(&Row::of("gateway_policies", row))).transpose()
}

/// A policy of an organization by its name.
pub async fn find_by_name(
    connection: &mut Connection,
    org: &OrgId,
    name: &str,
) -> Result<Option<GatewayPolicy>> {
    let row = sqlx::query(
        "SELECT id, organization_id, name, audience_id, rules, created_at, created_revision
         FROM gateway_policies WHERE organization_id = $1 AND name = $2",
    )
    .bind(org.to_string())
    .bind(name)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| policy_of(&Row::of("gateway_policies", row))).transpose()
}

/// A page of the policies of an organization, from new to old.
pub async fn list(
    connection: &mut Connection,
    org: &OrgId,
    after: &Cursor,
    limit: i64,
) -> Result<Page<GatewayPolicy>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, name, audience_id, rules, created_at, created_revision
         FROM gateway_policies WHERE organization_id = $1 AND (created_revision, id) < ($2, $3)
         ORDER BY created_revision DESC, id DESC LIMIT $4",
    )
    .bind(org.to_string())
    .bind(after.revision)
    .bind(&after.id)
    .bind(limit + 1)
    .fetch_all(connection)
    .await?;
    Page::read(&rows, ("gateway_policies", "id"), limit, policy_of)
}

/// All policies of the installation.
pub async fn list_all(connection: &mut Connection) -> Result<Vec<GatewayPolicy>> {
    let rows = sqlx::query(
        "SELECT id, organization_id, name, audience_id, rules, created_at, created_revision
         FROM gateway_policies",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| policy_of(&Row::of("gateway_policies", row))).collect()
}

fn rules_text(policy: &GatewayPolicy) -> Result<String> {
    serde_json::to_string(&policy.rules).map_err(|cause| Error::Broken(cause.to_string()))
}

fn policy_of(row: &Row<'_>) -> Result<GatewayPolicy> {
    let rules = row.text("rules")?;
    Ok(GatewayPolicy {
        id: row.parsed("id")?,
        org: row.parsed("organization_id")?,
        name: row.parsed("name")?,
        audience: row.parsed("audience_id")?,
        rules: serde_json::from_str(&rules).map_err(|cause| row.bad("rules", cause))?,
        created_at: row.moment("created_at")?,
    })
}
