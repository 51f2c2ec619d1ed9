//! For axum and tower: an extractor, layers, the answers of RFC 6750 and the metadata of RFC 9728.
//!
//! A token is read from exactly one `Authorization` header, never from the query or a form, where
//! it would end up in logs and histories.

mod answer;
mod credential;
mod deprecation;
mod guard;
mod protected_resource;
mod require_scope;
mod require_token;

use axum_core::extract::{FromRef, FromRequestParts};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

pub use crate::axum::answer::Refusal;
pub use crate::axum::deprecation::tell_deprecation;
pub use crate::axum::guard::Guarded;
pub use crate::axum::protected_resource::ProtectedResource;
pub use crate::axum::require_scope::{Allowed, RequireScope};
pub use crate::axum::require_token::{Organization, RequireToken};

use crate::error::VerifyError;
use crate::token::Token;
use crate::verify::Verifier;

/// The token of the request: the one that [`RequireToken`] has verified, or else the one in the
/// header, verified by the [`Verifier`] of the state. The layer alone knows from where a request comes,
/// and tells who sends a raw API key that it will not be taken for long.
///
/// ```
/// use axum::{Router, extract::FromRef, routing::get};
/// use tenmint_verifier::{Token, Verifier};
///
/// #[derive(Clone)]
/// struct App {
///     verifier: Verifier,
/// }
///
/// impl FromRef<App> for Verifier {
///     fn from_ref(app: &App) -> Self {
///         app.verifier.clone()
///     }
/// }
///
/// async fn whoami(token: Token) -> String {
///     token.claims().sub.clone()
/// }
///
/// let router: Router<App> = Router::new().route("/whoami", get(whoami));
/// ```
impl<S> FromRequestParts<S> for Token
where
    Verifier: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        if let Some(token) = parts.extensions.get::<Token>() {
            return Ok(token.clone());
        }
        let verifier = Verifier::from_ref(state);
        let token = credential::verify(&verifier, &parts.headers, None).await;
        token.map_err(|error| Refusal::of(error, &verifier))
    }
}

/// The one token of a request (RFC 6750, section 2.1).
///
/// For servers that are not built on axum: this is what the extractor and the layer read.
///
/// # Errors
/// [`VerifyError::NoToken`] without an `Authorization` header or with one of another scheme,
/// [`VerifyError::InvalidRequest`] for two headers or two tokens.
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
/// use tenmint_verifier::axum::bearer_token;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(AUTHORIZATION, HeaderValue::from_static("bearer eyJ.eyJ.c2ln"));
/// assert_eq!(bearer_token(&headers), Ok("eyJ.eyJ.c2ln"));
/// ```
pub fn bearer_token(headers: &HeaderMap) -> Result<&str, VerifyError> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Err(VerifyError::NoToken),
        (Some(line), None) => line.to_str().map_err(|_| VerifyError::InvalidRequest)?,
        (Some(_), Some(_)) => return Err(VerifyError::InvalidRequest),
    };
    let (scheme, token) = line.split_once(' ').unwrap_or((line, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(VerifyError::NoToken);
    }
    let token = token.trim_matches(' ');
    if is_b64token(token) { Ok(token) } else { Err(VerifyError::InvalidRequest) }
}

/// RFC 6750, section 2.1: so neither a space nor a comma, and hence never two tokens.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(is_allowed)
}
