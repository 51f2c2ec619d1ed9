//! A restore of an older backup brings nothing back that has ended for ever.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenmint::clock::Clock;
use tenmint::mint::{Caller, ClientCredential, HeardFeed, Refused, TokenRequest};
use tenmint::model::import::{ImportApiKeys, ImportFormat};
use tenmint::model::secret::PlainSecret;
use tenmint::model::signing_key::SigningKeyState;
use tenmint::service::Service;
use tenmint::service::audit::AuditFilter;
use tenmint::service::node::{Node, NodeConfig};
use tenmint::service::signing_keys::Asker;
use tenmint::store::{DatabaseUrl, Store, changes};

use crate::api::{good, key, member, user_key};
use crate::cli::{Home, Serving, free_address, stderr};
use crate::import::{Running, sha256};
use crate::kill::hold_files_whole;
use crate::leaks::column;
use crate::nodes::send;
use crate::server::{
    Engine, Key, Server, Setup, asked, basic, fresh_postgres, on_both_engines, operator,
};
use crate::signing_keys::import::p256;

/// A copy of the database of a server, as it is now.
pub async fn back_up(server: &Server) -> (DatabaseUrl, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let Some(url) = &server.postgres else {
        let place = directory.path().join("copy");
        let files = server.service.back_up(&place).await.unwrap();
        assert_eq!(files.len(), 2, "the ledger is copied too: {files:?}");
        return (DatabaseUrl::in_directory(&place), directory);
    };
    let copy = fresh_postgres().unwrap();
    let mut dump = Command::new("pg_dump").arg(url).stdout(Stdio::piped()).spawn().unwrap();
    let restored = Command::new("psql")
        .args([&copy, "-q", "-v", "ON_ERROR_STOP=1"])
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status();
    assert!(restored.unwrap().success() && dump.wait().unwrap().success());
    (DatabaseUrl::parse(&copy).unwrap(), directory)
}

/// A node that serves from a database that was restored, with the journal of the server.
async fn node_on(server: &Server, database: &DatabaseUrl) -> Node {
    node_in(server.directory.path(), server, database).await
}

/// A node with a journal and a spool in a directory of its own.
async fn node_in(directory: &Path, server: &Server, database: &DatabaseUrl) -> Node {
    let keys_dir = server.directory.path().join("keys");
    let service = Service::open(database, &keys_dir, server.clock.clone()).await.unwrap();
    Node::start(service, NodeConfig::in_directory(directory)).await.unwrap()
}

/// Why a key gets no token, if it gets none.
fn refused(node: &Node, server: &Server, key: &Key) -> Option<Refused> {
    let client = ClientCredential::bare(PlainSecret::new(key.text.clone()));
    let request = TokenRequest { client, ..TokenRequest::default() };
    let from = Caller { address: Some([127, 0, 0, 1].into()), user_agent: None };
    node.mint.issue(&request, from, server.clock.now()).err()
}

/// What a node tells a verifier that has heard nothing.
fn feed_of(node: &Node, server: &Server) -> Value {
    let feed = node.mint.signed_feed(&HeardFeed::default(), server.clock.now()).unwrap();
    let claims = std::str::from_utf8(&feed.text).unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// The journal of revocations of a server.
fn journal_of(server: &Server) -> PathBuf {
    server.directory.path().join("revocations.journal")
}

/// A key of an import is revoked and the database restored: the import that comes again does not bring it back.
async fn import_again_after_a_restore(mut server: Server, another_journal: bool) {
    let (copy, _directory) = back_up(&server).await;
    let [revoked, alive] = ["leaked", "kept"];
    let file = [revoked, alive].map(|text| format!("{text},{},chat\n", sha256(text))).concat();
    let file = format!("name,digest,scopes\n{file}");
    let ask = ImportApiKeys { format: ImportFormat::Csv, atomic: false };
    let mut running = Running::begin(&server.service, server.call(), ask);
    running.send(&file).await;
    let lines = running.lines(2).await;
    assert_eq!(running.end().await.unwrap().summary.created, 2);
    server.revoke(&lines[0].id.unwrap()).await;
    server.stop().await;
    if another_journal {
        std::fs::remove_file(journal_of(&server)).unwrap();
        node_on(&server, &server.database).await.stop().await;
    }
    let node = node_on(&server, &copy).await;
    let mut running = Running::begin(&node.service, server.call(), ask);
    running.send(&file).await;
    let lines = running.lines(2).await;
    assert_eq!(lines[0].errors[0].message, "the key of this digest has ended, for ever");
    assert_eq!(running.end().await.unwrap().summary.created, 1, "the other one is made anew");
    node.stop().await;
}

/// The end of keys comes earlier than a backup knows, and the backup is restored. Where the node is killed at
/// once, its journal does not know either.
async fn end_earlier_and_restore(mut server: Server, killed: bool) {
    let other = server.api_key("chat").await;
    server.revoke(&other.id).await;
    let noted = std::fs::read(journal_of(&server)).unwrap();
    assert!(!noted.is_empty());
    let (refreshed, edited) = (server.api_key("chat").await, server.api_key("chat").await);
    let (copy, _directory) = back_up(&server).await;
    let path = |key: &Key| format!("/v1/keys/{}", key.id);
    let refresh = json!({"grace_period_seconds": 60});
    good(&server, "POST", &format!("{}/refresh", path(&refreshed)), refresh).await;
    good(&server, "PATCH", &path(&edited), json!({"expires_at": "1m"})).await;
    server.stop().await;
    if killed {
        std::fs::write(journal_of(&server), noted).unwrap();
        node_on(&server, &server.database).await.stop().await;
    }
    let node = node_on(&server, &copy).await;
    for key in [&refreshed, &edited] {
        assert_eq!(refused(&node, &server, key), None, "its end has not come");
    }
    server.clock.wind(Duration::from_mins(1));
    node.follower.catch_up().await.unwrap();
    for key in [&refreshed, &edited] {
        assert_eq!(refused(&node, &server, key), Some(Refused::Replaced));
    }
    node.stop().await;
}

on_both_engines! {
    async fn no_revoked_key_comes_back_with_an_older_backup(server: Server) {
        let mut server = server;
        let mut ended = Vec::new();
        for _ in 0..20 {
            ended.push(server.api_key("chat").await);
        }
        let alive = server.api_key("chat").await;
        let (copy, _directory) = back_up(&server).await;
        for key in &ended[..10] {
            server.revoke(&key.id).await;
        }
        for key in &ended[10..] {
            good(&server, "DELETE", &format!("/v1/keys/{}", key.id), Value::Null).await;
        }
        server.stop().await;
        let node = node_on(&server, &copy).await;
        for key in &ended {
            assert_eq!(refused(&node, &server, key), Some(Refused::Revoked));
        }
        assert_eq!(refused(&node, &server, &alive), None);
        node.stop().await;
        // and they stay so for a node without a journal
        let elsewhere = tempfile::tempdir().unwrap();
        let node = node_in(elsewhere.path(), &server, &copy).await;
        assert_eq!(refused(&node, &server, &ended[0]), Some(Refused::Revoked));
        node.stop().await;
    }

    async fn no_key_comes_back_that_ended_with_its_owner_or_its_space(server: Server) {
        let mut server = server;
        good(&server, "POST", "/v1/spaces", json!({"slug": "gone"})).await;
        let user = member(&server, "gone@example.com", "member").await;
        let of_bot = server.api_key("chat").await;
        let of_user = user_key(&server, &user, Some("read:org/*")).await;
        let of_space = key(&server, json!({"space": "gone", "scopes": ["chat"]})).await;
        let refreshed = server.api_key("chat").await;
        let bot = server.shown(&of_bot.id).await.owner;
        let (copy, _directory) = back_up(&server).await;
        for path in [format!("bots/{bot}"), format!("users/{user}"), "spaces/gone".to_owned()] {
            good(&server, "DELETE", &format!("/v1/{path}"), Value::Null).await;
        }
        good(&server, "POST", &format!("/v1/keys/{}/refresh", refreshed.id), json!({})).await;
        server.stop().await;
        let node = node_on(&server, &copy).await;
        for key in [&of_bot, &of_user, &of_space, &refreshed] {
            assert_eq!(refused(&node, &server, key), Some(Refused::Revoked), "{}", key.id);
        }
        node.stop().await;
    }

    async fn an_import_that_comes_again_brings_no_revoked_key_back_either(server: Server) {
        import_again_after_a_restore(server, false).await;
    }

    async fn a_journal_that_was_begun_after_a_revocation_holds_an_import_to_it_too(server: Server) {
        import_again_after_a_restore(server, true).await;
    }

    async fn a_node_that_goes_on_while_its_database_is_restored_brings_nothing_back(server: Server) {
        let key = server.api_key("chat").await;
        server.revoke(&key.id).await;
        restore_to(&server, &["UPDATE api_keys SET revoked_at = NULL", "DELETE FROM revocations"], 1).await;
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.description(), "the API key was revoked");
        assert!(server.shown(&key.id).await.revoked_at.is_some(), "and in the database too");
        let path = format!("/v1/audit?object={}", key.id);
        let audit = good(&server, "GET", &path, Value::Null).await;
        assert_eq!(audit["items"][0]["action"], "api_key.revoke_again");
        assert_eq!(server.token(&server.administrator, "").await.status, 200);
    }

    async fn a_restore_that_takes_longer_than_a_look_may_is_gone_on_with_by_the_next_one(server: Server) {
        let mut keys = Vec::new();
        // more than two writes of a hundred each
        for _ in 0..230 {
            keys.push(server.api_key("chat").await);
            server.revoke(&keys.last().unwrap().id).await;
        }
        restore_to(&server, &["UPDATE api_keys SET revoked_at = NULL", "DELETE FROM revocations"], 1).await;
        let mut cut_short = 0;
        while !look_until_it_has_written(&server).await {
            cut_short += 1;
            assert!(cut_short < 20, "it begins from the start each time");
        }
        assert!(cut_short > 0);
        for key in [&keys[0], &keys[229]] {
            assert_eq!(server.token(key, "").await.description(), "the API key was revoked");
        }
        let ended = column(&server, "SELECT object FROM audit WHERE action = 'api_key.revoke_again'").await;
        let told_once = ended.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!((ended.len(), told_once), (230, 230), "each of them once");
    }

    async fn no_replaced_secret_comes_back_with_an_older_backup(server: Server) {
        let mut server = server;
        let (at_once, in_grace) = (server.api_key("chat").await, server.api_key("chat").await);
        let (copy, _directory) = back_up(&server).await;
        let rotate = async |key: &Key, grace: u64| {
            let path = format!("/v1/keys/{}/rotate", key.id);
            good(&server, "POST", &path, json!({"grace_period_seconds": grace})).await;
        };
        rotate(&at_once, 0).await;
        rotate(&in_grace, 60).await;
        server.stop().await;
        let node = node_on(&server, &copy).await;
        assert_eq!(refused(&node, &server, &at_once), Some(Refused::Replaced));
        assert_eq!(refused(&node, &server, &in_grace), None, "its grace is not over");
        let void = feed_of(&node, &server)["void"].clone();
        assert_eq!(void.as_array().map(Vec::len), Some(1), "verifiers hear of what is over: {void}");
        server.clock.wind(Duration::from_mins(1));
        node.follower.catch_up().await.unwrap();
        assert_eq!(refused(&node, &server, &in_grace), Some(Refused::Replaced));
        node.stop().await;
    }

    async fn no_key_lives_on_with_an_older_backup_whose_end_came_earlier_since(server: Server) {
        Box::pin(end_earlier_and_restore(server, false)).await;
    }

    async fn what_a_killed_node_did_not_come_to_noting_is_noted_by_its_next_run(server: Server) {
        Box::pin(end_earlier_and_restore(server, true)).await;
    }

    async fn a_key_that_ends_by_itself_is_no_sign_of_a_restore(server: Server) {
        let mut server = server;
        let key = server.api_key("chat").await;
        good(&server, "PATCH", &format!("/v1/keys/{}", key.id), json!({"expires_at": "1m"})).await;
        let (copy, _directory) = back_up(&server).await;
        server.stop().await;
        server.clock.wind(Duration::from_mins(1));
        let node = node_on(&server, &copy).await;
        assert_eq!(refused(&node, &server, &key), Some(Refused::Expired));
        node.follower.catch_up().await.unwrap();
        let (operator, org) = (operator(server.org.id), Some(server.org.id));
        let ask = AuditFilter { org, object: Some(key.id.to_string()), ..AuditFilter::default() };
        let (entries, _) = node.service.list_audit(&operator, &ask, (9, None)).await.unwrap();
        assert_eq!(entries.first().map(|entry| entry.action.as_str()), Some("api_key.edit"));
        node.stop().await;
    }

    async fn no_withdrawn_signing_key_comes_back_with_an_older_backup(server: Server) {
        let mut server = server;
        let leaked = signing(&server).await;
        let key = server.api_key("chat").await;
        let (copy, _directory) = back_up(&server).await;
        good(&server, "POST", &format!("/v1/installation/signing-keys/{leaked}/withdraw"), Value::Null).await;
        server.stop().await;
        let node = node_on(&server, &copy).await;
        let jwks = String::from_utf8(node.mint.public_keys().document.to_vec()).unwrap();
        assert!(!jwks.contains(&leaked), "{jwks}");
        assert_eq!(refused(&node, &server, &key), None, "the standby signs");
        assert_eq!(feed_of(&node, &server)["kids"], json!([leaked]));
        node.stop().await;
    }

    async fn no_withdrawn_signing_key_comes_back_by_an_import_after_a_restore(server: Server) {
        let mut server = server;
        let (copy, _directory) = back_up(&server).await;
        let pem = p256();
        server.service.import_signing_key(&pem, Some("first")).await.unwrap();
        server.service.withdraw_signing_key(Asker::Operator, "first").await.unwrap();
        server.stop().await;
        let node = node_on(&server, &copy).await;
        for (pem, kid) in [(&pem, "second"), (&p256(), "first")] {
            node.service.import_signing_key(pem, Some(kid)).await.unwrap();
            for _ in 0..2 {
                node.follower.catch_up().await.unwrap();
            }
            let all = node.service.list_signing_keys(None).await.unwrap();
            let imported = all.iter().find(|key| key.kid.as_str() == kid).unwrap();
            assert_eq!(imported.state, SigningKeyState::Withdrawn, "{kid}");
        }
        let key = Key::of(node.service.create_api_key(&server.call(), asked("chat")).await.unwrap().after);
        assert_eq!(refused(&node, &server, &key), None, "others sign");
        node.stop().await;
    }

    async fn verifiers_follow_a_database_that_went_back_in_time(server: Server) {
        let mut server = server;
        let key = server.api_key("chat").await;
        let (copy, _directory) = back_up(&server).await;
        for _ in 0..5 {
            let ended = server.api_key("chat").await;
            server.revoke(&ended.id).await;
        }
        let before = server.mint.feed().etag();
        let (epoch, revision) = before.trim_matches('"').rsplit_once('.').unwrap();
        server.stop().await;
        let node = node_on(&server, &copy).await;
        assert!(node.mint.index().revision().unwrap() > revision.parse().unwrap());
        let after = node.mint.feed().etag();
        assert_ne!(after.trim_matches('"').rsplit_once('.').unwrap().0, epoch, "revisions of two epochs do not compare");
        assert_eq!(refused(&node, &server, &key), None);
        node.stop().await;
    }

    async fn every_node_reads_anew_when_one_of_them_saw_the_database_go_back(server: Server) {
        let elsewhere = tempfile::tempdir().unwrap();
        let other = node_in(elsewhere.path(), &server, &server.database).await;
        let lost = server.api_key("chat").await;
        other.follower.catch_up().await.unwrap();
        assert_eq!(refused(&other, &server, &lost), None);
        // a replica that took over and lacks the key; revisions are up to where both nodes were
        restore_to(&server, &["DELETE FROM api_key_secrets"], 1).await;
        server.follower.catch_up().await.unwrap();
        other.follower.catch_up().await.unwrap();
        assert_eq!(refused(&other, &server, &lost), Some(Refused::UnknownClient));
        let epoch = |etag: String| etag.rsplit_once('.').unwrap().0.to_owned();
        assert_eq!(epoch(server.mint.feed().etag()), epoch(other.mint.feed().etag()));
        other.stop().await;
    }

    async fn a_backup_that_lacks_changes_alone_begins_another_epoch_too(server: Server) {
        let mut server = server;
        let key = server.api_key("chat").await;
        let (copy, _directory) = back_up(&server).await;
        // nothing of this ends for ever
        let path = format!("/v1/keys/{}", key.id);
        good(&server, "PATCH", &path, json!({"scopes": ["chat", "a:x"]})).await;
        let before = server.mint.feed().etag();
        let revision = server.mint.index().revision().unwrap();
        server.stop().await;
        let node = node_on(&server, &copy).await;
        assert!(node.mint.index().revision().unwrap() > revision);
        let epoch = |etag: &str| etag.rsplit_once('.').unwrap().0.to_owned();
        assert_ne!(epoch(&node.mint.feed().etag()), epoch(&before));
        node.stop().await;
    }
}

/// Looks at the database, and is cut short after a write. Says whether it came to its end before.
async fn look_until_it_has_written(server: &Server) -> bool {
    let store = Store::open(&server.database).await.unwrap();
    let revision =
        async || changes::progress(&mut store.read().await.unwrap()).await.unwrap().revision;
    let before = revision().await;
    tokio::select! {
        looked = server.follower.catch_up() => looked.map(|()| true).unwrap(),
        () = async { while revision().await <= before {} } => false,
    }
}

/// What a restore under a running node comes to, to so many revisions before.
async fn restore_to(server: &Server, statements: &[&'static str], revisions: i64) {
    let store = Store::open(&server.database).await.unwrap();
    let mut append = store.append().await.unwrap();
    for statement in statements {
        sqlx::query(*statement).execute(&mut *append).await.unwrap();
    }
    sqlx::query("UPDATE installation SET revision = revision - $1")
        .bind(revisions)
        .execute(&mut *append)
        .await
        .unwrap();
    append.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_signing_key_that_a_restore_brings_back_signs_nothing_even_before_it_is_ended()
{
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let key = server.api_key("chat").await;
    let leaked = signing(&server).await;
    let path = format!("/v1/installation/signing-keys/{leaked}/withdraw");
    good(&server, "POST", &path, Value::Null).await;
    assert_eq!(server.token(&key, "").await.status, 200);
    restore_to(
        &server,
        &[
            "UPDATE signing_keys SET signing_at = NULL WHERE withdrawn_at IS NULL",
            "UPDATE signing_keys SET withdrawn_at = NULL, withdrawn_revision = NULL, retiring_at = NULL,
             retired_at = NULL WHERE withdrawn_at IS NOT NULL",
            // and it cannot be ended again either
            "CREATE TRIGGER stuck BEFORE UPDATE ON signing_keys BEGIN SELECT RAISE(FAIL, 'stuck'); END",
        ],
        3,
    )
    .await;
    assert!(server.follower.catch_up().await.is_err());
    let jwks = server.get("/.well-known/jwks.json").await;
    assert!(!jwks.body.contains(&leaked), "{}", jwks.body);
    assert_eq!(server.token(&key, "").await.status, 503);
}

/// The `kid` of the key that signs.
async fn signing(server: &Server) -> String {
    let keys = good(server, "GET", "/v1/installation/signing-keys", Value::Null).await;
    let signing = keys["items"].as_array().unwrap().iter().find(|key| key["state"] == "signing");
    signing.unwrap()["kid"].as_str().unwrap().to_owned()
}

/// Copies the database of a home while something is done again and again.
fn back_up_under_load(home: &Home, load: impl Fn() + Sync) {
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                load();
                made.fetch_add(1, Ordering::Relaxed);
            }
        });
        while made.load(Ordering::Relaxed) < 3 {
            std::thread::yield_now();
        }
        let before = made.load(Ordering::Relaxed);
        back_up_by_docs(home);
        while made.load(Ordering::Relaxed) < before + 3 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Runs a command of `docs/operating.md` as it stands there, the one that begins so, on the database of a home.
fn run_from_docs(home: &Home, begins: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let page = std::fs::read_to_string(page).unwrap();
    let command = page.lines().find(|line| line.starts_with(begins)).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).current_dir(home.path());
    let ran = shell.env("URL", home.database_url.as_ref().unwrap()).output().unwrap();
    assert!(ran.status.success(), "{command}: {}", stderr(&ran));
}

fn back_up_by_docs(home: &Home) {
    if home.database_url.is_some() {
        return run_from_docs(home, "pg_dump ");
    }
    let backup = home.run(&["backup", "monday"]);
    assert!(backup.status.success(), "{}", stderr(&backup));
}

fn restore_by_docs(home: &Home) {
    if home.database_url.is_some() {
        return run_from_docs(home, "pg_restore ");
    }
    let data = home.path().join("data");
    std::fs::copy(home.path().join("monday/tenmint.db"), data.join("tenmint.db")).unwrap();
    for rest in ["tenmint.db-wal", "tenmint.db-shm"] {
        let _ = std::fs::remove_file(data.join(rest));
    }
}

/// Whether the copies of a home are whole, that of the ledger with each token of the chains in it.
async fn hold_to_be_whole(home: &Home) {
    let copies = home.path().join("monday");
    hold_files_whole(&copies).await;
    let url = DatabaseUrl::in_directory(&copies);
    let service = Service::open(&url, &home.path().join("keys"), Clock::system()).await.unwrap();
    let ledger = service.read_ledger().await.unwrap();
    let reports = service.verify_ledger(&ledger, &[]).await.unwrap();
    assert!(!reports.is_empty() && reports.iter().all(|report| report.fault.is_none()));
}

#[tokio::test]
async fn a_copy_that_was_made_while_a_node_serves_is_restored_by_the_steps_of_the_docs() {
    for home in Home::on_each_engine() {
        back_up_and_restore(&home).await;
    }
}

async fn back_up_and_restore(home: &Home) {
    let address = free_address();
    let admin = home.init(&format!("http://{address}"))["api_key"]["api_key"].clone();
    let admin = admin.as_str().unwrap();
    let serve = || Serving::start(home, &["--listen", &address]);
    let token = |api_key: &str| {
        let form = "grant_type=client_credentials";
        let head = format!(
            "Authorization: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            basic("", api_key)
        );
        send(&address, "POST", "/oauth/token", &head, form).status
    };
    let head = format!("Authorization: Bearer {admin}\r\nContent-Type: application/json\r\n");
    let create = || {
        let made =
            send(&address, "POST", "/v1/keys", &head, r#"{"name": "app", "scopes": ["chat"]}"#);
        assert_eq!(made.status, 201, "{made:?}");
        let made = made.json();
        [&made["id"], &made["api_key"]].map(|field| field.as_str().unwrap().to_owned())
    };
    let serving = serve();
    let keys: Vec<[String; 2]> = (0..40).map(|_| create()).collect();
    back_up_under_load(home, || {
        create();
        assert_eq!(token(admin), 200);
    });
    let (revoked, kept) = keys.split_at(20);
    for [id, _] in revoked {
        assert_eq!(
            send(&address, "POST", &format!("/v1/keys/{id}/revoke"), &head, "{}").status,
            200
        );
    }
    serving.stop();
    if home.database_url.is_none() {
        hold_to_be_whole(home).await;
    }
    restore_by_docs(home);
    let serving = serve();
    assert!(revoked.iter().all(|[_, api_key]| token(api_key) == 401), "none of 20 comes back");
    assert!(kept.iter().all(|[_, api_key]| token(api_key) == 200));
    serving.stop();
    let verified = home.run(&["ledger", "verify"]);
    if home.database_url.is_none() {
        assert!(verified.status.success(), "{}", stderr(&verified));
    } else {
        // the ledger went back with the database, and nobody may take that for nothing
        assert!(stderr(&verified).contains("was seen to reach batch"), "{}", stderr(&verified));
    }
}
