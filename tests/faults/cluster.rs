//! Nodes on one PostgreSQL, each with a clock, a data directory, connections and an address of its
//! own, and the clients that call them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tenmint::clock::Clock;
use tenmint::http::{self, HttpConfig, listener};
use tenmint::model::id::OrgId;
use tenmint::model::ledger::RecordedFact;
use tenmint::model::token_id::TokenId;
use tenmint::service::Service;
use tenmint::service::init::{CreateInstallation, create_installation};
use tenmint::service::ledger::search::Search;
use tenmint::service::node::{Node, NodeConfig, SigningKeyConfig};
use tenmint::store::DatabaseUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::server::{AUDIENCE, Answer, Key, basic};

/// How often a node looks whether a signing key has its turn: far more often than it does in the
/// field, so that nodes race for each step.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a condition is looked at.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(20);

/// An installation, and the nodes that serve it.
pub struct Cluster {
    directory: TempDir,
    /// Where the first node will listen, which is the issuer.
    first: Option<TcpListener>,
    pub issuer: String,
    pub org: OrgId,
    pub administrator: Key,
    pub nodes: Vec<Running>,
}

/// A node that serves.
pub struct Running {
    pub address: SocketAddr,
    pub service: Service,
    node: Node,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _directory: TempDir,
}

/// How the nodes are set up.
#[derive(Clone, Copy)]
pub struct Rules {
    pub serve_for: Duration,
    pub signing_keys: SigningKeyConfig,
}

impl Default for Rules {
    fn default() -> Self {
        Self { serve_for: Duration::from_mins(5), signing_keys: SigningKeyConfig::default() }
    }
}

impl Cluster {
    /// An installation without nodes, in a new database.
    pub async fn on(url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", first.local_addr().unwrap());
        let ask = CreateInstallation {
            issuer: issuer.clone(),
            audience: Some(AUDIENCE.to_owned()),
            ..CreateInstallation::default()
        };
        let (database, keys_dir) =
            (DatabaseUrl::parse(url).unwrap(), directory.path().join("keys"));
        let created =
            create_installation(&database, &keys_dir, &Clock::system(), &ask).await.unwrap();
        let (org, administrator) = (created.org.id, Key::of(created.api_key));
        Self { directory, first: Some(first), issuer, org, administrator, nodes: Vec::new() }
    }

    /// One more node, which reaches the database at this URL.
    pub async fn add(&mut self, url: &str, clock: Clock, rules: Rules) {
        let listener = match self.first.take() {
            Some(first) => first,
            None => TcpListener::bind("127.0.0.1:0").await.unwrap(),
        };
        let directory = tempfile::tempdir().unwrap();
        let keys_dir = self.directory.path().join("keys");
        let database = DatabaseUrl::parse(url).unwrap();
        let service = Service::open(&database, &keys_dir, clock).await.unwrap();
        let Rules { serve_for, signing_keys } = rules;
        let config =
            NodeConfig { serve_for, signing_keys, ..NodeConfig::in_directory(directory.path()) };
        let mut node = Node::start(service, config).await.unwrap();
        start_work(&mut node);
        let (address, face) =
            (listener.local_addr().unwrap(), http::public_face(&node, HttpConfig::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            listener::serve(listener, face, async { drop(stopped.await) }).await;
        });
        let service = node.service.clone();
        self.nodes.push(Running { address, service, node, stop, serving, _directory: directory });
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// A management call at a node.
    pub async fn call(&self, at: usize, method: &str, path: &str, body: &Value) -> Answer {
        call(self.nodes[at].address, &self.administrator, (method, path), body).await
    }

    /// A new API key, made at a node.
    pub async fn api_key(&self, at: usize) -> Key {
        let answer = self.call(at, "POST", "/v1/keys", &new_key("app")).await;
        made(&answer).unwrap_or_else(|| panic!("{answer:?}"))
    }

    /// Stops the nodes, and gives what they were asked to finish the time it takes.
    pub async fn stop(self) {
        for running in self.nodes {
            drop(running.stop);
            timeout(PATIENCE, running.serving).await.expect("stops in time").unwrap();
            running.node.stop().await;
        }
    }
}

/// What `tenmint serve` does beside requests, with signing keys looked after in a hurry.
fn start_work(node: &mut Node) {
    node.follow();
    node.lease();
    node.write_usage();
    node.keep_ledger();
    let service = node.service.clone();
    node.work_on(async move {
        let mut ticks = interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            // a look that fails is taken again, as a node does
            drop(service.take_due_steps().await);
        }
    });
}

pub fn new_key(name: &str) -> Value {
    json!({"name": name, "scopes": ["chat"]})
}

/// The key that an answer made.
pub fn made(answer: &Answer) -> Option<Key> {
    if answer.status != 201 {
        return None;
    }
    let body = answer.json();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    Some(Key { id: text("id").parse().unwrap(), text: text("api_key") })
}

/// A management call with a key; without a body where that is `null`.
pub async fn call(
    address: SocketAddr,
    key: &Key,
    (method, path): (&str, &str),
    body: &Value,
) -> Answer {
    let head = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", key.text);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(address, (method, path), &head, &body).await
}

/// What a node answers to a key that asks for a token.
pub async fn token_of(address: SocketAddr, key: &Key) -> Answer {
    let authorization = basic(&key.id.to_string(), &key.text);
    let head = format!(
        "Authorization: {authorization}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    );
    send(address, ("POST", "/oauth/token"), &head, "grant_type=client_credentials").await
}

/// What a node says of itself.
pub async fn readiness(address: SocketAddr) -> String {
    let answer = get(address, "/readyz").await;
    format!("{} {}", answer.status, answer.json()["status"].as_str().unwrap_or_default())
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, ("GET", path), "", "").await
}

async fn send(address: SocketAddr, (method, path): (&str, &str), head: &str, body: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {}\r\n{head}\r\n{body}",
        body.len()
    );
    let answered = timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        Answer::parse(&answer)
    });
    answered.await.unwrap_or_else(|_| panic!("{method} {path}: no answer within {PATIENCE:?}"))
}

/// Looks again and again until it holds, and says how long that took.
pub async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let since = Instant::now();
    let looking = async {
        while !holds().await {
            sleep(POLL_EVERY).await;
        }
    };
    assert!(timeout(within, looking).await.is_ok(), "not within {within:?}: {what}");
    since.elapsed()
}

/// The id of the token of an answer.
pub fn id_of(answer: &Answer) -> TokenId {
    answer.claims()["jti"].as_str().unwrap().parse().unwrap()
}

/// Holds what clients received to the ledger: each once, nothing changed, nothing taken out. Says how
/// many are on record.
pub async fn hold_to_ledger(service: &Service, received: &[TokenId]) -> usize {
    let ledger = service.read_ledger().await.unwrap();
    let mut recorded = BTreeMap::new();
    // what a node kept for the database comes there within its next looks
    until("every token that was received is on record", PATIENCE, async || {
        recorded.clear();
        let give = |facts: Vec<RecordedFact>| {
            facts.iter().for_each(|fact| *recorded.entry(fact.token_id).or_insert(0) += 1);
            true
        };
        ledger.export(&Search::default(), give).await.unwrap();
        received.iter().all(|id| recorded.contains_key(id))
    })
    .await;
    let twice = recorded.values().filter(|count| **count > 1).count();
    assert_eq!(twice, 0, "recorded more than once");
    let reports = service.verify_ledger(&ledger, &[]).await.unwrap();
    assert!(reports.iter().all(|report| report.fault.is_none()), "{reports:?}");
    recorded.len()
}
