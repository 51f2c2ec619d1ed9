//! Raw bytes on a socket: framing that two readers could read differently, heads that never end,
//! clients that are slow on purpose.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::{Engine, Server, Setup, basic};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

async fn server() -> Server {
    Setup::on(Engine::Sqlite).start().await.unwrap()
}

async fn impatient_server() -> Server {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.limits.head = Duration::from_millis(500);
    setup.limits.idle = Duration::from_millis(500);
    setup.limits.request = Duration::from_secs(1);
    setup.start().await.unwrap()
}

/// Answers on one connection, as status codes.
fn statuses(text: &str) -> Vec<&str> {
    let starts = text.match_indices("HTTP/1.1 ").map(|(at, start)| at + start.len());
    starts.filter_map(|at| text.get(at..at + 3)).collect()
}

#[tokio::test]
async fn framing_that_can_be_read_two_ways_never_reaches_a_second_request() {
    let server = server().await;
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let body = "grant_type=client_credentials";
    let heads = [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            body.len()
        ),
        format!("Content-Length: {}\r\nContent-Length: 0\r\n\r\n{body}{smuggled}", body.len()),
        format!("Content-Length: 0, {}\r\n\r\n{body}{smuggled}", body.len()),
        format!("Content-Length: +{}\r\n\r\n{body}{smuggled}", body.len()),
        format!("Content-Length: -1\r\n\r\n{smuggled}"),
        format!("Content-Length: 0x1d\r\n\r\n{body}{smuggled}"),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        format!(
            "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{body}\r\n0\r\n\r\n{smuggled}"
        ),
        format!("Transfer-Encoding: chunked\r\n\r\n1d;\nx\r\n{body}{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n{smuggled}"),
        format!("Content-Length: 5\r\n folded: x\r\n\r\n{smuggled}"),
        format!("Content-Length\0: 5\r\n\r\n{smuggled}"),
    ];
    for head in heads {
        let request = format!("POST /oauth/token HTTP/1.1\r\nHost: x\r\n{FORM}{head}");
        let answer = server.exchange(request.as_bytes()).await;
        let statuses = statuses(&answer);
        assert!(!statuses.contains(&"200"), "{head:?}: {statuses:?}");
        assert!(statuses.iter().all(|status| status.starts_with('4')), "{head:?}: {answer}");
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_gets_a_4xx_or_nothing() {
    let server = server().await;
    for bytes in [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        // a preamble by which a proxy would name the caller, and which nobody is believed to write
        b"PROXY TCP4 10.0.0.1 127.0.0.1 1 80\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x7f\0\0\x01\0\x01\0\x50GET / HTTP/1.1\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n\r\n\r\nGARBAGE\r\n\r\n",
        b"POST /oauth/token HTTP/1.1\nHost: x\nBad Header: y\n\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        "GET /caf\u{e9} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".as_bytes(),
    ] {
        let answer = server.exchange(bytes).await;
        let fine = statuses(&answer).iter().all(|status| status.starts_with('4'));
        assert!(fine, "{}: {answer}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_flood_of_headers_is_refused() {
    let server = server().await;
    let many = "X-A: b\r\n".repeat(200);
    let large = format!("X-A: {}\r\n", "b".repeat(64 * 1024));
    for headers in [many, large] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        assert_eq!(statuses(&server.exchange(request.as_bytes()).await), ["431"]);
    }
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(128 * 1024));
    assert!(statuses(&server.exchange(long_path.as_bytes()).await)[0].starts_with('4'));
}

#[tokio::test]
async fn a_client_that_is_slow_on_purpose_loses_its_connection() {
    let server = impatient_server().await;
    let unfinished = [
        "",
        "P",
        "POST /oauth/token HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 100\r\n\r\ngrant",
    ];
    for start in unfinished {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{start:?} holds its connection");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_said_to_be_late() {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.limits.body = Duration::from_millis(200);
    let server = setup.start().await.unwrap();
    let head =
        format!("POST /oauth/token HTTP/1.1\r\nHost: x\r\n{FORM}Content-Length: 100\r\n\r\ngrant");
    let answer = server.send_bytes(head.as_bytes()).await;
    assert_eq!(answer.outcome(), "408 invalid_request");
}

#[tokio::test]
async fn bytes_that_trickle_in_do_not_prolong_the_time_of_a_head() {
    let server = impatient_server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let trickle = async {
        let mut byte = [0];
        loop {
            // each read is given up soon and followed by one more header
            match timeout(Duration::from_millis(100), reading.read(&mut byte)).await {
                Err(_) => {
                    if writing.write_all(b"X: y\r\n").await.is_err() {
                        return;
                    }
                }
                Ok(_) => return,
            }
        }
    };
    assert!(timeout(Duration::from_secs(15), trickle).await.is_ok(), "the head goes on for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_slow_clients_do_not_keep_a_good_one_waiting() {
    let server = server().await;
    let mut slow = Vec::new();
    for number in 0..50 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let start = ["", "P", "POST /oauth/token HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nX: "];
        stream.write_all(start[number % 4].as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(server.token(&server.administrator, "").await.status, 200);
}

#[tokio::test]
async fn connections_above_the_cap_wait_for_a_place() {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.limits.max_connections = 2;
    setup.limits.idle = Duration::from_millis(500);
    let server = setup.start().await.unwrap();
    let idle = [
        TcpStream::connect(server.address).await.unwrap(),
        TcpStream::connect(server.address).await.unwrap(),
    ];
    // both places are taken until their idle time is over; then this one is served
    assert_eq!(server.get("/healthz").await.status, 200);
    drop(idle);
}

#[tokio::test]
async fn a_connection_serves_many_requests_one_after_the_other() {
    let server = server().await;
    let credential = basic(&server.administrator.id.to_string(), &server.administrator.text);
    let body = "grant_type=client_credentials";
    let one = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: x\r\n{FORM}Authorization: {credential}\r\nContent-Length: {}\r\n",
        body.len()
    );
    let request = format!("{one}\r\n{body}{one}\r\n{body}{one}Connection: close\r\n\r\n{body}");
    let answer = server.exchange(request.as_bytes()).await;
    assert_eq!(statuses(&answer), ["200", "200", "200"]);
}

#[tokio::test]
async fn a_client_may_ask_before_it_sends_its_body() {
    let server = server().await;
    let credential = basic(&server.administrator.id.to_string(), &server.administrator.text);
    let body = "grant_type=client_credentials";
    let head = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: x\r\n{FORM}Authorization: {credential}\r\n\
         Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    timeout(Duration::from_secs(15), stream.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 100");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(statuses(&rest), ["200"]);
}

#[tokio::test]
async fn a_request_in_flight_is_finished_when_the_server_stops() {
    let mut server = server().await;
    let credential = basic(&server.administrator.id.to_string(), &server.administrator.text);
    let body = "grant_type=client_credentials";
    let head = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: x\r\n{FORM}Authorization: {credential}\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // the interim answer proves that the request is being served
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    let address = server.address;
    let stopping = tokio::spawn(async move {
        server.stop().await;
        server
    });
    // new connections are refused before the old one ends
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(statuses(&rest), ["200"]);
    stopping.await.unwrap();
}

#[tokio::test]
async fn an_offer_to_go_on_in_http_2_is_not_taken_up() {
    let server = server().await;
    let credential = basic(&server.administrator.id.to_string(), &server.administrator.text);
    let body = "grant_type=client_credentials";
    let offer = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    let one = |connection: &str| {
        format!(
            "POST /oauth/token HTTP/1.1\r\nHost: x\r\n{FORM}Authorization: {credential}\r\n\
             Connection: Upgrade, HTTP2-Settings{connection}\r\n{offer}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let answer = server.exchange(format!("{}{}", one(""), one(", close")).as_bytes()).await;
    assert_eq!(statuses(&answer), ["200", "200"]);
    assert_eq!(answer.matches("\"access_token\"").count(), 2, "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("upgrade:"), "{answer}");
}
