//! A node is cut off from the database while others rotate and revoke: it goes on for as long as it
//! may, then refuses as its own fault, and comes back under the new rules by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tenmint::clock::Clock;
use tenmint::model::signing_key::RotateSigningKey;
use tenmint::model::token_id::TokenId;
use tenmint::service::node::SigningKeyConfig;
use tenmint::service::signing_keys::Asker;
use tenmint_verifier::{Verifier, VerifyError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::clients::signed_by;
use crate::cluster::{
    Cluster, Rules, get, hold_to_ledger, id_of, made, new_key, readiness, token_of, until,
};
use crate::network::{Forwarder, Network};
use crate::server::{AUDIENCE, Answer, Key, fresh_postgres};

/// Longer than the five seconds after which a node calls itself degraded.
const SERVE_FOR: Duration = Duration::from_secs(15);
/// What a busy machine adds to a moment, and polls take from it.
const MARGIN: Duration = Duration::from_millis(1_500);
const PATIENCE: Duration = Duration::from_secs(40);
/// Nodes of the cluster: two that go on, and the one that is cut off.
const HERE: usize = 0;
const THERE: usize = 1;
const CUT_OFF: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_connections_end_serves_as_long_as_it_may_and_comes_back_by_itself() {
    cut_off_by(Network::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_network_swallows_serves_as_long_as_it_may_and_comes_back_by_itself() {
    cut_off_by(Network::Swallowing).await;
}

async fn cut_off_by(fault: Network) {
    let Some(url) = fresh_postgres() else { return };
    let (cluster, forwarder) = start(&url).await;
    let (lasting, doomed) = (cluster.api_key(HERE).await, cluster.api_key(HERE).await);
    let at = cluster.nodes[CUT_OFF].address;
    for key in [&lasting, &doomed] {
        until("a new key is taken", PATIENCE, async || token_of(at, key).await.status == 200).await;
    }
    let verifier = Verifier::builder(cluster.issuer.as_str()).audience(AUDIENCE).remote().unwrap();
    verifier.ready(PATIENCE).await.unwrap();
    let clients = Clients::of(at, [&lasting, &doomed]);
    let working = clients.start();
    let are_at_work = async || clients.newest(true).is_some() && clients.newest(false).is_some();
    until("both clients have a token", PATIENCE, are_at_work).await;

    let cut_at = Instant::now();
    forwarder.turn(fault);
    let revoked_at = revoke_and_rotate(&cluster, &doomed).await;
    tokio::join!(
        writes_are_refused(&cluster, &lasting),
        becomes(at, "200 degraded"),
        hears_of(&verifier, &clients),
        is_sent_off(at),
    );
    becomes(at, "503 not_ready").await;
    let refused = async || token_of(at, &lasting).await.outcome() == "503 temporarily_unavailable";
    until("tokens are refused", PATIENCE, refused).await;

    let healed_at = Instant::now();
    forwarder.turn(Network::Open);
    let back = until("the node is ready again", PATIENCE, async || {
        readiness(at).await == "200 ready" && token_of(at, &lasting).await.status == 200
    })
    .await;
    serves_under_the_new_rules(&cluster, &lasting, &doomed).await;
    clients.stopped.store(true, Ordering::Relaxed);
    working.join_all().await;
    let heard = std::mem::take(&mut *clients.heard.lock());
    served_as_long_as_it_might(&heard, [cut_at, revoked_at, healed_at]);
    let void = judged_by(&verifier, &heard, revoked_at).await;
    let ids: Vec<TokenId> = heard.iter().filter_map(|heard| heard.id).collect();
    let recorded = hold_to_ledger(&cluster.nodes[HERE].service, &ids).await;
    println!(
        "{fault:?}: {} tokens of the node, {recorded} on record in all, {void} void after the \
         revocation, {} refused meanwhile, back after {back:?}",
        ids.len(),
        heard.len() - ids.len(),
    );
    cluster.stop().await;
}

/// Two nodes beside the database, and one behind a network.
async fn start(url: &str) -> (Cluster, Forwarder) {
    let (before, place) = url.split_once('@').unwrap();
    let (database, name) = place.split_once('/').unwrap();
    let forwarder = Forwarder::to(database.parse().unwrap()).await;
    let through = format!("{before}@{}/{name}", forwarder.address);
    let signing_keys = SigningKeyConfig {
        rotate_every: Some(None),
        publish_for: Some(Duration::ZERO),
        retire_for: None,
    };
    let mut cluster = Cluster::on(url).await;
    for url in [url, url, &through] {
        cluster.add(url, Clock::system(), Rules { serve_for: SERVE_FOR, signing_keys }).await;
    }
    (cluster, forwarder)
}

/// What the other nodes do meanwhile: the moment from which the key is revoked.
async fn revoke_and_rotate(cluster: &Cluster, doomed: &Key) -> Instant {
    let path = format!("/v1/keys/{}/revoke", doomed.id);
    let answer = cluster.call(HERE, "POST", &path, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let revoked_at = Instant::now();
    // the standby was published on all nodes before
    let service = &cluster.nodes[THERE].service;
    service.rotate_signing_key(Asker::Operator, RotateSigningKey::default()).await.unwrap();
    let signs = async || {
        let mut kids = Vec::new();
        for at in [HERE, THERE, CUT_OFF] {
            let answer = token_of(cluster.nodes[at].address, &cluster.administrator).await;
            kids.push(signed_by(&answer));
        }
        kids[HERE] == kids[THERE] && kids[HERE] != kids[CUT_OFF]
    };
    until("the others sign with another key", PATIENCE, signs).await;
    revoked_at
}

/// Management writes at the node are its own fault, and store nothing.
async fn writes_are_refused(cluster: &Cluster, lasting: &Key) {
    let revoke = format!("/v1/keys/{}/revoke", lasting.id);
    let (create, body) = ("/v1/keys", new_key("never"));
    let (created, revoked) = tokio::join!(
        cluster.call(CUT_OFF, "POST", create, &body),
        cluster.call(CUT_OFF, "POST", &revoke, &Value::Null),
    );
    for answer in [created, revoked] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
}

async fn becomes(at: SocketAddr, status: &str) {
    until(status, PATIENCE, async || readiness(at).await == status).await;
}

/// Who waits for the feed there is not held: another node may know more.
async fn is_sent_off(at: SocketAddr) {
    let wait = format!("/oauth/revocations?since={}&wait=60", i64::MAX);
    let (began, answer) = (Instant::now(), get(at, &wait).await);
    assert_eq!((answer.status, answer.header("connection")), (304, Some("close")), "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(40), "held for {:?}", began.elapsed());
}

/// A verifier that follows the feed refuses what the node goes on to issue for the revoked key.
async fn hears_of(verifier: &Verifier, clients: &Clients) {
    let refuses = async || {
        let newest = clients.newest(true).unwrap();
        verifier.verify(&newest).await.is_err()
    };
    until("the feed voids the tokens of the revoked key", Duration::from_secs(5), refuses).await;
}

async fn serves_under_the_new_rules(cluster: &Cluster, lasting: &Key, doomed: &Key) {
    let (here, there) = (cluster.nodes[HERE].address, cluster.nodes[CUT_OFF].address);
    assert_eq!(token_of(there, doomed).await.outcome(), "401 invalid_client");
    let [one, other] = [token_of(here, lasting).await, token_of(there, lasting).await];
    assert_eq!(signed_by(&one), signed_by(&other));
    let written = cluster.call(CUT_OFF, "POST", "/v1/keys", &new_key("after")).await;
    let key = made(&written).unwrap_or_else(|| panic!("{written:?}"));
    assert_eq!(token_of(there, &key).await.status, 200);
    let list = cluster.call(HERE, "GET", "/v1/keys?limit=100", &Value::Null).await.json();
    let keys = list["items"].as_array().unwrap();
    let named = |name: &str| keys.iter().filter(|key| key["name"] == name).count();
    assert_eq!((named("never"), named("after")), (0, 1), "what was refused is not stored");
}

/// What a client was answered.
struct Heard {
    asked_at: Instant,
    answered_at: Instant,
    is_doomed: bool,
    outcome: String,
    token: Option<String>,
    id: Option<TokenId>,
}

/// Clients of the node that is cut off: one of a key that lasts, one of a key that others revoke.
struct Clients {
    at: SocketAddr,
    keys: [Key; 2],
    heard: Mutex<Vec<Heard>>,
    stopped: AtomicBool,
}

impl Clients {
    fn of(at: SocketAddr, keys: [&Key; 2]) -> Arc<Self> {
        let (heard, stopped) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { at, keys: keys.map(Key::clone), heard, stopped })
    }

    fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut working = JoinSet::new();
        for is_doomed in [false, true] {
            working.spawn(self.clone().work(is_doomed));
        }
        working
    }

    async fn work(self: Arc<Self>, is_doomed: bool) {
        while !self.stopped.load(Ordering::Relaxed) {
            let asked_at = Instant::now();
            let answer = token_of(self.at, &self.keys[usize::from(is_doomed)]).await;
            self.heard.lock().push(Heard::of(&answer, asked_at, is_doomed));
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The newest token of a key.
    fn newest(&self, is_doomed: bool) -> Option<String> {
        let heard = self.heard.lock();
        let mut of_key = heard.iter().rev().filter(|heard| heard.is_doomed == is_doomed);
        of_key.find_map(|heard| heard.token.clone())
    }
}

impl Heard {
    fn of(answer: &Answer, asked_at: Instant, is_doomed: bool) -> Self {
        let is_token = answer.status == 200;
        Self {
            asked_at,
            answered_at: Instant::now(),
            is_doomed,
            outcome: answer.outcome(),
            token: is_token.then(|| answer.token()),
            id: is_token.then(|| id_of(answer)),
        }
    }
}

/// Tokens for `serve_for` and none after it, until the network is back.
fn served_as_long_as_it_might(heard: &[Heard], [cut_at, revoked_at, healed_at]: [Instant; 3]) {
    let mut after_the_revocation = 0;
    for heard in heard {
        let at = heard.asked_at.saturating_duration_since(cut_at);
        let is_healed = heard.answered_at > healed_at;
        let is_known = !is_healed || !heard.is_doomed;
        match heard.outcome.as_str() {
            "200" => assert!(is_healed || at < SERVE_FOR + MARGIN, "a token after {at:?}"),
            "503 temporarily_unavailable" => {
                assert!(heard.answered_at > cut_at + SERVE_FOR - MARGIN, "no token after {at:?}");
            }
            outcome => assert!(!is_known, "{outcome} after {at:?}"),
        }
        let is_token_of_doomed = heard.is_doomed && heard.token.is_some();
        after_the_revocation += usize::from(is_token_of_doomed && heard.asked_at > revoked_at);
    }
    assert!(after_the_revocation > 10, "it goes on for what it knows: {after_the_revocation}");
}

/// Every token of the key that lasts is accepted, and none of the one that was revoked. Says how many
/// were issued after the revocation.
async fn judged_by(verifier: &Verifier, heard: &[Heard], revoked_at: Instant) -> usize {
    let mut void = 0;
    for heard in heard {
        let Some(token) = &heard.token else { continue };
        let judged = verifier.verify(token).await;
        if heard.is_doomed {
            assert!(matches!(judged, Err(VerifyError::InvalidToken(_))), "of a revoked key");
            void += usize::from(heard.asked_at > revoked_at);
        } else {
            assert!(judged.is_ok(), "{:?}", judged.err());
        }
    }
    void
}
