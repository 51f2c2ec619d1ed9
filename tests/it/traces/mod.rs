//! What a collector of traces is told, what it is not, and what happens without one.

mod collectors;
mod program;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde_json::Value;
use tenmint::http::traces::{CollectorTask, Ratio, Traces, TracesConfig};
use tenmint::http::{self, listener};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::server::{Engine, Server, Setup};

/// What does not come about within this is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A collector of traces, which keeps what it is told.
pub struct Collector {
    pub endpoint: String,
    router: Router,
    bodies: mpsc::UnboundedReceiver<Bytes>,
    answer: Arc<Mutex<StatusCode>>,
}

type Kept = (mpsc::UnboundedSender<Bytes>, Arc<Mutex<StatusCode>>);

async fn keep(State((bodies, answer)): State<Kept>, body: Bytes) -> (StatusCode, &'static str) {
    // before anybody learns of it, who may say otherwise for the next
    let answer = *answer.lock();
    bodies.send(body).unwrap();
    (answer, "{}")
}

impl Collector {
    fn at(endpoint: String) -> Self {
        let (kept, bodies) = mpsc::unbounded_channel();
        let answer = Arc::new(Mutex::new(StatusCode::OK));
        let router =
            Router::new().route("/v1/traces", post(keep)).with_state((kept, answer.clone()));
        Self { endpoint, router, bodies, answer }
    }

    /// One that takes all that it is told.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = Self::at(url);
        let router = collector.router.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, router.clone()));
            }
        });
        collector
    }

    /// What it answers from now on.
    fn answers(&self, status: StatusCode) {
        *self.answer.lock() = status;
    }

    /// The spans that it is told next.
    async fn next(&mut self) -> Vec<Told> {
        let body = timeout(PATIENCE, self.bodies.recv()).await.expect("it is told").unwrap();
        spans_of(&body)
    }

    /// All bytes that it was told.
    fn told(&mut self) -> String {
        let mut told = String::new();
        while let Ok(body) = self.bodies.try_recv() {
            told += std::str::from_utf8(&body).unwrap();
            told += "\n";
        }
        told
    }

    /// All spans that it was told.
    fn spans(&mut self) -> Vec<Told> {
        self.told().lines().flat_map(|body| spans_of(body.as_bytes())).collect()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let service = TowerToHyperService::new(router);
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A span that a collector was told.
#[derive(Debug, Clone)]
struct Told(Value);

fn spans_of(body: &[u8]) -> Vec<Told> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    spans.as_array().unwrap().iter().cloned().map(Told).collect()
}

impl Told {
    /// A member, as it stands there; empty where it is missing.
    fn text(&self, member: &str) -> &str {
        self.0[member].as_str().unwrap_or_default()
    }

    /// An attribute; empty where it is missing.
    fn attribute(&self, key: &str) -> &str {
        let attributes = self.0["attributes"].as_array().unwrap();
        let value = attributes.iter().find(|attribute| attribute["key"] == key);
        let value = value.map(|attribute| &attribute["value"]);
        let text = value.and_then(|value| value.get("stringValue").or(value.get("intValue")));
        text.and_then(Value::as_str).unwrap_or_default()
    }
}

/// A server whose requests are told to an endpoint.
struct Traced {
    server: Server,
    telling: Option<CollectorTask>,
}

impl Traced {
    async fn start(endpoint: &str) -> Self {
        Self::of(endpoint, Ratio::default()).await
    }

    /// One that tells of this share of requests.
    async fn of(endpoint: &str, ratio: Ratio) -> Self {
        let mut server = Setup::on(Engine::Sqlite).start().await.unwrap();
        let config = TracesConfig { endpoint: endpoint.parse().unwrap(), ratio };
        let (traces, telling) = Traces::start(config, server.clock.clone()).unwrap();
        server.http.traces = Some(traces);
        let face = http::public_face(server.node.as_ref().unwrap(), server.http.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // what is sent to the server goes here from now on
        server.address = listener.local_addr().unwrap();
        tokio::spawn(listener::serve(listener, face, std::future::pending()));
        Self { server, telling: Some(telling) }
    }

    /// Lets it tell what waits.
    async fn stop(&mut self) {
        let telling = self.telling.take().unwrap();
        timeout(PATIENCE, telling.stop()).await.expect("stops in time");
    }
}
