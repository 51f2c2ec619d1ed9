//! PostgreSQL is stopped, crashes and freezes under load: no client notices more than a 503, and
//! nothing that was answered is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tenmint::clock::Clock;
use tenmint::model::id::ApiKeyId;
use tenmint::model::time::Timestamp;
use tenmint::model::token_id::TokenId;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use crate::cluster::{
    Cluster, Rules, call, get, hold_to_ledger, id_of, made, new_key, readiness, token_of, until,
};
use crate::postgres::Postgres;
use crate::server::{Answer, Key, operator};

/// Rounds of all faults; `tests/run --long` asks for more.
fn rounds() -> usize {
    std::env::var("TENMINT_FAULT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Tokens that are fetched while the database is gone, before it comes back.
const TOKENS_MEANWHILE: usize = 60;
/// How long the database is gone at least.
const GONE_FOR: Duration = Duration::from_millis(1_200);
/// What verifiers and whoever watches a node go on to ask for.
const NEEDS_NO_DATABASE: [&str; 5] = [
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
    "/oauth/revocations",
    "/healthz",
    "/readyz",
];
const CLIENTS_PER_NODE: usize = 2;
const WRITERS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
enum Fault {
    Stop,
    Crash,
    Freeze,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_answered_is_lost_when_postgresql_is_stopped_crashes_and_freezes() {
    let Some(postgres) = Postgres::start() else { return };
    let mut cluster = Cluster::on(&postgres.url()).await;
    for _ in 0..2 {
        cluster.add(&postgres.url(), Clock::system(), Rules::default()).await;
    }
    let load = Arc::new(Load::of(&cluster));
    let working = load.start(&cluster);
    for _ in 0..rounds() {
        for fault in [Fault::Stop, Fault::Crash, Fault::Freeze] {
            suffer(&postgres, fault, &load, &cluster).await;
        }
    }
    load.stopped.store(true, Ordering::Relaxed);
    working.join_all().await;
    let wrong = load.wrong.lock();
    assert!(wrong.is_empty(), "{} wrong answers, first {:?}", wrong.len(), &wrong[0]);
    let tokens = load.tokens.lock();
    let recorded = hold_to_ledger(&cluster.nodes[0].service, &tokens).await;
    let writes = load.writes.lock();
    writes_are_there(&cluster, &writes).await;
    let unavailable = *load.unavailable.lock();
    println!(
        "{} rounds, {} tokens received, {recorded} on record, {} keys made, {} of them revoked, \
         503 for {} writes and for {} tokens of keys that were just written",
        rounds(),
        tokens.len(),
        writes.created.len(),
        writes.revoked.len(),
        unavailable.writes,
        unavailable.tokens_of_written,
    );
    assert_eq!(unavailable.tokens, 0, "tokens that were refused, and nobody wrote to their key");
    drop((wrong, tokens, writes));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_to_stop_ends_though_its_database_is_frozen() {
    let Some(postgres) = Postgres::start() else { return };
    let mut cluster = Cluster::on(&postgres.url()).await;
    cluster.add(&postgres.url(), Clock::system(), Rules::default()).await;
    let (address, key) = (cluster.addresses()[0], cluster.api_key(0).await);
    assert_eq!(token_of(address, &key).await.status, 200);
    block_in_place(|| postgres.freeze());
    // its record waits for the database in a file of the node
    assert_eq!(token_of(address, &key).await.status, 200);
    let (began, ended) = (Instant::now(), timeout(PATIENCE, cluster.stop()).await);
    println!("a node whose database is frozen ends after {:?}", began.elapsed());
    block_in_place(|| postgres.thaw());
    assert!(ended.is_ok(), "it waits for its database for ever");
}

/// One fault: tokens flow on without the database, and all does once it is back.
async fn suffer(postgres: &Postgres, fault: Fault, load: &Load, cluster: &Cluster) {
    block_in_place(|| match fault {
        Fault::Stop => postgres.stop(),
        Fault::Crash => postgres.crash(),
        Fault::Freeze => postgres.freeze(),
    });
    let before = load.tokens.lock().len();
    let enough = async || load.tokens.lock().len() >= before + TOKENS_MEANWHILE;
    let (_, slowest) = tokio::join!(
        until("tokens flow without the database", PATIENCE, enough),
        needs_no_database(cluster)
    );
    println!("{fault:?}: what needs no database is answered after {slowest:?} at most");
    block_in_place(|| match fault {
        Fault::Stop | Fault::Crash => postgres.start_again(),
        Fault::Freeze => postgres.thaw(),
    });
    let before = load.writes.lock().created.len();
    let back = until("all nodes are ready and one writes again", PATIENCE, async || {
        for address in cluster.addresses() {
            if readiness(address).await != "200 ready" {
                return false;
            }
        }
        load.writes.lock().created.len() > before
    })
    .await;
    println!("{fault:?}: all nodes are ready and one writes again after {back:?}");
}

/// What each node answers all the same, as long as the database is gone, and after what time at most.
async fn needs_no_database(cluster: &Cluster) -> Duration {
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < GONE_FOR {
        for address in cluster.addresses() {
            for path in NEEDS_NO_DATABASE {
                let asked = Instant::now();
                assert_eq!(get(address, path).await.status, 200, "{path}");
                slowest = slowest.max(asked.elapsed());
            }
        }
    }
    slowest
}

/// Whatever was acknowledged holds.
async fn writes_are_there(cluster: &Cluster, writes: &Writes) {
    assert!(writes.revoked.len() >= rounds(), "{} revocations", writes.revoked.len());
    let service = &cluster.nodes[0].service;
    let actor = operator(cluster.org);
    for (list, status) in [(&writes.created, "active"), (&writes.revoked, "revoked")] {
        for key in list {
            let stored = service.get_api_key(&actor, cluster.org, &key.id).await.unwrap();
            let is_asked = status == "active" && writes.asked.contains(&key.id);
            let shown = stored.status(Timestamp::from_millis(i64::MAX / 2)).as_str();
            assert!(is_asked || shown == status, "{} is {shown}", key.id);
        }
    }
}

/// What clients do all the time, and what they were answered.
struct Load {
    key: Key,
    administrator: Key,
    tokens: Mutex<Vec<TokenId>>,
    writes: Mutex<Writes>,
    unavailable: Mutex<Unavailable>,
    /// Answers that nobody should ever get.
    wrong: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// What was refused as the fault of the service.
#[derive(Debug, Clone, Copy, Default)]
struct Unavailable {
    writes: usize,
    /// Tokens of keys that nobody writes to.
    tokens: usize,
    /// Tokens of keys that were just written.
    tokens_of_written: usize,
}

/// Management writes that were acknowledged.
#[derive(Default)]
struct Writes {
    created: Vec<Key>,
    revoked: Vec<Key>,
    /// Keys whose revocation was asked for, acknowledged or not.
    asked: Vec<ApiKeyId>,
}

impl Load {
    fn of(cluster: &Cluster) -> Self {
        Self {
            key: cluster.administrator.clone(),
            administrator: cluster.administrator.clone(),
            tokens: Mutex::default(),
            writes: Mutex::default(),
            unavailable: Mutex::default(),
            wrong: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    fn start(self: &Arc<Self>, cluster: &Cluster) -> JoinSet<()> {
        let mut working = JoinSet::new();
        let addresses = cluster.addresses();
        for address in &addresses {
            for _ in 0..CLIENTS_PER_NODE {
                working.spawn(self.clone().fetch(*address));
            }
        }
        for _ in 0..WRITERS {
            working.spawn(self.clone().write(addresses[0]));
        }
        working
    }

    async fn fetch(self: Arc<Self>, address: SocketAddr) {
        while !self.stopped.load(Ordering::Relaxed) {
            if self.token(address, &self.key, 200).await == 503 {
                self.unavailable.lock().tokens += 1;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Makes keys, and revokes every other.
    async fn write(self: Arc<Self>, address: SocketAddr) {
        for round in 0_usize.. {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            if let Some(key) = self.create(address).await {
                self.token_of_written(address, &key, 200).await;
                if round.is_multiple_of(2) && self.revoke(address, &key).await {
                    self.token_of_written(address, &key, 401).await;
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn create(&self, address: SocketAddr) -> Option<Key> {
        let asked = ("POST", "/v1/keys");
        let answer = call(address, &self.administrator, asked, &new_key("app")).await;
        let key = made(&answer);
        match &key {
            Some(key) => self.writes.lock().created.push(key.clone()),
            None => self.expect(&answer, 201),
        }
        key
    }

    async fn revoke(&self, address: SocketAddr, key: &Key) -> bool {
        self.writes.lock().asked.push(key.id);
        let path = format!("/v1/keys/{}/revoke", key.id);
        let answer = call(address, &self.administrator, ("POST", &path), &Value::Null).await;
        self.expect(&answer, 200);
        let is_revoked = answer.status == 200;
        if is_revoked {
            self.writes.lock().revoked.push(key.clone());
        }
        is_revoked
    }

    /// A write that a node cannot read back has what it touched refused for as long.
    async fn token_of_written(&self, address: SocketAddr, key: &Key, expected: u16) {
        if self.token(address, key, expected).await == 503 {
            self.unavailable.lock().tokens_of_written += 1;
        }
    }

    async fn token(&self, address: SocketAddr, key: &Key, expected: u16) -> u16 {
        let answer = token_of(address, key).await;
        if answer.status != 503 {
            self.expect(&answer, expected);
        }
        if answer.status == 200 {
            self.tokens.lock().push(id_of(&answer));
        }
        answer.status
    }

    /// An answer is what was asked for, or says that the database is gone.
    fn expect(&self, answer: &Answer, expected: u16) {
        if answer.status == 503 {
            self.unavailable.lock().writes += 1;
        } else if answer.status != expected {
            self.wrong.lock().push(format!("{answer:?} instead of {expected}"));
        }
    }
}
