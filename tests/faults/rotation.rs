//! Signing keys take turns on three nodes that race for each step, and nobody notices.

use std::time::Duration;

use tenmint::clock::Clock;
use tenmint::service::node::SigningKeyConfig;

use crate::clients::Clients;
use crate::cluster::{Cluster, Rules, until};
use crate::server::fresh_postgres;

const CLIENTS: usize = 6;
const ROTATIONS: usize = 6;
/// How long a change takes to be on all nodes, on a machine that is busy: a JWKS may lack a key for so
/// long after it was published, and a key may sign for so long after its turn.
const LAG: Duration = Duration::from_millis(1_500);
/// Shorter than a key is published: that alone decides when it signs.
const ROTATE_EVERY: Duration = Duration::from_secs(1);
const PUBLISH_FOR: Duration = Duration::from_secs(3);
const RETIRE_FOR: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_refused_while_signing_keys_take_turns_on_three_nodes_under_load() {
    let Some(url) = fresh_postgres() else { return };
    let signing_keys = SigningKeyConfig {
        rotate_every: Some(Some(ROTATE_EVERY)),
        publish_for: Some(PUBLISH_FOR),
        retire_for: Some(RETIRE_FOR),
    };
    let mut cluster = Cluster::on(&url).await;
    for _ in 0..3 {
        cluster.add(&url, Clock::system(), Rules { signing_keys, ..Rules::default() }).await;
    }
    let uses = [PUBLISH_FOR - LAG, RETIRE_FOR - LAG];
    let key = cluster.administrator.clone();
    let clients = Clients::new(cluster.addresses(), &cluster.issuer, key, uses);
    let working = clients.start(CLIENTS);
    let took = until("enough rotations", Duration::from_secs(90), async || {
        clients.rotations() >= ROTATIONS
    })
    .await;
    clients.stop();
    working.join_all().await;
    let (tokens, refusals) =
        (clients.seen.tokens.lock().len(), clients.seen.refusals.lock().clone());
    let (again, late) = *clients.seen.again.lock();
    println!(
        "{} rotations in {took:?}, {tokens} tokens, {again} of them seen again at their end \
         ({late} too late), {} refusals",
        clients.rotations(),
        refusals.len(),
    );
    assert!(refusals.is_empty(), "{} refusals, first {:?}", refusals.len(), &refusals[0]);
    assert!(tokens >= 500 && again * 2 >= tokens, "{tokens} tokens, {again} seen again");
    cluster.stop().await;
}
