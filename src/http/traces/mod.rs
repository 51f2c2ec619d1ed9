//! Traces: a span of each request, told to a collector over OTLP/HTTP where one is named.
//!
//! A request leaves its span in a queue and goes on; a task sends what is there, many at once. A span that
//! finds no room is dropped and counted. Nothing that a caller sends becomes part of one but the ids of the
//! trace that it came with, and the state beside them: no path, query, header, client id or address.

mod collector;
mod context;
mod span;
mod text;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderMap, Uri};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::figures::Counter;
use crate::http::client::Client;
use crate::http::traces::collector::Collector;
use crate::http::traces::context::Parent;
use crate::http::traces::span::Record;
use crate::service::random;

pub(super) use span::{RequestFacts, Span, Step};

/// Spans that wait at most: a megabyte of them.
const QUEUE: usize = 4_096;

/// Where spans are told, and of how many requests.
#[derive(Debug, Clone, PartialEq)]
pub struct TracesConfig {
    /// Where a collector takes them.
    pub endpoint: Endpoint,
    /// The share of traces that are begun here.
    pub ratio: Ratio,
}

/// Where a collector takes traces over OTLP/HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// Without a query, which can hold a credential.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.0.scheme_str(), self.0.authority());
        let host = host.map(Authority::as_str);
        write!(f, "{}://{}{}", scheme.unwrap_or_default(), host.unwrap_or_default(), self.0.path())
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        const FORM: &str = "write the URL at which a collector takes traces over OTLP/HTTP, path and all \
                            and without a password, like `http://127.0.0.1:4318/v1/traces`";
        let url: Uri = text.parse().map_err(|_| FORM)?;
        let is_http = matches!(url.scheme_str(), Some("http" | "https"));
        let host = url.authority().filter(|authority| !authority.as_str().contains('@'));
        let is_whole = is_http && host.is_some() && !matches!(url.path(), "" | "/");
        if is_whole { Ok(Self(url)) } else { Err(FORM) }
    }
}

/// A share of all traces, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

impl Default for Ratio {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Ratio {
    type Error = &'static str;

    fn try_from(share: f64) -> std::result::Result<Self, Self::Error> {
        let is_share = (0.0..=1.0).contains(&share);
        if is_share { Ok(Self(share)) } else { Err("write a number from 0 to 1") }
    }
}

impl FromStr for Ratio {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        text.parse().unwrap_or(f64::NAN).try_into()
    }
}

impl Ratio {
    /// Whether a trace is among them, by the last digits of its id.
    fn takes(self, trace_id: u128) -> bool {
        let [.., a, b, c, d] = trace_id.to_be_bytes();
        f64::from(u32::from_be_bytes([a, b, c, d])) < self.0 * 4_294_967_296.0
    }
}

/// What takes the spans of a node.
#[derive(Debug)]
pub struct Traces {
    ratio: Ratio,
    clock: Clock,
    queue: mpsc::Sender<Record>,
    told: Arc<SpanCounters>,
}

/// What became of spans.
#[derive(Debug, Default)]
struct SpanCounters {
    sent: Counter,
    dropped: Counter,
}

/// What tells of them, until it is stopped.
#[derive(Debug)]
pub struct CollectorTask {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl CollectorTask {
    /// Tells what waits, as far as that takes no more than a moment.
    pub async fn stop(self) {
        drop(self.stop);
        drop(self.task.await);
    }
}

impl Traces {
    /// Begins to tell of requests.
    ///
    /// # Errors
    /// [`Error::Setup`] where the certificates that the collector is held to cannot be read.
    pub fn start(config: TracesConfig, clock: Clock) -> Result<(Arc<Self>, CollectorTask)> {
        let TracesConfig { endpoint, ratio } = config;
        let cannot = |cause| Error::Setup(format!("traces cannot be sent to {endpoint}: {cause}"));
        let client = Client::of(&endpoint.0).map_err(cannot)?;
        let (queue, spans) = mpsc::channel(QUEUE);
        let (stop, stopped) = watch::channel(());
        let told = Arc::new(SpanCounters::default());
        let instance = format!("{:032x}", u128::from_be_bytes(random()?));
        tracing::info!(%endpoint, instance, "traces are told");
        let collector = Collector::new((endpoint, client), &instance, (spans, told.clone()));
        let task = tokio::spawn(collector.run(stopped));
        Ok((Arc::new(Self { ratio, clock, queue, told }), CollectorTask { stop, task }))
    }

    /// The span of a request that just came, if it is told. Who comes with a trace has decided that.
    pub(super) fn begin(&self, headers: &HeaderMap, request: RequestFacts<'_>) -> Option<Span<'_>> {
        let parent = Parent::of(headers);
        let (trace_id, is_told) = if let Some(parent) = &parent {
            (parent.trace_id, parent.is_sampled)
        } else {
            let trace_id = u128::from_be_bytes(random().ok()?);
            (trace_id, self.ratio.takes(trace_id))
        };
        if !is_told {
            return None;
        }
        let span_id = u64::from_be_bytes(random().ok()?);
        let record = Record::of(request, (trace_id, span_id, parent), self.clock.now_nanos());
        Some(Span { traces: self, began: self.clock.steady(), record: Some(Box::new(record)) })
    }

    /// Leaves what is known of a request that is over.
    fn take(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.told.dropped.add(1);
        }
    }

    /// Spans that a collector has.
    pub(super) fn sent(&self) -> u64 {
        self.told.sent.get()
    }

    /// Spans that none has, and none will have.
    pub(super) fn dropped(&self) -> u64 {
        self.told.dropped.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_whole_url_without_a_password() {
        for text in ["http://127.0.0.1:4318/v1/traces", "https://otel.example.com/v1/traces?to=a"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.0.to_string(), text);
            assert_eq!(endpoint.to_string(), text.trim_end_matches("?to=a"), "nothing secret");
        }
        for text in [
            "",
            "127.0.0.1:4318",
            "/v1/traces",
            "http://127.0.0.1:4318",
            "http://127.0.0.1:4318/",
            "grpc://127.0.0.1:4317/v1/traces",
            "http://me:secret@127.0.0.1:4318/v1/traces",
            "http://a b/v1/traces",
        ] {
            assert!(text.parse::<Endpoint>().unwrap_err().contains("/v1/traces"), "{text}");
        }
    }

    #[test]
    fn a_ratio_is_that_share_of_trace_ids() {
        let ids = |ratio: &str| {
            let ratio: Ratio = ratio.parse().unwrap();
            (0..1_000_u128).filter(|id| ratio.takes((id << 32) + id * 4_294_968)).count()
        };
        assert_eq!((ids("0"), ids("0.25"), ids("1"), ids("1.0")), (0, 250, 1_000, 1_000));
        assert!(Ratio::default().takes(u128::MAX));
        for text in ["", "-0.1", "1.1", "10%", "NaN", "inf"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_span_that_finds_no_room_is_dropped_and_counted() {
        let endpoint = "http://127.0.0.1:1/v1/traces".parse().unwrap();
        let config = TracesConfig { endpoint, ratio: Ratio::default() };
        let (traces, telling) = Traces::start(config, Clock::system()).unwrap();
        let asked = RequestFacts { id: "1", method: "GET", route: "/healthz", scheme: "http" };
        // on this one thread nobody takes any of them meanwhile
        for _ in 0..QUEUE + 3 {
            drop(traces.begin(&HeaderMap::new(), asked).unwrap());
        }
        assert_eq!((traces.sent(), traces.dropped()), (0, 3));
        drop(telling);
    }
}
