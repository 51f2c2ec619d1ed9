//! The fields that tell a client where its quota stands (draft-ietf-httpapi-ratelimit-headers-11).

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::mint::quotas::RateLimit;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds `RateLimit: "api-key";r=99;t=60` and `RateLimit-Policy: "api-key";q=100;w=60`.
pub(super) fn add(headers: &mut HeaderMap, rate_limit: &RateLimit) {
    let RateLimit { quota, remaining, resets_in } = rate_limit;
    let (limit, window) = (quota.limit(), quota.window().as_seconds());
    let fields = [
        (RATE_LIMIT, format!("\"api-key\";r={remaining};t={resets_in}")),
        (RATE_LIMIT_POLICY, format!("\"api-key\";q={limit};w={window}")),
    ];
    for (name, value) in fields {
        headers.extend(HeaderValue::try_from(value).map(|value| (name, value)));
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::http::oauth::client_auth::Way;
    use crate::http::oauth::error::OAuthError;
    use crate::mint::Refused;

    #[test]
    fn a_client_is_told_what_is_left_and_within_which_time() {
        let mut headers = HeaderMap::new();
        let quota = "1000000000/2678400".parse().unwrap();
        add(&mut headers, &RateLimit { quota, remaining: 7, resets_in: 2_700_000 });
        assert_eq!(headers["ratelimit"], "\"api-key\";r=7;t=2700000");
        assert_eq!(headers["ratelimit-policy"], "\"api-key\";q=1000000000;w=2678400");
    }

    #[test]
    fn a_spent_quota_is_a_429_that_says_when_to_come_again() {
        let spent = RateLimit { quota: "5".parse().unwrap(), remaining: 0, resets_in: 41 };
        let response = OAuthError::of(Refused::QuotaSpent(spent), Way::Basic, None).into_response();
        assert_eq!(response.status(), http::StatusCode::TOO_MANY_REQUESTS);
        let headers = response.headers();
        assert_eq!(headers["retry-after"], "41");
        assert_eq!(headers["ratelimit"], "\"api-key\";r=0;t=41");
        assert_eq!(headers["ratelimit-policy"], "\"api-key\";q=5;w=60");
        assert!(!headers.contains_key("www-authenticate"), "the credential is a right one");
    }
}
