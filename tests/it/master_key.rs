//! One master key after another, and no client notices.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tenmint::clock::Clock;
use tenmint::error::Error;
use tenmint::model::signing_key::RotateSigningKey;
use tenmint::service::Service;
use tenmint::service::doctor::examine;
use tenmint::service::signing_keys::Asker;
use tenmint::store::DatabaseUrl;

use crate::restore::back_up;
use crate::server::{Server, on_both_engines};

/// A directory with one master key in it.
fn with_key(from: &Path) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(from, directory.path().join("master.key")).unwrap();
    directory
}

async fn opens(server: &Server, keys_dir: &Path) -> Result<(), Error> {
    let service = Service::open(&server.database, keys_dir, server.clock.clone()).await?;
    service.close().await;
    Ok(())
}

/// Whether every signing key is one that this key directory opens.
async fn every_signing_key(server: &Server, keys_dir: &Path) -> Result<(), String> {
    every_signing_key_of(&server.database, keys_dir).await
}

async fn every_signing_key_of(database: &DatabaseUrl, keys_dir: &Path) -> Result<(), String> {
    let (findings, service) = examine(database, keys_dir).await;
    service.unwrap().close().await;
    let found = findings.into_iter().find(|finding| finding.check == "signing keys");
    found.unwrap().result.map(drop)
}

/// Another master key, as an operator makes it.
async fn rotate(service: &Service) {
    service.prepare_master_key().unwrap();
    service.rotate_master_key().await.unwrap();
}

on_both_engines! {
    async fn another_master_key_takes_over_while_a_node_serves(server: Server) {
        let keys_dir = server.directory.path().join("keys");
        let before = with_key(&keys_dir.join("master.key"));
        let key = server.api_key("chat").await;
        rotate(&server.service).await;
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        assert!(opens(&server, &keys_dir).await.is_ok());
        let after = with_key(&keys_dir.join("master.key"));
        assert!(opens(&server, after.path()).await.is_ok(), "the new one is enough");
        let refused = opens(&server, before.path()).await.unwrap_err().to_string();
        assert!(refused.contains("is not the one of this database"), "{refused}");
        // what is made from now on is wrapped by it too
        server.wind(Duration::from_hours(24)).await;
        server.service.rotate_signing_key(Asker::Operator, RotateSigningKey::default()).await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        assert_eq!(every_signing_key(&server, after.path()).await, Ok(()));
    }

    async fn a_node_that_has_the_next_key_beside_its_own_follows_without_a_restart(server: Server) {
        let keys_dir = server.directory.path().join("keys");
        let key = server.api_key("chat").await;
        // another machine, with a copy of the key directory
        let elsewhere = with_key(&keys_dir.join("master.key"));
        let other = Service::open(&server.database, elsewhere.path(), server.clock.clone()).await.unwrap();
        let next = other.prepare_master_key().unwrap();
        std::fs::copy(&next, keys_dir.join("master.key.next")).unwrap();
        other.rotate_master_key().await.unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        // and what this node makes is wrapped by the new one
        server.wind(Duration::from_hours(24)).await;
        server.service.rotate_signing_key(Asker::Operator, RotateSigningKey::default()).await.unwrap();
        let alone = with_key(&elsewhere.path().join("master.key"));
        assert_eq!(every_signing_key(&server, alone.path()).await, Ok(()));
    }

    async fn a_node_without_the_next_key_says_so_and_issues_nothing_under_old_rules(server: Server) {
        let keys_dir = server.directory.path().join("keys");
        let elsewhere = with_key(&keys_dir.join("master.key"));
        let other = Service::open(&server.database, elsewhere.path(), server.clock.clone()).await.unwrap();
        rotate(&other).await;
        let refused = server.follower.catch_up().await.unwrap_err().to_string();
        assert!(refused.contains("is not the one of this database"), "{refused}");
        std::fs::copy(elsewhere.path().join("master.key"), keys_dir.join("master.key.next")).unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&server.administrator, "").await.outcome(), "200");
    }

    async fn a_backup_of_before_opens_as_long_as_the_old_key_is_kept_and_not_without_it(server: Server) {
        let mut server = server;
        let keys_dir = server.directory.path().join("keys");
        let (copy, _directory) = back_up(&server).await;
        rotate(&server.service).await;
        server.stop().await;
        let open = async |keys_dir: &Path| {
            Service::open(&copy, keys_dir, server.clock.clone()).await.map(drop)
        };
        let alone = with_key(&keys_dir.join("master.key"));
        let refused = open(alone.path()).await.unwrap_err().to_string();
        assert!(refused.contains("is not the one of this database"), "{refused}");
        // beside it, the old one is kept
        open(&keys_dir).await.unwrap();
        assert_eq!(every_signing_key_of(&copy, &keys_dir).await, Ok(()));
    }

    async fn a_rotation_that_was_interrupted_is_made_again(server: Server) {
        let keys_dir = server.directory.path().join("keys");
        let old = std::fs::read(keys_dir.join("master.key")).unwrap();
        rotate(&server.service).await;
        // as if it had ended between the commit and the renaming
        std::fs::rename(keys_dir.join("master.key"), keys_dir.join("master.key.next")).unwrap();
        std::fs::rename(keys_dir.join("master.key.old"), keys_dir.join("master.key")).unwrap();
        assert_eq!(std::fs::read(keys_dir.join("master.key")).unwrap(), old);
        let service = Service::open(&server.database, &keys_dir, Clock::system()).await.unwrap();
        service.rotate_master_key().await.unwrap();
        assert_ne!(std::fs::read(keys_dir.join("master.key")).unwrap(), old);
        assert!(!keys_dir.join("master.key.next").exists());
        assert!(opens(&server, with_key(&keys_dir.join("master.key")).path()).await.is_ok());
    }
    async fn a_rotation_to_a_key_that_no_other_node_can_have_is_refused(server: Server) {
        let keys_dir = server.directory.path().join("keys");
        let mut held = std::fs::read(keys_dir.join("master.key")).unwrap();
        for what in ["without a next key", "and once all is done"] {
            let refused = server.service.rotate_master_key().await.unwrap_err().to_string();
            assert!(refused.contains("hint: make it with `tenmint master-key new`"), "{what}: {refused}");
            assert_eq!(std::fs::read(keys_dir.join("master.key")).unwrap(), held, "{what}");
            rotate(&server.service).await;
            held = std::fs::read(keys_dir.join("master.key")).unwrap();
        }
    }
}
