//! Usage by the hour, and last uses.
//!
//! Rows come by the thousand, and a statement a row would hold the turn of the writers for the way
//! to the database and back each time. So a statement takes a text of lines of fixed width, which is
//! all that both engines can take apart. It holds few of them, as each step copies the rest.

use sqlx::any::AnyRow;

use crate::error::Result;
use crate::model::id::ApiKeyId;
use crate::model::time::Timestamp;
use crate::model::usage::{Grain, HourCount, LastUse, Usage, UsageSubject};
use crate::store::row::Row;
use crate::store::{Append, Connection, api_uses};

/// Lines of one statement.
pub(super) const LINES: usize = 50;
/// Rows that one pruning deletes, or a few more where they share hour and subject.
const PRUNED_AT_ONCE: i64 = 500;
/// The largest moment that has fifteen digits, in the year 33658.
pub(super) const MAX_MOMENT: i64 = 999_999_999_999_999;

/// A count, as it is told. The outcome may be one of a newer version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCount {
    /// The start of the hour or day.
    pub from: Timestamp,
    /// The outcome.
    pub outcome: String,
    /// How often it came.
    pub count: u64,
}

/// Adds a part of this number of a writer, unless it was added before, which it says. Parts of one
/// writer come in the order of their numbers.
///
/// The rows are locked in their order, which is the same on every node: they never wait in a circle.
pub async fn add(
    append: &mut Append<'_>,
    (writer, number): (&str, i64),
    part: &Usage,
    now: Timestamp,
) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO usage_writers (id, part, written_at) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET part = excluded.part, written_at = excluded.written_at
         WHERE usage_writers.part < excluded.part",
    )
    .bind(writer)
    .bind(number)
    .bind(now.as_millis())
    .execute(&mut **append)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    for rows in part.hours.chunks(LINES) {
        add_hours(append, rows.iter().map(line_of_hour).collect()).await?;
    }
    for rows in part.last_uses.chunks(LINES) {
        put_last_uses(append, rows.iter().map(line_of_last_use).collect()).await?;
    }
    api_uses::add(append, &part.api_uses).await?;
    for watched in &part.watched {
        api_uses::put_watched(append, watched).await?;
    }
    Ok(true)
}

async fn add_hours(connection: &mut Connection, lines: String) -> Result<()> {
    sqlx::query(
        "INSERT INTO usage_hours (subject_id, hour_at, outcome, count)
         WITH RECURSIVE lines(line, rest) AS (
             SELECT substr($1, 1, 73), substr($1, 74)
             UNION ALL SELECT substr(rest, 1, 73), substr(rest, 74) FROM lines WHERE rest <> ''
         )
         SELECT substr(line, 1, 20), CAST(substr(line, 21, 15) AS BIGINT),
         rtrim(substr(line, 36, 19)), CAST(substr(line, 55, 19) AS BIGINT)
         FROM lines WHERE line <> ''
         ON CONFLICT (subject_id, hour_at, outcome)
         DO UPDATE SET count = usage_hours.count + excluded.count",
    )
    .bind(lines)
    .execute(connection)
    .await?;
    Ok(())
}

fn line_of_hour(row: &HourCount) -> String {
    let hour_at = row.hour_at.as_millis().clamp(0, MAX_MOMENT);
    let count = row.count.min(i64::MAX.unsigned_abs());
    format!("{}{hour_at:015}{:<19}{count:019}", row.subject, row.outcome.as_str())
}

async fn put_last_uses(connection: &mut Connection, lines: String) -> Result<()> {
    sqlx::query(
        "INSERT INTO last_uses (subject_id, used_at, address, user_agent)
         WITH RECURSIVE lines(line, rest) AS (
             SELECT substr($1, 1, 274), substr($1, 275)
             UNION ALL SELECT substr(rest, 1, 274), substr(rest, 275) FROM lines WHERE rest <> ''
         )
         SELECT substr(line, 1, 20), CAST(substr(line, 21, 15) AS BIGINT),
         NULLIF(rtrim(substr(line, 36, 39)), ''), NULLIF(rtrim(substr(line, 75, 200)), '')
         FROM lines WHERE line <> ''
         ON CONFLICT (subject_id) DO UPDATE SET used_at = excluded.used_at,
         address = excluded.address, user_agent = excluded.user_agent
         WHERE last_uses.used_at < excluded.used_at",
    )
    .bind(lines)
    .execute(connection)
    .await?;
    Ok(())
}

fn line_of_last_use((subject, last_use): &(UsageSubject, LastUse)) -> String {
    let used_at = last_use.used_at.as_millis().clamp(0, MAX_MOMENT);
    // the canonical form, as the IPv4 address in an IPv6 one would be too wide
    let address = last_use.address.map(|address| address.to_canonical().to_string());
    let (address, user_agent) = (address.unwrap_or_default(), &last_use.user_agent);
    let user_agent = user_agent.as_deref().unwrap_or_default();
    format!("{subject}{used_at:015}{address:<39.39}{user_agent:<200.200}")
}

/// The newest part of a writer that was added; 0 where there is none.
pub async fn written(connection: &mut Connection, writer: &str) -> Result<i64> {
    let part = "SELECT part FROM usage_writers WHERE id = $1";
    let found: Option<i64> =
        sqlx::query_scalar(part).bind(writer).fetch_optional(connection).await?;
    Ok(found.unwrap_or(0))
}

/// The counts of a subject by hour or day, the earliest first, from a moment to before another.
pub async fn list(
    connection: &mut Connection,
    subject: UsageSubject,
    (since, until): (Timestamp, Timestamp),
    grain: Grain,
) -> Result<Vec<FoundCount>> {
    let rows = sqlx::query(
        "SELECT from_at, outcome, CAST(SUM(count) AS BIGINT) AS count FROM (
             SELECT hour_at - hour_at % $4 AS from_at, outcome, count FROM usage_hours
             WHERE subject_id = $1 AND hour_at >= $2 AND hour_at < $3
         ) AS hours GROUP BY from_at, outcome ORDER BY from_at, outcome",
    )
    .bind(subject.to_string())
    .bind(since.as_millis())
    .bind(until.as_millis())
    .bind(grain.as_millis())
    .fetch_all(connection)
    .await?;
    rows.iter().map(found_of).collect()
}

/// The last use of an API key or an organization.
pub async fn find_last_use(
    connection: &mut Connection,
    subject: UsageSubject,
) -> Result<Option<LastUse>> {
    let row = sqlx::query(
        "SELECT subject_id, used_at, address, user_agent FROM last_uses WHERE subject_id = $1",
    )
    .bind(subject.to_string())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(last_use_of).transpose()
}

/// The last uses of a page of API keys, in no order.
pub async fn list_last_uses(
    connection: &mut Connection,
    ids: &[ApiKeyId],
) -> Result<Vec<(ApiKeyId, LastUse)>> {
    let rows = sqlx::query(
        "WITH RECURSIVE ids(id, rest) AS (
             SELECT substr($1, 1, 20), substr($1, 21)
             UNION ALL SELECT substr(rest, 1, 20), substr(rest, 21) FROM ids WHERE rest <> ''
         )
         SELECT subject_id, used_at, address, user_agent FROM last_uses
         WHERE subject_id IN (SELECT id FROM ids)",
    )
    .bind(ids.iter().map(ToString::to_string).collect::<String>())
    .fetch_all(connection)
    .await?;
    let id_of = |row| Row::of("last_uses", row).parsed("subject_id");
    rows.iter().map(|row| Ok((id_of(row)?, last_use_of(row)?))).collect()
}

/// Deletes some of the counts of hours before a moment, the oldest first, and forgets writers that
/// have not written since. Says whether there may be more: a write is kept short.
pub async fn prune(append: &mut Append<'_>, before: Timestamp) -> Result<bool> {
    sqlx::query("DELETE FROM usage_writers WHERE written_at < $1")
        .bind(before.as_millis())
        .execute(&mut **append)
        .await?;
    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT MIN(hour_at) FROM usage_hours WHERE hour_at < $1")
            .bind(before.as_millis())
            .fetch_one(&mut **append)
            .await?;
    let Some(hour_at) = oldest else { return Ok(false) };
    let last: Option<String> = sqlx::query_scalar(
        "SELECT MAX(subject_id) FROM (
             SELECT subject_id FROM usage_hours WHERE hour_at = $1 ORDER BY subject_id LIMIT $2
         ) AS oldest",
    )
    .bind(hour_at)
    .bind(PRUNED_AT_ONCE)
    .fetch_one(&mut **append)
    .await?;
    sqlx::query("DELETE FROM usage_hours WHERE hour_at = $1 AND subject_id <= $2")
        .bind(hour_at)
        .bind(last)
        .execute(&mut **append)
        .await?;
    Ok(true)
}

fn found_of(row: &AnyRow) -> Result<FoundCount> {
    let row = Row::of("usage_hours", row);
    Ok(FoundCount {
        from: row.moment("from_at")?,
        outcome: row.text("outcome")?,
        count: row.number("count")?.unsigned_abs(),
    })
}

fn last_use_of(row: &AnyRow) -> Result<LastUse> {
    let row = Row::of("last_uses", row);
    Ok(LastUse {
        used_at: row.moment("used_at")?,
        address: row.parsed_or_none("address")?,
        user_agent: row.parsed_or_none::<String>("user_agent")?.map(String::into_boxed_str),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::OrgId;
    use crate::model::usage::Outcome;

    #[test]
    fn every_line_has_the_width_that_its_statement_takes() {
        let subject = UsageSubject::Org(OrgId::from_random([1; 16]));
        let moments = [i64::MIN, 0, 1_800_000_000_000, i64::MAX].map(Timestamp::from_millis);
        for hour_at in moments {
            for outcome in Outcome::ALL {
                for count in [1, u64::MAX] {
                    let row = HourCount { subject, hour_at, outcome, count };
                    assert_eq!(line_of_hour(&row).len(), 73, "{row:?}");
                }
            }
        }
        let addresses = ["::1", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", "::ffff:255.255.255.255"];
        for address in addresses.map(|address| address.parse().ok()).into_iter().chain([None]) {
            for length in [0, 200, 300] {
                let user_agent = Some("x".repeat(length).into());
                for used_at in moments {
                    let last_use = LastUse { used_at, address, user_agent: user_agent.clone() };
                    assert_eq!(line_of_last_use(&(subject, last_use)).len(), 274);
                }
            }
        }
    }
}
