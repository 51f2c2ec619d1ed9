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
///
/// What it just began to do has no end yet: the next look gives it one. So requests that follow each
/// other between two looks never ask the clock.
#[derive(Debug)]
pub(super) struct Deadline {
    began: Instant,
    limits: Limits,
    at: AtomicU64,
}

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const SERVING: u64 = 2;
/// The answer is there, and not all of it is sent.
const ANSWERING: u64 = 3;
/// For as long as whoever serves says.
const PATIENT: u64 = (u64::MAX >> 2) << 2 | SERVING;

impl Deadline {
    pub(super) fn new(limits: Limits) -> Self {
        Self { began: Instant::now(), limits, at: AtomicU64::new(IDLE) }
    }

    pub(super) fn idle(&self) {
        self.set(IDLE);
    }

    pub(super) fn serving(&self) {
        self.set(SERVING);
    }

    /// What is left is up to the client, which has as long to take the answer as it may be idle.
    pub(super) fn answering(&self) {
        self.set(ANSWERING);
    }

    pub(super) fn prolong(&self) {
        if self.at.load(Ordering::Relaxed) != PATIENT {
            self.serving();
        }
    }

    /// Whoever serves looks after the time.
    pub(super) fn wait(&self) {
        self.set(PATIENT);
    }

    /// The first byte of a head starts its time; the bytes after it do not prolong it.
    fn bytes_came(&self) {
        if self.doing() == IDLE {
            self.set(HEAD);
        }
    }

    /// Nothing is left of an answer.
    fn all_sent(&self) {
        if self.doing() == ANSWERING {
            self.idle();
        }
    }

    fn set(&self, at: u64) {
        self.at.store(at, Ordering::Relaxed);
    }

    fn doing(&self) -> u64 {
        self.at.load(Ordering::Relaxed) & 3
    }

    /// Whether a request is being served, or its answer sent. Half a head is none.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.doing(), SERVING | ANSWERING)
    }

    /// Whether the time is over. What began since the last look has its time from now.
    pub(super) fn has_passed(&self) -> bool {
        self.has_passed_at(self.began.elapsed())
    }

    fn has_passed_at(&self, now: Duration) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        if at >> 2 > 0 {
            return now.as_millis() > u128::from(at >> 2);
        }
        let time = match at {
            HEAD => self.limits.head,
            SERVING => self.limits.request,
            _ => self.limits.idle,
        };
        let end = u64::try_from((now + time).as_millis()).unwrap_or(u64::MAX).min(u64::MAX >> 3);
        // another beginning since has its end at the next look
        let _ = self.at.compare_exchange(at, end << 2 | at, Ordering::Relaxed, Ordering::Relaxed);
        false
    }
}

/// A stream that tells the deadline when bytes come in, and when all are out.
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
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        // hyper flushes when all that it has is written, and not before
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.deadline.all_sent();
        }
        polled
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_thing_has_its_time_from_the_first_look_after_it_began() {
        let seconds = Duration::from_secs;
        let (head, request, idle) = (seconds(2), seconds(4), seconds(8));
        let limits = Limits { head, request, idle, ..Limits::default() };
        let begins: [(fn(&Deadline), _); 5] = [
            (|_| {}, 8),
            (Deadline::bytes_came, 2),
            (Deadline::serving, 4),
            (Deadline::prolong, 4),
            (Deadline::answering, 8),
        ];
        for (begin, time) in begins {
            let (deadline, end) = (Deadline::new(limits), seconds(100 + time));
            begin(&deadline);
            assert!(!deadline.has_passed_at(seconds(100)) && !deadline.has_passed_at(end));
            if deadline.doing() != IDLE {
                // none of them prolongs the time
                deadline.bytes_came();
            }
            assert!(deadline.has_passed_at(end + Duration::from_millis(1)), "{deadline:?}");
        }
    }

    #[test]
    fn a_patient_request_has_no_end_until_it_is_served_or_answered() {
        let deadline = Deadline::new(Limits::default());
        deadline.wait();
        deadline.prolong();
        assert!(deadline.is_busy() && !deadline.has_passed());
        assert_eq!(deadline.at.load(Ordering::Relaxed), PATIENT);
        deadline.answering();
        deadline.bytes_came();
        assert!(deadline.is_busy(), "the next head waits for the end of this answer");
        deadline.all_sent();
        assert!(!deadline.is_busy());
    }
}
