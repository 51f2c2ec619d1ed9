//! For axum and tower: an extractor, a layer, and the answers of RFC 6750.
//!
//! A token is read from exactly one `Authorization` header, never from the query or a form, where
//! it would end up in logs and histories.

mod answer;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum_core::extract::{FromRef, FromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Request};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::VerifyError;
use crate::token::Token;
use crate::verify::Verifier;

/// The token of the request: the one that [`RequireToken`] has verified, or else the one in the
/// header, verified by the [`Verifier`] of the state.
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
    type Rejection = VerifyError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, VerifyError> {
        if let Some(token) = parts.extensions.get::<Token>() {
            return Ok(token.clone());
        }
        Verifier::from_ref(state).verify(bearer_token(&parts.headers)?).await
    }
}

/// A layer that lets no request pass without a valid token, and leaves the [`Token`] in the
/// extensions of the request. What the token allows is for the handler to ask.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use axum::{Extension, Router, routing::get};
/// use tenmint_verifier::{Token, axum::RequireToken, testing::TestIssuer};
///
/// async fn whoami(Extension(token): Extension<Token>) -> String {
///     token.claims().sub.clone()
/// }
///
/// let verifier = TestIssuer::new("https://api.example.com").verifier();
/// let router: Router =
///     Router::new().route("/whoami", get(whoami)).layer(RequireToken::new(verifier));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RequireToken {
    verifier: Verifier,
}

impl RequireToken {
    /// A layer that asks this verifier.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::RequireToken, testing::TestIssuer};
    /// let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let layer = RequireToken::new(verifier);
    /// # }
    /// ```
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }
}

impl<S> Layer<S> for RequireToken {
    type Service = TokenRequired<S>;

    fn layer(&self, inner: S) -> TokenRequired<S> {
        TokenRequired { inner, verifier: self.verifier.clone() }
    }
}

/// The service that [`RequireToken`] makes of another.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// # use tenmint_verifier::{axum::{RequireToken, TokenRequired}, testing::TestIssuer};
/// # use tower_layer::Layer;
/// # let verifier = TestIssuer::new("https://api.example.com").verifier();
/// let service: TokenRequired<axum::Router> =
///     RequireToken::new(verifier).layer(axum::Router::new());
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TokenRequired<S> {
    inner: S,
    verifier: Verifier,
}

impl<S, B> Service<Request<B>> for TokenRequired<S>
where
    S: Service<Request<B>, Error = Infallible> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // the clone is not ready, the service that was polled is: it goes with the request
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let verifier = self.verifier.clone();
        Box::pin(async move {
            match verified(&verifier, request.headers()).await {
                Ok(token) => request.extensions_mut().insert(token),
                Err(refused) => return Ok(refused.into_response()),
            };
            inner.call(request).await.map(IntoResponse::into_response)
        })
    }
}

async fn verified(verifier: &Verifier, headers: &HeaderMap) -> Result<Token, VerifyError> {
    verifier.verify(bearer_token(headers)?).await
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
