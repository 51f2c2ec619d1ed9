//! Moments: milliseconds UTC inside, ISO 8601 outside.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// A moment, in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A moment of so many milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down: the grain of a JWT. A moment before 1970 is 0.
    pub fn as_seconds(self) -> u64 {
        u64::try_from(self.0.div_euclid(1000)).unwrap_or(0)
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Whether a moment that may never come has come.
pub fn reached(moment: Option<Timestamp>, now: Timestamp) -> bool {
    moment.is_some_and(|moment| moment <= now)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(duration)))
    }
}

/// A number and `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * seconds))
}

fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.0) {
            Some(moment) => f.write_str(&moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

/// A text that is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTimestamp;

impl fmt::Display for InvalidTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a moment is written like `2027-01-31T12:00:00Z` or `2027-01-31`, in UTC")
    }
}

impl std::error::Error for InvalidTimestamp {}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Takes ISO 8601 with or without zone; none means UTC, a bare day its first moment.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let plain = || {
            ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
                .iter()
                .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        };
        let day = || {
            let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            day.and_hms_opt(0, 0, 0)
        };
        zoned(text)
            .or_else(|| plain().or_else(day).map(|moment| moment.and_utc()))
            .map(|moment| Self(moment.timestamp_millis()))
            .ok_or(InvalidTimestamp)
    }
}

/// A moment with a zone. RFC 3339 wants seconds, and a zone with minutes and a colon; ISO 8601 does not.
fn zoned(text: &str) -> Option<DateTime<Utc>> {
    let read = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
    read(text).or_else(|| {
        let zone_at = text.rfind(['Z', '+', '-']).filter(|at| text[..*at].contains('T'))?;
        let (clock, zone) = text.split_at(zone_at);
        let seconds = if clock.len() == "2027-01-31T12:00".len() { ":00" } else { "" };
        let zone = match zone.as_bytes() {
            [_, _, _] => format!("{zone}:00"),
            [_, _, _, _, _] => format!("{}:{}", zone.get(..3)?, zone.get(3..)?),
            _ => zone.to_owned(),
        };
        read(&format!("{clock}{seconds}{zone}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(parse_duration("5m"), Some(Duration::from_mins(5)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for text in ["", "5", "m", "5w", "-5m", "5\u{e9}"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_is_taken_with_and_without_zone_and_printed_with_z() {
        for (text, printed) in [
            ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
            ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00Z"),
            ("2027-01-31T12:00:00", "2027-01-31T12:00:00Z"),
            ("2027-01-31T12:00:00.250", "2027-01-31T12:00:00.250Z"),
            ("2027-01-31T12:00", "2027-01-31T12:00:00Z"),
            ("2027-01-31", "2027-01-31T00:00:00Z"),
            ("2027-01-31T12:00Z", "2027-01-31T12:00:00Z"),
            ("2027-01-31T12:00+02:00", "2027-01-31T10:00:00Z"),
            ("2027-01-31T12:00-0230", "2027-01-31T14:30:00Z"),
            ("2027-01-31T12:00+02", "2027-01-31T10:00:00Z"),
            ("2027-01-31T12:00:00+0200", "2027-01-31T10:00:00Z"),
            ("2027-01-31T12:00:00.250+0200", "2027-01-31T10:00:00.250Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), printed);
        }
        for text in [
            "",
            "tomorrow",
            "2027-13-01",
            "31.01.2027",
            "2027-01-31T12Z",
            "2027-01-31T12:00ZZ",
            "2027-01-31T12:00+2",
            "2027-01-31T12:00+24:00",
            "2027-01-31T12:00+\u{e9}0",
            "2027-01-31TZ",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_rounded_down() {
        assert_eq!(Timestamp::from_millis(1_999).as_seconds(), 1);
        assert_eq!(Timestamp::from_millis(-1).as_seconds(), 0);
    }
}
