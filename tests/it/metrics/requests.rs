//! What is counted of requests: by route and answer, why there was no token, how long it took.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;
use tenmint::http::{self, listener as listeners};
use tenmint::model::api_key::CreateApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::forward_auth::guarded;
use crate::metrics::{observed, scrape, until};
use crate::server::{Engine, Server, Setup, asked, basic, on_both_engines, token_request};

fn requests(route: &str, status: &str) -> String {
    format!("tenmint_http_requests_total{{route=\"{route}\",status=\"{status}\"}}")
}

fn refusals(reason: &str) -> String {
    format!("tenmint_token_refusals_total{{reason=\"{reason}\"}}")
}

/// Series of one route's durations.
fn durations(series: &str, route: &str) -> String {
    format!("tenmint_http_request_duration_seconds_{series}{{route=\"{route}\"}}")
}

on_both_engines! {
    async fn requests_are_counted_by_the_template_of_their_route_and_by_their_answer(server: Server) {
        let observed = observed(&server).await;
        let key = server.api_key("read:org/*").await;
        for _ in 0..3 {
            assert_eq!(server.token(&key, "").await.status, 200);
        }
        assert_eq!(server.token(&key, "scope=write:x").await.status, 400);
        assert_eq!(server.get("/.well-known/jwks.json").await.status, 200);
        assert_eq!(server.get("/nowhere").await.status, 404);
        let path = format!("/v1/keys/{}", key.id);
        assert_eq!(server.api(&server.administrator, "GET", &path, Value::Null).await.status, 200);
        assert_eq!(server.api_with("tm_nobody", "GET", &path, Value::Null, &[]).await.status, 401);
        assert_eq!(server.send("POST", "/forward-auth/a/b", &[], b"").await.status, 403);
        let told = scrape(observed).await;
        for (route, status, count) in [
            ("/oauth/token", "2xx", 3.0),
            ("/oauth/token", "4xx", 1.0),
            ("/oauth/token", "5xx", 0.0),
            ("/.well-known/jwks.json", "2xx", 1.0),
            ("(none)", "4xx", 1.0),
            ("/v1/keys/{id}", "2xx", 1.0),
            ("/v1/keys/{id}", "4xx", 1.0),
            ("/forward-auth", "4xx", 1.0),
        ] {
            assert_eq!(told.of(&requests(route, status)), count, "{route} {status}");
        }
        assert_eq!(told.of("tenmint_tokens_issued_total"), 3.0);
        assert_eq!(told.of(&durations("count", "/oauth/token")), 4.0);
        assert_eq!(told.of("tenmint_http_requests_in_flight"), 0.0);
        // who watches is not counted among callers
        assert!(!told.series().iter().any(|series| series.contains("/metrics")));
    }

    async fn each_refusal_of_a_token_is_counted_under_its_reason(server: Server) {
        let observed = observed(&server).await;
        let key = server.api_key("chat").await;
        let narrow = server.create(crate::metrics::requests::for_elsewhere()).await;
        let revoked = server.api_key("chat").await;
        server.revoke(&revoked.id).await;
        let unknown = basic("key_0000000000000000", "tm_default_nobody");
        let form = "Content-Type: application/x-www-form-urlencoded";
        drop(server.token(&key, "scope=write:x").await);
        drop(server.token(&key, "scope=:::").await);
        drop(server.token(&key, "audience=https://other.example.com").await);
        drop(server.token(&narrow, "").await);
        drop(server.token(&revoked, "").await);
        drop(server.post("", &[("Authorization", &unknown)]).await);
        drop(server.post("", &[]).await);
        drop(server.post("a=1&a=2", &[]).await);
        drop(server.post_exactly("grant_type=password", &[("Authorization", &unknown)]).await);
        drop(server.get("/oauth/token").await);
        drop(server.send("POST", "/oauth/token", &[("Content-Type", "text/plain")], b"x").await);
        let large = format!("POST /oauth/token HTTP/1.1\r\nHost: x\r\n{form}\r\nContent-Length: 9000\r\nConnection: close\r\n\r\n");
        drop(server.send_bytes(large.as_bytes()).await);
        let told = scrape(observed).await;
        let reasons = [
            "scope_beyond_key", "malformed_scope", "invalid_target", "address_refused", "revoked", "unknown_client",
            "no_credential", "invalid_request", "unsupported_grant_type", "method_not_allowed",
            "unsupported_media_type", "too_large",
        ];
        for reason in reasons {
            assert_eq!(told.of(&refusals(reason)), 1.0, "{reason}: {:#?}", told.samples);
        }
        let all = told.samples.iter().filter(|(series, _)| series.starts_with("tenmint_token_refusals"));
        assert_eq!(all.map(|(_, count)| count).sum::<f64>(), 12.0);
        assert_eq!(told.of("tenmint_tokens_issued_total"), 0.0);
    }

    async fn what_gateways_are_told_is_counted_by_the_decision(server: Server) {
        let observed = observed(&server).await;
        let gateway = guarded(&server).await;
        let token = server.token(&server.api_key("read:projects/alpha").await, "").await.token();
        let bearer = format!("Bearer {token}");
        let told = [("Tenmint-Gateway-Key", gateway.text.as_str()), ("X-Original-Method", "GET")];
        let ask = async |path: &str, more: &[(&str, &str)]| {
            let headers = [&told[..], &[("X-Original-URI", path)], more].concat();
            server.send("GET", "/forward-auth?policy=api", &headers, b"").await.status
        };
        let credential = [("Authorization", bearer.as_str())];
        assert_eq!(ask("/projects/alpha", &credential).await, 200);
        assert_eq!(ask("/projects/alpha", &[]).await, 401);
        assert_eq!(ask("/projects/beta", &credential).await, 403);
        assert_eq!(server.get("/forward-auth?policy=api").await.status, 403);
        server.clock.wind(Duration::from_hours(1));
        assert_eq!(ask("/projects/alpha", &credential).await, 403);
        let told = scrape(observed).await;
        let counted: Vec<(&str, f64)> = ["passed", "no_token", "insufficient_scope", "unknown_gateway", "unavailable"]
            .into_iter()
            .map(|decision| {
                let series = format!("tenmint_forward_auth_decisions_total{{decision=\"{decision}\"}}");
                (decision, told.of(&series))
            })
            .filter(|(_, count)| *count != 1.0)
            .collect();
        assert_eq!(counted, []);
    }

    async fn a_request_is_in_flight_until_it_is_answered_and_counts_for_as_long_as_it_took(server: Server) {
        let observed = observed(&server).await;
        let key = server.api_key("chat").await;
        let request = token_request(&basic(&key.id.to_string(), &key.text));
        let (begin, end) = request.split_at(request.len() - 5);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        until(observed, |told| told.of("tenmint_http_requests_in_flight") >= 1.0).await;
        server.clock.wind(Duration::from_secs(3));
        stream.write_all(end.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let told = scrape(observed).await;
        assert_eq!(told.of("tenmint_http_requests_in_flight"), 0.0);
        assert_eq!(told.of(&durations("sum", "/oauth/token")), 3.0);
        let bucket = |bound: &str| {
            told.of(&format!(
                "tenmint_http_request_duration_seconds_bucket{{route=\"/oauth/token\",le=\"{bound}\"}}"
            ))
        };
        assert_eq!((bucket("2.5"), bucket("5"), bucket("+Inf")), (0.0, 1.0, 1.0));
    }

    async fn a_request_that_is_given_up_is_counted_without_an_answer(server: Server) {
        let observed = observed(&server).await;
        let request = token_request("Basic x");
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&request.as_bytes()[..request.len() - 5]).await.unwrap();
        until(observed, |told| told.of("tenmint_http_requests_in_flight") >= 1.0).await;
        assert!(scrape(observed).await.of("tenmint_http_connections") >= 1.0);
        // reset, not closed: a half-closed connection could still take its answer
        stream.set_zero_linger().unwrap();
        drop(stream);
        until(observed, |told| told.of("tenmint_http_requests_in_flight") == 0.0).await;
        let told = scrape(observed).await;
        let sum = ["none", "4xx"].map(|status| told.of(&requests("/oauth/token", status)));
        assert_eq!(sum.iter().sum::<f64>(), 1.0, "{sum:?}");
        until(observed, |told| told.of("tenmint_http_connections") == 0.0).await;
    }
}

/// What is alerted on is that callers find no place, whatever gateways have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_those_to_the_public_listener_alone() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let observed = observed(&server).await;
    let max = scrape(observed).await.of("tenmint_http_connections_max");
    assert!(max > 1.0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let private = listener.local_addr().unwrap();
    let face = http::private_face(server.node.as_ref().unwrap(), server.http.clone());
    tokio::spawn(listeners::serve(listener, face, std::future::pending()));
    let mut gateway = TcpStream::connect(private).await.unwrap();
    gateway.write_all(b"GET /forward-auth HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    gateway.read_exact(&mut answer).await.unwrap();
    let caller = TcpStream::connect(server.address).await.unwrap();
    let told = until(observed, |told| told.of("tenmint_http_connections") >= 1.0).await;
    assert_eq!(told.of("tenmint_http_connections"), 1.0);
    assert_eq!(told.of("tenmint_http_connections_max"), max);
    drop((gateway, caller));
}

/// An ask for a key that may not be used from here.
pub fn for_elsewhere() -> CreateApiKey {
    CreateApiKey { allow: Some(vec!["192.0.2.1".to_owned()]), ..asked("chat") }
}

/// All answers to requests that are sent on one connection, one behind the other.
async fn exchanged(server: &Server, requests: String) -> String {
    let (mut reader, mut writer) = TcpStream::connect(server.address).await.unwrap().into_split();
    let sending = tokio::spawn(async move {
        writer.write_all(requests.as_bytes()).await.unwrap();
        writer
    });
    let mut answers = Vec::new();
    reader.read_to_end(&mut answers).await.unwrap();
    drop(sending.await.unwrap());
    String::from_utf8(answers).unwrap()
}

/// Numbers that follow each other as if by chance, the same in each run.
fn scattered() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |last| {
        let last = last ^ last << 13;
        let last = last ^ last >> 7;
        Some(last ^ last << 17)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_strangers_send_names_no_series() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let observed = observed(&server).await;
    let before = scrape(observed).await;
    let mut numbers = scattered();
    for _ in 0..20 {
        let mut bytes = String::new();
        for number in numbers.by_ref().take(500) {
            let basic = basic(&format!("key_{number:016}"), &format!("tm_default_{number}"));
            let body = "grant_type=client_credentials";
            for (method, path) in [
                ("GET", format!("/canary{number}/%00?canary={number}")),
                ("CANARY", format!("/oauth/token/{number}")),
                ("GET", format!("/v1/canary/{number}")),
                ("GET", format!("/forward-auth/{number}?policy=canary{number}")),
            ] {
                let _ = write!(bytes, "{method} {path} HTTP/1.1\r\nHost: canary{number}\r\n\r\n");
            }
            let _ = write!(
                bytes,
                "POST /oauth/token?canary={number} HTTP/1.1\r\nHost: canary\r\nAuthorization: {basic}\r\n\
                 User-Agent: canary{number}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
        bytes += "GET /canary HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n\r\n";
        let answers = exchanged(&server, bytes).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2_501);
    }
    let after = scrape(observed).await;
    assert_eq!(before.series(), after.series());
    assert!(!after.samples.keys().any(|series| series.contains("canary")));
    let strangers = after.of(&requests("(none)", "4xx")) - before.of(&requests("(none)", "4xx"));
    assert_eq!(strangers, 30_020.0);
    let guesses = ["unknown_client", "too_many_failures"].map(|reason| after.of(&refusals(reason)));
    assert_eq!(guesses, [60.0, 9_940.0], "from one address at one moment");
}
