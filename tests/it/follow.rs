//! A node follows its database: what others write holds here, in the order it was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tenmint::error::Error;
use tenmint::model::api_key::CreateApiKey;
use tenmint::model::role::BindRole;
use tenmint::model::space::{CreateSpace, EditSpace};
use tenmint::service::Service;
use tenmint::service::roles::BoundAt;
use tenmint::store::Store;
use tenmint::store::changes::{self, Subject};
use tenmint::store::idempotency;
use tokio::time::timeout;

use crate::oauth::post_form;
use crate::server::{Engine, Key, Server, Setup, asked, on_both_engines};

/// What another process would hold: its own connections to the same database.
pub async fn other_process(server: &Server) -> Service {
    let keys_dir = server.directory.path().join("keys");
    Service::open(&server.database, &keys_dir, server.clock.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_when_something_that_it_does_beside_requests_has_panicked() {
    let mut server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let mut node = server.node.take().unwrap();
    let mut failure = Box::pin(node.failure());
    node.work_on(async {});
    assert!(timeout(Duration::from_millis(50), failure.as_mut()).await.is_err(), "it only ended");
    node.work_on(async { panic!("on purpose") });
    timeout(Duration::from_secs(20), failure).await.unwrap();
    node.stop().await;
}

on_both_engines! {
    async fn a_key_that_another_process_made_or_revoked_is_followed(server: Server) {
        let other = other_process(&server).await;
        let ask = asked("chat");
        let created = other.create_api_key(&server.call(), ask).await.unwrap();
        let key = Key::of(created.after);
        assert_eq!(server.token(&key, "").await.description(), "the API key is not known");
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        other.revoke_api_key(&server.call(), &key.id).await.unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.description(), "the API key was revoked");
    }

    async fn a_token_carries_the_revision_that_was_applied(server: Server) {
        let key = server.api_key("chat").await;
        let before = server.token(&key, "").await.claims()["rev"].as_i64().unwrap();
        let other = other_process(&server).await;
        other.revoke_api_key(&server.call(), &server.administrator.id).await.unwrap();
        assert_eq!(server.token(&key, "").await.claims()["rev"], before, "not applied yet");
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.claims()["rev"], before + 1);
    }

    async fn a_role_in_a_deleted_space_holds_nothing_from_then_on(server: Server) {
        let (service, call) = (&server.service, server.call());
        let ask = CreateSpace { slug: Some("alpha".to_owned()), name: None };
        service.create_space(&call, ask).await.unwrap();
        let key = server.create(CreateApiKey::default()).await;
        let bot = server.shown(&key.id).await.owner.to_string();
        let ask = BindRole { role: Some("member".to_owned()) };
        service.bind_role(&call, (&bot, BoundAt::Space("alpha")), ask).await.unwrap();
        let scope = "scope=write:spaces/alpha/x";
        assert_eq!(server.token(&key, scope).await.outcome(), "200");
        service.delete_space(&call, "alpha").await.unwrap();
        assert_eq!(server.token(&key, scope).await.outcome(), "400 invalid_scope");
        assert_eq!(server.token(&key, "scope=read:org/*").await.outcome(), "200");
    }

    async fn a_suspended_owner_or_organization_stops_its_keys_and_lets_them_go_on(server: Server) {
        let key = server.api_key("chat").await;
        let bot = server.shown(&key.id).await.owner.to_string();
        let other = other_process(&server).await;
        let call = server.call();
        for suspend in [true, false] {
            let expected = if suspend { "401 invalid_client" } else { "200" };
            other.suspend_bot(&call, &bot, suspend).await.unwrap();
            server.follower.catch_up().await.unwrap();
            assert_eq!(server.token(&key, "").await.outcome(), expected);
            assert_eq!(server.token(&server.administrator, "").await.outcome(), "200");
        }
        let (second, key) = server.second_org("second").await;
        for suspend in [true, false] {
            let expected = if suspend { "401 invalid_client" } else { "200" };
            other.suspend_org(&call, &second.to_string(), suspend).await.unwrap();
            server.follower.catch_up().await.unwrap();
            assert_eq!(server.token(&key, "").await.outcome(), expected);
            assert_eq!(server.token(&server.administrator, "").await.outcome(), "200");
        }
        let own = other.suspend_org(&call, "default", true).await;
        assert!(matches!(own, Err(Error::Conflict("last_admin", _))), "who would let it go on");
    }

    async fn a_node_whose_changes_were_pruned_reads_everything_anew(server: Server) {
        let other = other_process(&server).await;
        let ask = asked("chat");
        let created = other.create_api_key(&server.call(), ask).await.unwrap();
        let key = Key::of(created.after);
        let store = Store::open(&server.database).await.unwrap();
        let mut write = store.begin().await.unwrap();
        changes::prune(&mut write, server.clock.now() + Duration::from_secs(1)).await.unwrap();
        write.commit().await.unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "200");
    }

    async fn what_is_no_longer_needed_is_deleted(server: Server) {
        let path = "/v1/keys";
        let body = json!({"name": "app", "scopes": ["chat"]}).to_string();
        let bearer = format!("Bearer {}", server.administrator.text);
        let headers = [
            ("Authorization", &*bearer), ("Content-Type", "application/json"), ("Idempotency-Key", "once"),
        ];
        assert_eq!(server.send("POST", path, &headers, body.as_bytes()).await.status, 201);
        let store = Store::open(&server.database).await.unwrap();
        let left = async || {
            let mut read = store.read().await.unwrap();
            let changes = changes::list_after(&mut read, 0).await.unwrap().len();
            (idempotency::count(&mut read).await.unwrap(), changes > 0)
        };
        server.follower.prune().await.unwrap();
        assert_eq!(left().await, (1, true), "not before its time");
        server.clock.wind(Duration::from_hours(25));
        server.follower.prune().await.unwrap();
        assert_eq!(left().await, (0, false));
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&server.administrator, "").await.outcome(), "200");
    }

    async fn a_role_bears_on_all_who_have_it_however_many(server: Server) {
        let (service, call) = (&server.service, server.call());
        let ask = json!({"name": "reader", "level": "organization", "scopes": ["read:a/*"]});
        let role = server.api(&server.administrator, "POST", "/v1/roles", ask).await.json();
        let role = role["id"].as_str().unwrap().to_owned();
        let mut keys = Vec::new();
        for _ in 0..40 {
            let key = server.create(CreateApiKey::default()).await;
            let bot = server.shown(&key.id).await.owner.to_string();
            let ask = BindRole { role: Some(role.clone()) };
            service.bind_role(&call, (&bot, BoundAt::Organization), ask).await.unwrap();
            keys.push(key);
        }
        let (path, ask) = (format!("/v1/roles/{role}"), json!({"scopes": ["read:b/*"]}));
        let edited = server.api(&server.administrator, "PATCH", &path, ask).await;
        assert_eq!(edited.status, 200, "{}", edited.body);
        for key in &keys {
            assert_eq!(server.token(key, "scope=read:b/x").await.outcome(), "200");
            assert_eq!(server.token(key, "scope=read:a/x").await.outcome(), "400 invalid_scope");
        }
    }

    async fn a_database_that_went_back_in_time_is_raised_above_what_was_seen(server: Server) {
        let key = server.api_key("chat").await;
        // as if this node had seen a thousand revisions that a restore took away
        server.mint.index().apply(Vec::new(), 1_000, server.clock.now());
        server.follower.catch_up().await.unwrap();
        assert!(server.mint.index().revision().unwrap() > 1_000);
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        let other = other_process(&server).await;
        other.revoke_api_key(&server.call(), &key.id).await.unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "401 invalid_client");
    }

    async fn past_the_time_that_is_allowed_without_database_the_node_refuses_as_its_own_fault(server: Server) {
        let key = server.api_key("chat").await;
        server.clock.wind(Duration::from_mins(5));
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        server.clock.wind(Duration::from_secs(1));
        let wrong = crate::server::Key { id: key.id, text: "wrong".to_owned() };
        for key in [&key, &wrong] {
            let answer = server.token(key, "").await;
            assert_eq!(answer.outcome(), "503 temporarily_unavailable");
            assert_eq!(answer.header("retry-after"), Some("2"));
        }
        assert_eq!(server.get("/.well-known/jwks.json").await.status, 200);
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "200", "recovered without a restart");
    }

    async fn only_what_a_change_touched_is_refused_where_it_cannot_be_read_back(server: Server) {
        let (touched, other) = (server.api_key("chat").await, server.api_key("chat").await);
        let (service, call) = (&server.service, server.call());
        let bot = server.shown(&touched.id).await.owner.to_string();
        service.suspend_bot(&call, &bot, true).await.unwrap();
        server.rename_table("revocations", "hidden").await;
        service.suspend_bot(&call, &bot, false).await.unwrap();
        let new = server.api_key("chat").await;
        let unknown = Key { id: other.id, text: "unknown".to_owned() };
        assert_eq!(server.token(&other, "").await.outcome(), "200");
        for key in [&touched, &new, &unknown] {
            let answer = server.token(key, "").await;
            assert_eq!(answer.outcome(), "503 temporarily_unavailable");
        }
        server.rename_table("hidden", "revocations").await;
        server.follower.catch_up().await.unwrap();
        for key in [&touched, &other, &new] {
            assert_eq!(server.token(key, "").await.outcome(), "200");
        }
        assert_eq!(server.token(&unknown, "").await.outcome(), "401 invalid_client");
    }

    async fn a_token_that_was_revoked_with_an_answer_of_200_is_not_told_to_be_active(server: Server) {
        let about = async |path: &str, token: &str| {
            post_form(&server, path, &server.administrator, &format!("token={token}")).await
        };
        let mut revoked = 0;
        for table in ["changes", "api_keys", "audit"] {
            let key = server.api_key("chat").await;
            let token = server.token(&key, "").await.token();
            server.rename_table(table, "hidden").await;
            if about("/oauth/revoke", &token).await.status == 200 {
                let told = about("/oauth/introspect", &token).await;
                assert!(told.status == 503 || told.json()["active"] == false, "{table}: {told:?}");
                revoked += 1;
            }
            server.rename_table("hidden", table).await;
            server.follower.catch_up().await.unwrap();
            let is_active = about("/oauth/introspect", &token).await.json()["active"] == true;
            assert_eq!(is_active, table != "api_keys", "{table}");
        }
        assert_eq!(revoked, 1, "what cannot be stored is not answered with 200");
    }

    async fn no_change_is_made_whose_audit_or_revocation_cannot_be_stored(server: Server) {
        let key = server.api_key("chat").await;
        let path = format!("/v1/keys/{}", key.id);
        let token = server.token(&key, "").await.token();
        let state = async || {
            let shown = server.api(&server.administrator, "GET", &path, Value::Null).await.json();
            (shown, server.token(&key, "").await.status)
        };
        let before = state().await;
        for (table, changes) in [
            ("audit", vec![("PATCH", ""), ("POST", "/rotate"), ("POST", "/refresh"), ("POST", "/revoke"), ("DELETE", "")]),
            ("revocations", vec![("POST", "/rotate"), ("POST", "/revoke"), ("DELETE", "")]),
        ] {
            server.rename_table(table, "hidden").await;
            for (method, verb) in changes {
                let ask = if method == "PATCH" { json!({"name": "edited"}) } else { Value::Null };
                let answer = server.api(&server.administrator, method, &format!("{path}{verb}"), ask).await;
                assert_eq!(answer.status / 100, 5, "{table}: {method} {verb}: {answer:?}");
            }
            let form = format!("token={token}");
            let answer = post_form(&server, "/oauth/revoke", &server.administrator, &form).await;
            assert_eq!(answer.status, 503, "{table}: {answer:?}");
            server.rename_table("hidden", table).await;
            server.follower.catch_up().await.unwrap();
            assert_eq!(state().await, before, "{table}");
        }
    }

    async fn what_bears_on_a_whole_organization_stops_no_other_one(server: Server) {
        let (service, call) = (&server.service, server.call());
        let ask = CreateSpace { slug: Some("alpha".to_owned()), name: None };
        service.create_space(&call, ask).await.unwrap();
        let (ours, (_, theirs)) = (server.api_key("chat").await, server.second_org("second").await);
        server.rename_table("revocations", "hidden").await;
        let ask = EditSpace { name: Some("Alpha".to_owned()) };
        service.edit_space(&call, "alpha", ask).await.unwrap();
        assert_eq!(server.token(&ours, "").await.outcome(), "503 temporarily_unavailable");
        assert_eq!(server.token(&theirs, "").await.outcome(), "200");
        server.rename_table("hidden", "revocations").await;
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&ours, "").await.outcome(), "200");
    }

    async fn a_change_that_the_database_lost_stops_nothing_for_long(server: Server) {
        let key = server.api_key("chat").await;
        let bot = server.shown(&key.id).await.owner.to_string();
        let (service, call) = (&server.service, server.call());
        service.suspend_bot(&call, &bot, true).await.unwrap();
        server.rename_table("revocations", "hidden").await;
        service.suspend_bot(&call, &bot, false).await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "503 temporarily_unavailable");
        // a replica takes over that never had it
        server.rename_table("hidden", "revocations").await;
        server.run_sql("UPDATE installation SET revision = revision - 1".to_owned()).await;
        let before = server.mint.index().revision().unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        let after = server.mint.index().revision().unwrap();
        assert!(after > before + 1, "no revision means two things: {before}, {after}");
    }

    async fn a_clock_that_goes_back_undoes_no_revocation_and_stops_no_signing(server: Server) {
        let (revoked, alive) = (server.api_key("chat").await, server.api_key("chat").await);
        server.revoke(&revoked.id).await;
        server.clock.correct(-3_600_000);
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&revoked, "").await.description(), "the API key was revoked");
        assert_eq!(server.token(&alive, "").await.outcome(), "200");
        let shown = server.shown(&revoked.id).await;
        assert_eq!(shown.status(server.clock.now()).as_str(), "revoked");
    }

    async fn a_node_that_is_far_behind_reads_everything_anew(server: Server) {
        let store = Store::open(&server.database).await.unwrap();
        let now = server.clock.now();
        let mut write = store.begin().await.unwrap();
        for number in 0..5_001_u32 {
            let mut random = [0; 16];
            random[..4].copy_from_slice(&number.to_be_bytes());
            let id = tenmint::model::id::BotId::from_random(random);
            write.touched(Subject::Bot(id), now).await.unwrap();
        }
        write.commit().await.unwrap();
        let key = server.api_key("chat").await;
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        let mut write = store.begin().await.unwrap();
        let mut rounds = 1;
        while changes::prune(&mut write, now + Duration::from_secs(1)).await.unwrap() {
            rounds += 1;
        }
        assert!(rounds > 1, "pruned in parts");
        write.commit().await.unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&key, "").await.outcome(), "200");
    }

    async fn a_write_without_the_database_is_said_to_have_failed(server: Server) {
        let key = server.api_key("chat").await;
        server.service.close().await;
        let failed = server.service.revoke_api_key(&server.call(), &key.id).await;
        assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    }

    async fn no_token_is_issued_after_a_revocation_was_answered(server: Server) {
        let server = Arc::new(server);
        for _round in 0..20 {
            let key = server.api_key("chat").await;
            let answered = Arc::new(AtomicBool::new(false));
            let hammering: Vec<_> = (0..3)
                .map(|_| {
                    let (server, key, answered) = (server.clone(), key.clone(), answered.clone());
                    tokio::spawn(async move {
                        loop {
                            let late = answered.load(Ordering::SeqCst);
                            let refused = server.token(&key, "").await.status == 401;
                            assert!(refused || !late, "a token after the answer");
                            if late {
                                return;
                            }
                        }
                    })
                })
                .collect();
            server.revoke(&key.id).await;
            answered.store(true, Ordering::SeqCst);
            for task in hammering {
                task.await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_runs_sees_the_writes_of_others_by_itself() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let mut setup = Setup::on(engine);
        setup.follows = true;
        let Some(server) = setup.start().await else { continue };
        let key = server.api_key("chat").await;
        let other = other_process(&server).await;
        other.revoke_api_key(&server.call(), &key.id).await.unwrap();
        let seen = async { while server.token(&key, "").await.status == 200 {} };
        assert!(timeout(Duration::from_secs(10), seen).await.is_ok(), "never seen");
    }
}

#[tokio::test]
async fn without_any_outage_allowed_a_node_that_polls_goes_on() {
    let mut setup = Setup::on(Engine::Sqlite);
    setup.serve_for = Duration::ZERO;
    let server = setup.start().await.unwrap();
    server.clock.wind(Duration::from_millis(900));
    assert_eq!(server.token(&server.administrator, "").await.status, 200, "between two polls");
    server.clock.wind(Duration::from_millis(200));
    assert_eq!(server.token(&server.administrator, "").await.status, 503);
}
