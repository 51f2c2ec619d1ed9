//! The way from raw API keys to tokens, as it is watched: how each key came to each API, and whether
//! tokens can be required there without locking anybody out.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::id::{ApiKeyId, AudienceId, OrgId};
use crate::model::time::Timestamp;

/// An API that was not heard of for so long is not watched any more, and begins anew.
pub const WATCH_GAP: Duration = Duration::from_hours(24);
/// Days in which a key has to be quiet, unless said otherwise.
const USUAL_DAYS: u16 = 30;
/// The most days that may be asked for.
const MAX_DAYS: u16 = 366;

/// In which form an API key came to an API. The names are stable: they are stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The key itself.
    Raw,
    /// A token that was issued to it.
    Token,
}

impl Form {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Token => "token",
        }
    }
}

/// A text that is no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidForm;

impl fmt::Display for InvalidForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a form is `raw` or `token`")
    }
}

impl std::error::Error for InvalidForm {}

impl FromStr for Form {
    type Err = InvalidForm;

    fn from_str(text: &str) -> Result<Self, InvalidForm> {
        [Self::Raw, Self::Token].into_iter().find(|form| form.as_str() == text).ok_or(InvalidForm)
    }
}

/// What is counted together: a key, at an API, in one form. The order is that in which rows are
/// written, on every node the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsesOf {
    /// The key.
    pub api_key: ApiKeyId,
    /// The API.
    pub audience: AudienceId,
    /// In which form it came.
    pub form: Form,
}

/// How often and when a key came to an API in one form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Uses {
    /// What this service saw itself: tokens that it issued for the API, or questions of the API about
    /// the key. A verifier asks once in some minutes, however often the key comes.
    pub seen: u64,
    /// Calls that verifiers of the API reported, where they do.
    pub calls: u64,
    /// The first that is known.
    #[schemars(with = "String")]
    pub first_at: Timestamp,
    /// The last that is known.
    #[schemars(with = "String")]
    pub last_at: Timestamp,
    /// The last address that is known.
    pub address: Option<IpAddr>,
    /// What the client called itself last, where it is known: at most 200 printable characters.
    pub user_agent: Option<Box<str>>,
}

impl Uses {
    /// None yet, from this moment on.
    pub fn none(at: Timestamp) -> Self {
        Self { seen: 0, calls: 0, first_at: at, last_at: at, address: None, user_agent: None }
    }

    /// Both together. Of who called, what is known later counts.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (earlier, later) =
            if self.last_at <= other.last_at { (self, other) } else { (other, self) };
        Self {
            seen: earlier.seen.saturating_add(later.seen),
            calls: earlier.calls.saturating_add(later.calls),
            first_at: earlier.first_at.min(later.first_at),
            last_at: later.last_at,
            address: later.address.or(earlier.address),
            user_agent: later.user_agent.or(earlier.user_agent),
        }
    }
}

/// Uses of a key of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedUses {
    /// What was counted.
    pub of: UsesOf,
    /// The organization of the key.
    pub org: OrgId,
    /// How often and when.
    pub uses: Uses,
}

/// Since when an API tells of raw keys without a gap: by asking about them, by asking what to do with
/// them, or by its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// Since when.
    pub since_at: Timestamp,
    /// When it was heard last.
    pub heard_at: Timestamp,
}

/// The days that count: a key that did not come raw in them is not expected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u16);

impl Default for Days {
    fn default() -> Self {
        Self(USUAL_DAYS)
    }
}

impl FromStr for Days {
    type Err = InvalidDays;

    fn from_str(text: &str) -> Result<Self, InvalidDays> {
        let days = text.parse().ok().filter(|days| (1..=MAX_DAYS).contains(days));
        days.map(Self).ok_or(InvalidDays)
    }
}

/// A text that is no number of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidDays;

impl fmt::Display for InvalidDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write a number of days from 1 to {MAX_DAYS}")
    }
}

impl std::error::Error for InvalidDays {}

impl Days {
    /// When they began.
    pub fn before(self, now: Timestamp) -> Timestamp {
        now - Duration::from_hours(24) * u32::from(self.0)
    }
}

/// Why tokens can be required of a key at an API, or why not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It came raw within the days that count: whoever holds it would be locked out.
    RawInUse,
    /// The API was not heard of without a gap for all of these days, so that raw calls may have been
    /// missed.
    NotWatched,
    /// Within these days it came by token alone.
    TokensInUse,
    /// It came raw, and longer ago than these days.
    RawLongAgo,
    /// It did not come at all in these days, and never raw.
    NotSeen,
}

impl Reason {
    /// The reason of a key, or of all keys, out of when it came last to an API, raw and by token.
    pub fn of(
        (raw, token): (Option<Timestamp>, Option<Timestamp>),
        watched: Option<Watched>,
        days: Days,
        now: Timestamp,
    ) -> Self {
        let begin = days.before(now);
        let is_recent = |last_at: Option<Timestamp>| last_at.is_some_and(|at| at > begin);
        if is_recent(raw) {
            Self::RawInUse
        } else if !covers(watched, begin, now) {
            Self::NotWatched
        } else if is_recent(token) {
            Self::TokensInUse
        } else if raw.is_some() {
            Self::RawLongAgo
        } else {
            Self::NotSeen
        }
    }

    /// Whether requiring tokens locks nobody out, as far as can be known.
    pub fn is_safe(self) -> bool {
        !matches!(self, Self::RawInUse | Self::NotWatched)
    }
}

/// Whether an API was heard of from a moment until now.
fn covers(watched: Option<Watched>, begin: Timestamp, now: Timestamp) -> bool {
    watched.is_some_and(|Watched { since_at, heard_at }| {
        since_at <= begin && now.since(heard_at) <= WATCH_GAP
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn days_ago(days: i64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() - days * 86_400_000)
    }

    #[test]
    fn a_key_is_safe_once_it_was_quiet_for_days_in_which_its_api_was_watched() {
        let reason = |raw: Option<i64>, token: Option<i64>, since: Option<i64>| {
            let last = (raw.map(days_ago), token.map(days_ago));
            let watched = since.map(|days| Watched { since_at: days_ago(days), heard_at: NOW });
            Reason::of(last, watched, Days::default(), NOW)
        };
        for (raw, token, since, expected) in [
            (Some(29), Some(0), Some(90), Reason::RawInUse),
            (Some(29), None, None, Reason::RawInUse),
            (Some(30), Some(0), Some(90), Reason::TokensInUse),
            (None, Some(0), Some(30), Reason::TokensInUse),
            (None, Some(0), Some(29), Reason::NotWatched),
            (None, Some(0), None, Reason::NotWatched),
            (Some(31), Some(31), Some(90), Reason::RawLongAgo),
            (None, Some(31), Some(90), Reason::NotSeen),
            (None, None, Some(90), Reason::NotSeen),
        ] {
            assert_eq!(reason(raw, token, since), expected, "{raw:?} {token:?} {since:?}");
        }
    }

    #[test]
    fn an_api_that_fell_silent_is_not_watched() {
        let watched = Watched { since_at: days_ago(90), heard_at: days_ago(2) };
        assert_eq!(
            Reason::of((None, None), Some(watched), Days::default(), NOW),
            Reason::NotWatched
        );
    }

    #[test]
    fn uses_add_up_and_what_is_known_later_counts() {
        let at = |days, address: Option<&str>| Uses {
            seen: 1,
            calls: 2,
            address: address.map(|text| text.parse().unwrap()),
            ..Uses::none(days_ago(days))
        };
        let both = at(3, Some("192.0.2.3")).and(at(5, Some("192.0.2.5")));
        assert_eq!((both.seen, both.calls), (2, 4));
        assert_eq!((both.first_at, both.last_at), (days_ago(5), days_ago(3)));
        assert_eq!(both.address, "192.0.2.3".parse().ok());
        assert_eq!(at(3, None).and(at(5, Some("::1"))).address, "::1".parse().ok());
    }

    #[test]
    fn days_are_between_one_and_a_year() {
        assert!(["0", "367", "-1", "", "x"].into_iter().all(|days| days.parse::<Days>().is_err()));
        assert_eq!("1".parse::<Days>().unwrap().before(NOW), days_ago(1));
    }
}
