//! The answer to a refused request: RFC 6750, section 3.

use std::borrow::Cow;

use axum_core::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::error::VerifyError;

/// Seconds after which a request is worth another try: the issuer is asked again within ten.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("10");

impl VerifyError {
    /// The status of the answer.
    ///
    /// ```
    /// use tenmint_verifier::VerifyError;
    /// assert_eq!(VerifyError::KeysUnavailable.status(), 503);
    /// ```
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::KeysUnavailable | Self::RevocationsUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoToken | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
        }
    }

    /// The error code, unless the request came without a token: then there is none.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::NoToken => None,
            Self::InvalidRequest => Some("invalid_request"),
            Self::InvalidToken(_) => Some("invalid_token"),
            Self::InsufficientScope(_) => Some("insufficient_scope"),
            Self::KeysUnavailable | Self::RevocationsUnavailable => Some("temporarily_unavailable"),
        }
    }

    /// What the client is told to bring. No message holds a `"` or a `\`, and neither does a scope.
    fn challenge(&self) -> Option<Cow<'static, str>> {
        let scope = match self {
            Self::KeysUnavailable | Self::RevocationsUnavailable => return None,
            Self::NoToken => return Some(r#"Bearer realm="api""#.into()),
            Self::InsufficientScope(scope) => format!(r#", scope="{scope}""#),
            Self::InvalidRequest | Self::InvalidToken(_) => String::new(),
        };
        let code = self.code()?;
        Some(
            format!(r#"Bearer realm="api", error="{code}", error_description="{self}"{scope}"#)
                .into(),
        )
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_SECONDS);
        }
        let challenge = self.challenge().and_then(|text| HeaderValue::from_str(&text).ok());
        headers.extend(challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)));
        headers
    }
}

/// ```
/// use axum::response::IntoResponse;
/// use tenmint_verifier::VerifyError;
///
/// let answer = VerifyError::NoToken.into_response();
/// assert_eq!(answer.status(), 401);
/// assert_eq!(answer.headers()["www-authenticate"], r#"Bearer realm="api""#);
/// ```
impl IntoResponse for VerifyError {
    fn into_response(self) -> Response {
        let description = self.to_string();
        let body = match self.code() {
            Some(code) => json!({"error": code, "error_description": description}),
            None => json!({"error_description": description}),
        };
        (self.status(), self.headers(), body.to_string()).into_response()
    }
}
