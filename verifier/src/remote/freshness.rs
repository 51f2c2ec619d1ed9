//! How long an answer is fresh: `Cache-Control` (RFC 9111, section 5.2), held within bounds.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// For an answer that does not say: what the issuer says itself.
const UNSAID: Duration = Duration::from_mins(5);
/// An issuer that forbids caching is not asked for each token all the same.
const SHORTEST: Duration = Duration::from_mins(1);
/// A withdrawn key is forgotten within this time.
const LONGEST: Duration = Duration::from_hours(1);

pub(super) fn fresh_for(headers: &HeaderMap) -> Duration {
    let mut fresh = UNSAID;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',') {
            match told(directive) {
                Some(Duration::ZERO) => return SHORTEST,
                Some(told) => fresh = told,
                None => {}
            }
        }
    }
    fresh.clamp(SHORTEST, LONGEST)
}

fn told(directive: &str) -> Option<Duration> {
    let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
    match name.trim().to_ascii_lowercase().as_str() {
        "no-store" | "no-cache" => Some(Duration::ZERO),
        "max-age" => {
            let seconds = value.trim().trim_matches('"');
            let is_number =
                !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
            // a number beyond what fits is a long time: RFC 9111, section 1.2.2
            is_number.then(|| Duration::from_secs(seconds.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(lines: &[&'static str]) -> u64 {
        let lines = lines.iter().map(|line| (CACHE_CONTROL, line.parse().unwrap()));
        fresh_for(&lines.collect()).as_secs()
    }

    #[test]
    fn an_answer_is_fresh_as_long_as_it_says_within_bounds() {
        assert_eq!(seconds(&["public, max-age=900"]), 900);
        assert_eq!(seconds(&["public", "Max-Age=\"900\""]), 900);
        assert_eq!(seconds(&["max-age=1"]), 60);
        assert_eq!(seconds(&["max-age=99999999999999999999999999"]), 3600);
        assert_eq!(seconds(&["max-age=900, no-store"]), 60);
        assert_eq!(seconds(&["no-cache"]), 60);
    }

    #[test]
    fn an_answer_that_says_nothing_usable_is_fresh_for_five_minutes() {
        for line in ["", "public", "max-age", "max-age=-1", "max-age=1x", "s-maxage=7", "=,="] {
            assert_eq!(seconds(&[line]), 300, "{line}");
        }
        assert_eq!(seconds(&[]), 300);
    }
}
