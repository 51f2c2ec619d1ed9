//! What the answer to a raw key says of its end: `Deprecation` (RFC 9745), `Sunset` (RFC 8594), and
//! the place where people read what to do.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue, LINK};

use crate::raw_key_policy::RawKeyPolicy;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");
/// The last second of the year 9999: no date of HTTP lies behind it.
const LAST_SECOND: u64 = 253_402_300_799;

/// Adds what a policy has to tell of raw API keys. Said twice, by two layers, it stands there once;
/// and the links of the API itself stay.
///
/// For servers that are not built on axum: the layers do it by themselves.
///
/// ```
/// use http::HeaderMap;
/// use tenmint_verifier::{RawKeyPolicy, axum::tell_deprecation};
///
/// let policy: RawKeyPolicy = serde_json::from_str(r#"{"deprecated_at": 1688169599}"#).unwrap();
/// let mut headers = HeaderMap::new();
/// tell_deprecation(&policy, &mut headers);
/// assert_eq!(headers["deprecation"], "@1688169599");
/// ```
pub fn tell_deprecation(policy: &RawKeyPolicy, headers: &mut HeaderMap) {
    let deprecation = policy.deprecated_at.map(|at| (DEPRECATION, format!("@{at}")));
    let sunset = policy.sunset_at.map(|at| (SUNSET, http_date(at)));
    for (name, text) in deprecation.into_iter().chain(sunset) {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    let link = policy.link.as_ref().map(|uri| format!("<{uri}>; rel=\"deprecation\""));
    if let Some(link) = link.and_then(|text| HeaderValue::try_from(text).ok())
        && !headers.get_all(LINK).iter().any(|told| *told == link)
    {
        headers.append(LINK, link);
    }
}

fn http_date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_told_in_the_words_of_the_standards() {
        let policy = RawKeyPolicy {
            deprecated_at: Some(1_688_169_599),
            sunset_at: Some(784_111_777),
            link: Some("https://example.com/keys".to_owned()),
            ..RawKeyPolicy::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_static("</projects?page=2>; rel=\"next\""));
        tell_deprecation(&policy, &mut headers);
        tell_deprecation(&policy, &mut headers);
        assert_eq!(headers["deprecation"], "@1688169599");
        assert_eq!(headers["sunset"], "Sun, 06 Nov 1994 08:49:37 GMT");
        let links: Vec<_> = headers.get_all(LINK).iter().collect();
        let ours = "<https://example.com/keys>; rel=\"deprecation\"";
        assert_eq!(links, ["</projects?page=2>; rel=\"next\"", ours]);
        assert_eq!(headers.len(), 4);
        let odd = RawKeyPolicy {
            sunset_at: Some(u64::MAX),
            link: Some("a\r\nb: c".to_owned()),
            ..RawKeyPolicy::default()
        };
        let mut headers = HeaderMap::new();
        tell_deprecation(&odd, &mut headers);
        assert_eq!(headers.len(), 1, "what is no header is left out");
    }
}
