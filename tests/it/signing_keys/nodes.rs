//! Many nodes: a step is taken once, and a key waits for all of them.

use std::time::Duration;

use serde_json::Value;
use tenmint::clock::Clock;
use tenmint::service::Service;
use tenmint::service::node::{Node, NodeConfig};
use tenmint::store::{Store, nodes};
use tokio::task::JoinSet;

use super::{DAY, HOUR, kid, kids, pass, rotate, signs_now};
use crate::api::good;
use crate::follow::other_process;
use crate::server::{Server, on_both_engines};

/// A node that was seen just now, and has applied this revision.
async fn seen(server: &Server, applied: i64) {
    let store = Store::open(&server.database).await.unwrap();
    let mut append = store.append().await.unwrap();
    nodes::upsert(&mut append, "another", applied, server.clock.now()).await.unwrap();
    append.commit().await.unwrap();
    store.close().await;
}

on_both_engines! {
    async fn a_key_never_signs_before_every_node_has_published_it(server: Server) {
        let (old, standby) = (kid(&server, "signing").await, kid(&server, "published").await);
        pass(&server, DAY).await;
        seen(&server, 0).await;
        let rotated = rotate(&server).await;
        assert_eq!(rotated["state"], "published");
        let warning = rotated["warnings"][0].as_str().unwrap();
        assert_eq!(warning, format!("{standby} signs as soon as every node has published it"));
        server.wind(HOUR).await;
        seen(&server, 0).await;
        pass(&server, Duration::ZERO).await;
        assert_eq!(signs_now(&server).await, old, "a node that was seen may serve without it");
        seen(&server, i64::MAX).await;
        pass(&server, Duration::ZERO).await;
        assert_eq!(signs_now(&server).await, standby);
    }

    async fn a_node_that_died_holds_a_rotation_up_no_longer_than_it_may_serve(server: Server) {
        let (old, standby) = (kid(&server, "signing").await, kid(&server, "published").await);
        pass(&server, DAY).await;
        seen(&server, 0).await;
        rotate(&server).await;
        // five minutes without the database, and one for the clocks
        pass(&server, Duration::from_mins(6)).await;
        assert_eq!(signs_now(&server).await, old);
        pass(&server, Duration::from_secs(1)).await;
        assert_eq!(signs_now(&server).await, standby);
    }

    async fn a_node_that_starts_is_waited_for_and_one_that_stopped_is_not(server: Server) {
        pass(&server, DAY).await;
        let directory = tempfile::tempdir().unwrap();
        let service = other_process(&server).await;
        let node = Node::start(service, NodeConfig::in_directory(directory.path())).await.unwrap();
        let store = Store::open(&server.database).await.unwrap();
        let applied = async |since| nodes::applied_everywhere(&mut *store.read().await.unwrap(), since).await.unwrap();
        let now = server.clock.now();
        assert!(applied(now - DAY).await.is_some_and(|lowest| lowest > 0), "both have told");
        // the other node does not follow: it stays where it is
        let behind = applied(now - DAY).await.unwrap();
        let old = kid(&server, "signing").await;
        good(&server, "POST", "/v1/installation/signing-keys/rotate", serde_json::json!({"algorithm": "EdDSA"})).await;
        pass(&server, DAY + Duration::from_secs(1)).await;
        node.follower.catch_up().await.unwrap();
        pass(&server, Duration::ZERO).await;
        assert!(applied(now - DAY).await.unwrap() > behind);
        assert_ne!(kid(&server, "signing").await, old);
        let behind = node.mint.index().revision().unwrap();
        node.stop().await;
        pass(&server, Duration::from_secs(10)).await;
        assert!(applied(now).await.unwrap() >= behind, "nobody waits for a node that has stopped");
    }

    async fn nodes_that_look_at_the_same_time_take_each_step_once(server: Server) {
        let standby = kid(&server, "published").await;
        server.wind(90 * DAY).await;
        let mut all: Vec<Service> = Vec::new();
        for _ in 0..8 {
            all.push(other_process(&server).await.with_schedule(server.service.schedule()));
        }
        let mut looking = JoinSet::new();
        for service in all {
            looking.spawn(async move {
                let result = service.take_due_steps().await;
                service.close().await;
                result
            });
        }
        while let Some(looked) = looking.join_next().await {
            looked.unwrap().unwrap();
        }
        server.follower.catch_up().await.unwrap();
        assert_eq!(kid(&server, "signing").await, standby);
        assert_eq!(kids(&server, "published").await.len(), 1);
        let path = "/v1/installation/audit?action=signing_key.";
        let audit = good(&server, "GET", path, Value::Null).await;
        let actions: Vec<&str> =
            audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["signing_key.publish", "signing_key.sign"]);
    }

    async fn nodes_whose_clocks_are_apart_undo_no_step_of_each_other(server: Server) {
        let (signing, standby) = (kid(&server, "signing").await, kid(&server, "published").await);
        let keys_dir = server.directory.path().join("keys");
        let ahead = Clock::wound(server.clock.now() + Duration::from_mins(1));
        let other = Service::open(&server.database, &keys_dir, ahead.clone()).await.unwrap();
        let other = other.with_schedule(server.service.schedule());
        // due by the one clock, and not yet by the other
        let almost = 90 * DAY - Duration::from_secs(30);
        server.wind(almost).await;
        ahead.wind(almost);
        server.service.take_due_steps().await.unwrap();
        assert_eq!(signs_now(&server).await, signing);
        other.take_due_steps().await.unwrap();
        for _ in 0..2 {
            server.service.take_due_steps().await.unwrap();
            server.follower.catch_up().await.unwrap();
            assert_eq!(kid(&server, "signing").await, standby, "a clock that is behind undoes no step");
            assert_eq!(signs_now(&server).await, standby);
            server.wind(Duration::from_mins(1)).await;
        }
        other.close().await;
    }
}
