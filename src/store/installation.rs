//! The one row of the installation.

use tenmint_verifier::Algorithm;

use crate::error::{Error, Result};
use crate::model::installation::{Installation, TokenLifetime};
use crate::model::time::Timestamp;
use crate::store::Connection;
use crate::store::row::Row;

/// The installation and its sealed pepper, once `init` has run.
#[derive(Debug, Clone)]
pub struct StoredInstallation {
    /// What it was set up with.
    pub installation: Installation,
    /// The pepper, wrapped by the master key.
    pub sealed_pepper: String,
}

/// Fills the row. Says whether it was empty.
pub async fn insert(
    connection: &mut Connection,
    stored: &StoredInstallation,
    now: Timestamp,
) -> Result<bool> {
    let installation = &stored.installation;
    let done = sqlx::query(
        "UPDATE installation SET initialized_at = $1, issuer = $2, api_key_prefix = $3,
         algorithm = $4, token_lifetime_seconds = $5, sealed_pepper = $6
         WHERE id = 1 AND initialized_at IS NULL",
    )
    .bind(now.as_millis())
    .bind(installation.issuer.as_str())
    .bind(installation.api_key_prefix.as_str())
    .bind(installation.algorithm.name())
    .bind(i64::try_from(installation.token_lifetime.as_seconds()).unwrap_or(0))
    .bind(&stored.sealed_pepper)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Stores the pepper as another master key has wrapped it.
pub async fn update_sealed_pepper(connection: &mut Connection, sealed: &str) -> Result<()> {
    sqlx::query("UPDATE installation SET sealed_pepper = $1 WHERE id = 1")
        .bind(sealed)
        .execute(connection)
        .await?;
    Ok(())
}

/// The installation, if `init` has run.
pub async fn find(connection: &mut Connection) -> Result<Option<StoredInstallation>> {
    let row = sqlx::query(
        "SELECT issuer, api_key_prefix, algorithm, token_lifetime_seconds, sealed_pepper
         FROM installation WHERE id = 1 AND initialized_at IS NOT NULL",
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = &row else { return Ok(None) };
    let row = Row::of("installation", row);
    let lifetime = TokenLifetime::from_seconds(row.number("token_lifetime_seconds")?)
        .ok_or_else(|| row.bad("token_lifetime_seconds", "not 60 to 3600"))?;
    let installation = Installation {
        issuer: row.parsed("issuer")?,
        api_key_prefix: row.parsed("api_key_prefix")?,
        algorithm: algorithm_named(&row.text("algorithm")?)?,
        token_lifetime: lifetime,
    };
    Ok(Some(StoredInstallation { installation, sealed_pepper: row.text("sealed_pepper")? }))
}

pub(crate) fn algorithm_named(name: &str) -> Result<Algorithm> {
    Algorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name() == name)
        .ok_or_else(|| Error::Broken(format!("`{name}` is no algorithm of this version")))
}
