//! The answers to gateways: 200, 401 or 403, since they know no other. What a verifier in the API
//! would say too is said in its words; the reason stands in a header besides.

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::json;
use tenmint_verifier::axum::tell_deprecation;
use tenmint_verifier::{InvalidToken, Quota, RawKeyMode, VerifyError};

use crate::http::json_answer;
use crate::mint::Refused;
use crate::mint::forward_auth::Passed;
use crate::mint::quotas::RateLimit;

const REASON: HeaderName = HeaderName::from_static("tenmint-reason");
const CLIENT_ID: HeaderName = HeaderName::from_static("tenmint-client-id");
const SUBJECT: HeaderName = HeaderName::from_static("tenmint-subject");
const ORGANIZATION: HeaderName = HeaderName::from_static("tenmint-organization");
const SPACE: HeaderName = HeaderName::from_static("tenmint-space");
const SCOPE: HeaderName = HeaderName::from_static("tenmint-scope");
const TOKEN_ID: HeaderName = HeaderName::from_static("tenmint-token-id");
const AUDIENCE: HeaderName = HeaderName::from_static("tenmint-audience");
const RAW_KEY: HeaderName = HeaderName::from_static("tenmint-raw-key");

/// Seconds after which a gateway may ask again when the trouble is ours.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// Why a request does not pass.
#[derive(Debug)]
pub(super) enum Denied {
    /// As a verifier in the API would say.
    There(VerifyError),
    /// What no verifier knows of.
    Here(Reason),
}

/// What is wrong with the path, with the gateway, or here. Never a 401: no other credential of the
/// end caller would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No key of the gateway, several, or one that is not known or holds no more.
    UnknownGateway,
    /// The gateway may not ask about tokens.
    GatewayForbidden,
    /// There is no such policy for this gateway.
    UnknownPolicy,
    /// The gateway does not say which request it is about, or says it in two ways.
    RequestNotTold,
    /// Two readers could read the path differently.
    PathNotCanonical,
    /// No rule of the policy is about the request.
    NoRule,
    /// The service cannot tell at the moment.
    Unavailable,
}

/// All that a gateway can be told, for figures: that a request passes, the reasons of the verifier, those
/// of here, and `other` for any that has no name.
pub(in crate::http) const DECISIONS: [&str; 21] = [
    PASSED,
    "insufficient_scope",
    "no_token",
    "invalid_request",
    "invalid_token",
    "token_expired",
    "token_revoked",
    "wrong_audience",
    "wrong_address",
    "unknown_api_key",
    "token_required",
    "quota_spent",
    "try_later",
    "unknown_gateway",
    "gateway_forbidden",
    "unknown_policy",
    "request_not_told",
    "path_not_canonical",
    "no_rule",
    "unavailable",
    "other",
];
/// A request passes.
pub(super) const PASSED: &str = "passed";

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::UnknownGateway => "unknown_gateway",
            Self::GatewayForbidden => "gateway_forbidden",
            Self::UnknownPolicy => "unknown_policy",
            Self::RequestNotTold => "request_not_told",
            Self::PathNotCanonical => "path_not_canonical",
            Self::NoRule => "no_rule",
            Self::Unavailable => "unavailable",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::UnknownGateway => "the gateway has to show its key in Tenmint-Gateway-Key",
            Self::GatewayForbidden => "the gateway needs the scope introspect:org/tokens/*",
            Self::UnknownPolicy => "there is no such policy for this gateway",
            Self::RequestNotTold => "the gateway does not tell one method and one path",
            Self::PathNotCanonical => "the path is not canonical",
            Self::NoRule => "no rule is about this path",
            Self::Unavailable => "tenmint cannot decide at the moment",
        }
    }
}

impl From<Reason> for Denied {
    fn from(reason: Reason) -> Self {
        Self::Here(reason)
    }
}

impl From<VerifyError> for Denied {
    fn from(wrong: VerifyError) -> Self {
        Self::There(wrong)
    }
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::QuotaSpent(rate_limit) => quota_spent(rate_limit),
            _ => Self::Here(Reason::Unavailable),
        }
    }
}

fn quota_spent(RateLimit { quota, resets_in, .. }: RateLimit) -> Denied {
    let told = Quota::new(quota.limit().into(), quota.window().as_seconds().into());
    told.map_or(Denied::Here(Reason::Unavailable), |quota| {
        Denied::There(VerifyError::QuotaSpent { quota, retry_after: resets_in })
    })
}

impl Denied {
    /// The reason, in one word.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::There(wrong) => reason_of(wrong),
            Self::Here(reason) => reason.as_str(),
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response<Body> {
        let reason = self.reason();
        let mut response = match self {
            Self::There(wrong) => {
                let status = status_of(&wrong);
                let mut response = wrong.into_response();
                *response.status_mut() = status;
                response
            }
            Self::Here(reason) => denied_here(reason),
        };
        response.headers_mut().insert(REASON, HeaderValue::from_static(reason));
        response.extensions_mut().insert(crate::http::Reason(reason));
        response
    }
}

fn denied_here(reason: Reason) -> Response<Body> {
    let is_transient = reason == Reason::Unavailable;
    let error = if is_transient { "temporarily_unavailable" } else { "access_denied" };
    let body = json!({"error": error, "error_description": reason.says()});
    let mut response = json_answer(StatusCode::FORBIDDEN, body.to_string());
    if is_transient {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    response
}

/// 401 where another credential would help: 400 is no answer that gateways know.
fn status_of(wrong: &VerifyError) -> StatusCode {
    match wrong {
        VerifyError::NoToken
        | VerifyError::InvalidRequest
        | VerifyError::InvalidToken(_)
        | VerifyError::TokenRequired(_) => StatusCode::UNAUTHORIZED,
        _ => StatusCode::FORBIDDEN,
    }
}

fn reason_of(wrong: &VerifyError) -> &'static str {
    match wrong {
        VerifyError::InvalidToken(reason) => match reason {
            InvalidToken::Expired => "token_expired",
            InvalidToken::Revoked | InvalidToken::WithdrawnKey => "token_revoked",
            InvalidToken::WrongAudience
            | InvalidToken::WrongAddress
            | InvalidToken::UnknownApiKey => reason.kind(),
            // what exactly is wrong with a token helps nobody who did not forge it
            _ => "invalid_token",
        },
        wrong => wrong.kind(),
    }
}

/// The answer to a request that passes: who it is of, for the API.
pub(super) fn passing(passed: &Passed) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    add_identity(headers, passed);
    if let Some((mode, policy)) = &passed.raw_key {
        headers.insert(RAW_KEY, HeaderValue::from_static(mode.as_str()));
        if *mode == RawKeyMode::Warn {
            tell_deprecation(policy, headers);
        }
    }
    response
}

fn add_identity(headers: &mut HeaderMap, passed: &Passed) {
    let always = [
        (CLIENT_ID, &*passed.client_id),
        (SUBJECT, &passed.subject),
        (ORGANIZATION, &passed.org),
        (SCOPE, &passed.scope),
        (AUDIENCE, &passed.audience),
    ];
    let space = passed.space.iter().map(|space| (SPACE, &**space));
    let token_id = passed.token_id.iter().map(|id| (TOKEN_ID, &**id));
    for (name, text) in always.into_iter().chain(space).chain(token_id) {
        headers.extend(HeaderValue::try_from(text).map(|value| (name, value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_manual_is_counted_under_its_own_name() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/forward-auth.md");
        let page = std::fs::read_to_string(page).unwrap();
        let table =
            page.split("| `Tenmint-Reason` |").nth(1).unwrap().split("\n\n").next().unwrap();
        let first_cells = table.lines().skip(2).filter_map(|row| row.split('|').nth(1));
        let reasons: Vec<&str> =
            first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert!(reasons.len() > 15, "{reasons:?}");
        for reason in &reasons {
            assert!(DECISIONS.contains(reason), "{reason}");
        }
        let told: Vec<&str> =
            DECISIONS.into_iter().filter(|told| ![PASSED, "other"].contains(told)).collect();
        assert!(told.iter().all(|reason| reasons.contains(reason)), "{told:?}");
    }
}
