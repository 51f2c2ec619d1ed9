//! What an API does with API keys that are sent to it as they are, instead of a token: the way from
//! raw keys to tokens, in steps that can be taken back. The service keeps the policy, and verifiers
//! hold callers to it.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::str::FromStr;

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SyntaxError;
use crate::filter::ResourceFilter;
use crate::resource::Resource;
use crate::scope::{Action, Scope};

/// What is done with a raw key, from mild to strict.
///
/// ```
/// use tenmint_verifier::RawKeyMode;
/// assert!(RawKeyMode::Allow < RawKeyMode::Warn && RawKeyMode::Warn < RawKeyMode::Deny);
/// assert_eq!("warn".parse(), Ok(RawKeyMode::Warn));
/// ```
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RawKeyMode {
    /// It passes like a token.
    #[default]
    Allow,
    /// It passes, and the answer says that it will not for long: `Deprecation` (RFC 9745) and
    /// `Sunset` (RFC 8594).
    Warn,
    /// It is refused: 401, and the client is told to fetch a token.
    Deny,
}

impl RawKeyMode {
    /// The word for it.
    ///
    /// ```
    /// assert_eq!(tenmint_verifier::RawKeyMode::Deny.as_str(), "deny");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for RawKeyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RawKeyMode {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let all = [Self::Allow, Self::Warn, Self::Deny];
        let found = all.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or(SyntaxError::new("write `allow`, `warn` or `deny`"))
    }
}

/// One rule of a policy: what is done with raw keys where this action and these resources are asked
/// for, in this share of the requests.
///
/// ```
/// use tenmint_verifier::{RawKeyMode, RawKeyRule, Share};
/// let canary =
///     RawKeyRule::new("write:*".parse()?, RawKeyMode::Deny, Share::of_percent(5).unwrap());
/// let text = serde_json::to_string(&canary).unwrap();
/// assert_eq!(text, r#"{"scope":"write:*","mode":"deny","share":5}"#);
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawKeyRule {
    #[serde(with = "as_text")]
    scope: Scope,
    mode: RawKeyMode,
    #[serde(default)]
    share: Share,
}

impl RawKeyRule {
    /// A rule for what this scope selects: `*:*` is the whole API.
    ///
    /// ```
    /// # use tenmint_verifier::{RawKeyMode, RawKeyRule, Share};
    /// let rule = RawKeyRule::new("*:*".parse()?, RawKeyMode::Warn, Share::ALL);
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn new(scope: Scope, mode: RawKeyMode, share: Share) -> Self {
        Self { scope, mode, share }
    }

    /// The actions and resources that it is about.
    ///
    /// ```
    /// # use tenmint_verifier::{RawKeyMode, RawKeyRule, Share};
    /// let rule = RawKeyRule::new("write:*".parse()?, RawKeyMode::Warn, Share::ALL);
    /// assert_eq!(rule.scope().as_str(), "write:*");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What is done.
    ///
    /// ```
    /// # use tenmint_verifier::{RawKeyMode, RawKeyRule, Share};
    /// let rule = RawKeyRule::new("*:*".parse()?, RawKeyMode::Warn, Share::ALL);
    /// assert_eq!(rule.mode(), RawKeyMode::Warn);
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn mode(&self) -> RawKeyMode {
        self.mode
    }

    /// In which share of the requests.
    ///
    /// ```
    /// # use tenmint_verifier::{RawKeyMode, RawKeyRule, Share};
    /// let rule = RawKeyRule::new("*:*".parse()?, RawKeyMode::Warn, Share::ALL);
    /// assert_eq!(rule.share().as_percent(), 100);
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn share(&self) -> Share {
        self.share
    }

    fn is_about_everything(&self) -> bool {
        let scope = self.scope.view();
        scope.action() == "*" && scope.filter() == "*"
    }
}

/// A share of requests in whole percents, 1 to 100.
///
/// ```
/// use tenmint_verifier::Share;
/// assert_eq!(Share::of_percent(5).map(Share::as_percent), Some(5));
/// assert_eq!(Share::of_percent(0), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Share(u8);

impl Share {
    /// Every request.
    pub const ALL: Self = Self(100);

    /// So many of a hundred; nothing for 0 and above 100.
    ///
    /// ```
    /// assert!(tenmint_verifier::Share::of_percent(101).is_none());
    /// ```
    pub fn of_percent(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    /// So many of a hundred.
    ///
    /// ```
    /// assert_eq!(tenmint_verifier::Share::ALL.as_percent(), 100);
    /// ```
    pub fn as_percent(self) -> u8 {
        self.0
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = u8::deserialize(deserializer)?;
        let refused = || {
            let found = Unexpected::Unsigned(percent.into());
            D::Error::invalid_value(found, &"1 to 100")
        };
        Self::of_percent(percent).ok_or_else(refused)
    }
}

/// Where a request fell by chance, from 0 to 99: a rule for 5 % of the requests is for those below 5.
/// Drawn once a request, so that all who ask about it are told the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw(u8);

impl Draw {
    /// A new one. Fair, and nothing to keep a secret by.
    ///
    /// ```
    /// let draw = tenmint_verifier::Draw::new();
    /// ```
    #[expect(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        // each state has keys of its own
        let number = RandomState::new().hash_one(());
        Self(u8::try_from(number % 100).unwrap_or_default())
    }

    fn is_in(self, share: Share) -> bool {
        self.0 < share.0
    }
}

/// What an API does with raw keys: the strictest of all rules that a request falls under, and
/// [`RawKeyMode::Allow`] where there is none.
///
/// ```
/// use tenmint_verifier::{Action, Draw, RawKeyMode, RawKeyPolicy, Resource};
///
/// let policy: RawKeyPolicy = serde_json::from_str(
///     r#"{"rules": [
///         {"scope": "*:*", "mode": "warn"},
///         {"scope": "write:projects/*", "mode": "deny"}
///     ], "sunset_at": 1830000000}"#,
/// ).unwrap();
/// let alpha = Resource::new(["projects", "alpha"])?;
/// assert_eq!(policy.mode_for(&Action::Read, &alpha, Draw::new()), RawKeyMode::Warn);
/// assert_eq!(policy.mode_for(&Action::Write, &alpha, Draw::new()), RawKeyMode::Deny);
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RawKeyPolicy {
    /// The rules, in any order.
    #[serde(default)]
    pub rules: Vec<RawKeyRule>,
    /// Since when raw keys are deprecated, in seconds since 1970: the `Deprecation` of RFC 9745.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated_at: Option<u64>,
    /// When they will not be taken any more, in seconds since 1970: the `Sunset` of RFC 8594. It is
    /// told, and nothing is refused by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset_at: Option<u64>,
    /// Where people read what to do: an absolute URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl RawKeyPolicy {
    /// What is done with a raw key, whatever it asks for: by the rules for everything.
    ///
    /// ```
    /// # use tenmint_verifier::{Draw, RawKeyMode, RawKeyPolicy};
    /// let policy = RawKeyPolicy::default();
    /// assert_eq!(policy.mode_for_all(Draw::new()), RawKeyMode::Allow);
    /// ```
    pub fn mode_for_all(&self, draw: Draw) -> RawKeyMode {
        self.strictest(draw, RawKeyRule::is_about_everything)
    }

    /// What is done with a raw key that asks for this.
    ///
    /// ```
    /// # use tenmint_verifier::{Action, Draw, RawKeyMode, RawKeyPolicy, Resource};
    /// let alpha = Resource::new(["projects", "alpha"])?;
    /// let mode = RawKeyPolicy::default().mode_for(&Action::Read, &alpha, Draw::new());
    /// assert_eq!(mode, RawKeyMode::Allow);
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn mode_for(&self, action: &Action, resource: &Resource, draw: Draw) -> RawKeyMode {
        self.strictest(draw, |rule| rule.scope.matches(action, resource))
    }

    /// What is done with a raw key that asks for a list: by the rules for all that is in it.
    pub(crate) fn mode_for_list(
        &self,
        action: &Action,
        list: &ResourceFilter,
        draw: Draw,
    ) -> RawKeyMode {
        let asked = Scope::new(action, list);
        self.strictest(draw, |rule| rule.scope.covers(&asked))
    }

    /// Whether every raw key is refused, whatever it asks for.
    ///
    /// ```
    /// # use tenmint_verifier::RawKeyPolicy;
    /// assert!(!RawKeyPolicy::default().denies_all());
    /// ```
    pub fn denies_all(&self) -> bool {
        let is_full = |rule: &&RawKeyRule| rule.share == Share::ALL && rule.is_about_everything();
        self.rules.iter().filter(is_full).any(|rule| rule.mode == RawKeyMode::Deny)
    }

    fn strictest(&self, draw: Draw, is_about: impl Fn(&RawKeyRule) -> bool) -> RawKeyMode {
        let fitting = self.rules.iter().filter(|rule| draw.is_in(rule.share) && is_about(rule));
        fitting.map(|rule| rule.mode).max().unwrap_or_default()
    }
}

/// A policy as the issuer tells it at its `raw_key_policy_uri`.
///
/// ```
/// use tenmint_verifier::ToldRawKeyPolicy;
/// let told: ToldRawKeyPolicy = serde_json::from_str(r#"{"rev": 7, "rules": []}"#).unwrap();
/// assert_eq!(told.rev, 7);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldRawKeyPolicy {
    /// The revision of the installation that it is of. It is worth asking again once the feed voids
    /// the URI of the audience below a higher one.
    pub rev: u64,
    /// What it says.
    #[serde(flatten)]
    pub policy: RawKeyPolicy,
}

/// A value as its text.
mod as_text {
    use super::{Deserialize, Deserializer, Error, FromStr, Serializer, fmt};

    pub(super) fn serialize<T: fmt::Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[(&str, RawKeyMode, u8)]) -> RawKeyPolicy {
        let rule = |(scope, mode, share): &(&str, RawKeyMode, u8)| {
            RawKeyRule::new(scope.parse().unwrap(), *mode, Share::of_percent(*share).unwrap())
        };
        RawKeyPolicy { rules: rules.iter().map(rule).collect(), ..RawKeyPolicy::default() }
    }

    #[test]
    fn the_strictest_rule_that_a_request_falls_under_counts() {
        use RawKeyMode::{Allow, Deny, Warn};
        let policy =
            policy(&[("write:*", Deny, 100), ("*:*", Warn, 100), ("read:open/*", Allow, 100)]);
        let mode =
            |action: Action, path: &str| policy.mode_for(&action, &path.parse().unwrap(), Draw(99));
        assert_eq!(mode(Action::Write, "projects/a"), Deny);
        assert_eq!(mode(Action::Read, "projects/a"), Warn);
        assert_eq!(mode(Action::Read, "open/a"), Warn, "nothing makes a rule milder");
        assert_eq!(policy.mode_for_all(Draw(0)), Warn);
        assert!(!policy.denies_all());
    }

    #[test]
    fn a_share_is_met_by_so_many_of_a_hundred_draws_and_the_others_fall_under_the_rest() {
        use RawKeyMode::{Deny, Warn};
        let policy = policy(&[("*:*", Warn, 100), ("*:*", Deny, 30)]);
        let modes: Vec<_> = (0..100).map(|draw| policy.mode_for_all(Draw(draw))).collect();
        assert_eq!(modes.iter().filter(|mode| **mode == Deny).count(), 30);
        assert_eq!(modes.iter().filter(|mode| **mode == Warn).count(), 70);
        assert!(!policy.denies_all());
        let mut drawn = [0_u32; 100];
        (0..100_000).for_each(|_| drawn[usize::from(Draw::new().0)] += 1);
        assert!(drawn.iter().all(|times| (700..1_300).contains(times)), "{drawn:?}");
    }

    #[test]
    fn a_list_is_denied_where_all_that_is_in_it_is() {
        let policy = policy(&[("read:projects/*", RawKeyMode::Deny, 100)]);
        let mode =
            |list: &str| policy.mode_for_list(&Action::Read, &list.parse().unwrap(), Draw(0));
        assert_eq!(mode("projects/?"), RawKeyMode::Deny);
        assert_eq!(mode("*"), RawKeyMode::Allow);
    }

    #[test]
    fn a_policy_is_read_back_and_what_is_none_is_not() {
        let written = RawKeyPolicy {
            deprecated_at: Some(1),
            link: Some("https://example.com".to_owned()),
            ..policy(&[("*:*", RawKeyMode::Deny, 5)])
        };
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<RawKeyPolicy>(&text).unwrap(), written);
        for bad in [
            r#"{"rules":[{"scope":"read","mode":"deny"}]}"#,
            r#"{"rules":[{"scope":"*:*","mode":"stop"}]}"#,
            r#"{"rules":[{"scope":"*:*","mode":"deny","share":0}]}"#,
            r#"{"rules":[{"scope":"*:*","mode":"deny","share":101}]}"#,
            r#"{"rules":[{"scope":"*:*","mode":"deny","from":"10.0.0.0/8"}]}"#,
        ] {
            assert!(serde_json::from_str::<RawKeyPolicy>(bad).is_err(), "{bad}");
        }
    }
}
