//! The answer to a refused request: RFC 6750, section 3, and for gRPC its statuses.

use std::sync::Arc;

use axum_core::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::axum::deprecation::tell_deprecation;
use crate::error::VerifyError;
use crate::verify::Verifier;

/// Seconds after which a request is worth another try: the issuer is asked again within ten.
const RETRY_SECONDS: u64 = 10;
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A refused request, and where its client learns how to get a token (RFC 9728), where the API tells
/// that. This is what the extractor and the layers answer with.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use tenmint_verifier::{VerifyError, axum::Refusal, testing::TestIssuer};
///
/// let verifier = TestIssuer::new("https://api.example.com").verifier();
/// let refusal = Refusal::of(VerifyError::NoToken, &verifier);
/// assert_eq!(refusal.error(), &VerifyError::NoToken);
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    error: VerifyError,
    metadata_uri: Option<Arc<str>>,
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Self {
        Self { error, metadata_uri: None }
    }
}

impl Refusal {
    /// A refusal of this verifier.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{VerifyError, axum::Refusal, testing::TestIssuer};
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let refusal = Refusal::of(VerifyError::NoToken, &verifier);
    /// # }
    /// ```
    pub fn of(error: VerifyError, verifier: &Verifier) -> Self {
        Self { error, metadata_uri: verifier.metadata_uri().cloned() }
    }

    /// Why the request is refused.
    ///
    /// ```
    /// use tenmint_verifier::{VerifyError, axum::Refusal};
    /// assert_eq!(Refusal::from(VerifyError::NoToken).error(), &VerifyError::NoToken);
    /// ```
    pub fn error(&self) -> &VerifyError {
        &self.error
    }

    /// The answer in the protocol of the request.
    pub(super) fn answer_to(self, request: &HeaderMap) -> Response {
        let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
        if request.get(CONTENT_TYPE).is_some_and(is_grpc) {
            return self.error.grpc_answer();
        }
        self.into_response()
    }
}

impl VerifyError {
    /// The status of the answer.
    ///
    /// ```
    /// use tenmint_verifier::VerifyError;
    /// assert_eq!(VerifyError::KeysUnavailable.status(), 503);
    /// ```
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::InvalidResource(_) => StatusCode::BAD_REQUEST,
            Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::QuotaSpent { .. } | Self::TryLater { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Misconfigured(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::KeysUnavailable | Self::RevocationsUnavailable | Self::IssuerUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NoToken | Self::InvalidToken(_) | Self::TokenRequired(_) => {
                StatusCode::UNAUTHORIZED
            }
        }
    }

    /// The error code, unless the request came without a token: then there is none.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::NoToken => None,
            Self::InvalidRequest | Self::InvalidResource(_) => Some("invalid_request"),
            Self::InvalidToken(_) | Self::TokenRequired(_) => Some("invalid_token"),
            Self::InsufficientScope(_) => Some("insufficient_scope"),
            Self::Misconfigured(_) => Some("server_error"),
            Self::QuotaSpent { .. }
            | Self::TryLater { .. }
            | Self::KeysUnavailable
            | Self::RevocationsUnavailable
            | Self::IssuerUnavailable => Some("temporarily_unavailable"),
        }
    }

    /// What the client is told to bring. No message holds a `"` or a `\`, and neither does a scope
    /// or the place of the metadata.
    fn challenge(&self, metadata_uri: Option<&str>) -> Option<String> {
        let scope = match self {
            Self::InsufficientScope(scope) => format!(r#", scope="{scope}""#),
            Self::NoToken
            | Self::InvalidRequest
            | Self::InvalidResource(_)
            | Self::InvalidToken(_)
            | Self::TokenRequired(_) => String::new(),
            // no other token would help
            Self::QuotaSpent { .. }
            | Self::TryLater { .. }
            | Self::Misconfigured(_)
            | Self::KeysUnavailable
            | Self::RevocationsUnavailable
            | Self::IssuerUnavailable => return None,
        };
        let error = self.code().map_or(String::new(), |code| {
            format!(r#", error="{code}", error_description="{self}"{scope}"#)
        });
        let metadata =
            metadata_uri.map_or(String::new(), |uri| format!(r#", resource_metadata="{uri}""#));
        Some(format!(r#"Bearer realm="api"{error}{metadata}"#))
    }

    fn headers(&self, metadata_uri: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Self::TokenRequired(policy) = self {
            tell_deprecation(policy, &mut headers);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        let mut told = Vec::new();
        if let Self::QuotaSpent { quota, retry_after } = self {
            let (limit, window) = (quota.limit(), quota.window());
            told.push((RATE_LIMIT, format!("\"api-key\";r=0;t={retry_after}")));
            told.push((RATE_LIMIT_POLICY, format!("\"api-key\";q={limit};w={window}")));
        }
        told.extend(self.challenge(metadata_uri).map(|text| (WWW_AUTHENTICATE, text)));
        for (name, text) in told {
            headers.extend(HeaderValue::try_from(text).map(|value| (name, value)));
        }
        headers
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::KeysUnavailable | Self::RevocationsUnavailable => Some(RETRY_SECONDS),
            // the next question is asked after a second
            Self::IssuerUnavailable => Some(1),
            Self::QuotaSpent { retry_after, .. } | Self::TryLater { retry_after } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }

    fn answer(&self, metadata_uri: Option<&str>) -> Response {
        let description = self.to_string();
        let body = match self.code() {
            Some(code) => json!({"error": code, "error_description": description}),
            None => json!({"error_description": description}),
        };
        (self.status(), self.headers(metadata_uri), body.to_string()).into_response()
    }

    /// A response of trailers alone (the gRPC protocol over HTTP/2, "Responses").
    fn grpc_answer(&self) -> Response {
        let status: u16 = match self.status() {
            StatusCode::BAD_REQUEST => 3,       // INVALID_ARGUMENT
            StatusCode::FORBIDDEN => 7,         // PERMISSION_DENIED
            StatusCode::TOO_MANY_REQUESTS => 8, // RESOURCE_EXHAUSTED
            StatusCode::SERVICE_UNAVAILABLE => 14,
            StatusCode::UNAUTHORIZED => 16, // UNAUTHENTICATED
            _ => 13,                        // INTERNAL
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, status.into());
        // the message is percent-encoded; all of ours is printable ASCII
        let message = self.to_string().replace('%', "%25");
        headers.extend(HeaderValue::try_from(message).map(|message| (GRPC_MESSAGE, message)));
        (StatusCode::OK, headers).into_response()
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
        self.answer(None)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.error.answer(self.metadata_uri.as_deref())
    }
}
