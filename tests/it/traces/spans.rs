//! What a span says of its request, and whose trace it belongs to.

use serde_json::{Value, json};

use super::{Collector, Told, Traced};
use crate::leaks::{misplace, pieces};
use crate::server::START;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Sends a request with these headers.
async fn ask(traced: &Traced, headers: &[(&str, &str)]) {
    let answer = traced.server.send("GET", "/healthz", headers, b"").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_a_span_with_its_route_and_its_answer() {
    let mut collector = Collector::start().await;
    let mut traced = Traced::start(&collector.endpoint).await;
    let server = &traced.server;
    let key = server.api_key("chat").await;
    let id = server.token(&key, "").await.header("x-request-id").unwrap().to_owned();
    server.token(&key, "scope=write:x").await;
    server.get("/nowhere?a=b").await;
    let path = format!("/v1/keys/{}", key.id);
    server.api(&server.administrator, "GET", &path, Value::Null).await;
    server.api_with("tm_nobody", "GET", &path, Value::Null, &[]).await;
    server.get("/forward-auth?policy=x").await;
    server.send("BREW", "/healthz", &[], b"").await;
    server.clock.wind(std::time::Duration::from_hours(1));
    server.token(&key, "").await;
    traced.stop().await;

    let mut spans = collector.spans();
    let records: Vec<Told> =
        spans.extract_if(.., |span| span.text("name") == "ledger.record").collect();
    let said = |span: &Told| {
        let attributes = ["http.request.method", "http.route", "http.response.status_code"];
        let more = ["tenmint.reason", "error.type"];
        [&attributes[..], &more]
            .concat()
            .iter()
            .map(|key| span.attribute(key))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let names: Vec<(&str, String)> =
        spans.iter().map(|span| (span.text("name"), said(span))).collect();
    let expected = [
        ("POST /oauth/token", "POST /oauth/token 200  "),
        ("POST /oauth/token", "POST /oauth/token 400 scope_beyond_key "),
        ("GET", "GET  404 not_found "),
        ("GET /v1/keys/{id}", "GET /v1/keys/{id} 200  "),
        ("GET /v1/keys/{id}", "GET /v1/keys/{id} 401 unauthenticated "),
        ("GET /forward-auth", "GET /forward-auth 403 unknown_gateway "),
        ("HTTP /healthz", "_OTHER /healthz 405 method_not_allowed "),
        ("POST /oauth/token", "POST /oauth/token 503 unavailable 503"),
    ];
    assert_eq!(names, expected.map(|(name, said)| (name, said.to_owned())));
    let [first, .., last] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(first.attribute("tenmint.request_id"), id);
    assert_eq!(first.attribute("url.scheme"), "http");
    assert_eq!((first.0["kind"].as_u64(), first.0["flags"].as_u64()), (Some(2), Some(0x101)));
    assert_eq!((first.0.get("status"), &last.0["status"]), (None, &json!({"code": 2})));
    let nanos = |seconds: u64| format!("{seconds}000000000");
    assert_eq!(first.text("startTimeUnixNano"), nanos(START));
    assert_eq!(last.text("endTimeUnixNano"), nanos(START + 3_600));
    let [record] = &records[..] else { panic!("one token was recorded: {records:?}") };
    assert_eq!(record.text("parentSpanId"), first.text("spanId"));
    assert_eq!(
        (record.text("traceId"), record.0["kind"].as_u64()),
        (first.text("traceId"), Some(1))
    );
    for span in &spans {
        assert_eq!((span.text("traceId").len(), span.text("spanId").len()), (32, 16));
        assert!(span.0.get("parentSpanId").is_none(), "{span:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_takes_a_while_is_a_span_as_long() {
    let mut collector = Collector::start().await;
    let mut traced = Traced::start(&collector.endpoint).await;
    let server = &traced.server;
    let key = server.api_key("chat").await;
    let path = format!("/oauth/revocations?since={}&wait=30", server.mint.feed().revision());
    let wait = server.get(&path);
    let revoke = async {
        while server.mint.feed().waiting() == 0 {
            tokio::task::yield_now().await;
        }
        server.clock.wind(std::time::Duration::from_secs(7));
        server.revoke(&key.id).await;
    };
    tokio::join!(wait, revoke);
    traced.stop().await;
    let [span] = &collector.spans()[..] else { panic!("one span") };
    let nanos = |member| span.text(member).parse::<u64>().unwrap();
    assert_eq!(nanos("endTimeUnixNano") - nanos("startTimeUnixNano"), 7_000_000_000, "{span:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_before_its_answer_is_a_span_without_one() {
    let mut collector = Collector::start().await;
    let mut traced = Traced::start(&collector.endpoint).await;
    let server = &traced.server;
    let path = format!("/oauth/revocations?since={}&wait=30", server.mint.feed().revision());
    let waits = server.request("GET", &path, &[], b"");
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &waits).await.unwrap();
    while server.mint.feed().waiting() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    let [span] = &collector.next().await[..] else { panic!("one span") };
    assert_eq!(span.text("name"), "GET /oauth/revocations");
    assert_eq!(span.attribute("http.response.status_code"), "");
    traced.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_comes_along_goes_on_and_a_malformed_one_does_not() {
    let mut collector = Collector::start().await;
    let mut traced = Traced::start(&collector.endpoint).await;
    let parent = |flags: &str| format!("00-{TRACE}-{PARENT}-{flags}");
    let state = ("Tracestate", "rojo=00f067aa0ba902b7");
    ask(&traced, &[("Traceparent", &parent("01")), state]).await;
    ask(&traced, &[("traceparent", &parent("00"))]).await;
    for malformed in ["x", "00-0-0-01", &parent("1"), &parent("01").to_uppercase()] {
        ask(&traced, &[("traceparent", malformed), state]).await;
    }
    traced.stop().await;

    let spans = collector.spans();
    assert_eq!(spans.len(), 5, "whose caller tells of nothing, is not told of: {spans:?}");
    let (first, others) = spans.split_first().unwrap();
    assert_eq!((first.text("traceId"), first.text("parentSpanId")), (TRACE, PARENT));
    assert_eq!((first.text("traceState"), first.0["flags"].as_u64()), (state.1, Some(0x301)));
    assert_ne!(first.text("spanId"), PARENT);
    for span in others {
        assert_ne!(span.text("traceId"), TRACE);
        assert_eq!((span.text("parentSpanId"), span.text("traceState")), ("", ""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_traces_is_told_and_whoever_comes_with_one_decides_for_it() {
    let mut collector = Collector::start().await;
    let mut traced = Traced::of(&collector.endpoint, "0".parse().unwrap()).await;
    ask(&traced, &[]).await;
    ask(&traced, &[("traceparent", &format!("00-{TRACE}-{PARENT}-01"))]).await;
    traced.stop().await;
    let spans = collector.spans();
    assert_eq!(spans.iter().map(|span| span.text("traceId")).collect::<Vec<_>>(), [TRACE]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_caller_writes_leaves_with_a_span() {
    let mut collector = Collector::start().await;
    let mut traced = Traced::start(&collector.endpoint).await;
    let server = &traced.server;
    let key = server.api_key("chat").await;
    misplace(server, &key.text).await;
    let token = server.token(&key, "").await.token();
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let canaries = ["canary-path", "canary-query", "canary-agent", "canary-form", "canary-state"];
    for secret in [&key.text, &token, canaries[4]] {
        let state = format!("a={secret}");
        let headers = [("traceparent", parent.as_str()), ("User-Agent", canaries[2])];
        let headers = [&headers[..], &[("tracestate", &state), (secret, secret)]].concat();
        server.send("GET", "/canary-path?a=canary-query", &headers, b"").await;
        server.send("POST", "/oauth/token?canary-query", &headers, b"canary-form").await;
        server.send(secret, "/v1/keys/canary-path", &headers, b"").await;
        server.post("scope=canary-form", &headers[..2]).await;
    }
    traced.stop().await;

    let told = collector.told();
    assert!(told.lines().flat_map(|body| super::spans_of(body.as_bytes())).count() > 60);
    let canaries = canaries[..4].iter().map(|canary| (*canary).to_owned());
    let parts = [pieces(&key.text), pieces(&token), canaries.collect()].concat();
    let found: Vec<&String> = parts.iter().filter(|part| told.contains(part.as_str())).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(!told.contains("127.0.0.1") && !told.contains(&key.id.to_string()));
    // the state of a trace is for whoever sees the trace, unless it looks secret
    assert!(told.contains("a=canary-state"));
}
