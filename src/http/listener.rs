//! The accept loop: connections are counted, each step of a request has a deadline, and a stop
//! lets requests finish.
//!
//! `axum::serve` sets no timer, so a client that sends one byte a minute would hold its connection
//! for ever. Here each connection keeps one deadline, looked at once a second: until the first byte
//! and between requests, while a head comes in, and while a request is served.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Frame, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tower_service::Service;

use crate::http::client_ip::Peer;
use crate::http::{RequestLine, finish};

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

/// Descriptors that are left for the database, the log and what else a process opens.
const OTHER_DESCRIPTORS: u32 = 64;

impl Limits {
    /// No more connections than the system gives descriptors for: past that, accepting fails and
    /// so does the database.
    pub(super) fn within_descriptors(self) -> Self {
        let descriptors = soft_descriptor_limit().unwrap_or(u32::MAX);
        let most = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(1);
        Self { max_connections: self.max_connections.min(most), ..self }
    }
}

/// The soft limit of open files, where the system tells it.
fn soft_descriptor_limit() -> Option<u32> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Serves until `stop` ends, then lets requests in flight finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let (asked, limits) = (limits.max_connections, limits.within_descriptors());
    if limits.max_connections < asked {
        tracing::warn!(
            max_connections = limits.max_connections,
            "the limit of open files allows no more connections: raise it with `ulimit -n`"
        );
    }
    let places = Arc::new(Semaphore::new(limits.max_connections as usize));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        let connection =
            Connection { peer, router: router.clone(), limits, stopped: stopped.clone() };
        tokio::spawn(async move {
            connection.run(stream).await;
            drop(place);
        });
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
    router: Router,
    limits: Limits,
    stopped: watch::Receiver<bool>,
}

impl Connection {
    async fn run(mut self, stream: TcpStream) {
        // an answer is one small packet, and must not wait for an acknowledgement
        let _ = stream.set_nodelay(true);
        let deadline = Arc::new(Deadline::new(self.limits));
        let io = Watched { io: TokioIo::new(stream), deadline: deadline.clone() };
        let (router, stopped) = (self.router, self.stopped.clone());
        let service = service_fn(|mut request: Request<Incoming>| {
            deadline.serving();
            request.extensions_mut().insert(self.peer);
            answer(router.clone(), request, (deadline.clone(), &stopped))
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(io, service)
        );
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            tokio::select! {
                // a client that goes away or breaks the protocol is no event of ours
                _ = connection.as_mut() => return,
                _ = sweep.tick() => if deadline.has_passed() { return },
                _ = self.stopped.changed(), if !stopping => {
                    // half a head is no request in flight
                    if !deadline.is_serving() {
                        return;
                    }
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

async fn answer(
    mut router: Router,
    mut request: Request<Incoming>,
    (deadline, stopped): (Arc<Deadline>, &watch::Receiver<bool>),
) -> Result<Response<Body>, Infallible> {
    let line = RequestLine::of(&mut request);
    if line.is_patient {
        let patience = Patience { deadline: deadline.clone(), stopped: stopped.clone() };
        request.extensions_mut().insert(patience);
    }
    let response = router.call(request).await.map(|response| finish(&line, response))?;
    if response.body().size_hint().exact().is_some() {
        deadline.idle();
        return Ok(response);
    }
    // the request lasts until the last part of an answer that is made while it is sent
    Ok(response.map(|body| Body::new(Going { body, deadline })))
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
        self.deadline.idle();
    }
}

/// Until when a connection may go on as it is, in milliseconds since it began. The lowest two bits
/// say what it is doing.
#[derive(Debug)]
struct Deadline {
    began: Instant,
    limits: Limits,
    at: AtomicU64,
}

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const SERVING: u64 = 2;

impl Deadline {
    fn new(limits: Limits) -> Self {
        let deadline = Self { began: Instant::now(), limits, at: AtomicU64::new(0) };
        deadline.idle();
        deadline
    }

    fn idle(&self) {
        self.set(self.limits.idle, IDLE);
    }

    fn serving(&self) {
        self.set(self.limits.request, SERVING);
    }

    fn prolong(&self) {
        let at = self.ahead(self.limits.request) << 2 | SERVING;
        self.at.fetch_max(at, Ordering::Relaxed);
    }

    /// Whoever serves looks after the time.
    fn wait(&self) {
        self.at.store((u64::MAX >> 2) << 2 | SERVING, Ordering::Relaxed);
    }

    /// The first byte of a head starts its time; the bytes after it do not prolong it.
    fn bytes_came(&self) {
        if self.at.load(Ordering::Relaxed) & 3 == IDLE {
            self.set(self.limits.head, HEAD);
        }
    }

    fn set(&self, from_now: Duration, doing: u64) {
        self.at.store(self.ahead(from_now) << 2 | doing, Ordering::Relaxed);
    }

    fn ahead(&self, duration: Duration) -> u64 {
        let at = (self.began.elapsed() + duration).as_millis();
        u64::try_from(at).unwrap_or(u64::MAX >> 2)
    }

    fn is_serving(&self) -> bool {
        self.at.load(Ordering::Relaxed) & 3 == SERVING
    }

    fn has_passed(&self) -> bool {
        self.began.elapsed().as_millis() > u128::from(self.at.load(Ordering::Relaxed) >> 2)
    }
}

/// A stream that tells the deadline when bytes come in.
struct Watched {
    io: TokioIo<TcpStream>,
    deadline: Arc<Deadline>,
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if polled.is_ready() {
            self.deadline.bytes_came();
        }
        polled
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }
}
