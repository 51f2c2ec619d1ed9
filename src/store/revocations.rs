//! What was revoked, as long as a token of before may live.
//!
//! Few rows, whatever comes: many tokens of one key become the key, many subjects of one
//! organization the organization. Their clients fetch anew.

use crate::error::Result;
use crate::model::id::OrgId;
use crate::model::revocation::{Revocation, RevokedSubject, RevokedTokens};
use crate::model::time::Timestamp;
use crate::store::row::Row;
use crate::store::{Connection, Write};

/// Single tokens of one key that are told apart.
const MAX_TOKENS: i64 = 100;
/// Subjects of one organization that are told apart.
const MAX_SUBJECTS: i64 = 1_000;

/// Records that tokens are void from the revision of this change on.
pub async fn insert(
    write: &mut Write<'_>,
    (subject, tokens): (&RevokedSubject, RevokedTokens),
    org: Option<OrgId>,
    now: Timestamp,
) -> Result<()> {
    record(write, (subject, tokens), org, now).await?;
    if let RevokedSubject::Token(_, api_key) = subject {
        let key = RevokedSubject::ApiKey(*api_key);
        if count_tokens(write, &key.id()).await? > MAX_TOKENS {
            record(write, (&key, RevokedTokens::Before), org, now).await?;
        }
    }
    let Some(org) = org else { return Ok(()) };
    if count_of(write, &org).await? > MAX_SUBJECTS {
        record(write, (&RevokedSubject::Org(org), RevokedTokens::Before), Some(org), now).await?;
    }
    Ok(())
}

/// Records one, and drops what it says already. What was revoked in several organizations is of none, so
/// that no end of one of them covers it.
async fn record(
    write: &mut Write<'_>,
    (subject, tokens): (&RevokedSubject, RevokedTokens),
    org: Option<OrgId>,
    now: Timestamp,
) -> Result<()> {
    let revision = write.revision();
    let api_key = match subject {
        RevokedSubject::Token(_, api_key) => Some(api_key.to_string()),
        _ => None,
    };
    sqlx::query(
        "INSERT INTO revocations
         (subject_id, organization_id, api_key_id, below, revision, recorded_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (subject_id) DO UPDATE SET
         organization_id = CASE WHEN revocations.organization_id = excluded.organization_id
         THEN excluded.organization_id END,
         below = CASE WHEN revocations.below IS NULL THEN NULL ELSE excluded.below END,
         revision = excluded.revision, recorded_at = excluded.recorded_at",
    )
    .bind(subject.id())
    .bind(org.map(|id| id.to_string()))
    .bind(api_key)
    .bind((tokens == RevokedTokens::Before).then_some(revision))
    .bind(revision)
    .bind(now.as_millis())
    .execute(&mut **write)
    .await?;
    let covered = match subject {
        RevokedSubject::ApiKey(_) => "DELETE FROM revocations WHERE api_key_id = $1",
        RevokedSubject::Org(_) => {
            "DELETE FROM revocations WHERE organization_id = $1 AND subject_id <> $1"
        }
        _ => return Ok(()),
    };
    sqlx::query(covered).bind(subject.id()).execute(&mut **write).await?;
    Ok(())
}

async fn count_tokens(connection: &mut Connection, api_key: &str) -> Result<i64> {
    let count = "SELECT COUNT(*) FROM revocations WHERE api_key_id = $1";
    Ok(sqlx::query_scalar(count).bind(api_key).fetch_one(connection).await?)
}

async fn count_of(connection: &mut Connection, org: &OrgId) -> Result<i64> {
    let count = "SELECT COUNT(*) FROM revocations WHERE organization_id = $1";
    Ok(sqlx::query_scalar(count).bind(org.to_string()).fetch_one(connection).await?)
}

/// What was recorded after a revision, in order.
pub async fn list_after(connection: &mut Connection, revision: i64) -> Result<Vec<Revocation>> {
    let rows = sqlx::query(
        "SELECT subject_id, organization_id, api_key_id, below, revision, recorded_at
         FROM revocations WHERE revision > $1 ORDER BY revision, subject_id",
    )
    .bind(revision)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| revocation_of(&Row::of("revocations", row))).collect()
}

/// Deletes what was recorded before a moment: all that it voids is dead.
pub async fn prune(connection: &mut Connection, before: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM revocations WHERE recorded_at < $1")
        .bind(before.as_millis())
        .execute(connection)
        .await?;
    Ok(())
}

/// Begins another epoch: the revisions of before mean nothing any more.
pub async fn update_epoch(connection: &mut Connection, epoch: &str) -> Result<()> {
    sqlx::query("UPDATE installation SET feed_epoch = $1 WHERE id = 1")
        .bind(epoch)
        .execute(connection)
        .await?;
    Ok(())
}

fn revocation_of(row: &Row<'_>) -> Result<Revocation> {
    Ok(Revocation {
        subject: row.text("subject_id")?,
        org: row.parsed_or_none("organization_id")?,
        api_key: row.parsed_or_none("api_key_id")?,
        below: row.number_or_none("below")?,
        revision: row.number("revision")?,
        recorded_at: row.moment("recorded_at")?,
    })
}
