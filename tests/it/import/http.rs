//! Over HTTP: a file comes in and a report goes out, of any size and at any pace within bounds.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::server::{Answer, Engine, Setup, on_both_engines};

const PATH: &str = "/v1/keys/import";

/// Sends a whole file, and then reads.
async fn post(server: &Server, query: &str, media_type: &str, file: &str) -> Answer {
    let bearer = format!("Bearer {}", server.administrator.text);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", media_type)];
    server.send("POST", &format!("{PATH}{query}"), &headers, file.as_bytes()).await
}

/// The lines of a report; its body comes in chunks of HTTP.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let (mut rest, mut body) = (answer.body.as_str(), String::new());
    while let Some((size, chunk)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body += &chunk[..size];
        rest = &chunk[size + 2..];
    }
    body.lines().filter(|line| !line.is_empty()).map(|line| parsed(line)).collect()
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

/// A request whose body is sent piece by piece while the answer is read.
struct Exchange {
    stream: TcpStream,
    answer: String,
}

impl Exchange {
    async fn begin(server: &Server, query: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "POST {PATH}{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n",
            server.administrator.text
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, answer: String::new() }
    }

    async fn send(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.stream.write_all(chunk.as_bytes()).await.unwrap();
    }

    /// Reads until the answer holds a text, or ends.
    async fn read_until(&mut self, text: &str) -> bool {
        let mut bytes = [0; 4_096];
        while !self.answer.contains(text) {
            let read = timeout(Duration::from_secs(20), self.stream.read(&mut bytes)).await;
            match read.expect("an answer in time") {
                Ok(0) | Err(_) => return false,
                Ok(count) => self.answer += std::str::from_utf8(&bytes[..count]).unwrap(),
            }
        }
        true
    }
}

on_both_engines! {
    async fn a_file_is_posted_and_its_report_read(server: Server) {
        let file = format!("{}bad,x,chat\n", file_of("http", 200));
        let report = lines(&post(&server, "", "text/csv; charset=utf-8", &file).await);
        assert_eq!(report.len(), 202);
        assert_eq!((&report[0]["line"], &report[0]["status"]), (&json!(2), &json!("created")));
        assert_eq!(report[200]["errors"][0]["field"], "digest");
        let summary = &report[201];
        assert_eq!((&summary["status"], &summary["created"]), (&json!("done"), &json!(200)));
        let line = json!({"name": "json", "digest": sha256("json")}).to_string();
        let report = lines(&post(&server, "?dry_run=true", "application/x-ndjson", &line).await);
        assert_eq!((&report[0]["status"], &report[1]["dry_run"]), (&json!("accepted"), &json!(true)));
        let report = lines(&post(&server, "?atomic=true", "text/csv", &file).await);
        assert_eq!(report.last().unwrap()["status"], "abandoned");
        let report = lines(&post(&server, "", "application/x-ndjson", "").await);
        assert_eq!((report.len(), &report[0]["lines"]), (1, &json!(0)));
    }

    async fn what_is_refused_as_a_whole_is_answered_like_everywhere(server: Server) {
        let file = file_of("whole", 1);
        let answer = post(&server, "", "text/csv", "nmae,digest\n").await;
        assert_eq!(code(&answer), (400, "invalid_request".to_owned()));
        assert_eq!(answer.json()["errors"][0]["field"], "nmae");
        for (query, media_type, expected) in [
            ("", "application/json", (415, "unsupported_media_type")),
            ("", "", (415, "unsupported_media_type")),
            ("?atomic=yes", "text/csv", (400, "invalid_request")),
            ("?colour=red", "text/csv", (400, "invalid_request")),
        ] {
            let answer = post(&server, query, media_type, &file).await;
            let (status, name) = expected;
            assert_eq!(code(&answer), (status, name.to_owned()), "{query} {media_type}");
        }
        let nobody = server.send("POST", PATH, &[("Content-Type", "text/csv")], file.as_bytes()).await;
        assert_eq!(code(&nobody), (401, "unauthenticated".to_owned()));
        let weak = server.api_key("write:org/keys/own/*").await;
        let bearer = format!("Bearer {}", weak.text);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/csv")];
        // far more than the server reads before it answers
        let large = file_of("large", 20_000);
        let refused = server.send("POST", PATH, &headers, large.as_bytes()).await;
        assert_eq!(code(&refused), (403, "forbidden".to_owned()));
        assert!(listed(&server).await.iter().all(|api_key| api_key.id == weak.id));
    }

    async fn a_line_is_reported_while_the_file_is_being_sent(server: Server) {
        let mut exchange = Exchange::begin(&server, "").await;
        exchange.send(&file_of("flows", 1)).await;
        assert!(exchange.read_until("\"created\"").await);
        exchange.send(&format!("last,{},chat\n", sha256("last"))).await;
        exchange.stream.write_all(b"0\r\n\r\n").await.unwrap();
        assert!(exchange.read_until("\"status\":\"done\"").await);
        assert!(exchange.read_until("\r\n0\r\n\r\n").await, "the connection goes on");
        exchange.stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(exchange.read_until("HTTP/1.1 200 OK\r\ncontent-type").await, "{}", exchange.answer);
    }

    async fn a_client_that_goes_away_leaves_nothing_of_an_all_or_nothing_import(server: Server) {
        let mut exchange = Exchange::begin(&server, "?atomic=true").await;
        exchange.send(&file_of("away", 250)).await;
        assert!(exchange.read_until("\"accepted\"").await);
        drop(exchange);
        // as soon as the server has seen it, the same file can come again
        let file = file_of("away", 250);
        let mut report = Vec::new();
        for _ in 0..200 {
            let answer = post(&server, "?atomic=true", "text/csv", &file).await;
            if answer.status == 200 {
                report = lines(&answer);
                break;
            }
            assert_eq!(code(&answer), (409, "import_running".to_owned()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(report.last().unwrap()["created"], 250);
    }
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_is_told_so() {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.limits.body = Duration::from_millis(200);
    setup.limits.request = Duration::from_millis(100);
    let server = setup.start().await.unwrap();
    let mut exchange = Exchange::begin(&server, "").await;
    // more than one batch, so that the report has begun
    exchange.send(&file_of("slow", 250)).await;
    assert!(exchange.read_until("\"failed\"").await, "{}", exchange.answer);
    assert!(exchange.answer.contains("nothing came for too long"), "{}", exchange.answer);
}
