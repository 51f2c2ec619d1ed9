//! The HTTP client of whoever talks to another server: commands, and traces. No redirects, TLS only where
//! it is asked for, and never more than a moment of waiting.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring::default_provider;
use tokio::time::timeout;

/// For the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer at most: a page of the largest API keys has less.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Whatever a body breaks off with.
pub(crate) type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// A body that is sent or read as it comes.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxedError>;

/// Why there was no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    message: String,
    /// Whether the server may have got the request nevertheless.
    pub(crate) may_be_done: bool,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NoAnswer {}

impl NoAnswer {
    pub(crate) fn new(message: String) -> Self {
        Self { message, may_be_done: true }
    }

    fn before_it_was_sent(message: String) -> Self {
        Self { message, may_be_done: false }
    }
}

/// Connections to one server, kept between requests.
#[derive(Debug)]
pub(crate) enum Client {
    /// For http.
    Plain(HyperClient<HttpConnector, Body>),
    /// For https. Reading what to trust takes longer than a whole request without it.
    Tls(HyperClient<HttpsConnector<HttpConnector>, Body>),
}

impl Client {
    /// A client for this server and others of the same scheme.
    pub(crate) fn of(server: &Uri) -> Result<Self, NoAnswer> {
        if server.scheme_str() != Some("https") {
            return Ok(Self::Plain(HyperClient::builder(TokioExecutor::new()).build_http()));
        }
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(default_provider())
            .map_err(|cause| {
                NoAnswer::before_it_was_sent(format!("no certificates to trust: {cause}"))
            })?
            .https_only()
            .enable_http1()
            .build();
        Ok(Self::Tls(HyperClient::builder(TokioExecutor::new()).build(connector)))
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, NoAnswer> {
        let request = request.map(|body| whole(body.into()));
        timeout(TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| NoAnswer::new(format!("no answer within {} s", TIMEOUT.as_secs())))?
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Vec<u8>>, NoAnswer> {
        let (head, body) = self.stream(request).await?.into_parts();
        let body = Limited::new(body.map_err(told), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|cause| NoAnswer::new(format!("the answer breaks off: {cause}")))?;
        Ok(Response::from_parts(head, body.to_bytes().to_vec()))
    }

    /// Sends a request and gives the answer as it comes. The caller watches the time.
    pub(crate) async fn stream(&self, request: Request<Body>) -> Result<Response<Body>, NoAnswer> {
        let sent = match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        };
        let answer = sent.map_err(|cause| NoAnswer {
            may_be_done: !cause.is_connect(),
            message: innermost(&cause),
        })?;
        Ok(answer.map(|body| body.map_err(BoxedError::from).boxed_unsync()))
    }
}

/// What a body broke off with, of a type without a lifetime: the compiler could not tell otherwise that a task
/// which sends may go from thread to thread.
#[expect(clippy::needless_pass_by_value, reason = "an error is mapped by value")]
fn told(cause: Box<dyn std::error::Error + Send + Sync + '_>) -> std::io::Error {
    std::io::Error::other(cause.to_string())
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// One request to a server that is asked once.
pub(crate) async fn send(request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, NoAnswer> {
    Client::of(request.uri())?.send(request).await
}

/// The words at the bottom of a chain of errors: the ones that say what happened.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
