//! How soon a revocation reaches verifiers that check by themselves, and what those that wait cost.
//!
//! `cargo bench --bench revocation`; an argument sets the number of revocations, 1,000 by default. Two
//! nodes on one database behind a proxy that takes turns, three verifiers, clients that fetch tokens
//! meanwhile; on SQLite, and on PostgreSQL where `TENMINT_TEST_POSTGRES` names a cluster. Then 10,000
//! connections wait at one node, and as many over TLS at another.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rcgen::CertifiedKey;
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use support::{Pinned, PostgresDatabase, call, free_address, post, wait_for_answer};
use tenmint_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const AUDIENCE: &str = "urn:tenmint:default:api";
const VERIFIERS: usize = 3;
const WAITERS: usize = 10_000;
/// Seconds within which a verifier that follows the feed has heard of a revocation.
const PROMISED: f64 = 2.0;
/// From one revocation to the next.
const PACE: Duration = Duration::from_millis(50);
/// How often each verifier is asked about the tokens that were revoked.
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let revocations: usize = number.unwrap_or(1_000);
    measure("SQLite", None, revocations);
    if let Some(database) = PostgresDatabase::create("revocation") {
        measure("PostgreSQL", Some(&database.url()), revocations);
    }
}

/// An installation of two nodes.
struct Nodes {
    addresses: [String; 2],
    issuer: String,
    admin: String,
    running: [Pinned; 2],
}

impl Nodes {
    fn start(directory: &Path, database: Option<&str>, issuer: &str) -> Self {
        let mut init = tenmint(directory, database);
        init.args(["init", "--issuer", issuer, "-o", "secret"]);
        let output = init.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let admin = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let addresses = [free_address(), free_address()];
        let running = addresses.each_ref().map(|address| {
            let mut serve = tenmint(directory, database);
            serve.args(["serve", "--listen", address]).stdout(Stdio::null());
            Pinned::spawn("0,1", &serve)
        });
        for address in &addresses {
            wait_for_answer(address);
        }
        Self { addresses, issuer: issuer.to_owned(), admin, running }
    }

    /// A call of the management API of one node.
    fn call(&self, node: usize, path: &str, ask: &Value) -> Value {
        call(&self.addresses[node], &self.admin, path, ask)
    }

    /// A token of a key, from one node.
    fn token(&self, node: usize, key: &str) -> String {
        let head = format!(
            "Authorization: Bearer {key}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        );
        let answer =
            post(&self.addresses[node], "/oauth/token", &head, "grant_type=client_credentials");
        answer["access_token"].as_str().unwrap_or_default().to_owned()
    }
}

fn tenmint(directory: &Path, database: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenmint"));
    command.current_dir(directory);
    if let Some(url) = database {
        command.env("TENMINT_DATABASE_URL", url);
    }
    command
}

fn measure(engine: &str, database: Option<&str>, revocations: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let front = free_address();
    let issuer = format!("http://{front}");
    let nodes = Nodes::start(directory.path(), database, &issuer);
    runtime.spawn(take_turns(front, nodes.addresses.clone()));
    let verifiers: Vec<Verifier> = runtime.block_on(async {
        let mut verifiers = Vec::new();
        for _ in 0..VERIFIERS {
            let builder = Verifier::builder(&nodes.issuer).audience(AUDIENCE);
            let verifier = builder.remote().unwrap();
            while verifier.ready(Duration::from_secs(5)).await.is_err() {}
            verifiers.push(verifier);
        }
        verifiers
    });
    let nodes = Arc::new(nodes);
    let keys: Vec<(String, String)> = (0..revocations)
        .map(|number| {
            let ask = json!({"name": format!("k{number}"), "scopes": ["chat"]});
            let made = nodes.call(0, "/v1/keys", &ask);
            let text = made["api_key"].as_str().expect("a key");
            (made["id"].as_str().unwrap().to_owned(), nodes.token(0, text))
        })
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let fetched = Arc::new(AtomicU64::new(0));
    let load = start_load(&nodes, &stop, &fetched);
    let times = runtime.block_on(revoke_all(&nodes, &verifiers, keys));
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    tell(engine, times, fetched.load(Ordering::Relaxed));
    if database.is_none() {
        let (address, node) = (&nodes.addresses[1], &nodes.running[1]);
        let connect = async || connect_from_anywhere(address).await.unwrap();
        runtime.block_on(wait_at("plain", node, connect));
        let secured = Secured::start(directory.path());
        runtime.block_on(async {
            secured.wait_until_it_serves().await;
            let connect = async || secured.connect().await.unwrap();
            wait_at("over TLS", &secured.running, connect).await;
        });
    }
}

/// A connection of one of several callers: no address takes more than half of those that a node has.
async fn connect_from_anywhere(node: &str) -> std::io::Result<TcpStream> {
    static TURN: AtomicU8 = AtomicU8::new(0);
    let caller = 1 + TURN.fetch_add(1, Ordering::Relaxed) % 4;
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, caller), 0).into())?;
    socket.connect(node.parse().unwrap()).await
}

/// Connections to nodes in turn, as a load balancer makes them.
async fn take_turns(front: String, nodes: [String; 2]) {
    let listener = TcpListener::bind(&front).await.unwrap();
    for turn in 0.. {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        let node = nodes[turn % nodes.len()].clone();
        tokio::spawn(async move {
            if let Ok(mut server) = TcpStream::connect(node).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

/// Somebody who fetches tokens all the time, a connection each.
fn start_load(
    nodes: &Arc<Nodes>,
    stop: &Arc<AtomicBool>,
    fetched: &Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    let (nodes, stop, fetched) = (nodes.clone(), stop.clone(), fetched.clone());
    let made = nodes.call(0, "/v1/keys", &json!({"name": "load", "scopes": ["chat"]}));
    let text = made["api_key"].as_str().unwrap().to_owned();
    std::thread::spawn(move || {
        for turn in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            nodes.token(turn % 2, &text);
            fetched.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// A token whose key was revoked, and when that was answered.
struct Revoked {
    token: String,
    at: Instant,
}

/// Revokes the keys one after the other. The times until each verifier refuses their tokens.
async fn revoke_all(
    nodes: &Arc<Nodes>,
    verifiers: &[Verifier],
    keys: Vec<(String, String)>,
) -> Vec<f64> {
    let watchers: Vec<_> = verifiers
        .iter()
        .map(|verifier| {
            let (sender, revoked) = tokio::sync::mpsc::unbounded_channel();
            let verifier = verifier.clone();
            (sender, tokio::spawn(async move { watch(&verifier, revoked).await }))
        })
        .collect();
    let mut pace = interval(PACE);
    for (turn, (id, token)) in keys.into_iter().enumerate() {
        pace.tick().await;
        assert!(verifiers.iter().all(|verifier| verifier.verify_held(&token).is_ok()));
        let nodes = nodes.clone();
        let path = format!("/v1/keys/{id}/revoke");
        let answer = tokio::task::spawn_blocking(move || nodes.call(turn % 2, &path, &json!({})));
        assert!(answer.await.unwrap()["revoked_at"].is_string());
        let at = Instant::now();
        for (sender, _) in &watchers {
            sender.send(Revoked { token: token.clone(), at }).unwrap();
        }
    }
    let mut times = Vec::new();
    for (sender, watching) in watchers {
        drop(sender);
        times.extend(watching.await.unwrap());
    }
    times
}

/// Asks a verifier about what was revoked, until it refuses all of it.
async fn watch(
    verifier: &Verifier,
    mut revoked: tokio::sync::mpsc::UnboundedReceiver<Revoked>,
) -> Vec<f64> {
    let (mut waiting, mut times, mut is_over) = (Vec::<Revoked>::new(), Vec::new(), false);
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !is_over || !waiting.is_empty() {
        looks.tick().await;
        loop {
            match revoked.try_recv() {
                Ok(one) => waiting.push(one),
                Err(cause) => {
                    is_over = cause == tokio::sync::mpsc::error::TryRecvError::Disconnected;
                    break;
                }
            }
        }
        waiting.retain(|one| {
            let is_refused = verifier.verify_held(&one.token).is_err();
            if is_refused {
                times.push(one.at.elapsed().as_secs_f64());
            }
            !is_refused
        });
    }
    times
}

fn tell(engine: &str, mut times: Vec<f64>, fetched: u64) {
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{engine:>10}  {} refusals: median {:.3} s, p99 {:.3} s, worst {:.3} s; {fetched} tokens meanwhile",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(at(100) < PROMISED, "the promise of docs/revocation.md");
}

/// One more node of an installation, which speaks TLS, and a client that trusts it.
struct Secured {
    address: String,
    running: Pinned,
    client: TlsConnector,
}

impl Secured {
    fn start(directory: &Path) -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(directory.join("server.pem"), cert.pem()).unwrap();
        std::fs::write(directory.join("server.key"), signing_key.serialize_pem()).unwrap();
        let address = free_address();
        let mut serve = tenmint(directory, None);
        serve.args(["serve", "--listen", &address, "--tls-certificate", "server.pem"]);
        serve.args(["--tls-private-key", "server.key"]).stdout(Stdio::null());
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // each as if it came for the first time
        client.resumption = Resumption::disabled();
        let client = TlsConnector::from(Arc::new(client));
        Self { address, running: Pinned::spawn("0,1", &serve), client }
    }

    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = connect_from_anywhere(&self.address).await?;
        self.client.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await
    }

    async fn wait_until_it_serves(&self) {
        let give_up = Instant::now() + Duration::from_mins(1);
        while let Err(cause) = self.connect().await {
            assert!(Instant::now() < give_up, "{} does not answer: {cause}", self.address);
            tokio::task::yield_now().await;
        }
    }
}

/// Many connections that wait at one node.
async fn wait_at<S>(how: &str, node: &Pinned, connect: impl AsyncFn() -> S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (before, began_with) = (node.resident(), node.processor_time());
    let mut waiting = Vec::with_capacity(WAITERS);
    for _ in 0..WAITERS {
        let mut stream = connect().await;
        let request =
            "GET /oauth/revocations?since=999999999&wait=60 HTTP/1.1\r\nHost: bench\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        waiting.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (all, used) = (node.resident(), node.processor_time());
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let each = |from: Duration, to: Duration| {
        (to.as_secs_f64() - from.as_secs_f64()) * 1e6 / WAITERS as f64
    };
    println!(
        "{WAITERS} wait, {how}: {:.0} MB in all, {:.1} KB each, {:.1} us of processor time each to come",
        mega(all),
        (all - before) as f64 / WAITERS as f64 / 1e3,
        each(began_with, used)
    );
    let asked = waiting.len();
    let mut answered = 0;
    let began = Instant::now();
    for mut stream in waiting {
        let mut start = [0; 12];
        if stream.read_exact(&mut start).await.is_ok() {
            answered += usize::from(&start == b"HTTP/1.1 304");
        }
    }
    println!(
        "{answered} of {asked} answered unchanged within {:.1} s, {:.1} us of processor time each",
        began.elapsed().as_secs_f64(),
        each(used, node.processor_time())
    );
}
