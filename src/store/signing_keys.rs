//! Signing keys, their private halves sealed. Each step of a key is conditional on the state before it,
//! so that of two who take it at once one does.

use crate::error::Result;
use crate::model::signing_key::{Kid, SigningKey};
use crate::model::time::Timestamp;
use crate::store::installation::algorithm_named;
use crate::store::row::Row;
use crate::store::{Connection, Write};

/// Stores a new signing key, published under the revision of this change.
pub async fn insert(write: &mut Write<'_>, signing_key: &SigningKey) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO signing_keys (kid, algorithm, public_jwk, sealed_private, published_at,
         wanted_at, signing_at, retiring_at, retired_at, created_revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(signing_key.kid.as_str())
    .bind(signing_key.algorithm.name())
    .bind(&signing_key.public_jwk)
    .bind(&signing_key.sealed_private)
    .bind(signing_key.published_at.as_millis())
    .bind(signing_key.wanted_at.map(Timestamp::as_millis))
    .bind(signing_key.signing_at.map(Timestamp::as_millis))
    .bind(signing_key.retiring_at.map(Timestamp::as_millis))
    .bind(signing_key.retired_at.map(Timestamp::as_millis))
    .bind(revision)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// All signing keys, the oldest first.
pub async fn list(connection: &mut Connection) -> Result<Vec<SigningKey>> {
    let rows = sqlx::query(
        "SELECT kid, algorithm, public_jwk, sealed_private, published_at, wanted_at, signing_at,
         retiring_at, retired_at, withdrawn_at, withdrawn_revision, created_revision
         FROM signing_keys ORDER BY created_revision, published_at, kid",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(signing_key_of).collect()
}

/// Notes that a rotation to a published key was asked for.
pub async fn want(connection: &mut Connection, kid: &Kid, now: Timestamp) -> Result<()> {
    let want = "UPDATE signing_keys SET wanted_at = $2
         WHERE kid = $1 AND wanted_at IS NULL AND signing_at IS NULL AND retired_at IS NULL";
    step(connection, want, kid, now).await?;
    Ok(())
}

/// Lets a published key sign, and the one before it sign no more. Says whether it was there to be
/// promoted.
pub async fn promote(connection: &mut Connection, kid: &Kid, now: Timestamp) -> Result<bool> {
    let begin = "UPDATE signing_keys SET signing_at = $2
         WHERE kid = $1 AND signing_at IS NULL AND retired_at IS NULL";
    if !step(connection, begin, kid, now).await? {
        return Ok(false);
    }
    // its private half goes at once: nobody needs it any more, and a backup then lacks it
    let end = "UPDATE signing_keys SET retiring_at = $2, sealed_private = ''
         WHERE kid <> $1 AND signing_at IS NOT NULL AND retiring_at IS NULL AND retired_at IS NULL";
    step(connection, end, kid, now).await?;
    Ok(true)
}

/// Takes a key out of the JWKS: one that has retired, or one that never signed. Says whether it was in
/// it.
pub async fn retire(connection: &mut Connection, kid: &Kid, now: Timestamp) -> Result<bool> {
    let retire = "UPDATE signing_keys SET retired_at = $2, sealed_private = ''
         WHERE kid = $1 AND (retiring_at IS NOT NULL OR signing_at IS NULL) AND retired_at IS NULL";
    step(connection, retire, kid, now).await
}

/// Withdraws a key, whatever its state.
pub async fn withdraw(write: &mut Write<'_>, kid: &Kid, now: Timestamp) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "UPDATE signing_keys SET withdrawn_at = $2, withdrawn_revision = $3, sealed_private = '',
         retired_at = COALESCE(retired_at, $2) WHERE kid = $1 AND withdrawn_at IS NULL",
    )
    .bind(kid.as_str())
    .bind(now.as_millis())
    .bind(revision)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Stores a private half as another master key has wrapped it.
pub async fn update_sealed(connection: &mut Connection, kid: &Kid, sealed: &str) -> Result<()> {
    sqlx::query("UPDATE signing_keys SET sealed_private = $2 WHERE kid = $1")
        .bind(kid.as_str())
        .bind(sealed)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes a step at a moment. Says whether it was there to be taken.
async fn step(
    connection: &mut Connection,
    sql: &'static str,
    kid: &Kid,
    now: Timestamp,
) -> Result<bool> {
    let done =
        sqlx::query(sql).bind(kid.as_str()).bind(now.as_millis()).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

fn signing_key_of(row: &sqlx::any::AnyRow) -> Result<SigningKey> {
    let row = Row::of("signing_keys", row);
    Ok(SigningKey {
        kid: row.parsed("kid")?,
        algorithm: algorithm_named(&row.text("algorithm")?)?,
        public_jwk: row.text("public_jwk")?,
        sealed_private: row.text("sealed_private")?,
        published_at: row.moment("published_at")?,
        published_revision: row.number("created_revision")?,
        wanted_at: row.moment_or_none("wanted_at")?,
        signing_at: row.moment_or_none("signing_at")?,
        retiring_at: row.moment_or_none("retiring_at")?,
        retired_at: row.moment_or_none("retired_at")?,
        withdrawn_at: row.moment_or_none("withdrawn_at")?,
        withdrawn_revision: row.number_or_none("withdrawn_revision")?,
    })
}
