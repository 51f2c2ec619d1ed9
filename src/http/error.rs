//! Refusals outside the OAuth endpoints: problem documents (RFC 9457). The one place that turns an
//! error of a use case into a status.

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::error::{Error, InvalidField};
use crate::http::{Reason, json_answer, oauth};
use crate::mint::failures::TooManyFailures;
use crate::model::secret::masked;

/// Seconds after which a caller may try again when the trouble is ours.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// What a refusal said, kept beside the answer for the audit, which cuts secrets out of it.
#[derive(Debug, Clone)]
pub(super) struct RefusalForAudit {
    /// The stable code.
    pub(super) code: &'static str,
    /// The words.
    pub(super) detail: String,
}

/// What is said where there is no credential, or more than one.
pub(super) const NO_CREDENTIAL: &str = "send one Authorization header with an API key";

/// The status of an error.
fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Error::Forbidden(_) => StatusCode::FORBIDDEN,
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::Conflict(..) => StatusCode::CONFLICT,
        Error::Unavailable(_) | Error::OutcomeUnknown(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::Setup(_) | Error::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What the caller is told. A cause of our own stays in the log.
fn detail_of(error: &Error) -> String {
    match error {
        Error::Invalid(_) => "some of what was sent is wrong".to_owned(),
        Error::Setup(_) | Error::Broken(_) => "tenmint has a fault; the log says which".to_owned(),
        Error::Unavailable(_) => "the database is out of reach: nothing was changed".to_owned(),
        told => told.to_string(),
    }
}

/// What a caller without a good credential is told to bring. Whoever brought none did nothing wrong yet:
/// RFC 6750, section 3.
fn challenge_of(error: &Error) -> HeaderValue {
    HeaderValue::from_static(match error {
        Error::Unauthenticated(NO_CREDENTIAL) => "Bearer realm=\"tenmint\"",
        _ => "Bearer realm=\"tenmint\", error=\"invalid_token\"",
    })
}

impl IntoResponse for Error {
    fn into_response(self) -> Response<Body> {
        let (status, code) = (status_of(&self), self.code());
        if status.is_server_error() {
            let cause = std::error::Error::source(&self).map(ToString::to_string);
            tracing::error!(error = %self, cause, "a management call failed");
        }
        let detail = detail_of(&self);
        let fields = match &self {
            Self::Invalid(fields) => fields.as_slice(),
            _ => &[],
        };
        let mut response = problem_with(status, code, &detail, fields);
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, challenge_of(&self));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        let said = if fields.is_empty() { detail } else { self.to_string() };
        response.extensions_mut().insert(RefusalForAudit { code, detail: said });
        response
    }
}

/// The refusal of plain HTTP.
pub(super) fn https_required(detail: &str) -> Response<Body> {
    problem(StatusCode::FORBIDDEN, "https_required", detail)
}

/// What an address is told from which too many came.
pub(super) const TOO_MANY_FAILURES: &str =
    "too many API keys that are not known, or hold no more, came from this address";

/// The refusal of one more API key that is nobody's.
pub(super) fn too_many_failures(too_many: TooManyFailures) -> Response<Body> {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut response = problem(status, "too_many_failures", TOO_MANY_FAILURES);
    response.headers_mut().insert(RETRY_AFTER, too_many.retry_after.into());
    response
}

/// The refusal of a head that has more bytes than one may have, at this path.
pub(super) fn head_too_large(path: &str) -> Response<Body> {
    let detail = "the path and headers are over 32 KiB";
    if path.starts_with("/oauth/") {
        return oauth::error::head_too_large(detail);
    }
    problem(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail)
}

/// The answer of this route to a request that met a bug of ours.
pub(super) fn internal(route: &str) -> Response<Body> {
    let detail = "tenmint has a bug; the log says where";
    if route.starts_with("/oauth/") {
        return oauth::error::internal(detail);
    }
    problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

/// A refusal without fields.
pub(super) fn problem(status: StatusCode, code: &'static str, detail: &str) -> Response<Body> {
    problem_with(status, code, detail, &[])
}

fn problem_with(
    status: StatusCode,
    code: &'static str,
    detail: &str,
    fields: &[InvalidField],
) -> Response<Body> {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "code": code,
        "detail": masked(detail),
    });
    if let (Some(members), false) = (body.as_object_mut(), fields.is_empty()) {
        let entry = |wrong: &InvalidField| {
            let InvalidField { field, message } = wrong.masked();
            json!({"field": field, "message": message})
        };
        members.insert("errors".to_owned(), fields.iter().map(entry).collect());
    }
    let mut response = json_answer(status, body.to_string());
    let problem_json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, problem_json);
    response.extensions_mut().insert(Reason(code));
    response
}
