//! How to fetch: the metadata of the issuer (RFC 8414), then its JWK Set, over HTTP.
//!
//! Everything that answers is held to be hostile: nothing but the issuer's own origin is asked, no
//! redirect is followed, and size and time are bounded.

use std::error::Error;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use crate::error::BuildError;
use crate::jwks::JwkSet;
use crate::remote::freshness;

/// From the start of the connection to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const MAX_BODY: usize = 256 * 1024;

/// What a fetch brought.
pub(super) struct Fetched {
    /// Nothing where the keys are those of the last fetch.
    pub(super) keys: Option<JwkSet>,
    pub(super) fresh_for: Duration,
    pub(super) endpoints: Endpoints,
}

/// What else the issuer can be asked, and where; each only if it says so. All on its own origin.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(crate) struct Endpoints {
    #[serde(rename = "revocation_feed_uri")]
    pub(crate) feed: Option<String>,
    #[cfg(feature = "raw-keys")]
    #[serde(rename = "introspection_endpoint")]
    pub(crate) introspection: Option<String>,
    #[cfg(feature = "raw-keys")]
    #[serde(rename = "raw_key_policy_uri")]
    pub(crate) raw_key_policy: Option<String>,
    #[cfg(feature = "raw-keys")]
    #[serde(rename = "use_report_endpoint")]
    pub(crate) use_report: Option<String>,
}

impl Endpoints {
    /// Each under its name in the metadata.
    fn named(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [
            ("revocation_feed_uri", &self.feed),
            #[cfg(feature = "raw-keys")]
            ("introspection_endpoint", &self.introspection),
            #[cfg(feature = "raw-keys")]
            ("raw_key_policy_uri", &self.raw_key_policy),
            #[cfg(feature = "raw-keys")]
            ("use_report_endpoint", &self.use_report),
        ];
        all.into_iter().filter_map(|(name, uri)| Some((name, uri.as_ref()?)))
    }
}

/// Why a fetch brought nothing, for the log of the API.
#[derive(Debug)]
pub(super) struct FetchError(String);

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client of one issuer.
pub(super) struct IssuerClient {
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    issuer: String,
    metadata_uri: Uri,
    last: Option<Last>,
}

/// What the last fetch has taught, if it went well.
struct Last {
    found: Found,
    etag: Option<HeaderValue>,
}

#[derive(serde::Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
    #[serde(flatten)]
    endpoints: Endpoints,
}

/// What the metadata names.
struct Found {
    jwks_uri: Uri,
    endpoints: Endpoints,
}

impl IssuerClient {
    pub(super) fn new(issuer: &str) -> Result<Self, BuildError> {
        let metadata_uri = uri_at(issuer, "/.well-known/oauth-authorization-server")?;
        // a pool would hold a connection for minutes, only to find it closed at the next fetch
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector(issuer)?);
        Ok(Self { http, issuer: issuer.to_owned(), metadata_uri, last: None })
    }

    /// Fetches the keys, or learns that they have not changed.
    pub(super) async fn fetch(&mut self) -> Result<Fetched, FetchError> {
        // what was learnt is forgotten unless all goes well: the next try starts from the beginning
        let (found, etag) = match self.last.take() {
            Some(last) => (last.found, last.etag),
            None => (self.discover().await?, None),
        };
        let jwks_uri = &found.jwks_uri;
        let response = self.get(jwks_uri, etag.as_ref()).await?;
        let fresh_for = freshness::fresh_for(response.headers());
        let is_same = response.status() == StatusCode::NOT_MODIFIED && etag.is_some();
        let keys = if is_same { None } else { Some(parse_keys(jwks_uri, &response)?) };
        let etag = response.headers().get(ETAG).cloned().or(etag.filter(|_| is_same));
        let endpoints = found.endpoints.clone();
        self.last = Some(Last { found, etag });
        Ok(Fetched { keys, fresh_for, endpoints })
    }

    /// Where things are, by the word of the issuer about itself: RFC 8414, section 3.3.
    async fn discover(&self) -> Result<Found, FetchError> {
        let response = self.get(&self.metadata_uri, None).await?;
        let body = ok_body(&self.metadata_uri, &response)?;
        let metadata: Metadata = serde_json::from_slice(body)
            .map_err(|error| failed(&self.metadata_uri, &format!("no metadata: {error}")))?;
        if metadata.issuer != self.issuer {
            return Err(failed(
                &self.metadata_uri,
                &format!("names another issuer, `{}`", metadata.issuer.escape_debug()),
            ));
        }
        let left = |name: &str| {
            failed(&self.metadata_uri, &format!("`{name}` leaves the issuer's origin"))
        };
        let jwks_uri = self.own(&metadata.jwks_uri).ok_or_else(|| left("jwks_uri"))?;
        let endpoints = metadata.endpoints;
        let strange = endpoints.named().find(|(_, uri)| self.own(uri).is_none());
        match strange {
            Some((name, _)) => Err(left(name)),
            None => Ok(Found { jwks_uri, endpoints }),
        }
    }

    /// The address, if it lies on the origin of the issuer. An issuer has no path, so what follows
    /// it after a `/` cannot change the host.
    fn own(&self, uri: &str) -> Option<Uri> {
        let path = uri.strip_prefix(&self.issuer)?;
        if path.starts_with('/') { uri.parse().ok() } else { None }
    }

    async fn get(
        &self,
        uri: &Uri,
        etag: Option<&HeaderValue>,
    ) -> Result<Response<Bytes>, FetchError> {
        match timeout(PATIENCE, self.exchange(uri, etag)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failed(uri, &chain(&*error))),
            Err(_) => Err(failed(uri, &format!("no answer within {PATIENCE:?}"))),
        }
    }

    async fn exchange(
        &self,
        uri: &Uri,
        etag: Option<&HeaderValue>,
    ) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>> {
        let mut request = Request::get(uri).header(ACCEPT, "application/json");
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let (parts, body) = self.http.request(request.body(Empty::new())?).await?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}

fn uri_at(issuer: &str, path: &str) -> Result<Uri, BuildError> {
    let uri = format!("{issuer}{path}").parse();
    uri.map_err(|_| BuildError::new(format!("the issuer `{issuer}` is no origin")))
}

/// What connects to an issuer. The crypto provider is given, so that no default of the process is
/// asked for or set.
pub(crate) fn connector(issuer: &str) -> Result<HttpsConnector<HttpConnector>, BuildError> {
    let uri = uri_at(issuer, "")?;
    let provider = rustls::crypto::ring::default_provider();
    if uri.scheme_str() == Some("https") {
        return HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(|error| BuildError::new(format!("no root certificates: {error}")))
            .map(|builder| builder.https_only().enable_http1().build());
    }
    if !uri.host().is_some_and(is_loopback) {
        return Err(BuildError::new("an issuer elsewhere than on loopback needs `https`"));
    }
    let tls = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| BuildError::new(format!("no TLS: {error}")))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build())
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "localhost" | "[::1]")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn parse_keys(uri: &Uri, response: &Response<Bytes>) -> Result<JwkSet, FetchError> {
    let keys =
        JwkSet::parse(ok_body(uri, response)?).map_err(|error| failed(uri, &error.to_string()))?;
    if keys.is_empty() {
        return Err(failed(uri, "no key of the set can be used"));
    }
    Ok(keys)
}

/// A redirect is no answer: whoever can make the issuer send one must not choose the keys.
fn ok_body<'r>(uri: &Uri, response: &'r Response<Bytes>) -> Result<&'r [u8], FetchError> {
    match response.status() {
        StatusCode::OK => Ok(response.body()),
        status => Err(failed(uri, &format!("answered {}", status.as_u16()))),
    }
}

fn failed(uri: &Uri, reason: &str) -> FetchError {
    FetchError(format!("{uri}: {reason}"))
}

/// An error with its causes, which hyper keeps out of its own message.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
