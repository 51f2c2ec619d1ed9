//! What a token costs: the processor time of `POST /oauth/token` beside its two parts, in one run.
//!
//! (a) a bare axum route that parses the same form and answers with as many bytes, (b) the raw
//! ES256 signature with ring, (c) the token endpoint, (d) the same without its ledger. Servers run
//! on core 0, the load on core 1: HTTP/1.1 keep-alive, 256 connections, interleaved runs, medians.
//! `cargo bench --bench token_endpoint`; an argument sets the requests of a run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use axum::routing::post;
use axum::{Form, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::Deserialize;
use support::{Pinned, free_address, median, wait_for_answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 256;
const RUNS: usize = 5;
const SCOPE: &str = "read:projects/alpha/*";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("bare") => serve_bare(&arguments[2], arguments[3].parse().unwrap()),
        Some("sign") => sign(arguments[2].parse().unwrap()),
        Some("load") => load(&arguments[2], &arguments[3], arguments[4].parse().unwrap()),
        other => compare(other.and_then(|number| number.parse().ok()).unwrap_or(100_000)),
    }
}

fn compare(requests: usize) {
    let (durable, off) = (Installed::start("durable"), Installed::start("off"));
    let bare_address = free_address();
    let myself = std::env::current_exe().unwrap();
    let size = durable.size_of_answer().to_string();
    let bare = Pinned::spawn("0", Command::new(&myself).args(["bare", &bare_address, &size]));
    wait_for_answer(&bare_address);

    let (mut a, mut b, mut c, mut d) = (vec![], vec![], vec![], vec![]);
    let (mut throughput, mut throughput_off) = (vec![], vec![]);
    for _ in 0..RUNS {
        a.push(under_load(&bare, &bare_address, &durable.request, requests).0);
        b.push(signature_time(requests));
        let (time, rate) = durable.under_load(requests);
        c.push(time);
        throughput.push(rate);
        let (time, rate) = off.under_load(requests);
        d.push(time);
        throughput_off.push(rate);
    }
    let (a, b, c, d) = (median(a), median(b), median(c), median(d));
    println!(
        "requests a run      {requests}, {RUNS} interleaved runs, medians, us of processor time"
    );
    println!("a  bare axum route  {a:.1}");
    println!("b  ES256 signature  {b:.1}");
    println!("c  POST token       {c:.1}   ({:.0} a second on one core)", median(throughput));
    println!("d  ledger off       {d:.1}   ({:.0} a second on one core)", median(throughput_off));
    println!("c / (a + b)         {:.2}", c / (a + b));
    println!("d / (a + b)         {:.2}", d / (a + b));
    println!("c / d               {:.2}", c / d);
    println!("resident memory     {:.1} MB", durable.service.resident() as f64 / 1e6);
    println!("ledger              {}", durable.ledger());
}

/// A node with an installation of its own.
struct Installed {
    directory: tempfile::TempDir,
    address: String,
    request: String,
    service: Pinned,
}

impl Installed {
    fn start(ledger: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = format!("[ledger]\nmode = \"{ledger}\"\n");
        std::fs::write(directory.path().join("tenmint.toml"), config).unwrap();
        let tenmint = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tenmint"));
            command.args(arguments).current_dir(directory.path());
            command
        };
        let issuer = format!("http://{address}");
        let output = tenmint(&["init", "--issuer", &issuer, "-o", "json"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let field = |name: &str| json["api_key"][name].as_str().unwrap();
        let request = request(field("id"), field("api_key"));
        let mut serve = tenmint(&["serve", "--listen", &address]);
        let service = Pinned::spawn("0", serve.env("TENMINT_LOG", "warn"));
        wait_for_answer(&address);
        Self { directory, address, request, service }
    }

    fn size_of_answer(&self) -> usize {
        let (address, request) = (self.address.parse().unwrap(), self.request.as_str());
        std::thread::scope(|scope| {
            scope.spawn(move || block_on(exchange_once(address, request))).join().unwrap()
        })
    }

    fn under_load(&self, requests: usize) -> (f64, f64) {
        under_load(&self.service, &self.address, &self.request, requests)
    }

    /// What the ledger holds, and how much room it takes.
    fn ledger(&self) -> String {
        let file = self.directory.path().join("data/ledger.db");
        let (batches, facts) = block_on(count_facts(&file));
        let bytes = std::fs::metadata(&file).unwrap().len();
        format!(
            "{facts} tokens, {:.1} a batch, {:.1} bytes each",
            facts as f64 / batches as f64,
            bytes as f64 / facts as f64
        )
    }
}

/// Batches and facts, once all is in the file.
async fn count_facts(ledger: &Path) -> (i64, i64) {
    use sqlx::Connection;

    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", ledger.display());
    let mut tables = sqlx::AnyConnection::connect(&url).await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut tables).await.unwrap();
    let sums = "SELECT COUNT(*), CAST(SUM(facts) AS BIGINT) FROM ledger_batches";
    sqlx::query_as(sums).fetch_one(&mut tables).await.unwrap()
}

fn request(id: &str, text: &str) -> String {
    let body = format!("grant_type=client_credentials&scope={SCOPE}");
    format!(
        "POST /oauth/token HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        STANDARD.encode(format!("{id}:{text}")),
        body.len()
    )
}

/// Microseconds of processor time a request, and requests a second.
fn under_load(server: &Pinned, address: &str, request: &str, requests: usize) -> (f64, f64) {
    let before = server.processor_time();
    let began = Instant::now();
    let myself = std::env::current_exe().unwrap();
    let arguments = ["load", address, request, &requests.to_string()];
    let mut load = Pinned::spawn("1", Command::new(myself).args(arguments));
    assert!(load.child.wait().unwrap().success());
    let used = server.processor_time().saturating_sub(before);
    (used.as_secs_f64() * 1e6 / requests as f64, requests as f64 / began.elapsed().as_secs_f64())
}

/// Microseconds of processor time a signature.
fn signature_time(signatures: usize) -> f64 {
    let myself = std::env::current_exe().unwrap();
    let signatures = (signatures / 4).to_string();
    let mut sign = Command::new("taskset");
    sign.args(["-c", "0"]).arg(myself).args(["sign", &signatures]);
    let output = sign.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn sign(signatures: usize) {
    let random = SystemRandom::new();
    let rule = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(rule, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(rule, document.as_ref(), &random).unwrap();
    let message = [b'x'; 480];
    let before = support::own_processor_time();
    for _ in 0..signatures {
        std::hint::black_box(pair.sign(&random, &message).unwrap());
    }
    let used = support::own_processor_time().saturating_sub(before);
    println!("{}", used.as_secs_f64() * 1e6 / signatures as f64);
}

#[derive(Deserialize)]
struct TokenForm {
    grant_type: String,
    scope: String,
}

/// What axum itself costs: the form parsed, an answer of the same size.
fn serve_bare(address: &str, size: usize) {
    let answer: &'static str = String::leak("x".repeat(size));
    let route = post(move |Form(form): Form<TokenForm>| async move {
        assert!(!form.grant_type.is_empty() && !form.scope.is_empty());
        let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
        (headers, answer)
    });
    let serving = async move {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        axum::serve(listener, Router::new().route("/oauth/token", route)).await.unwrap();
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(serving);
}

/// So many requests over 256 connections, each waiting for its answer.
fn load(address: &str, request: &str, requests: usize) {
    let address: SocketAddr = address.parse().unwrap();
    let each = requests.div_ceil(CONNECTIONS);
    block_on(async move {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let request = request.to_owned();
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    for _ in 0..each {
                        exchange(&mut stream, &request).await;
                    }
                })
            })
            .collect();
        // a load that sleeps has to be woken, and the kernel charges that to the server
        let awake = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        for connection in connections {
            connection.await.unwrap();
        }
        awake.abort();
    });
}

async fn exchange_once(address: SocketAddr, request: &str) -> usize {
    exchange(&mut TcpStream::connect(address).await.unwrap(), request).await
}

/// One request, and the length of the body of its answer.
async fn exchange(stream: &mut TcpStream, request: &str) -> usize {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0_u8; 4096];
    let mut have = 0;
    loop {
        have += stream.read(&mut answer[have..]).await.unwrap();
        let text = &answer[..have];
        let Some(head) = text.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        assert!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(text));
        let name = b"content-length: ";
        let at = text.windows(name.len()).position(|bytes| bytes == name).unwrap() + name.len();
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0, |number, byte| number * 10 + usize::from(byte - b'0'));
        if have == head + 4 + length {
            return length;
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
