//! What the layers of this crate share: a check before the service, and a refusal in its place.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_core::response::{IntoResponse, Response};
use http::Request;
use http::request::Parts;
use tower_service::Service;

use crate::axum::answer::Refusal;
use crate::axum::deprecation::tell_deprecation;
use crate::raw_key_policy::RawKeyPolicy;

/// Decides whether a request passes. What it finds out it leaves in the extensions of the request.
pub trait Guard: Clone + Send + Sync + 'static {
    /// Passes the request on, with the policy that the answer has to tell of, or refuses it.
    fn admit(&self, parts: &mut Parts) -> impl Future<Output = Result<Warning, Refusal>> + Send;
}

/// The policy by which a raw key was let pass with a warning.
pub(super) type Warning = Option<Arc<RawKeyPolicy>>;

/// The service that a layer of this module makes of another.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// # use tenmint_verifier::{axum::{Guarded, RequireToken}, testing::TestIssuer};
/// # use tower_layer::Layer;
/// # let verifier = TestIssuer::new("https://api.example.com").verifier();
/// let service: Guarded<axum::Router, RequireToken> =
///     RequireToken::new(verifier).layer(axum::Router::new());
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Guarded<S, G> {
    inner: S,
    guard: G,
}

impl<S, G> Guarded<S, G> {
    pub(super) fn new(inner: S, guard: G) -> Self {
        Self { inner, guard }
    }
}

impl<S, G, B> Service<Request<B>> for Guarded<S, G>
where
    S: Service<Request<B>, Error = Infallible> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
    G: Guard,
    B: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // the clone is not ready, the service that was polled is: it goes with the request
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let guard = self.guard.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match guard.admit(&mut parts).await {
                Ok(warning) => {
                    let request = Request::from_parts(parts, body);
                    let mut answer = inner.call(request).await?.into_response();
                    if let Some(policy) = warning {
                        tell_deprecation(&policy, answer.headers_mut());
                    }
                    Ok(answer)
                }
                Err(refusal) => Ok(refusal.answer_to(&parts.headers)),
            }
        })
    }
}
