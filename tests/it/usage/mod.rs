//! Usage: what was counted is told, once and whole, whatever fails between the count and the database.

mod stopping;

use std::sync::Arc;
use std::time::Duration;

use tenmint::error::Error;
use tenmint::mint::ledger::Ledger;
use tenmint::mint::{Caller, ClientCredential, Mint, TokenRequest};
use tenmint::model::id::ApiKeyId;
use tenmint::model::import::{ImportApiKeys, ImportFormat};
use tenmint::model::secret::PlainSecret;
use tenmint::model::time::Timestamp;
use tenmint::model::usage::{Grain, HourCount, LastUse, Outcome, Usage, UsageSubject};
use tenmint::service::Service;
use tenmint::service::call::Call;
use tenmint::service::usage::{GetUsage, UsageCounts, UsageReport};
use tenmint::service::usage_writer::UsageWriter;
use tenmint::store::{Store, usage};
use tokio::time::timeout;

use crate::import::{Running, sha256};
use crate::server::{Engine, Key, Server, Setup, basic, on_both_engines};

/// A process that counts nothing, and so tells what is in the database alone.
async fn other_process(server: &Server) -> Service {
    let keys_dir = server.directory.path().join("keys");
    Service::open(&server.database, &keys_dir, server.clock.clone()).await.unwrap()
}

/// Another node on the same database.
async fn other_node(server: &Server) -> (Arc<Mint>, Arc<UsageWriter>, Service) {
    let mut service = other_process(server).await;
    let (mint, _) = service.start_mint(Duration::from_mins(5), Ledger::off()).await.unwrap();
    let writer = service.start_usage(mint.clone()).unwrap();
    (mint, writer, service)
}

fn by_day() -> GetUsage {
    GetUsage { by: Some("day".to_owned()), ..GetUsage::default() }
}

async fn of_key(server: &Server, service: &Service, key: &Key) -> UsageReport {
    let call = server.call();
    let of = (call.org, &key.id);
    service.get_api_key_usage(&call.actor, of, &GetUsage::default()).await.unwrap()
}

async fn issued(server: &Server, service: &Service, key: &Key) -> u64 {
    of_key(server, service, key).await.totals.issued
}

/// Counts as `issued 2, expired 1`.
fn told(counts: &UsageCounts) -> String {
    let refused = counts.refused.iter().map(|(reason, count)| format!(", {reason} {count}"));
    format!("issued {}{}", counts.issued, refused.collect::<String>())
}

/// Each hour or day, without the year.
fn items(report: &UsageReport) -> Vec<String> {
    let item = |from: Timestamp, counts| format!("{} {}", &from.to_string()[5..16], told(counts));
    report.items.iter().map(|found| item(found.from, &found.counts)).collect()
}

async fn issue(mint: &Mint, key: &Key, now: Timestamp) {
    let texts = vec![PlainSecret::new(key.text.clone())];
    let client = ClientCredential { client_id: None, texts };
    let request = TokenRequest { client, ..TokenRequest::default() };
    let unrecorded = mint.issue(&request, Caller::default(), now).unwrap();
    drop(unrecorded.await.unwrap());
}

fn subject(number: u16) -> UsageSubject {
    let mut random = [0; 16];
    random[14..].copy_from_slice(&number.to_be_bytes());
    UsageSubject::ApiKey(ApiKeyId::from_random(random))
}

fn hour(subject: UsageSubject, hour_at: Timestamp) -> HourCount {
    HourCount { subject, hour_at, outcome: Outcome::Issued, count: 1 }
}

async fn add(store: &Store, writer: (&str, i64), part: &Usage, now: Timestamp) -> bool {
    let mut append = store.append().await.unwrap();
    let added = usage::add(&mut append, writer, part, now).await.unwrap();
    append.commit().await.unwrap();
    added
}

async fn hours_of(store: &Store, subject: UsageSubject, hour_at: Timestamp) -> usize {
    let range = (hour_at, hour_at + Duration::from_hours(1));
    let mut read = store.read().await.unwrap();
    usage::list(&mut read, subject, range, Grain::Hour).await.unwrap().len()
}

on_both_engines! {
    async fn a_key_that_an_api_takes_as_it_is_is_in_use_too(server: Server) {
        let mut server = server;
        let _writer = server.service.start_usage(server.mint.clone()).unwrap();
        let asker = crate::api::key(&server, serde_json::json!({"name": "api", "org_role": "verifier"})).await;
        let key = server.api_key("chat").await;
        let revoked = server.api_key("chat").await;
        server.revoke(&revoked.id).await;
        for key in [&key, &key, &revoked] {
            let form = format!("token={}&audience=default&client_ip=192.0.2.1", key.text);
            crate::oauth::post_form(&server, "/oauth/introspect", &asker, &form).await;
        }
        let usage = of_key(&server, &server.service, &key).await;
        assert_eq!((usage.totals.introspected, told(&usage.totals).as_str()), (2, "issued 0"));
        let last_used = usage.last_used.unwrap();
        assert_eq!(last_used.address, Some([192, 0, 2, 1].into()));
        let of_revoked = of_key(&server, &server.service, &revoked).await;
        assert_eq!((of_revoked.totals.introspected, of_revoked.last_used), (0, None));
    }

    async fn what_became_of_each_request_is_told_before_and_after_it_is_written(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let (key, revoked) = (server.api_key("chat").await, server.api_key("chat").await);
        server.revoke(&revoked.id).await;
        for (key, form, outcome) in [
            (&key, "", "200"),
            (&key, "scope=chat", "200"),
            (&key, "scope=read:a", "400 invalid_scope"),
            (&key, "scope=%23", "400 invalid_scope"),
            (&key, "resource=https://nobody.example.com", "400 invalid_target"),
            (&key, "grant_type=x", "400 invalid_request"),
            (&revoked, "", "401 invalid_client"),
            (&Key { id: key.id, text: "tm_wrong".to_owned() }, "", "401 invalid_client"),
        ] {
            assert_eq!(server.token(key, form).await.outcome(), outcome, "{form}");
        }
        let of_org = "issued 2, invalid_target 1, malformed_scope 1, revoked 1, scope_beyond_key 1";
        let mut before = None;
        for written in [false, true] {
            let usage = of_key(&server, &server.service, &key).await;
            let expected = "issued 2, invalid_target 1, malformed_scope 1, scope_beyond_key 1";
            assert_eq!(told(&usage.totals), expected, "written: {written}");
            assert_eq!(items(&usage), [format!("01-15T08:00 {expected}")]);
            let of_revoked = of_key(&server, &server.service, &revoked).await;
            assert_eq!(told(&of_revoked.totals), "issued 0, revoked 1");
            assert_eq!(of_revoked.last_used, None, "a refused request is no use");
            let org = server.service.get_org_usage(&server.call().actor, &server.org.id, &by_day()).await.unwrap();
            assert_eq!(items(&org), [format!("01-15T00:00 {of_org}")]);
            let told = (usage, of_revoked, org);
            assert_eq!(before.get_or_insert(told.clone()), &told, "written: {written}");
            writer.write_all().await.unwrap();
        }
        assert_eq!(of_key(&server, &other_process(&server).await, &key).await, before.unwrap().0);
    }

    async fn counts_are_exact_after_a_stop(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let mut server = Arc::new(server);
        let key = server.api_key("chat").await;
        let running = tokio::spawn({
            let writer = writer.clone();
            async move { writer.run().await }
        });
        let loads: Vec<_> = (0..3)
            .map(|_| {
                let (server, key, writer) = (server.clone(), key.clone(), writer.clone());
                tokio::spawn(async move {
                    for round in 0..40 {
                        let form = if round % 4 == 0 { "scope=read:a" } else { "" };
                        server.token(&key, form).await;
                        if round % 10 == 0 {
                            writer.write_all().await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for load in loads {
            load.await.unwrap();
        }
        Arc::get_mut(&mut server).expect("the loads have ended").stop().await;
        running.abort();
        writer.finish().await;
        let usage = of_key(&server, &other_process(&server).await, &key).await;
        assert_eq!(told(&usage.totals), "issued 90, scope_beyond_key 30");
    }

    async fn a_writing_that_fails_loses_nothing_and_adds_nothing_twice(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let key = server.api_key("chat").await;
        for table in ["usage_hours", "last_uses", "usage_writers"] {
            let before = issued(&server, &server.service, &key).await;
            server.token(&key, "").await;
            server.rename_table(table, "gone").await;
            for _ in 0..2 {
                writer.write_all().await.unwrap_err();
                server.token(&key, "").await;
            }
            server.rename_table("gone", table).await;
            for _ in 0..2 {
                assert_eq!(issued(&server, &server.service, &key).await, before + 3, "{table}");
                writer.write_all().await.unwrap();
            }
        }
        assert_eq!(issued(&server, &other_process(&server).await, &key).await, 9);
    }

    async fn a_writing_that_is_dropped_half_way_loses_nothing_and_adds_nothing_twice(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let key = server.api_key("chat").await;
        let mut dropped = 0;
        for round in 0..200_u64 {
            issue(&server.mint, &key, server.clock.now()).await;
            let micros = Duration::from_micros(round * 37 % 4_000);
            dropped += u64::from(timeout(micros, writer.write_all()).await.is_err());
        }
        assert!(dropped > 20, "only {dropped} were dropped");
        for _ in 0..2 {
            assert_eq!(issued(&server, &server.service, &key).await, 200);
            writer.write_all().await.unwrap();
        }
        assert_eq!(issued(&server, &other_process(&server).await, &key).await, 200);
    }

    async fn a_part_is_added_once_under_its_number(server: Server) {
        let store = Store::open(&server.database).await.unwrap();
        let now = server.clock.now();
        let part = Usage { hours: vec![hour(subject(1), now)], ..Usage::default() };
        let mut added = Vec::new();
        for (writer, number) in [("a", 1), ("a", 1), ("b", 1), ("a", 2), ("a", 1)] {
            added.push(add(&store, (writer, number), &part, now).await);
        }
        assert_eq!(added, [true, false, true, true, false]);
        let range = (now, now + Duration::from_hours(1));
        let mut read = store.read().await.unwrap();
        let found = usage::list(&mut read, subject(1), range, Grain::Hour).await.unwrap();
        assert_eq!(found.iter().map(|found| found.count).collect::<Vec<_>>(), [3]);
        assert_eq!(usage::written(&mut read, "a").await.unwrap(), 2);
    }

    async fn two_nodes_add_up_while_both_write(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let mut keys = Vec::new();
        for _ in 0..8 {
            keys.push(server.api_key("chat").await);
        }
        let (mint, other_writer, other) = other_node(&server).await;
        for round in 0..30 {
            for (number, key) in keys.iter().enumerate() {
                issue(&server.mint, key, server.clock.now()).await;
                if (round + number) % 2 == 0 {
                    issue(&mint, key, server.clock.now()).await;
                }
            }
            tokio::try_join!(writer.write_all(), other_writer.write_all()).unwrap();
        }
        for service in [&server.service, &other, &other_process(&server).await] {
            for key in &keys {
                assert_eq!(issued(&server, service, key).await, 45);
            }
            let org = service.get_org_usage(&server.call().actor, &server.org.id, &GetUsage::default()).await.unwrap();
            assert_eq!(org.totals.issued, 8 * 45);
        }
    }

    async fn hours_and_days_end_at_their_borders(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let key = server.api_key("chat").await;
        let hours = [0, 3_599_999, 1, 57_599_999, 1, 86_400_000];
        for (number, millis) in hours.into_iter().enumerate() {
            server.wind(Duration::from_millis(millis)).await;
            server.token(&key, "").await;
            if number % 2 == 0 {
                writer.write_all().await.unwrap();
            }
        }
        let ask = GetUsage { since: Some("2027-01-15".to_owned()), ..GetUsage::default() };
        let usage = server.service.get_api_key_usage(&server.call().actor, (server.org.id, &key.id), &ask).await.unwrap();
        assert_eq!(
            items(&usage),
            [
                "01-15T08:00 issued 2",
                "01-15T09:00 issued 1",
                "01-16T00:00 issued 1",
                "01-16T01:00 issued 1",
                "01-17T01:00 issued 1"
            ]
        );
        let usage = server.service.get_api_key_usage(&server.call().actor, (server.org.id, &key.id), &by_day()).await.unwrap();
        let days = ["01-15T00:00 issued 3", "01-16T00:00 issued 2", "01-17T00:00 issued 1"];
        assert_eq!(items(&usage), days);
        let moment = |text: &str| Some(text.to_owned());
        let ask = GetUsage {
            since: moment("2027-01-15T09:00"),
            until: moment("2027-01-16T01:00"),
            by: None,
        };
        let usage = server.service.get_api_key_usage(&server.call().actor, (server.org.id, &key.id), &ask).await.unwrap();
        assert_eq!(items(&usage), ["01-15T09:00 issued 1", "01-16T00:00 issued 1"]);
        assert_eq!(told(&usage.totals), "issued 2");
        let last_used = usage.last_used.unwrap().used_at;
        assert_eq!(last_used, server.clock.now(), "whatever the range");
    }

    async fn the_last_use_is_told_with_the_user_agent_but_never_with_a_secret(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let (key, unused) = (server.api_key("chat").await, server.api_key("chat").await);
        let basic = basic(&key.id.to_string(), &key.text);
        for (user_agent, expected) in [
            ("curl/8.1", Some("curl/8.1")),
            (&*key.text, None),
            (&*"x".repeat(300), Some(&*"x".repeat(200))),
            (&*format!("{} {}", "x".repeat(198), key.text), None),
            ("caf\u{e9}", Some("caf??")),
        ] {
            server.clock.wind(Duration::from_millis(1));
            let headers = [("Authorization", &*basic), ("User-Agent", user_agent)];
            assert_eq!(server.post("", &headers).await.status, 200);
            for written in [false, true] {
                let last_use = of_key(&server, &server.service, &key).await.last_used.unwrap();
                assert_eq!(last_use.used_at, server.clock.now());
                assert_eq!(last_use.user_agent.as_deref(), expected, "written: {written}");
                let listed = server.service.list_last_uses(&[unused.id, key.id]).await.unwrap();
                assert_eq!(listed.len(), 1);
                assert_eq!(listed[&key.id], last_use);
                writer.write_all().await.unwrap();
            }
        }
        assert_eq!(other_process(&server).await.list_last_uses(&[]).await.unwrap().len(), 0);
    }

    async fn a_user_agent_tells_nothing_of_the_api_keys_of_another_organization(server: Server) {
        let (org, _) = server.second_org("other").await;
        let mut server = server;
        server.service.start_usage(server.mint.clone()).unwrap();
        let (ours, theirs) = ("a-key-of-ours-from-before", "a-key-of-theirs-from-before");
        for (call, text) in [(server.call(), ours), (Call { org, ..server.call() }, theirs)] {
            let ask = ImportApiKeys { format: ImportFormat::Csv, atomic: false };
            let running = Running::begin(&server.service, call, ask);
            running.send(&format!("name,digest,scopes\nold,{},chat\n", sha256(text))).await;
            assert_eq!(running.end().await.unwrap().summary.created, 1);
        }
        let key = server.api_key("chat").await;
        let basic = basic(&key.id.to_string(), &key.text);
        let late = format!("{} {ours}", "x".repeat(200));
        for (user_agent, expected) in [(ours, None), (theirs, Some(theirs)), (&*late, Some(&late[..200]))] {
            server.clock.wind(Duration::from_millis(1));
            let headers = [("Authorization", &*basic), ("User-Agent", user_agent)];
            assert_eq!(server.post("", &headers).await.status, 200);
            let last_use = of_key(&server, &server.service, &key).await.last_used.unwrap();
            assert_eq!(last_use.user_agent.as_deref(), expected, "{user_agent}");
        }
    }

    async fn a_last_use_in_the_database_only_moves_forward(server: Server) {
        let store = Store::open(&server.database).await.unwrap();
        let now = server.clock.now();
        let mut number = 0;
        for (later, user_agent) in [(5, "a"), (0, "late"), (5, "same"), (9, "b")] {
            let last_use = LastUse {
                used_at: now + Duration::from_millis(later),
                address: "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().ok(),
                user_agent: Some(user_agent.into()),
            };
            let part = Usage { last_uses: vec![(subject(1), last_use)], ..Usage::default() };
            number += 1;
            assert!(add(&store, ("a", number), &part, now).await);
            let mut read = store.read().await.unwrap();
            let found = usage::find_last_use(&mut read, subject(1)).await.unwrap().unwrap();
            let expected = if number == 4 { "b" } else { "a" };
            assert_eq!(found.user_agent.as_deref(), Some(expected));
            assert_eq!(found.address, part.last_uses[0].1.address);
        }
    }

    async fn counts_are_pruned_after_ninety_days_in_parts_and_last_uses_are_kept(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let store = Store::open(&server.database).await.unwrap();
        let then = server.clock.now();
        let hours = (0..1_200).map(|number| hour(subject(number), then)).collect();
        add(&store, ("a", 1), &Usage { hours, ..Usage::default() }, then).await;
        let key = server.api_key("chat").await;
        server.token(&key, "").await;
        writer.write_all().await.unwrap();
        let mut append = store.append().await.unwrap();
        let mut parts = 1;
        while usage::prune(&mut append, then + Duration::from_hours(1)).await.unwrap() {
            parts += 1;
        }
        drop(append);
        assert!(parts > 3, "pruned in {parts} parts");
        for (later, found) in [(Duration::ZERO, 1), (Duration::from_millis(1), 0)] {
            server.wind(later + Duration::from_hours(90 * 24) * u32::from(found == 1)).await;
            writer.prune().await.unwrap();
            for subject in [subject(0), subject(1_199), UsageSubject::ApiKey(key.id)] {
                assert_eq!(hours_of(&store, subject, then).await, found);
            }
        }
        assert_eq!(usage::written(&mut store.read().await.unwrap(), "a").await.unwrap(), 0);
        assert_eq!(of_key(&server, &server.service, &key).await.last_used.unwrap().used_at, then);
        server.token(&key, "").await;
        writer.write_all().await.unwrap();
        assert_eq!(issued(&server, &other_process(&server).await, &key).await, 1, "the writer goes on");
    }

    async fn what_is_not_there_has_no_usage(server: Server) {
        let usage = server.service.get_api_key_usage(&server.call().actor, (server.org.id, &server.administrator.id), &by_day()).await.unwrap();
        assert_eq!((usage.items.len(), told(&usage.totals).as_str()), (0, "issued 0"));
        let id = ApiKeyId::from_random([9; 16]);
        let missing = server.service.get_api_key_usage(&server.call().actor, (server.org.id, &id), &by_day()).await;
        assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    }

    async fn a_node_writes_by_itself(server: Server) {
        let mut server = server;
        let key = server.api_key("chat").await;
        server.token(&key, "").await;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let running = tokio::spawn(async move { writer.run().await });
        let other = other_process(&server).await;
        let seen = async { while issued(&server, &other, &key).await == 0 {} };
        assert!(timeout(Duration::from_secs(20), seen).await.is_ok(), "never written");
        running.abort();
    }
}

#[tokio::test]
async fn a_report_reads_as_json_in_the_words_of_the_contract() {
    let mut server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let _writer = server.service.start_usage(server.mint.clone()).unwrap();
    let key = server.api_key("chat").await;
    server.token(&key, "scope=read:a").await;
    let authorization = basic("", &key.text);
    server.post("", &[("User-Agent", "curl/8"), ("Authorization", &authorization)]).await;
    let usage = of_key(&server, &server.service, &key).await;
    let expected = serde_json::json!({
        "since": "2027-01-14T09:00:00Z",
        "until": "2027-01-15T09:00:00Z",
        "by": "hour",
        "items": [
            {"from": "2027-01-15T08:00:00Z", "issued": 1, "introspected": 0, "refused": {"scope_beyond_key": 1}}
        ],
        "totals": {"issued": 1, "introspected": 0, "refused": {"scope_beyond_key": 1}},
        "last_used": {
            "used_at": "2027-01-15T08:00:00Z", "address": "127.0.0.1", "user_agent": "curl/8"
        }
    });
    assert_eq!(serde_json::to_value(&usage).unwrap(), expected);
    let schema = schemars::schema_for!(UsageReport);
    let schema = serde_json::to_value(schema).unwrap();
    assert_eq!(schema["properties"]["since"]["type"], "string");
    assert_eq!(schema["properties"]["items"]["type"], "array");
}
