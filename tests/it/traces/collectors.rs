//! Collectors that are gone, silent, busy, or do not want what they are told.

use axum::http::StatusCode;
use tokio::net::TcpListener;

use super::{Collector, Traced};
use crate::metrics::{observed, scrape};
use crate::server::{Engine, Server, Setup};

/// How many spans were sent, and how many were dropped.
async fn figures(server: &Server) -> [String; 2] {
    let told = scrape(observed(server).await).await;
    ["sent", "dropped"].map(|outcome| {
        told.of(&format!("tenmint_trace_spans_total{{outcome=\"{outcome}\"}}")).to_string()
    })
}

/// Twenty requests, which are answered.
async fn ask(traced: &Traced) {
    for _ in 0..20 {
        assert_eq!(traced.server.get("/healthz").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_gone_or_silent_holds_up_no_request_and_no_stop() {
    let gone = crate::cli::free_address();
    // connections to it are open, and nobody reads
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [gone, silent.local_addr().unwrap().to_string()] {
        let mut traced = Traced::start(&format!("http://{address}/v1/traces")).await;
        ask(&traced).await;
        traced.stop().await;
        assert_eq!(figures(&traced.server).await, ["0", "20"], "{address}");
        // nobody tells of anything any more, which no request notices either
        ask(&traced).await;
        assert_eq!(figures(&traced.server).await, ["0", "40"], "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_busy_is_told_again() {
    let mut collector = Collector::start().await;
    collector.answers(StatusCode::SERVICE_UNAVAILABLE);
    let mut traced = Traced::start(&collector.endpoint).await;
    ask(&traced).await;
    let first = collector.next().await;
    collector.answers(StatusCode::OK);
    let again = collector.next().await;
    let ids = |spans: &[super::Told]| {
        spans.iter().map(|span| span.text("spanId").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ids(&again));
    traced.stop().await;
    assert_eq!(figures(&traced.server).await, ["20", "0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_does_not_want_is_dropped_and_the_next_one_told() {
    let mut collector = Collector::start().await;
    collector.answers(StatusCode::BAD_REQUEST);
    let mut traced = Traced::start(&collector.endpoint).await;
    ask(&traced).await;
    let unwanted = collector.next().await.len();
    collector.answers(StatusCode::OK);
    assert_eq!(traced.server.get("/readyz").await.status, 200);
    traced.stop().await;
    assert_eq!(collector.spans().last().unwrap().text("name"), "GET /readyz");
    let counts = [21 - unwanted, unwanted].map(|count| count.to_string());
    assert_eq!(figures(&traced.server).await, counts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_collector_tells_nobody() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = server.send("GET", "/healthz", &[("traceparent", parent)], b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(figures(&server).await, ["0", "0"]);
}
