//! Values of arguments that more than one command reads.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use clap::Args;
use serde_json::Value;

use crate::clock::Clock;
use crate::model::time::{InvalidTimestamp, Timestamp, parse_duration};

/// What stands for nothing where something can be cleared.
const NONE: &str = "none";

/// A value, or `none` to clear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrNone<T> {
    Value(T),
    None,
}

impl<T: FromStr<Err: Display>> FromStr for OrNone<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE {
            return Ok(Self::None);
        }
        let value = text.parse().map(Self::Value);
        value.map_err(|cause| format!("{cause}, and it is not `{NONE}`"))
    }
}

impl<T: Into<Value>> From<OrNone<T>> for Value {
    fn from(value: OrNone<T>) -> Self {
        match value {
            OrNone::Value(value) => value.into(),
            OrNone::None => Self::Null,
        }
    }
}

/// A moment, or how long ago it was: `2027-01-31T12:00:00Z`, `90m`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(ago) = parse_duration(text) {
            return Ok(Self(Clock::system().now() - ago));
        }
        let moment = text.parse().map(Self);
        moment.map_err(|cause: InvalidTimestamp| format!("{cause}; or a time ago like `90m`"))
    }
}

impl Display for Moment {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Between which moments.
#[derive(Debug, Args)]
pub(super) struct TimeArgs {
    /// Not before this moment: `2027-01-31T12:00:00Z`, or a time ago like `90m`
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<Moment>,
}

/// A list, or nothing for `none`.
pub(super) fn list_or_null(list: Vec<String>) -> Value {
    if matches!(list.as_slice(), [only] if only == NONE) { Value::Null } else { list.into() }
}

/// Scopes, with commas or blanks between them.
pub(super) fn scopes(list: Vec<String>) -> Vec<String> {
    let words = |text: String| -> Vec<String> {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    };
    list.into_iter().flat_map(words).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_moment_is_one_or_how_long_ago_it_was() {
        let now = Clock::system().now();
        let Moment(hour_ago) = "60m".parse().unwrap();
        assert!((3_540..=3_600).contains(&now.since(hour_ago).as_secs()), "{hour_ago}");
        assert_eq!("2027-01-31".parse::<Moment>().unwrap().to_string(), "2027-01-31T00:00:00Z");
        assert!("soon".parse::<Moment>().unwrap_err().ends_with("or a time ago like `90m`"));
    }

    #[test]
    fn none_clears_and_everything_else_is_a_value() {
        assert_eq!("none".parse::<OrNone<u64>>(), Ok(OrNone::None));
        assert_eq!("5".parse::<OrNone<u64>>(), Ok(OrNone::Value(5)));
        assert!("five".parse::<OrNone<u64>>().is_err());
        assert_eq!(list_or_null(vec!["none".to_owned()]), Value::Null);
        assert_eq!(
            list_or_null(vec!["none".into(), "10.0.0.1".into()]),
            json!(["none", "10.0.0.1"])
        );
        assert_eq!(scopes(vec!["a b".into(), " c ".into()]), ["a", "b", "c"]);
    }
}
