//! What one client may take of a listener: places, bytes of a head, and time.

use std::time::Duration;

use tenmint::http::client_ip::TrustedProxies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::server::{Engine, Server, Setup, token_request};

/// What does not come within this does not come.
const PATIENCE: Duration = Duration::from_secs(20);
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n";

/// A connection from another address of this machine.
pub async fn connect_from(server: &Server, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// A server of forty places, half of them for one source.
async fn small_server(proxies: &[String]) -> Server {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.limits.max_connections = 40;
    setup.trusted_proxies = TrustedProxies::parse(proxies, "x-forwarded-for").unwrap();
    setup.start().await.unwrap()
}

/// Whether a connection is served, and stays.
async fn is_served(stream: &mut TcpStream) -> bool {
    // one that was closed may take the bytes, and answers by its end
    let _ = stream.write_all(format!("{HEALTH}\r\n").as_bytes()).await;
    let mut start = [0; 12];
    let read = timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("neither");
    read.is_ok_and(|_| start == *b"HTTP/1.1 200")
}

async fn open(server: &Server, from: &str, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = connect_from(server, from).await;
        if is_served(&mut stream).await {
            open.push(stream);
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_request_is_answered_while_two_hundred_slow_sockets_of_five_kinds_are_open() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let body = "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant";
    let unread = format!("{HEALTH}\r\n").repeat(200);
    let kinds = ["", "P", "POST /oauth/token HTTP/1.1\r\nHost: x\r\nX-Slow: ", body, &unread];
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(kinds[number % kinds.len()].as_bytes()).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..10 {
        assert_eq!(server.token(&server.administrator, "").await.status, 200);
    }
    for stream in &mut slow {
        // each is still there, or it proved nothing
        stream.write_all(b"x").await.unwrap();
    }
}

#[tokio::test]
async fn a_head_has_a_hundred_headers_and_thirty_two_kib_and_no_more() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let headers = |count: usize| "X-A: b\r\n".repeat(count);
    let large = |kib: usize| format!("X-A: {}\r\n", "b".repeat(kib * 1024));
    for (more, status) in
        [(headers(98), 200), (headers(99), 431), (large(31), 200), (large(33), 431)]
    {
        let request = format!("{HEALTH}Connection: close\r\n{more}\r\n");
        let answer = server.send_bytes(request.as_bytes()).await;
        assert_eq!(answer.status, status, "{}", more.len());
    }
}

#[tokio::test]
async fn nothing_is_read_after_a_request_that_is_the_last() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    for last in ["Connection: close\r\n", "Connection: Keep-Alive, Close\r\n"] {
        let two = format!("{HEALTH}{last}\r\n{HEALTH}\r\n");
        assert_eq!(server.exchange(two.as_bytes()).await.matches("HTTP/1.1 ").count(), 1, "{last}");
    }
    let old = "GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n";
    let answer = server.exchange(format!("{old}{old}").as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_loses_its_connection() {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.limits.idle = Duration::from_millis(500);
    setup.limits.request = Duration::from_millis(500);
    let server = setup.start().await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let many = "GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let unread = async { while stream.write_all(many.as_bytes()).await.is_ok() {} };
    assert!(timeout(PATIENCE, unread).await.is_ok(), "it holds its connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_holds_its_connections_leaves_half_of_them_to_others() {
    let server = small_server(&["192.0.2.1".to_owned()]).await;
    let held = open(&server, "127.0.0.1", 25).await;
    assert_eq!(held.len(), 20);
    assert_eq!(open(&server, "127.0.0.2", 15).await.len(), 15);
    let mut other = connect_from(&server, "127.0.0.3").await;
    let request = token_request(&format!("Bearer {}", server.administrator.text));
    other.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(held);
    // the server sees the ends as they come
    let again = async { while open(&server, "127.0.0.1", 1).await.is_empty() {} };
    assert!(timeout(PATIENCE, again).await.is_ok(), "the places of who has gone stay taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_may_take_every_place() {
    let server = small_server(&["127.0.0.1".to_owned()]).await;
    assert_eq!(open(&server, "127.0.0.1", 38).await.len(), 38);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_a_client_is_slow_to_read_is_sent_to_its_end_when_the_server_stops() {
    let mut server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    // far more than the buffers of the system hold
    let asked = 150;
    let request = "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.repeat(asked).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let address = server.address;
    let stopping = tokio::spawn(async move { server.stop().await });
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let mut answers = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answers)).await.expect("no end").unwrap();
    stopping.await.unwrap();
    let text = String::from_utf8(answers).unwrap();
    let all: Vec<&str> = text.split("HTTP/1.1 200").skip(1).collect();
    assert!(!all.is_empty() && all.len() < asked, "{}", all.len());
    let (_, whole) = all[0].split_once("\r\n\r\n").unwrap();
    let (_, last) = all[all.len() - 1].split_once("\r\n\r\n").unwrap();
    assert_eq!(last.len(), whole.len(), "cut in the middle");
}
