//! Nodes whose own clocks are a minute apart go by the time of the database.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tenmint::clock::{Clock, system_time};
use tenmint::service::node::SigningKeyConfig;

use crate::clients::{Clients, Issued};
use crate::cluster::{Cluster, Rules, token_of, until};
use crate::server::{Key, fresh_postgres};

const CLIENTS: usize = 3;
const ROTATIONS: usize = 3;
/// How far ahead and behind the clocks are.
const APART: i64 = 60_000;
/// Many verifiers refuse an `iat` that is further ahead.
const TOLERATED: i64 = 2_000;
/// A node compares its clock four times a second.
const NOTICED_WITHIN: i64 = 1_500;
/// A change holds everywhere within a second; here on a machine that is busy.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_clocks_are_a_minute_apart_rotate_revoke_and_issue_by_the_databases_time() {
    let Some(url) = fresh_postgres() else { return };
    let [publish_for, retire_for] = [Duration::from_secs(3), Duration::from_secs(4)];
    let signing_keys = SigningKeyConfig {
        rotate_every: Some(Some(publish_for)),
        publish_for: Some(publish_for),
        retire_for: Some(retire_for),
    };
    let mut cluster = Cluster::on(&url).await;
    let clocks = [APART, -APART, 0].map(|off| {
        let clock = Clock::system();
        clock.correct(off);
        clock
    });
    for clock in clocks.clone() {
        cluster.add(&url, clock, Rules { signing_keys, ..Rules::default() }).await;
    }
    let lag = Duration::from_millis(1_500);
    let uses = [publish_for - lag, retire_for - lag];
    let key = cluster.administrator.clone();
    let clients = Clients::new(cluster.addresses(), &cluster.issuer, key, uses);
    let working = clients.start(CLIENTS);
    let mut revoked = 0;
    for at in 0..clocks.len() {
        revoked += make_and_revoke(&cluster, at).await;
    }
    // a machine that was suspended finds itself behind
    let jumped_at = system_time().as_millis();
    clocks[2].correct(-APART);
    let rotated = async || clients.rotations() >= ROTATIONS;
    until("enough rotations", Duration::from_secs(90), rotated).await;
    clients.stop();
    working.join_all().await;
    let (tokens, refusals) =
        (clients.seen.tokens.lock().clone(), clients.seen.refusals.lock().clone());
    let off: Vec<_> = tokens.iter().filter(|token| is_off(token, jumped_at)).collect();
    println!(
        "{} rotations, {revoked} revocations heard, {} tokens, {} refusals, {} of another time",
        clients.rotations(),
        tokens.len(),
        refusals.len(),
        off.len(),
    );
    assert!(refusals.is_empty(), "{} refusals, first {:?}", refusals.len(), &refusals[0]);
    assert!(off.is_empty(), "{off:?}");
    assert!(tokens.len() >= 200, "{} tokens", tokens.len());
    drop(refusals);
    cluster.stop().await;
}

/// Whether a token says another time than that of the database, which runs on this machine. A node
/// that was thrown back may be behind until it has noticed, and is never ahead.
fn is_off(token: &Issued, jumped_at: i64) -> bool {
    let is_thrown_back =
        token.node == 2 && (jumped_at..jumped_at + NOTICED_WITHIN).contains(&token.answered_at);
    // `iat` has seconds, rounded down
    let is_behind = token.said_at + 1_000 + TOLERATED < token.asked_at;
    token.said_at > token.answered_at + TOLERATED || (is_behind && !is_thrown_back)
}

/// A key of one node, taken by all until it is revoked there. Says how many nodes heard of that.
async fn make_and_revoke(cluster: &Cluster, at: usize) -> usize {
    let key = cluster.api_key(at).await;
    for address in cluster.addresses() {
        until("a new key is taken", HEARD_WITHIN, async || status(address, &key).await == 200)
            .await;
    }
    let path = format!("/v1/keys/{}/revoke", key.id);
    let answer = cluster.call(at, "POST", &path, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for address in cluster.addresses() {
        let is_refused = async || status(address, &key).await == 401;
        until("a revoked key is refused", HEARD_WITHIN, is_refused).await;
        assert_eq!(status(address, &key).await, 401, "it does not come back");
    }
    cluster.nodes.len()
}

async fn status(address: SocketAddr, key: &Key) -> u16 {
    token_of(address, key).await.status
}
