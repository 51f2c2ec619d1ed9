//! Revisions, and what each of them touched.

use std::collections::HashSet;
use std::fmt;

use crate::error::Result;
use crate::model::id::{
    ApiKeyId, AudienceId, BotId, GatewayPolicyId, OrgId, RoleId, SpaceId, UserId,
};
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;
use crate::store::Connection;
use crate::store::row::Row;
use crate::store::rows;

/// Rows that one pruning deletes, or a few more where they share a revision.
const PRUNED_AT_ONCE: i64 = 500;

/// What a change touched. Nodes read the subject anew; the row does not say what changed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The installation itself.
    Installation,
    /// The set of signing keys.
    SigningKeys,
    /// An organization.
    Org(OrgId),
    /// An audience.
    Audience(AudienceId),
    /// A space.
    Space(SpaceId),
    /// A role that an organization defined.
    Role(RoleId),
    /// A bot.
    Bot(BotId),
    /// A person, in every organization.
    User(UserId),
    /// An API key.
    ApiKey(ApiKeyId),
    /// A gateway policy.
    GatewayPolicy(GatewayPolicyId),
    /// The API keys of an import, and their bots.
    Imported(Imported),
}

/// What an organization imported: the API keys and bots that were made in these revisions. One row
/// says it of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Imported {
    /// The organization.
    pub org: OrgId,
    /// The first revision.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.org, self.from, self.to)
    }
}

impl Imported {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        Some(Self {
            org: parts.next()?.parse().ok()?,
            from: parts.next()?.parse().ok()?,
            to: parts.next()?.parse().ok()?,
        })
    }
}

impl Subject {
    fn noun(self) -> &'static str {
        match self {
            Self::Installation => "installation",
            Self::SigningKeys => "signing_keys",
            Self::Org(_) => "organization",
            Self::Audience(_) => "audience",
            Self::Space(_) => "space",
            Self::Role(_) => "role",
            Self::Bot(_) => "bot",
            Self::User(_) => "user",
            Self::ApiKey(_) => "api_key",
            Self::GatewayPolicy(_) => "gateway_policy",
            Self::Imported(_) => "import",
        }
    }

    fn parse(noun: &str, id: &str) -> Option<Self> {
        Some(match noun {
            "installation" => Self::Installation,
            "signing_keys" => Self::SigningKeys,
            "organization" => Self::Org(id.parse().ok()?),
            "audience" => Self::Audience(id.parse().ok()?),
            "space" => Self::Space(id.parse().ok()?),
            "role" => Self::Role(id.parse().ok()?),
            "bot" => Self::Bot(id.parse().ok()?),
            "user" => Self::User(id.parse().ok()?),
            "api_key" => Self::ApiKey(id.parse().ok()?),
            "gateway_policy" => Self::GatewayPolicy(id.parse().ok()?),
            "import" => Self::Imported(Imported::parse(id)?),
            _ => return None,
        })
    }
}

impl From<OwnerId> for Subject {
    fn from(owner: OwnerId) -> Self {
        match owner {
            OwnerId::User(id) => Self::User(id),
            OwnerId::Bot(id) => Self::Bot(id),
        }
    }
}

impl fmt::Display for Subject {
    /// The id of the subject; nothing where there is only one of its kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installation | Self::SigningKeys => Ok(()),
            Self::Org(id) => id.fmt(f),
            Self::Audience(id) => id.fmt(f),
            Self::Space(id) => id.fmt(f),
            Self::Role(id) => id.fmt(f),
            Self::Bot(id) => id.fmt(f),
            Self::User(id) => id.fmt(f),
            Self::ApiKey(id) => id.fmt(f),
            Self::GatewayPolicy(id) => id.fmt(f),
            Self::Imported(imported) => imported.fmt(f),
        }
    }
}

/// How far the database has come, and how far back its changes reach.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The newest revision.
    pub revision: i64,
    /// The newest revision whose changes were pruned.
    pub pruned: i64,
    /// The epoch of these revisions: another one begins where a database went back in time.
    pub epoch: String,
}

/// Raises the revision. The lock on the row lasts until the commit.
pub(crate) async fn take_revision(connection: &mut Connection) -> Result<i64> {
    let raise = "UPDATE installation SET revision = revision + 1 WHERE id = 1 RETURNING revision";
    Ok(sqlx::query_scalar(raise).fetch_one(connection).await?)
}

/// Raises the revision above one that was seen before: after a fail-over or a restore.
pub async fn raise_revision_above(connection: &mut Connection, seen: i64) -> Result<()> {
    sqlx::query("UPDATE installation SET revision = $1 + 1 WHERE id = 1 AND revision <= $1")
        .bind(seen)
        .execute(connection)
        .await?;
    Ok(())
}

/// How far the database has come.
pub async fn progress(connection: &mut Connection) -> Result<Progress> {
    let find = "SELECT revision, pruned_revision, feed_epoch FROM installation WHERE id = 1";
    let row = sqlx::query(find).fetch_one(connection).await?;
    let row = Row::of("installation", &row);
    Ok(Progress {
        revision: row.number("revision")?,
        pruned: row.number("pruned_revision")?,
        epoch: row.text("feed_epoch")?,
    })
}

pub(crate) async fn insert_all(
    connection: &mut Connection,
    revision: i64,
    subjects: &[Subject],
    now: Timestamp,
) -> Result<()> {
    let insert =
        "INSERT INTO changes (revision, noun, subject_id, changed_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (revision, noun, subject_id) DO NOTHING";
    rows::insert_all(connection, insert, subjects, |query, subject| {
        query.bind(revision).bind(subject.noun()).bind(subject.to_string()).bind(now.as_millis())
    })
    .await?;
    Ok(())
}

/// What changed after a revision, in order. A noun of a newer version of tenmint is passed over.
pub async fn list_after(connection: &mut Connection, revision: i64) -> Result<Vec<Subject>> {
    let rows = sqlx::query(
        "SELECT noun, subject_id FROM changes WHERE revision > $1
         ORDER BY revision, noun, subject_id",
    )
    .bind(revision)
    .fetch_all(connection)
    .await?;
    let (mut subjects, mut seen) = (Vec::with_capacity(rows.len()), HashSet::new());
    for row in &rows {
        let row = Row::of("changes", row);
        let subject = Subject::parse(&row.text("noun")?, &row.text("subject_id")?);
        // each subject is read once, however often it changed
        subjects.extend(subject.filter(|subject| seen.insert(*subject)));
    }
    Ok(subjects)
}

/// Deletes some changes from before a moment, the oldest first, and remembers how far. Says
/// whether there may be more: a write is kept short.
pub async fn prune(connection: &mut Connection, before: Timestamp) -> Result<bool> {
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT MAX(revision) FROM (
             SELECT revision FROM changes WHERE changed_at < $1 ORDER BY revision LIMIT $2
         ) AS oldest",
    )
    .bind(before.as_millis())
    .bind(PRUNED_AT_ONCE)
    .fetch_one(&mut *connection)
    .await?;
    let Some(last) = last else { return Ok(false) };
    let done = sqlx::query("DELETE FROM changes WHERE revision <= $1")
        .bind(last)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE installation SET pruned_revision = $1 WHERE id = 1 AND pruned_revision < $1",
    )
    .bind(last)
    .execute(connection)
    .await?;
    Ok(i64::try_from(done.rows_affected()).is_ok_and(|rows| rows >= PRUNED_AT_ONCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_imported_is_read_back() {
        let imported = Imported { org: OrgId::from_random([7; 16]), from: 3, to: 1_000 };
        let subject = Subject::Imported(imported);
        assert_eq!(Subject::parse(subject.noun(), &subject.to_string()), Some(subject));
        for text in [
            "",
            "org_0123456789abcdef",
            "org_0123456789abcdef:1",
            ":1:2",
            "org_0123456789abcdef:1:x",
        ] {
            assert_eq!(Subject::parse("import", text), None, "{text}");
        }
    }
}
