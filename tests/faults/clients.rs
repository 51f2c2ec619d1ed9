//! Clients that fetch tokens from all nodes, and verifiers with a JWKS as old as it may be that see
//! each token twice: at once, and at the end of its use.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::Value;
use tenmint::clock::system_time;
use tenmint_verifier::{JwkSet, Verifier};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::{get, token_of};
use crate::server::{AUDIENCE, Answer, Key};

/// What a client waits between two tokens: it shall not be the load that breaks something.
const PAUSE: Duration = Duration::from_millis(10);
/// A second look that comes later than this says nothing about what was promised.
const LATE: Duration = Duration::from_millis(300);

/// What clients do.
pub struct Clients {
    pub nodes: Vec<SocketAddr>,
    pub issuer: String,
    pub key: Key,
    /// How long a verifier keeps a JWKS.
    pub jwks_for: Duration,
    /// When a token is used for the last time.
    pub used_for: Duration,
    pub seen: Seen,
    stopped: AtomicBool,
}

/// What they saw.
#[derive(Default)]
pub struct Seen {
    pub tokens: Mutex<Vec<Issued>>,
    /// Which keys signed.
    pub kids: Mutex<BTreeSet<String>>,
    /// Second looks, and those that came too late to count.
    pub again: Mutex<(usize, usize)>,
    pub refusals: Mutex<Vec<String>>,
}

/// When a token was issued, in milliseconds: by itself, and by the clock that all here share.
#[derive(Debug, Clone, Copy)]
pub struct Issued {
    pub node: usize,
    pub asked_at: i64,
    pub answered_at: i64,
    pub said_at: i64,
}

impl Clients {
    pub fn new(nodes: Vec<SocketAddr>, issuer: &str, key: Key, uses: [Duration; 2]) -> Arc<Self> {
        let [jwks_for, used_for] = uses;
        let (seen, stopped) = (Seen::default(), AtomicBool::new(false));
        Arc::new(Self { nodes, issuer: issuer.to_owned(), key, jwks_for, used_for, seen, stopped })
    }

    /// So many of them.
    pub fn start(self: &Arc<Self>, count: usize) -> JoinSet<()> {
        let mut working = JoinSet::new();
        for number in 0..count {
            working.spawn(self.clone().work(number));
        }
        working
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// How often another key began to sign.
    pub fn rotations(&self) -> usize {
        self.seen.kids.lock().len().saturating_sub(1)
    }

    async fn work(self: Arc<Self>, number: usize) {
        let mut held = Held::fetch(&self, number).await;
        let mut in_use = VecDeque::new();
        for round in number.. {
            let is_stopped = self.stopped.load(Ordering::Relaxed);
            if is_stopped && in_use.is_empty() {
                return;
            }
            if !is_stopped {
                let asked = Instant::now();
                if let Some(token) = self.fetch(round % self.nodes.len()).await {
                    self.verify(&mut held, round, &token).await;
                    in_use.push_back((asked, token));
                }
            }
            while let Some((asked, token)) =
                in_use.pop_front_if(|(asked, _)| asked.elapsed() >= self.used_for)
            {
                self.verify_again(&mut held, (round, asked), &token).await;
            }
            sleep(PAUSE).await;
        }
    }

    async fn fetch(&self, node: usize) -> Option<String> {
        let asked_at = system_time().as_millis();
        let answer = token_of(self.nodes[node], &self.key).await;
        if answer.status != 200 {
            self.refused(&format!("node {node}: {} {}", answer.status, answer.body));
            return None;
        }
        let answered_at = system_time().as_millis();
        let said_at = answer.claims()["iat"].as_i64().unwrap() * 1000;
        self.seen.tokens.lock().push(Issued { node, asked_at, answered_at, said_at });
        self.seen.kids.lock().insert(signed_by(&answer));
        Some(answer.token())
    }

    async fn verify(&self, held: &mut Held, round: usize, token: &str) {
        held.renew(self, round).await;
        if let Err(cause) = held.verifier.verify_held(token) {
            self.refused(&format!("{cause}, with a JWKS that is {:?} old", held.since.elapsed()));
        }
    }

    async fn verify_again(&self, held: &mut Held, (round, asked): (usize, Instant), token: &str) {
        held.renew(self, round).await;
        if asked.elapsed() > self.used_for + LATE {
            self.seen.again.lock().1 += 1;
            return;
        }
        self.seen.again.lock().0 += 1;
        if let Err(cause) = held.verifier.verify_held(token) {
            self.refused(&format!("{cause}, of a token that is {:?} old", asked.elapsed()));
        }
    }

    fn refused(&self, cause: &str) {
        self.seen.refusals.lock().push(cause.to_owned());
    }
}

/// A verifier that knows a JWKS of some time ago, and fetches no other before it is stale.
struct Held {
    since: Instant,
    verifier: Verifier,
}

impl Held {
    async fn fetch(clients: &Clients, node: usize) -> Self {
        // when it was asked for, since it may be of that moment
        let since = Instant::now();
        let address = clients.nodes[node % clients.nodes.len()];
        let jwks = get(address, "/.well-known/jwks.json").await;
        let keys = JwkSet::parse(jwks.body.as_bytes()).unwrap();
        // without a memory of tokens, each look is a look at the keys
        let builder = Verifier::builder(clients.issuer.as_str()).audience(AUDIENCE).cache(0);
        Self { since, verifier: builder.with_keys(keys).unwrap() }
    }

    async fn renew(&mut self, clients: &Clients, node: usize) {
        while self.since.elapsed() > clients.jwks_for {
            *self = Self::fetch(clients, node).await;
        }
    }
}

/// Which key signed the token of an answer.
pub fn signed_by(answer: &Answer) -> String {
    let token = answer.token();
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}
