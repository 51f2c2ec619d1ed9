//! The face for machines: routes, and what every answer has in common.

mod actor;
pub mod api;
pub(crate) mod client;
pub mod client_ip;
mod error;
mod forward_auth;
mod forwarded;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
pub mod health;
mod https_only;
pub mod listener;
pub mod metrics;
pub mod oauth;
mod panics;
pub mod tls;
pub mod traces;
mod waiting;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get};
use http::header::{HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tower_http::cors::{Any, CorsLayer};

use crate::clock::Clock;
use crate::http::client_ip::{Peer, TrustedProxies};
use crate::http::https_only::HttpsOnly;
use crate::http::listener::{Face, Limits};
use crate::http::metrics::{Counting, Flight, Observed, Requests};
use crate::http::oauth::feed::Waiters;
use crate::http::oauth::metadata::Metadata;
use crate::http::tls::Tls;
use crate::http::traces::{RequestFacts, Span, Step, Traces};
use crate::mint::Mint;
use crate::mint::failures::{Failures, TooManyFailures};
use crate::service::Service;
use crate::service::ledger::keeper::Keeper;
use crate::service::ledger::spool::Spool;
use crate::service::node::Node;

pub use waiting::waiting_face;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How the face for machines is set up.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// What the listener allows.
    pub limits: Limits,
    /// Who is believed about where a request came from.
    pub trusted_proxies: TrustedProxies,
    /// What it shows who it is with, where it is TLS that it speaks.
    pub tls: Option<Arc<Tls>>,
    /// Where requests are counted: listeners of one node share it.
    pub requests: Arc<Requests>,
    /// How often an address may send credentials that are nobody's; counted at all its listeners.
    pub failures: Arc<Failures>,
    /// What tells a collector of requests, where one is named.
    pub traces: Option<Arc<Traces>>,
}

impl HttpConfig {
    /// The same with so many credentials that are nobody's from an address, at once and then in a minute;
    /// 0 is no bound.
    #[must_use]
    pub fn with_failures_per_minute(self, most: u32) -> Self {
        Self { failures: Arc::new(Failures::per_minute(most)), ..self }
    }
}

/// What the routes need.
#[derive(Debug)]
pub struct App {
    service: Service,
    mint: Arc<Mint>,
    /// What looks after the ledger, where there is one.
    keeper: Option<Arc<Keeper>>,
    clock: Clock,
    metadata: Metadata,
    trusted_proxies: TrustedProxies,
    /// How long the body of a request may take to come.
    body_deadline: Duration,
    /// Those who wait for the revocation feed to move.
    waiters: Waiters,
    /// What is counted of requests.
    requests: Arc<Requests>,
    failures: Arc<Failures>,
    traces: Option<Arc<Traces>>,
}

impl App {
    /// The address of the caller of a request; `None` where it cannot be told, which no address
    /// rule admits.
    fn caller_of(&self, head: &Parts) -> Option<IpAddr> {
        self.trusted_proxies.caller_of(head)
    }

    /// The same, where the other end of the connection is at hand.
    fn address_of(&self, Peer(peer): Peer, headers: &HeaderMap) -> Option<IpAddr> {
        self.trusted_proxies.caller(peer.ip(), headers)
    }

    /// Counts a credential that was looked up and is nobody's. Whoever may not be told of one more is told
    /// to wait instead: the right one beside it is not asked about here.
    fn count_failure(&self, from: Option<IpAddr>) -> Result<(), TooManyFailures> {
        self.failures.count(from, self.clock.now())
    }

    /// The spool of this node, where it has one.
    fn spool(&self) -> Option<&Spool> {
        self.keeper.as_ref()?.spool()
    }

    /// When a part of a request begins, where a collector asks.
    fn begins(&self) -> Option<u64> {
        self.traces.as_ref().map(|_| self.clock.now_nanos())
    }

    /// The part that began then and has just ended.
    fn ended(&self, name: &'static str, began_at: u64) -> Step {
        Step { name, began_at, ended_at: self.clock.now_nanos() }
    }

    fn of(node: &Node, config: HttpConfig) -> Arc<Self> {
        let HttpConfig { limits, trusted_proxies, failures, tls: _, requests, traces } = config;
        let (service, mint) = (node.service.clone(), node.mint.clone());
        Arc::new(Self {
            keeper: node.ledger_keeper().cloned(),
            metadata: Metadata::of(mint.issuer()),
            clock: service.clock().clone(),
            service,
            mint,
            trusted_proxies,
            body_deadline: limits.body,
            waiters: Waiters::of(limits),
            requests,
            failures,
            traces,
        })
    }

    fn counting(&self) -> Counting {
        let (requests, clock) = (self.requests.clone(), self.clock.clone());
        Counting { requests, clock, of_connections: true }
    }
}

/// The face of a private listener, for gateways that need no key there: forward auth, and nothing
/// else. It is plain, and nobody is refused for that.
pub fn private_face(node: &Node, config: HttpConfig) -> Face {
    let (limits, traces) = (config.limits, config.traces.clone());
    let app = App::of(node, config);
    let counting = Counting { of_connections: false, ..app.counting() };
    let router = forward_auth::private_routes().fallback(not_found).with_state(app);
    Face::plain(router, limits).counted(counting).traced(traces)
}

/// Connections to the listener for those who watch: a few, so that none of them takes what callers need.
const OBSERVERS: u32 = 32;

/// The face of a listener for those who watch: figures and health, and nothing else. It is plain, and
/// what is asked there is neither counted nor traced.
pub fn observed_face(node: &Node, config: HttpConfig) -> Face {
    let limits = Limits { max_connections: OBSERVERS, ..config.limits };
    let app = App::of(node, config);
    let router = Router::new()
        .route("/metrics", get(metrics::show))
        .with_state(Observed::of(node, app.clone()))
        .merge(health_routes().with_state(app))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found);
    Face::plain(router, limits)
}

/// The face of a node. Where its issuer is `https` and it speaks no TLS itself, a proxy has to.
pub fn public_face(node: &Node, config: HttpConfig) -> Face {
    let (limits, tls) = (config.limits, config.tls.clone());
    let https_only = match &tls {
        Some(_) => None,
        None => HttpsOnly::of(node.mint.issuer(), &config.trusted_proxies),
    };
    let (proxies, traces) = (config.trusted_proxies.clone(), config.traces.clone());
    let app = App::of(node, config);
    let counting = app.counting();
    Face::plain(routes(app.clone()), limits)
        .with_tokens(app)
        .behind(proxies)
        .over(tls)
        .under(https_only)
        .counted(counting)
        .traced(traces)
}

fn health_routes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready))
}

/// All routes of a node but the one to tokens, which the face finds by itself.
fn routes(app: Arc<App>) -> Router {
    let discovery = Router::new()
        .route("/.well-known/oauth-authorization-server", get(oauth::metadata::show))
        .route("/.well-known/openid-configuration", get(oauth::metadata::show))
        .route("/.well-known/jwks.json", get(oauth::jwks::show))
        .route("/oauth/revocations", get(oauth::feed::show))
        // a browser that asks again with `If-None-Match` sends a preflight, which must get this far
        .method_not_allowed_fallback(method_not_allowed)
        .layer(
            CorsLayer::new()
                .allow_origin(Any)
                .allow_methods([Method::GET, Method::HEAD])
                .allow_headers([header::IF_NONE_MATCH])
                .expose_headers([header::ETAG, header::AGE]),
        );
    Router::new()
        .route("/oauth/introspect", any(oauth::introspect::introspect))
        .route("/oauth/revoke", any(oauth::introspect::revoke))
        .route("/oauth/raw-keys", get(oauth::raw_keys::show))
        .route("/oauth/uses", any(oauth::uses::take))
        .route("/v1/openapi.json", get(api::openapi::show))
        .merge(health_routes())
        .merge(api::routes(&app))
        .merge(forward_auth::routes())
        .method_not_allowed_fallback(method_not_allowed)
        .merge(discovery)
        .fallback(not_found)
        .with_state(app)
}

/// The paths without parameters, the most asked for first.
const ROUTES: [&str; 12] = [
    oauth::token::PATH,
    "/oauth/raw-keys",
    "/oauth/uses",
    "/oauth/introspect",
    "/oauth/revoke",
    "/oauth/revocations",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/.well-known/jwks.json",
    "/healthz",
    "/readyz",
    "/v1/openapi.json",
];
/// What a path is called that is none of ours.
const NO_ROUTE: &str = "(none)";

/// What the log, the figures and traces call a path. Never the path itself: people paste secrets into URLs.
fn route_name(path: &str) -> &'static str {
    if forward_auth::is_asked_at(path) {
        return forward_auth::PATH;
    }
    ROUTES.into_iter().find(|route| *route == path).unwrap_or(NO_ROUTE)
}

/// What a log line calls a method: any word can be one, and so can a secret.
fn method_name(method: &Method) -> &'static str {
    const METHODS: [&str; 9] =
        ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("(other)")
}

/// Finishes an answer, whatever route gave it: the id of the request, what browsers must not do, the
/// figures, the trace, and the log. A token that was issued leaves no line at the default level.
fn finish(request: &mut RequestLine<'_>, mut response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let route = response.extensions().get::<Route>().map_or(request.route, |route| route.0);
    request.flight.answered(route, status);
    if let Some(span) = &mut request.span {
        span.answered(route, &response);
    }
    let id = &request.id;
    let (method, status_code) = (request.method, status.as_u16());
    if status.is_server_error() {
        tracing::warn!(id, method, route, status = status_code, "refused for trouble of our own");
    } else if status.is_client_error() {
        tracing::info!(id, method, route, status = status_code, "refused");
    } else {
        tracing::debug!(id, method, route, status = status_code, "answered");
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(std::mem::take(&mut request.id)) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The path of an operation, with `{id}` for what is named: what the log and the figures call it.
#[derive(Debug, Clone, Copy)]
struct Route(&'static str);

/// Why a request was refused, in one word of ours, for its trace.
#[derive(Debug, Clone, Copy)]
struct Reason(&'static str);

/// The id of a request, for the audit: the same as in its answer and in the log.
#[derive(Debug, Clone)]
struct RequestId(String);

/// What the log, the figures and traces say of a request.
struct RequestLine<'c> {
    id: String,
    /// Whether it looks after its own time.
    is_patient: bool,
    method: &'static str,
    route: &'static str,
    flight: Flight<'c>,
    span: Option<Span<'c>>,
}

impl<'c> RequestLine<'c> {
    /// Of a request that just came. What is audited learns its id.
    fn of<B>(request: &mut Request<B>, counting: Option<&'c Counting>) -> Self {
        let id = next_request_id();
        let is_management = request.uri().path().starts_with("/v1/");
        if is_management || request.uri().path() == "/oauth/revoke" {
            request.extensions_mut().insert(RequestId(id.clone()));
        }
        let is_patient = is_management || request.uri().path() == "/oauth/revocations";
        let route = route_name(request.uri().path());
        let flight = Flight::begin(counting, route);
        let method = method_name(request.method());
        Self { id, is_patient, method, route, flight, span: None }
    }

    /// The same with a span of its own, if its head and the share of traces ask for one.
    fn traced<B>(self, traces: &'c Traces, request: &Request<B>, scheme: &'static str) -> Self {
        let asked = RequestFacts { id: &self.id, method: self.method, route: self.route, scheme };
        let span = traces.begin(request.headers(), asked);
        Self { span, ..self }
    }
}

/// A number that counts the requests of this process.
fn next_request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    hex_of(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Eight hexadecimal digits, or as many as it takes: what `{:08x}` writes, without its machinery.
fn hex_of(number: u64) -> String {
    let digits = number.checked_ilog2().map_or(1, |bits| bits / 4 + 1).max(8);
    let mut text = String::with_capacity(16);
    for place in (0..digits).rev() {
        let digit = u32::try_from(number >> (place * 4) & 15).unwrap_or(0);
        text.extend(char::from_digit(digit, 16));
    }
    text
}

async fn not_found(uri: Uri) -> Response<Body> {
    let mut response =
        error::problem(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path");
    if uri.path().starts_with("/v1/") {
        return response;
    }
    // plain JSON: clients that look for metadata under another name read no other type
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

async fn method_not_allowed() -> Response<Body> {
    error::problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path takes another method",
    )
}

/// An answer that nobody may store.
fn json_answer(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    json_answer_in(HeaderMap::new(), status, body)
}

/// The same in an empty map of headers that is at hand.
fn json_answer_in(
    mut headers: HeaderMap,
    status: StatusCode,
    body: impl Into<Body>,
) -> Response<Body> {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::hex_of;

    #[test]
    fn the_id_of_a_request_has_eight_digits_or_more() {
        for number in [0, 1, 15, 16, 0xffff_ffff, 0x1_0000_0000, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(hex_of(number), format!("{number:08x}"));
        }
    }
}
