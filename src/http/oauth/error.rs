//! Refusals of the token endpoint (RFC 6749, section 5.2). The one place that turns a reason into a
//! status, for the OAuth endpoints.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{ALLOW, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use tenmint_verifier::{ScopeSet, ScopeView};

use crate::http::error::TOO_MANY_FAILURES;
use crate::http::oauth::client_auth::Way;
use crate::http::oauth::rate_limit;
use crate::http::{App, Reason, json_answer};
use crate::mint::Refused;
use crate::mint::failures::TooManyFailures;
use crate::mint::quotas::RateLimit;
use crate::model::secret::masked;

/// Seconds after which a client may try again when the trouble is ours.
const RETRY_AFTER_SECONDS: u64 = 2;

/// The names of all reasons, for figures; `other` is any that has none. Those of the mint are called as
/// the usage of a key calls them.
pub(in crate::http) const REASONS: [&str; 26] = [
    "invalid_request",
    "method_not_allowed",
    "unsupported_media_type",
    "too_large",
    "too_slow",
    "unsupported_grant_type",
    "no_credential",
    "malformed_credential",
    "unknown_client",
    "revoked",
    "expired",
    "replaced",
    "suspended",
    "address_refused",
    "quota_spent",
    "too_many_failures",
    "invalid_target",
    "management_in_grace",
    "targets_differ",
    "no_target",
    "malformed_scope",
    "scope_beyond_key",
    "no_scope",
    "too_much_scope",
    "unavailable",
    "other",
];

/// A refusal: a status, a registered code, and words for whoever reads the client's log.
#[derive(Debug)]
pub(super) struct OAuthError {
    status: StatusCode,
    code: &'static str,
    /// The name of the reason: one of [`REASONS`].
    pub(super) reason: &'static str,
    description: Cow<'static, str>,
    /// The scheme of the challenge, where there is one.
    challenge: Option<&'static str>,
    /// The scope that is missing, for the challenge.
    needs: Option<&'static str>,
    /// Where the quota stands, if that is the trouble.
    rate_limit: Option<Box<RateLimit>>,
    /// Seconds to wait before another try, where waiting helps.
    retry_after: Option<u64>,
}

impl OAuthError {
    fn new(
        status: StatusCode,
        code: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            reason: code,
            description: description.into(),
            challenge: None,
            needs: None,
            rate_limit: None,
            retry_after: None,
        }
    }

    fn because(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    pub(super) fn invalid_request(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "this endpoint takes POST")
            .because("method_not_allowed")
    }

    pub(super) fn unsupported_media_type(wanted: &str) -> Self {
        let description = format!("send the parameters as {wanted}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", description)
            .because("unsupported_media_type")
    }

    pub(super) fn too_large(max_bytes: usize) -> Self {
        let description = format!("the body is over {} KiB", max_bytes / 1024);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", description)
            .because("too_large")
    }

    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the body did not come in time")
            .because("too_slow")
    }

    pub(super) fn unsupported_grant_type() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "the one grant type here is client_credentials",
        )
    }

    /// A credential that holds, without the scope that this takes: RFC 6750, section 3.1. The challenge
    /// is for whoever tried Bearer: no other scheme has a word for it.
    pub(super) fn insufficient_scope(scope: &'static str, way: Way) -> Self {
        let description = format!("this needs the scope {scope}");
        let error = Self::new(StatusCode::FORBIDDEN, "insufficient_scope", description);
        let challenge = (way == Way::Bearer).then_some("Bearer");
        Self { challenge, needs: Some(scope), ..error }
    }

    /// RFC 7009, section 2.2.1: an API key is revoked through the management API.
    pub(super) fn unsupported_token_type() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unsupported_token_type",
            "only access tokens are revoked here: revoke an API key with tenmint keys revoke",
        )
    }

    /// RFC 7009, section 2.1: a token is revoked by the client it was issued to.
    pub(super) fn not_of_this_client() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            "the token was issued to another API key, and this needs admin:org/tokens/*",
        )
    }

    /// The service cannot tell at the moment: never the client's fault.
    pub(super) fn unavailable() -> Self {
        Self::unavailable_for("tenmint cannot answer at the moment")
    }

    fn unavailable_for(description: &'static str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let error = Self::new(status, "temporarily_unavailable", description);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..error }
    }

    /// A key that is unknown, malformed, or not of this id: all of that reads the same.
    pub(super) fn invalid_client(way: Way) -> Self {
        Self::client_refused(way, "the API key is not known").because("malformed_credential")
    }

    /// A header that is no text, so that no key is looked for in it.
    pub(super) fn unreadable_authorization(value: &HeaderValue) -> Self {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer");
        Self::invalid_client(if is_bearer { Way::Bearer } else { Way::Basic })
    }

    pub(super) fn no_credential() -> Self {
        Self::client_refused(Way::Basic, "send an API key, best as the password of Basic")
            .because("no_credential")
    }

    /// A key in the body is refused with 400 and no challenge: Spring reads no other answer.
    fn client_refused(way: Way, description: &'static str) -> Self {
        let (status, challenge) = match way {
            Way::Basic => (StatusCode::UNAUTHORIZED, Some("Basic")),
            Way::Bearer => (StatusCode::UNAUTHORIZED, Some("Bearer")),
            Way::Body => (StatusCode::BAD_REQUEST, None),
        };
        Self { challenge, ..Self::new(status, "invalid_client", description) }
    }

    /// The answer to a refusal of the mint, for a key that came this way and asked for this scope.
    pub(super) fn of(refused: Refused, way: Way, scope: Option<&str>) -> Self {
        Self::said(refused, way, scope).because(reason_of(refused))
    }

    fn said(refused: Refused, way: Way, scope: Option<&str>) -> Self {
        let bad =
            |code, description: &'static str| Self::new(StatusCode::BAD_REQUEST, code, description);
        match refused {
            Refused::UnknownClient => Self::invalid_client(way),
            Refused::Revoked => Self::client_refused(way, "the API key was revoked"),
            Refused::Expired => Self::client_refused(way, "the API key has expired"),
            Refused::Replaced => {
                Self::client_refused(way, "the API key was rotated: it has another text now")
            }
            Refused::Suspended => Self::client_refused(
                way,
                "the owner, space or organization of the API key is suspended",
            ),
            Refused::QuotaSpent(rate_limit) => Self::quota_spent(rate_limit),
            Refused::AddressNotAllowed => {
                bad("unauthorized_client", "the API key may not be used from this address")
            }
            Refused::InvalidTarget => {
                bad("invalid_target", "an audience is unknown or not one of the API key")
            }
            Refused::ManagementInGrace => {
                let description = "a secret that was replaced gets no token for the management API \
                                   in its grace period: use the new secret";
                bad("invalid_target", description)
            }
            Refused::TargetsDiffer => {
                bad("invalid_target", "resource and audience name different audiences")
            }
            Refused::NoTarget => {
                bad("invalid_target", "name an audience: there is no default for the API key")
            }
            Refused::MalformedScope | Refused::ScopeBeyondKey(_) => {
                let description = scope.map_or(Cow::Borrowed("the scope is refused"), |scope| {
                    scope_trouble(refused, scope).into()
                });
                Self::new(StatusCode::BAD_REQUEST, "invalid_scope", description)
            }
            Refused::NoScope => {
                bad("invalid_scope", "the owner of the API key has none of its scopes")
            }
            Refused::TooMuchScope => {
                let description = "with all that the API key puts into a token, the scopes are too \
                                   much for one: ask for fewer";
                bad("invalid_scope", description)
            }
            Refused::Behind => Self::unavailable(),
            // a lease that did not come is no fault of the client
            Refused::Unavailable | Refused::NeedsLease(_) => {
                Self::unavailable_for("tenmint cannot issue tokens at the moment")
            }
        }
    }

    fn quota_spent(rate_limit: RateLimit) -> Self {
        let description = "the quota of the API key is spent";
        let spent =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", description);
        Self {
            retry_after: Some(rate_limit.resets_in),
            rate_limit: Some(rate_limit.into()),
            ..spent
        }
    }

    /// The same for a token, which is refused in the words of RFC 6750, section 3.1. Nobody guesses one: it
    /// counts as no failure, or a client whose token has expired could be told to wait instead of to
    /// fetch another.
    pub(super) fn of_token(refused: Refused) -> Self {
        match refused {
            Refused::UnknownClient
            | Refused::Revoked
            | Refused::Expired
            | Refused::Replaced
            | Refused::Suspended
            | Refused::InvalidTarget => Self::invalid_token(),
            refused => Self::of(refused, Way::Bearer, None),
        }
    }

    fn invalid_token() -> Self {
        let description = "the token has expired, was revoked, or is none for the management API";
        let error = Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description);
        Self { challenge: Some("Bearer"), ..error }
    }

    /// The answer, or that of an address from which too many API keys came that are nobody's.
    pub(super) fn answer_to(self, app: &App, head: &Parts) -> Response<Body> {
        self.throttled(app, app.caller_of(head)).into_response()
    }

    /// The refusal, or that of an address from which too many API keys came that are nobody's.
    pub(super) fn throttled(self, app: &App, from: Option<IpAddr>) -> Self {
        // an API key was looked up, and nobody has it
        if self.reason != reason_of(Refused::UnknownClient) {
            return self;
        }
        match app.count_failure(from) {
            Ok(()) => self,
            Err(TooManyFailures { retry_after }) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let error = Self::new(status, "temporarily_unavailable", TOO_MANY_FAILURES);
                let error = error.because("too_many_failures");
                Self { retry_after: Some(retry_after), ..error }
            }
        }
    }
}

/// The name of a reason of the mint.
fn reason_of(refused: Refused) -> &'static str {
    match refused {
        Refused::UnknownClient => "unknown_client",
        Refused::Revoked => "revoked",
        Refused::Expired => "expired",
        Refused::Replaced => "replaced",
        Refused::Suspended => "suspended",
        Refused::AddressNotAllowed => "address_refused",
        Refused::QuotaSpent(_) => "quota_spent",
        Refused::InvalidTarget => "invalid_target",
        Refused::ManagementInGrace => "management_in_grace",
        Refused::TargetsDiffer => "targets_differ",
        Refused::NoTarget => "no_target",
        Refused::MalformedScope => "malformed_scope",
        Refused::ScopeBeyondKey(_) => "scope_beyond_key",
        Refused::NoScope => "no_scope",
        Refused::TooMuchScope => "too_much_scope",
        Refused::NeedsLease(_) | Refused::Behind | Refused::Unavailable => "unavailable",
    }
}

/// The refusal of plain HTTP.
pub(in crate::http) fn https_required(description: &'static str) -> Response<Body> {
    OAuthError::invalid_request(description).into_response()
}

/// The refusal of a head that has too many bytes.
pub(in crate::http) fn head_too_large(description: &'static str) -> Response<Body> {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    OAuthError::new(status, "invalid_request", description)
        .because("head_too_large")
        .into_response()
}

/// The answer to a request that met a bug of ours.
pub(in crate::http) fn internal(description: &'static str) -> Response<Body> {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    OAuthError::new(status, "server_error", description).because("internal").into_response()
}

/// What is wrong with the scope that was asked for.
fn scope_trouble(refused: Refused, scope: &str) -> String {
    match (refused, scope.parse::<ScopeSet>()) {
        (Refused::ScopeBeyondKey(place), Ok(set)) => {
            let beyond = set.iter().nth(place).map(ScopeView::as_str).unwrap_or_default();
            format!("the API key does not cover `{beyond}`")
        }
        (_, Err(cause)) => cause.to_string(),
        _ => "the scope is refused".to_owned(),
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response<Body> {
        let description = printable(&masked(&self.description));
        let body = json!({"error": self.code, "error_description": description});
        let mut response = json_answer(self.status, body.to_string());
        let headers = response.headers_mut();
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        if let Some(scheme) = self.challenge {
            let needs = self.needs.map(|scope| format!(", scope=\"{scope}\"")).unwrap_or_default();
            let challenge = format!(
                "{scheme} realm=\"tenmint\", error=\"{}\", error_description=\"{description}\"{needs}",
                self.code
            );
            headers.extend(HeaderValue::try_from(challenge).map(|value| (WWW_AUTHENTICATE, value)));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(rate_limit) = &self.rate_limit {
            rate_limit::add(headers, rate_limit);
        }
        response.extensions_mut().insert(Reason(self.reason));
        response
    }
}

/// The characters that RFC 6749, section 5.2 allows in a description; others become `?`. No
/// quote and no backslash, so that the copy in the challenge cannot break out of its quotes.
fn printable(text: &str) -> String {
    let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    text.chars().map(|c| if allowed(c) { c } else { '?' }).collect()
}
