//! Sends what waits to the collector, many spans at once, and tries again where that may help.
//!
//! Nobody waits for it. While a collector is away the queue fills, and then spans are dropped; the log says
//! so, once a minute at most.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::http::client::Client;
use crate::http::traces::span::Record;
use crate::http::traces::{Endpoint, SpanCounters, text};

/// Spans that are sent at once at most.
const BATCH: usize = 512;
/// How long the first of them waits for others.
const GATHER_FOR: Duration = Duration::from_secs(1);
/// How long a collector may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often a batch is sent before it is dropped, and the pause between.
const TRIES: u32 = 5;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long a node that stops goes on with what waits.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);
/// How seldom the log says that something is wrong.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);

/// What is wrong with a collector that gives no other reason.
const TOO_SLOW: &str = "it is slower than spans come";

/// Where spans go.
pub(super) struct Collector {
    endpoint: Endpoint,
    client: Client,
    instance: String,
    queue: mpsc::Receiver<Record>,
    told: Arc<SpanCounters>,
    /// What is being sent, or will be next.
    batch: Vec<Record>,
    complained: Option<Instant>,
    /// How many were dropped by then.
    complained_of: u64,
}

/// Why a batch was not taken.
struct NotTaken {
    cause: String,
    may_be_later: bool,
}

impl Collector {
    pub(super) fn new(
        (endpoint, client): (Endpoint, Client),
        instance: &str,
        (queue, told): (mpsc::Receiver<Record>, Arc<SpanCounters>),
    ) -> Self {
        let (instance, batch) = (instance.to_owned(), Vec::with_capacity(BATCH));
        Self { endpoint, client, instance, queue, told, batch, complained: None, complained_of: 0 }
    }

    /// Sends what comes, until it is stopped or nobody is left who could leave a span, and then what waits.
    pub(super) async fn run(mut self, stopped: watch::Receiver<()>) {
        let mut stopping = stopped.clone();
        let time_is_over = async move {
            ended(&mut stopping).await;
            sleep(FLUSH_WITHIN).await;
        };
        let cause = tokio::select! {
            told = self.tell_all(stopped) => match told {
                Ok(()) => return,
                Err(not_taken) => not_taken.cause,
            },
            () = time_is_over => TOO_SLOW.to_owned(),
        };
        self.queue.close();
        let left = self.batch.len() + self.queue.len();
        self.told.dropped.add(left.try_into().unwrap_or(u64::MAX));
        tracing::warn!(left, cause, "the collector of traces has not taken the last spans");
    }

    async fn tell_all(&mut self, mut stopped: watch::Receiver<()>) -> Result<(), NotTaken> {
        loop {
            tokio::select! {
                has_more = self.gather() => if !has_more { break },
                () = ended(&mut stopped) => break,
            }
            self.send_or_drop(&mut stopped).await;
            // others found no room meanwhile
            if self.told.dropped.get() > self.complained_of {
                self.complain(TOO_SLOW);
            }
        }
        self.queue.close();
        self.flush().await
    }

    /// Sends a batch, as often as that may help. What is on its way when a node stops is not sent twice.
    async fn send_or_drop(&mut self, stopped: &mut watch::Receiver<()>) {
        for tried in 1.. {
            let Err(NotTaken { cause, may_be_later }) = self.send().await else { return };
            let is_over = tried == TRIES || !may_be_later;
            if is_over {
                self.told.dropped.add(self.batch.len().try_into().unwrap_or(u64::MAX));
                self.batch.clear();
            }
            self.complain(&cause);
            if is_over {
                return;
            }
            tokio::select! {
                () = sleep(TRY_AGAIN_AFTER) => {}
                () = ended(stopped) => return,
            }
        }
    }

    /// Waits for a span, and then a moment for more.
    async fn gather(&mut self) -> bool {
        let mut until = None;
        while self.batch.len() < BATCH {
            let room = BATCH - self.batch.len();
            let more = self.queue.recv_many(&mut self.batch, room);
            let count = match until {
                None => more.await,
                Some(until) => timeout_at(until, more).await.unwrap_or(0),
            };
            if count == 0 {
                break;
            }
            until.get_or_insert_with(|| Instant::now() + GATHER_FOR);
        }
        !self.batch.is_empty()
    }

    /// Sends all that waits, each batch once.
    async fn flush(&mut self) -> Result<(), NotTaken> {
        loop {
            let room = BATCH - self.batch.len();
            if room > 0 {
                self.queue.recv_many(&mut self.batch, room).await;
            }
            if self.batch.is_empty() {
                return Ok(());
            }
            self.send().await?;
        }
    }

    /// Sends a batch, which is empty once it was taken.
    async fn send(&mut self) -> Result<(), NotTaken> {
        let later = |cause: String| NotTaken { cause, may_be_later: true };
        let request = Request::post(&self.endpoint.0)
            .header(CONTENT_TYPE, "application/json")
            .body(text::request(&self.instance, &self.batch))
            .map_err(|cause| NotTaken { cause: cause.to_string(), may_be_later: false })?;
        let answer = timeout(ANSWER_WITHIN, self.client.send(request)).await;
        let answer = answer.map_err(|_| later("it does not answer in time".to_owned()))?;
        let status = answer.map_err(|cause| later(cause.to_string()))?.status();
        if !status.is_success() {
            let cause = format!("it answers {status}");
            return Err(NotTaken { cause, may_be_later: is_transient(status) });
        }
        self.told.sent.add(self.batch.len().try_into().unwrap_or(u64::MAX));
        self.batch.clear();
        Ok(())
    }

    /// Says in the log that spans are late or lost, now and then.
    fn complain(&mut self, cause: &str) {
        let (now, dropped) = (Instant::now(), self.told.dropped.get());
        self.complained_of = dropped;
        if self.complained.is_some_and(|at| now - at < COMPLAIN_EVERY) {
            return;
        }
        self.complained = Some(now);
        tracing::warn!(endpoint = %self.endpoint, cause, dropped, "the collector of traces does not take all spans");
    }
}

/// Ends as the other end goes: nothing is ever sent.
async fn ended(stopped: &mut watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

/// The statuses after which OTLP lets a client try again.
fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
