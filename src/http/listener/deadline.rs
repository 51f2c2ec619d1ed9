//! How long a connection may go on as it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::listener::Limits;

/// Until when a connection may go on as it is, in milliseconds since it began. The lowest two bits
/// say what it is doing.
#[derive(Debug)]
pub(super) struct Deadline {
    began: Instant,
    limits: Limits,
    at: AtomicU64,
}

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const SERVING: u64 = 2;

impl Deadline {
    pub(super) fn new(limits: Limits) -> Self {
        let deadline = Self { began: Instant::now(), limits, at: AtomicU64::new(0) };
        deadline.idle();
        deadline
    }

    pub(super) fn idle(&self) {
        self.set(self.limits.idle, IDLE);
    }

    pub(super) fn serving(&self) {
        self.set(self.limits.request, SERVING);
    }

    pub(super) fn prolong(&self) {
        let at = self.ahead(self.limits.request) << 2 | SERVING;
        self.at.fetch_max(at, Ordering::Relaxed);
    }

    /// Whoever serves looks after the time.
    pub(super) fn wait(&self) {
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

    pub(super) fn is_serving(&self) -> bool {
        self.at.load(Ordering::Relaxed) & 3 == SERVING
    }

    pub(super) fn has_passed(&self) -> bool {
        self.began.elapsed().as_millis() > u128::from(self.at.load(Ordering::Relaxed) >> 2)
    }
}

/// A stream that tells the deadline when bytes come in.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) deadline: Arc<Deadline>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.deadline.bytes_came();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}
