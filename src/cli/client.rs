//! The HTTP client of the commands that talk to a server: no redirects, TLS only where it is asked
//! for, and never more than a moment of waiting.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring::default_provider;
use tokio::time::timeout;

/// For the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer at most.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Why there was no answer.
#[derive(Debug)]
pub(super) struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

/// Sends a request and reads the whole answer.
pub(super) async fn send(request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, NoAnswer> {
    timeout(TIMEOUT, exchange(request))
        .await
        .map_err(|_| NoAnswer(format!("no answer within {} s", TIMEOUT.as_secs())))?
}

async fn exchange(request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, NoAnswer> {
    let request = request.map(|body| Full::new(Bytes::from(body)));
    let response = if request.uri().scheme_str() == Some("https") {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(default_provider())
            .map_err(|cause| NoAnswer(format!("no certificates to trust: {cause}")))?
            .https_only()
            .enable_http1()
            .build();
        Client::builder(TokioExecutor::new()).build(connector).request(request).await
    } else {
        Client::builder(TokioExecutor::new()).build_http().request(request).await
    };
    let response = response.map_err(|cause| NoAnswer(innermost(&cause)))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|cause| NoAnswer(format!("the answer breaks off: {cause}")))?;
    Ok(Response::from_parts(head, body.to_bytes().to_vec()))
}

/// The words at the bottom of a chain of errors: the ones that say what happened.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
