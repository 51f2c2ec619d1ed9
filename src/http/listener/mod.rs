//! The accept loop: connections are counted, each step of a request has a deadline, and a stop
//! lets requests finish.
//!
//! `axum::serve` sets no timer, so a client that sends one byte a minute would hold its connection
//! for ever. Here each connection keeps one deadline, looked at once a second: until the first byte
//! and between requests, while a head comes in, and while a request is served.

mod alarm;
mod deadline;
mod sources;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

use crate::http::client_ip::{Peer, TrustedProxies};
use crate::http::https_only::HttpsOnly;
use crate::http::listener::alarm::unless;
use crate::http::listener::deadline::{Deadline, Watched};
use crate::http::listener::sources::{SourcePlace, Sources};
use crate::http::metrics::{Connected, Counting};
use crate::http::oauth::token;
use crate::http::panics::caught;
use crate::http::tls::Tls;
use crate::http::traces::Traces;
use crate::http::{App, RequestLine, error, finish};

/// Bytes of a head at most; hyper itself stops at 100 headers.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// How often a connection looks at its deadline.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A pause after a failed accept: out of file descriptors, most often.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones wait in the queue of the system.
    pub max_connections: u32,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// From the head to the last byte of the body.
    pub body: Duration,
    /// From the head to the end of the answer.
    pub request: Duration,
    /// Between requests, and before the first.
    pub idle: Duration,
    /// What requests in flight have left when the node stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 25_000,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            request: Duration::from_secs(30),
            idle: Duration::from_mins(1),
            drain: Duration::from_secs(10),
        }
    }
}

/// Descriptors that are left for the database, the log, whoever watches, and what else a process opens.
const OTHER_DESCRIPTORS: u32 = 128;

impl Limits {
    /// No more connections at each of so many listeners than the system gives descriptors for at all of them:
    /// past that, accepting fails and so does the database.
    #[must_use]
    pub fn within_descriptors(self, listeners: u32) -> Self {
        let descriptors = soft_descriptor_limit().unwrap_or(u32::MAX);
        // half of what is few
        let most = (descriptors - OTHER_DESCRIPTORS.min(descriptors / 2)) / listeners.max(1);
        if most >= self.max_connections {
            return self;
        }
        let max_connections = most.max(1);
        tracing::warn!(
            max_connections,
            "the limit of open files allows no more connections: raise it with `ulimit -n`"
        );
        Self { max_connections, ..self }
    }
}

/// The soft limit of open files, where the system tells it.
fn soft_descriptor_limit() -> Option<u32> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// What is served at a listener, and to whom.
#[derive(Debug, Clone)]
pub struct Face {
    router: Router,
    /// What issues tokens, where that is done.
    tokens: Option<Arc<App>>,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    https_only: Option<Arc<HttpsOnly>>,
    counting: Option<Counting>,
    traces: Option<Arc<Traces>>,
    proxies: TrustedProxies,
}

impl Face {
    /// These routes for everybody, without TLS.
    pub fn plain(router: Router, limits: Limits) -> Self {
        let proxies = TrustedProxies::default();
        Self {
            router,
            tokens: None,
            limits,
            tls: None,
            https_only: None,
            counting: None,
            traces: None,
            proxies,
        }
    }

    /// The same with proxies that bring the connections of many.
    pub(super) fn behind(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// The same over TLS, where there is any.
    pub(super) fn over(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// The same under this rule about plain HTTP, where there is one.
    pub(super) fn under(self, https_only: Option<HttpsOnly>) -> Self {
        Self { https_only: https_only.map(Arc::new), ..self }
    }

    /// The same, where tokens are issued too.
    pub(super) fn with_tokens(self, app: Arc<App>) -> Self {
        Self { tokens: Some(app), ..self }
    }

    /// What issues tokens, where a route is the one for that. Nearly all ask for it: the way through the router
    /// would cost more than finding the key does.
    fn tokens_at(&self, route: &str) -> Option<&App> {
        self.tokens.as_deref().filter(|_| route == token::PATH)
    }

    /// The answer of any other route.
    async fn answer(&self, peer: Peer, mut request: Request<Incoming>) -> Response<Body> {
        request.extensions_mut().insert(peer);
        let Ok(response) = self.router.clone().call(request).await;
        response
    }

    /// The same, with what is asked there counted.
    pub(super) fn counted(self, counting: Counting) -> Self {
        Self { counting: Some(counting), ..self }
    }

    /// The same, with a collector told of what is asked there, where there is one.
    pub(super) fn traced(self, traces: Option<Arc<Traces>>) -> Self {
        Self { traces, ..self }
    }
}

/// Serves until `stop` ends, then lets requests in flight finish.
pub async fn serve(listener: TcpListener, face: Face, stop: impl Future<Output = ()>) {
    let limits = face.limits;
    Connected::allow(face.counting.as_ref(), limits.max_connections);
    let sources = Sources::of(limits.max_connections, face.proxies.clone());
    let face = Arc::new(face);
    let places = Arc::new(Semaphore::new(limits.max_connections as usize));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        let Some(of_source) = sources.admit(peer.0.ip()) else {
            // closed unread: an answer would take the time that the others wait for
            tracing::debug!(address = %peer.0.ip(), "a source has all the connections that it may");
            continue;
        };
        let deadline = Arc::new(Deadline::new(limits));
        let (connected, face) = (Connected::new(face.counting.as_ref()), face.clone());
        Connection { peer, face, deadline, stopped: stopped.clone(), _connected: connected }
            .start(stream, (place, of_source));
    }
    drop(listener);
    stopping.send_replace(true);
    // every place is free again when every connection has ended
    if timeout(limits.drain, places.acquire_many(limits.max_connections)).await.is_err() {
        tracing::warn!("requests were still running when their time to finish was over");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, Peer(address), place)),
        Err(cause) => {
            tracing::warn!(%cause, "a connection cannot be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One connection.
struct Connection {
    peer: Peer,
    face: Arc<Face>,
    deadline: Arc<Deadline>,
    stopped: watch::Receiver<bool>,
    _connected: Connected,
}

impl Connection {
    /// Begins it in a task, which holds its place. Without TLS that is a smaller one.
    fn start(self, stream: TcpStream, place: (OwnedSemaphorePermit, SourcePlace)) {
        // an answer is one small packet, and must not wait for an acknowledgement
        let _ = stream.set_nodelay(true);
        let stream = Watched { stream, deadline: self.deadline.clone() };
        if let Some(tls) = self.face.tls.clone() {
            tokio::spawn(async move {
                self.run_over(&tls, stream).await;
                drop(place);
            });
        } else {
            tokio::spawn(async move {
                self.run(stream).await;
                drop(place);
            });
        }
    }

    async fn run_over(mut self, tls: &Tls, stream: Watched<TcpStream>) {
        // boxed, or the task would keep room for both
        let handshake = Box::pin(tls.accept(stream));
        if let Some(stream) = self.shake_hands(handshake).await {
            self.deadline.idle();
            self.run(stream).await;
        }
    }

    /// The stream behind a handshake; one that fails is no event of ours. Its first byte starts the
    /// time that a head has.
    async fn shake_hands<S>(
        &mut self,
        mut handshake: Pin<Box<Accept<S>>>,
    ) -> Option<Box<TlsStream<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut sweep = sweep();
        loop {
            tokio::select! {
                done = handshake.as_mut() => return done.ok().map(Box::new),
                _ = sweep.tick() => if self.deadline.has_passed() { return None },
                _ = self.stopped.changed() => return None,
            }
        }
    }

    async fn run(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (face, deadline, stopped) = (&*self.face, &self.deadline, self.stopped.clone());
        let service = service_fn(|request: Request<Incoming>| {
            deadline.serving();
            answer((face, self.peer), request, (deadline, &stopped))
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut late = pin!(late(deadline));
        let alarm = async {
            tokio::select! {
                () = late.as_mut() => Alarm::Late,
                _ = self.stopped.changed() => Alarm::Stop,
            }
        };
        // a client that goes away or breaks the protocol is no event of ours
        if let Some(Alarm::Stop) = unless(connection.as_mut(), alarm).await
            // half a head is no request in flight
            && deadline.is_busy()
        {
            connection.as_mut().graceful_shutdown();
            unless(connection, late).await;
        }
    }
}

/// What ends a connection beside itself.
enum Alarm {
    Late,
    Stop,
}

/// Ends when a connection may not go on.
async fn late(deadline: &Deadline) {
    let mut sweep = sweep();
    while !deadline.has_passed() {
        sweep.tick().await;
    }
}

fn sweep() -> Interval {
    let mut sweep = interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep
}

/// What a head has beside its punctuation. hyper holds one to its bound only while it is not complete, so
/// that what comes with the last read can go beyond.
fn head_bytes<B>(request: &Request<B>) -> usize {
    let path = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    headers.fold(path, usize::saturating_add)
}

/// The answer to a request. Hundreds may wait at once, and each holds what this takes: so what seldom happens is
/// boxed.
#[expect(clippy::manual_async_fn, reason = "an `async fn` keeps what it is given twice over")]
fn answer<'c>(
    (face, peer): (&'c Face, Peer),
    mut request: Request<Incoming>,
    (deadline, stopped): (&'c Arc<Deadline>, &'c watch::Receiver<bool>),
) -> impl Future<Output = Result<Response<Body>, Infallible>> + 'c {
    async move {
        let mut line = RequestLine::of(&mut request, face.counting.as_ref());
        if let Some(traces) = &face.traces {
            let scheme = if face.tls.is_some() { "https" } else { "http" };
            line = line.traced(traces, &request, scheme);
        }
        if let Some(refusal) = refusal(face, peer, &request) {
            deadline.answering();
            return Ok(finish(&mut line, refusal));
        }
        if line.is_patient {
            let patience = Patience { deadline: deadline.clone(), stopped: stopped.clone() };
            request.extensions_mut().insert(patience);
        }
        let response = match face.tokens_at(line.route) {
            Some(app) => caught(line.route, pin!(token::create(app, peer, &mut request))).await,
            None => caught(line.route, Box::pin(face.answer(peer, request)).as_mut()).await,
        };
        let response = finish(&mut line, response);
        if response.body().size_hint().exact().is_some() {
            deadline.answering();
            return Ok(response);
        }
        // the request lasts until the last part of an answer that is made while it is sent
        let deadline = deadline.clone();
        Ok(response.map(|body| Body::new(Going { body, deadline })))
    }
}

/// What is said to a request that is not looked at any further.
fn refusal(face: &Face, peer: Peer, request: &Request<Incoming>) -> Option<Response<Body>> {
    if head_bytes(request) > MAX_HEAD_BYTES {
        return Some(error::head_too_large(request.uri().path()));
    }
    face.https_only.as_ref()?.refusal(peer, request)
}

/// For a request that lasts longer than others: it looks after its own time.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    deadline: Arc<Deadline>,
    stopped: watch::Receiver<bool>,
}

impl Patience {
    /// Lets the request take as long as it takes, until a part of its answer is sent.
    pub(super) fn wait(&self) {
        self.deadline.wait();
    }

    /// A part of the request came: the client is busy, and has its time anew to take the answer.
    pub(super) fn part_came(&self) {
        self.deadline.prolong();
    }

    /// Ends when the node stops.
    pub(super) async fn stopped(&mut self) {
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }
}

/// An answer that is made while it is sent. The client has its time to take each part; for a part
/// that is not there yet, nobody is late.
struct Going {
    body: Body,
    deadline: Arc<Deadline>,
}

impl HttpBody for Going {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Pending => self.deadline.wait(),
            Poll::Ready(_) => self.deadline.serving(),
        }
        polled
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.deadline.answering();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of what a function gives.
    fn size_of_given<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Hundreds wait for their record at once, and the nearest caches hold a megabyte.
    #[test]
    fn a_request_that_waits_takes_little_room() {
        let size = size_of_given(answer);
        assert!(size <= 1_280, "{size} bytes: what is kept twice, or seldom needed and not boxed?");
    }
}
