//! Signing keys, their private halves sealed.

use crate::error::Result;
use crate::model::signing_key::SigningKey;
use crate::model::time::Timestamp;
use crate::store::installation::algorithm_named;
use crate::store::row::Row;
use crate::store::{Connection, Write};

/// Stores a new signing key.
pub async fn insert(write: &mut Write<'_>, signing_key: &SigningKey) -> Result<()> {
    let revision = write.revision();
    sqlx::query(
        "INSERT INTO signing_keys (kid, algorithm, public_jwk, sealed_private, published_at,
         signing_at, retiring_at, retired_at, created_revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(signing_key.kid.as_str())
    .bind(signing_key.algorithm.name())
    .bind(&signing_key.public_jwk)
    .bind(&signing_key.sealed_private)
    .bind(signing_key.published_at.as_millis())
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
        "SELECT kid, algorithm, public_jwk, sealed_private, published_at, signing_at, retiring_at,
         retired_at FROM signing_keys ORDER BY created_revision, published_at, kid",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(signing_key_of).collect()
}

fn signing_key_of(row: &sqlx::any::AnyRow) -> Result<SigningKey> {
    let row = Row::of("signing_keys", row);
    Ok(SigningKey {
        kid: row.parsed("kid")?,
        algorithm: algorithm_named(&row.text("algorithm")?)?,
        public_jwk: row.text("public_jwk")?,
        sealed_private: row.text("sealed_private")?,
        published_at: row.moment("published_at")?,
        signing_at: row.moment_or_none("signing_at")?,
        retiring_at: row.moment_or_none("retiring_at")?,
        retired_at: row.moment_or_none("retired_at")?,
    })
}
