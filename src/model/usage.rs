//! Usage: how often API keys got a token or were refused, by the hour, and how each was last used.
//!
//! The mint counts, the service carries, the store keeps. What is counted for an API key is counted
//! for its organization too, so that neither has to be summed up from the other.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::id::{ApiKeyId, AudienceId, OrgId};
use crate::model::migration::{CountedUses, Watched};
use crate::model::time::Timestamp;

/// What became of a request whose secret matched. The names are stable: they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A token.
    Issued,
    /// What the key is worth, told to an API that it was sent to as it is.
    Introspected,
    /// The key was revoked.
    Revoked,
    /// The key is over.
    Expired,
    /// The key has another secret by now, and the grace of this one is over.
    Replaced,
    /// The owner or the organization is suspended.
    Suspended,
    /// The address is not one that the key may be used from.
    AddressRefused,
    /// The quota of the key is spent.
    QuotaSpent,
    /// An audience that is unknown or not the key's.
    InvalidTarget,
    /// `resource` and `audience` name different audiences.
    TargetsDiffer,
    /// No audience was asked for, and there is no default.
    NoTarget,
    /// `scope` does not parse.
    MalformedScope,
    /// A scope that is beyond the key.
    ScopeBeyondKey,
    /// The owner has none of the key's scopes left.
    NoScope,
    /// All scopes of the key together are too much for one token.
    TooMuchScope,
    /// The service could not: never the client's fault.
    Unavailable,
}

impl Outcome {
    /// All there are.
    pub const ALL: [Self; 16] = [
        Self::Issued,
        Self::Introspected,
        Self::Revoked,
        Self::Expired,
        Self::Replaced,
        Self::Suspended,
        Self::AddressRefused,
        Self::QuotaSpent,
        Self::InvalidTarget,
        Self::TargetsDiffer,
        Self::NoTarget,
        Self::MalformedScope,
        Self::ScopeBeyondKey,
        Self::NoScope,
        Self::TooMuchScope,
        Self::Unavailable,
    ];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Introspected => "introspected",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Suspended => "suspended",
            Self::AddressRefused => "address_refused",
            Self::QuotaSpent => "quota_spent",
            Self::InvalidTarget => "invalid_target",
            Self::TargetsDiffer => "targets_differ",
            Self::NoTarget => "no_target",
            Self::MalformedScope => "malformed_scope",
            Self::ScopeBeyondKey => "scope_beyond_key",
            Self::NoScope => "no_scope",
            Self::TooMuchScope => "too_much_scope",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Whose usage it is. The order is that in which rows are written, on every node the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageSubject {
    /// An API key.
    ApiKey(ApiKeyId),
    /// An organization.
    Org(OrgId),
}

impl fmt::Display for UsageSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(id) => id.fmt(f),
            Self::Org(id) => id.fmt(f),
        }
    }
}

/// How finely usage is told. Hours and days are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// By the hour.
    Hour,
    /// By the day.
    Day,
}

/// A text that is no grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidGrain;

impl fmt::Display for InvalidGrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("usage is told by `hour` or by `day`")
    }
}

impl std::error::Error for InvalidGrain {}

impl FromStr for Grain {
    type Err = InvalidGrain;

    fn from_str(text: &str) -> Result<Self, InvalidGrain> {
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            _ => Err(InvalidGrain),
        }
    }
}

impl Grain {
    /// Its milliseconds. Leap seconds are not counted, as nowhere in these clocks.
    pub const fn as_millis(self) -> i64 {
        match self {
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// The start of the hour or day that a moment is in. One before 1970 is in the first.
    pub fn start_of(self, moment: Timestamp) -> Timestamp {
        let millis = moment.as_millis().max(0);
        Timestamp::from_millis(millis - millis % self.as_millis())
    }
}

/// How often one outcome came within one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourCount {
    /// The API key or organization that it came of.
    pub subject: UsageSubject,
    /// The start of the hour.
    pub hour_at: Timestamp,
    /// The outcome.
    pub outcome: Outcome,
    /// How often.
    pub count: u64,
}

/// The last token that an API key got, or when an API or the management API took it as it was; or one of
/// an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastUse {
    /// The moment of it.
    #[schemars(with = "String")]
    pub used_at: Timestamp,
    /// From which address, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What the client calls itself: at most 200 printable characters of ASCII.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Box<str>>,
}

/// What was counted between two moments: of everybody, or of one subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The counts, in the order of subject, hour and outcome.
    pub hours: Vec<HourCount>,
    /// The last use of each, in the order of the subjects.
    pub last_uses: Vec<(UsageSubject, LastUse)>,
    /// How keys came to APIs, in the order of what they are of.
    pub api_uses: Vec<CountedUses>,
    /// When APIs were heard of, in the order of their ids.
    pub watched: Vec<(AudienceId, Watched)>,
}

impl Usage {
    /// The counts of one subject.
    pub fn hours_of(&self, subject: UsageSubject) -> &[HourCount] {
        let from = self.hours.partition_point(|row| row.subject < subject);
        let behind = self.hours.partition_point(|row| row.subject <= subject);
        self.hours.get(from..behind).unwrap_or_default()
    }

    /// The last use of one subject.
    pub fn last_use_of(&self, subject: UsageSubject) -> Option<&LastUse> {
        let place = self.last_uses.binary_search_by_key(&subject, |(subject, _)| *subject).ok()?;
        self.last_uses.get(place).map(|(_, last_use)| last_use)
    }

    /// How one key came to APIs.
    pub fn api_uses_of(&self, id: &ApiKeyId) -> &[CountedUses] {
        let from = self.api_uses.partition_point(|row| row.of.api_key < *id);
        let behind = self.api_uses.partition_point(|row| row.of.api_key <= *id);
        self.api_uses.get(from..behind).unwrap_or_default()
    }

    /// Parts of so many rows at most. Each holds rows of one table alone.
    pub fn into_parts(self, rows: usize) -> impl Iterator<Item = Self> {
        let hours = split(self.hours, rows).map(|hours| Self { hours, ..Self::default() });
        let last_uses =
            split(self.last_uses, rows).map(|last_uses| Self { last_uses, ..Self::default() });
        let api_uses =
            split(self.api_uses, rows).map(|api_uses| Self { api_uses, ..Self::default() });
        let watched = split(self.watched, rows).map(|watched| Self { watched, ..Self::default() });
        hours.chain(last_uses).chain(api_uses).chain(watched)
    }
}

fn split<T>(all: Vec<T>, rows: usize) -> impl Iterator<Item = Vec<T>> {
    let mut rest = all.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<T> = rest.by_ref().take(rows).collect();
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_begin_where_those_of_utc_do() {
        let start = |grain: Grain, text: &str| grain.start_of(text.parse().unwrap()).to_string();
        assert_eq!(start(Grain::Hour, "2027-01-15T08:00:00"), "2027-01-15T08:00:00Z");
        assert_eq!(start(Grain::Hour, "2027-01-15T08:59:59.999"), "2027-01-15T08:00:00Z");
        assert_eq!(start(Grain::Day, "2027-01-15T23:59:59.999"), "2027-01-15T00:00:00Z");
        assert_eq!(start(Grain::Day, "1969-12-31T23:59"), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_names_of_outcomes_differ_and_are_snake_case() {
        let mut names: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Outcome::ALL.len());
        let is_snake = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(names.iter().all(is_snake), "{names:?}");
    }

    #[test]
    fn the_counts_of_one_are_found_among_all() {
        // the ids of ascending numbers ascend
        let subject = |number| UsageSubject::Org(OrgId::from_random(u128::to_be_bytes(number)));
        let hour_at = Timestamp::from_millis(0);
        let row =
            |number, outcome| HourCount { subject: subject(number), hour_at, outcome, count: 1 };
        let last_use = LastUse { used_at: hour_at, address: None, user_agent: None };
        let usage = Usage {
            hours: vec![
                row(1, Outcome::Issued),
                row(2, Outcome::Issued),
                row(2, Outcome::Expired),
                row(4, Outcome::Issued),
            ],
            last_uses: vec![(subject(1), last_use.clone()), (subject(4), last_use.clone())],
            ..Usage::default()
        };
        let found = [1, 2, 3, 4].map(|number| usage.hours_of(subject(number)).len());
        assert_eq!(found, [1, 2, 0, 1]);
        assert_eq!(usage.last_use_of(subject(4)), Some(&last_use));
        assert_eq!(usage.last_use_of(subject(2)), None);
    }

    #[test]
    fn usage_is_parted_without_losing_a_row() {
        let subject = UsageSubject::Org(OrgId::from_random([1; 16]));
        let now = Timestamp::from_millis(0);
        let count = HourCount { subject, hour_at: now, outcome: Outcome::Issued, count: 1 };
        let last_use = LastUse { used_at: now, address: None, user_agent: None };
        let (hours, last_uses) = (vec![count; 5], vec![(subject, last_use); 2]);
        let usage = Usage { hours, last_uses, ..Usage::default() };
        let sizes: Vec<_> =
            usage.into_parts(2).map(|part| (part.hours.len(), part.last_uses.len())).collect();
        assert_eq!(sizes, [(2, 0), (2, 0), (1, 0), (0, 2)]);
    }
}
