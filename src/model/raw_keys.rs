//! What an audience does with API keys that are sent to it as they are: the steps of a migration
//! from raw keys to tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenmint_verifier::{RawKeyMode, RawKeyPolicy, RawKeyRule, Scope, Share};

use crate::model::time::Timestamp;

/// Rules that an audience may have.
const MAX_RULES: usize = 32;
/// Bytes of a link: it stands in the answers of the API.
const MAX_LINK_BYTES: usize = 512;

/// What an audience does with raw keys, as it is stored. Without rules it takes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RawKeys {
    /// The strictest rule that a request falls under counts.
    #[schemars(with = "Vec<AskRawKeyRule>")]
    pub rules: Vec<RawKeyRule>,
    /// Since when the API warns of them or refuses them.
    pub deprecated_at: Timestamp,
    /// When they will not be taken any more. It is told to callers, and refuses nothing.
    pub sunset_at: Option<Timestamp>,
    /// Where the people of the callers read what to do.
    pub link: Option<String>,
}

/// The same as somebody asks for it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskRawKeys {
    /// The strictest rule that a request falls under counts; none: raw keys are taken.
    pub rules: Vec<AskRawKeyRule>,
    /// When they will not be taken any more: told to callers in `Sunset`.
    pub sunset_at: Option<String>,
    /// Where the people of the callers read what to do: an absolute URI, told in `Link`.
    pub link: Option<String>,
}

/// A rule as somebody asks for it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskRawKeyRule {
    /// The actions and resources that it is about; `*:*` is the whole API.
    pub scope: String,
    /// `allow`, `warn` or `deny`.
    pub mode: String,
    /// In how many of a hundred requests: 1 to 100.
    pub share: Option<u8>,
}

impl RawKeys {
    /// What was asked, unless nothing is left to say: then raw keys are taken. Deprecated they are
    /// since they first were.
    ///
    /// # Errors
    /// What is malformed, with the fix.
    pub fn parse(
        ask: AskRawKeys,
        before: Option<&Self>,
        now: Timestamp,
    ) -> Result<Option<Self>, String> {
        if ask.rules.len() > MAX_RULES {
            return Err(format!("an audience has at most {MAX_RULES} rules about raw keys"));
        }
        let rules = ask.rules.iter().map(parse_rule).collect::<Result<Vec<_>, _>>()?;
        let sunset_at = ask.sunset_at.map(|text| text.parse::<Timestamp>()).transpose();
        let sunset_at = sunset_at.map_err(|cause| format!("`sunset_at`: {cause}"))?;
        // what was said before may be over by now
        let is_new = sunset_at != before.and_then(|before| before.sunset_at);
        if is_new && sunset_at.is_some_and(|at| at <= now) {
            return Err("`sunset_at`: write a moment that lies ahead".to_owned());
        }
        if let Some(link) = &ask.link {
            check_link(link)?;
        }
        let deprecated_at = before.map_or(now, |before| before.deprecated_at);
        let parsed = Self { rules, deprecated_at, sunset_at, link: ask.link };
        Ok((!parsed.rules.is_empty()).then_some(parsed))
    }

    /// The same in the words of the verifier: what is stored, and told to verifiers.
    pub fn to_policy(&self) -> RawKeyPolicy {
        let mut policy = RawKeyPolicy::default();
        policy.rules.clone_from(&self.rules);
        policy.deprecated_at = Some(self.deprecated_at.as_seconds());
        policy.sunset_at = self.sunset_at.map(Timestamp::as_seconds);
        policy.link.clone_from(&self.link);
        policy
    }

    /// What was stored.
    pub fn from_policy(policy: RawKeyPolicy) -> Self {
        let moment =
            |seconds: u64| Timestamp::from_millis(i64::try_from(seconds * 1_000).unwrap_or(0));
        Self {
            rules: policy.rules,
            deprecated_at: policy.deprecated_at.map_or(Timestamp::from_millis(0), moment),
            sunset_at: policy.sunset_at.map(moment),
            link: policy.link,
        }
    }
}

fn parse_rule(ask: &AskRawKeyRule) -> Result<RawKeyRule, String> {
    let scope: Scope = ask.scope.parse().map_err(|cause| format!("`scope`: {cause}"))?;
    let mode: RawKeyMode = ask.mode.parse().map_err(|cause| format!("`mode`: {cause}"))?;
    let share = ask.share.map_or(Some(Share::ALL), Share::of_percent);
    let share = share.ok_or("`share`: write 1 to 100, the percents of the requests")?;
    Ok(RawKeyRule::new(scope, mode, share))
}

/// A link stands between `<` and `>` in a header (RFC 8288, section 3).
fn check_link(link: &str) -> Result<(), String> {
    let is_web = link.starts_with("https://") || link.starts_with("http://");
    let is_plain = link.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\".contains(&byte));
    if is_web && is_plain && link.len() <= MAX_LINK_BYTES {
        return Ok(());
    }
    Err("`link`: write an absolute URI, as `https://example.com/tokens`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_500);

    fn asked(scope: &str, mode: &str, share: Option<u8>) -> AskRawKeys {
        let rule = AskRawKeyRule { scope: scope.to_owned(), mode: mode.to_owned(), share };
        AskRawKeys { rules: vec![rule], ..AskRawKeys::default() }
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let ask = AskRawKeys {
            sunset_at: Some("2027-06-01".to_owned()),
            link: Some("https://example.com/#keys".to_owned()),
            ..asked("write:*", "deny", Some(5))
        };
        let parsed = RawKeys::parse(ask, None, NOW).unwrap().unwrap();
        let stored = RawKeys::from_policy(parsed.to_policy());
        let in_seconds = Timestamp::from_millis(1_800_000_000_000);
        assert_eq!(stored, RawKeys { deprecated_at: in_seconds, ..parsed });
    }

    #[test]
    fn raw_keys_are_deprecated_since_they_first_were_and_not_at_all_without_a_rule() {
        let first = RawKeys::parse(asked("*:*", "warn", None), None, NOW).unwrap().unwrap();
        let later = Timestamp::from_millis(1_900_000_000_000);
        let then = RawKeys::parse(asked("*:*", "deny", None), Some(&first), later);
        assert_eq!(then.unwrap().unwrap().deprecated_at, NOW);
        assert_eq!(RawKeys::parse(AskRawKeys::default(), Some(&first), later), Ok(None));
    }

    #[test]
    fn what_is_malformed_is_told_with_the_fix() {
        for (ask, told) in [
            (asked("read", "deny", None), "`scope`"),
            (asked("*:*", "stop", None), "`mode`: write `allow`"),
            (asked("*:*", "deny", Some(0)), "`share`"),
            (asked("*:*", "deny", Some(101)), "`share`"),
        ] {
            let refused = RawKeys::parse(ask, None, NOW).unwrap_err();
            assert!(refused.starts_with(told), "{refused}");
        }
        for link in ["example.com", "javascript:alert(1)", "https://a b", "https://a>; rel=x"] {
            let ask = AskRawKeys { link: Some(link.to_owned()), ..asked("*:*", "warn", None) };
            assert!(RawKeys::parse(ask, None, NOW).is_err(), "{link}");
        }
        let many = vec![asked("*:*", "warn", None).rules.remove(0); 33];
        let ask = AskRawKeys { rules: many, ..AskRawKeys::default() };
        assert!(RawKeys::parse(ask, None, NOW).is_err());
    }
}
