//! Watching the way from raw API keys to tokens: what came how, and when tokens can be required.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tenmint::service::migration::ListMigratingKeys;
use tenmint::service::usage_writer::UsageWriter;

use crate::api::{call, each, fields, good, key, outcome, outcome_of, text};
use crate::server::{Answer, Key, Server, on_both_engines};

const FORM: &str = "application/x-www-form-urlencoded";
const DAY: Duration = Duration::from_hours(24);

/// A server whose counts are written when the test says so, and the key of an API that asks it.
async fn watched(server: &mut Server) -> (Arc<UsageWriter>, Key) {
    let writer = server.service.start_usage(server.mint.clone()).unwrap();
    let asker = key(server, json!({"name": "api", "org_role": "verifier"})).await;
    (writer, asker)
}

/// The API asks about a key that it was sent.
async fn sent_raw(server: &Server, asker: &Key, raw: &Key) {
    let form = format!("token={}&audience=default&client_ip=192.0.2.7", raw.text);
    let bearer = format!("Bearer {}", asker.text);
    let headers = [("authorization", &*bearer), ("content-type", FORM)];
    let answer = server.send("POST", "/oauth/introspect", &headers, form.as_bytes()).await;
    assert_eq!(answer.json()["active"], true, "{answer:?}");
}

async fn reported(server: &Server, asker: &Key, report: &Value) -> Answer {
    let bearer = format!("Bearer {}", asker.text);
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    server.send("POST", "/oauth/uses", &headers, report.to_string().as_bytes()).await
}

/// A call that a verifier reports.
fn calls(key: &Key, form: &str, calls: u64) -> Value {
    json!({"client_id": key.id, "form": form, "calls": calls, "first_ago": 60, "last_ago": 5,
        "address": "192.0.2.9", "user_agent": "curl/8"})
}

/// Each key at the default audience, as `name reason`.
async fn reasons(server: &Server, query: &str) -> Vec<String> {
    let path = format!("/v1/audiences/default/migration?limit=200&{query}");
    let page = good(server, "GET", &path, Value::Null).await;
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| format!("{} {}", text(item, "name"), text(item, "reason"))).collect()
}

async fn api(server: &Server) -> Value {
    let page = good(server, "GET", "/v1/migration", Value::Null).await;
    let default = page["items"].as_array().unwrap().iter().find(|item| item["slug"] == "default");
    default.unwrap().clone()
}

/// A month in which an API asks every day what to do with raw keys, as a verifier does.
async fn month_goes_by(server: &Server, writer: &UsageWriter, asker: &Key) {
    for _ in 0..31 {
        server.wind(DAY).await;
        let bearer = format!("Bearer {}", asker.text);
        let path = "/oauth/raw-keys?audience=default";
        let answer = server.send("GET", path, &[("authorization", &bearer)], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        writer.write_all().await.unwrap();
    }
}

on_both_engines! {
    async fn a_key_is_safe_once_it_came_by_token_alone_for_as_long_as_its_api_was_watched(server: Server) {
        let mut server = server;
        let (writer, asker) = watched(&mut server).await;
        let [raw, both, token] = ["raw", "both", "token"].map(|name| json!({"name": name, "scopes": ["chat"]}));
        let (raw, both, token) = (key(&server, raw).await, key(&server, both).await, key(&server, token).await);
        for sent in [&raw, &both] {
            sent_raw(&server, &asker, sent).await;
            server.wind(Duration::from_secs(1)).await;
        }
        server.token(&both, "").await.token();
        server.token(&token, "").await.token();
        writer.write_all().await.unwrap();
        let expected = ["token not_watched", "both raw_in_use", "raw raw_in_use", "api not_watched", "administrator not_watched"];
        assert_eq!(reasons(&server, "").await, expected);
        assert_eq!(reasons(&server, "locked_out=true").await, ["both raw_in_use", "raw raw_in_use"]);
        let now = api(&server).await;
        assert_eq!((&now["raw"], &now["by_token"], &now["safe_to_require_tokens"]), (&json!(2), &json!(2), &json!(false)));

        month_goes_by(&server, &writer, &asker).await;
        server.token(&both, "").await.token();
        writer.write_all().await.unwrap();
        let expected = ["token not_seen", "both tokens_in_use", "raw raw_long_ago", "api not_seen", "administrator not_seen"];
        assert_eq!(reasons(&server, "").await, expected);
        assert_eq!(reasons(&server, "locked_out=true").await, Vec::<String>::new());
        assert_eq!(reasons(&server, "locked_out=true&days=32").await.len(), 2);
        let then = api(&server).await;
        assert_eq!((&then["raw"], &then["reason"], &then["safe_to_require_tokens"]), (&json!(0), &json!("tokens_in_use"), &json!(true)));
    }

    async fn each_use_is_told_with_when_and_from_where(server: Server) {
        let mut server = server;
        let (writer, asker) = watched(&mut server).await;
        let raw = key(&server, json!({"name": "raw", "scopes": ["chat"]})).await;
        for _ in 0..2 {
            sent_raw(&server, &asker, &raw).await;
            server.wind(Duration::from_mins(1)).await;
        }
        let form = format!("client_id={}&client_secret={}", raw.id, raw.text);
        server.post(&form, &[("user-agent", "app/1")]).await.token();
        // what is not written yet is told by the node that counted it, and once
        for written in [false, true, true] {
            let (actor, ask) = (server.call().actor, ListMigratingKeys { limit: 200, ..ListMigratingKeys::default() });
            let told = server.service.list_migrating_keys(&actor, (server.org.id, "default"), ask).await.unwrap().items;
            let told = &told.iter().find(|told| told.id == raw.id).unwrap().at;
            let (by_key, by_token) = (told.raw.as_ref().unwrap(), told.token.as_ref().unwrap());
            assert_eq!((by_key.seen, by_key.calls, by_token.seen), (2, 0, 1), "written: {written}");
            assert_eq!(by_key.last_at.since(by_key.first_at), Duration::from_mins(1));
            assert_eq!(by_key.address, "192.0.2.7".parse().ok());
            assert_eq!(by_token.user_agent.as_deref(), Some("app/1"));
            writer.write_all().await.unwrap();
        }
        let apis = good(&server, "GET", &format!("/v1/keys/{}/migration", raw.id), Value::Null).await;
        assert_eq!(each(&apis, "reason"), ["raw_in_use"]);
        assert_eq!(apis["items"][0]["raw"]["seen"], 2);
    }

    async fn what_verifiers_report_is_added_and_nothing_is_taken_of_what_is_not_theirs(server: Server) {
        let mut server = server;
        let (writer, asker) = watched(&mut server).await;
        let own = key(&server, json!({"name": "own", "scopes": ["chat"]})).await;
        let (_, strangers) = server.second_org("acme").await;
        let secret = json!({"client_id": own.id, "form": "token", "calls": 3, "first_ago": 0, "last_ago": 0,
            "user_agent": format!("x {}", own.text)});
        let uses = [calls(&own, "raw", 7), calls(&own, "raw", 2), secret, calls(&strangers, "raw", 9)];
        let answer = reported(&server, &asker, &json!({"audience": "default", "uses": uses})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        writer.write_all().await.unwrap();
        let page = good(&server, "GET", "/v1/audiences/default/migration?locked_out=true", Value::Null).await;
        assert_eq!(each(&page, "name"), ["own"]);
        let told = &page["items"][0];
        assert_eq!((&told["raw"]["calls"], &told["raw"]["seen"], &told["token"]["calls"]), (&json!(9), &json!(0), &json!(3)));
        assert_eq!((text(&told["raw"], "address"), text(&told["raw"], "user_agent")), ("192.0.2.9".to_owned(), "curl/8".to_owned()));
        assert_eq!(told["token"]["user_agent"], Value::Null, "an API key is never kept");
        let apis = good(&server, "GET", &format!("/v1/keys/{}/migration?organization=acme", strangers.id), Value::Null).await;
        assert_eq!(apis["items"], json!([]));
    }

    async fn a_report_that_cannot_be_taken_says_why(server: Server) {
        let (asker, other) = (key(&server, json!({"name": "api", "org_role": "verifier"})).await, server.api_key("chat").await);
        let report = |uses: Value| json!({"audience": "default", "uses": uses});
        let one = calls(&other, "raw", 1);
        for (credential, body, expected) in [
            (&other, report(json!([])), "403 insufficient_scope"),
            (&asker, json!({"audience": "https://elsewhere.example", "uses": []}), "400 invalid_target"),
            (&asker, json!({"uses": []}), "400 invalid_request"),
            (&asker, json!([]), "400 invalid_request"),
            (&asker, report(json!([{"client_id": "x", "form": "raw", "calls": 1, "first_ago": 0, "last_ago": 0}])), "400 invalid_request"),
            (&asker, report(json!([{"client_id": other.id, "form": "cooked", "calls": 1, "first_ago": 0, "last_ago": 0}])), "400 invalid_request"),
            (&asker, report(json!(vec![one; 501])), "400 invalid_request"),
            (&asker, report(json!([{"x": "y".repeat(300_000)}])), "413 invalid_request"),
        ] {
            let answer = reported(&server, credential, &body).await;
            assert_eq!(answer.outcome(), expected, "{answer:?}");
        }
        let bearer = format!("Bearer {}", asker.text);
        let form = server.send("POST", "/oauth/uses", &[("authorization", &bearer), ("content-type", FORM)], b"audience=default").await;
        assert_eq!(form.outcome(), "415 invalid_request");
        let get = server.send("GET", "/oauth/uses", &[("authorization", &bearer)], b"").await;
        assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
        assert_eq!(server.send("POST", "/oauth/uses", &[("content-type", "application/json")], b"{}").await.status, 401);
    }

    async fn who_would_be_locked_out_is_told_page_by_page_and_for_a_part_of_the_api(server: Server) {
        let (_, asker) = (server.org.id, key(&server, json!({"name": "api", "org_role": "verifier"})).await);
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        for (name, scope) in [("reader", "read:projects/*"), ("writer", "write:projects/alpha"), ("chatter", "chat")] {
            let raw = key(&server, json!({"name": name, "scopes": [scope]})).await;
            server.wind(Duration::from_secs(1)).await;
            sent_raw(&server, &asker, &raw).await;
        }
        writer.write_all().await.unwrap();
        let mut names = Vec::new();
        let mut path = "/v1/audiences/default/migration?locked_out=true&limit=1".to_owned();
        loop {
            let page = good(&server, "GET", &path, Value::Null).await;
            names.extend(each(&page, "name"));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/audiences/default/migration?locked_out=true&limit=1&cursor={cursor}");
        }
        assert_eq!(names, ["chatter", "writer", "reader"], "the last that came first");
        assert_eq!(reasons(&server, "locked_out=true&scope=write:*").await, ["writer raw_in_use"]);
        let revoked = good(&server, "GET", "/v1/keys?name=writer", Value::Null).await;
        good(&server, "POST", &format!("/v1/keys/{}/revoke", text(&revoked["items"][0], "id")), Value::Null).await;
        assert_eq!(reasons(&server, "locked_out=true").await.len(), 2, "a dead key is nobody's");
    }

    async fn a_key_that_comes_raw_where_none_is_taken_is_seen_as_locked_out(server: Server) {
        let mut server = server;
        let (writer, asker) = watched(&mut server).await;
        let raw = key(&server, json!({"name": "raw", "scopes": ["chat"]})).await;
        let revoked = key(&server, json!({"name": "revoked", "scopes": ["chat"]})).await;
        for sent in [&raw, &revoked] {
            sent_raw(&server, &asker, sent).await;
        }
        month_goes_by(&server, &writer, &asker).await;
        let rules = json!({"raw_keys": {"rules": [{"scope": "*:*", "mode": "deny"}]}});
        good(&server, "PATCH", "/v1/audiences/default", rules).await;
        good(&server, "POST", &format!("/v1/keys/{}/revoke", revoked.id), Value::Null).await;
        for sent in [&raw, &revoked] {
            let form = format!("token={}&audience=default", sent.text);
            let bearer = format!("Bearer {}", asker.text);
            let headers = [("authorization", &*bearer), ("content-type", FORM)];
            let answer = server.send("POST", "/oauth/introspect", &headers, form.as_bytes()).await;
            assert_eq!(answer.json(), json!({"active": false}));
        }
        writer.write_all().await.unwrap();
        assert_eq!(reasons(&server, "locked_out=true").await, ["raw raw_in_use"]);
        assert_eq!(api(&server).await["raw"], 1, "a dead key counts for nothing");
    }

    async fn an_admin_of_the_account_sees_who_is_locked_out_of_a_shared_api_in_every_organization(server: Server) {
        let mut server = server;
        let (writer, asker) = watched(&mut server).await;
        let (_, strangers) = server.second_org("acme").await;
        let shared = json!({"slug": "shared", "uri": "https://shared.example", "shared": true});
        good(&server, "POST", "/v1/audiences", shared).await;
        let report = json!({"audience": "https://shared.example", "uses": [calls(&strangers, "raw", 1)]});
        assert_eq!(reported(&server, &asker, &report).await.status, 200);
        writer.write_all().await.unwrap();
        let path = "/v1/audiences/shared/migration?locked_out=true";
        let page = good(&server, "GET", path, Value::Null).await;
        assert_eq!(each(&page, "id"), [strangers.id.to_string()]);
        let admin = key(&server, json!({"name": "admin", "org_role": "admin", "scopes": ["*:*"]})).await;
        let bearer = format!("Bearer {}", admin.text);
        let answer = server.send("GET", path, &[("authorization", &bearer)], b"").await;
        assert_eq!(answer.json()["items"], json!([]), "to an admin of one organization it is its own alone");
    }

    async fn no_credential_is_kept_as_the_name_of_a_client(server: Server) {
        let mut server = server;
        let (writer, asker) = watched(&mut server).await;
        let own = key(&server, json!({"name": "own", "scopes": ["chat"]})).await;
        let token = server.token(&own, "").await.token();
        for user_agent in [own.text.clone(), format!("app/1 ({token})"), format!("x key={}", own.text)] {
            let mut row = calls(&own, "raw", 1);
            row["user_agent"] = json!(user_agent);
            assert_eq!(reported(&server, &asker, &json!({"audience": "default", "uses": [row]})).await.status, 200);
        }
        writer.write_all().await.unwrap();
        let apis = good(&server, "GET", &format!("/v1/keys/{}/migration", own.id), Value::Null).await;
        assert_eq!((&apis["items"][0]["raw"]["calls"], &apis["items"][0]["raw"]["user_agent"]), (&json!(3), &Value::Null));
        let nothing = json!({"audience": "default", "uses": [calls(&asker, "raw", 0)]});
        assert_eq!(reported(&server, &asker, &nothing).await.status, 200);
        writer.write_all().await.unwrap();
        let apis = good(&server, "GET", &format!("/v1/keys/{}/migration", asker.id), Value::Null).await;
        assert_eq!(apis["items"], json!([]), "no call is no use");
    }

    async fn an_api_that_was_silent_for_more_than_a_day_is_watched_anew(server: Server) {
        let mut server = server;
        let (writer, asker) = watched(&mut server).await;
        let raw = key(&server, json!({"name": "raw", "scopes": ["chat"]})).await;
        let mut since = Vec::new();
        for hours in [0, 23, 25] {
            server.wind(Duration::from_hours(hours)).await;
            sent_raw(&server, &asker, &raw).await;
            writer.write_all().await.unwrap();
            since.push(text(&api(&server).await, "watched_since"));
        }
        assert_eq!(since[0], since[1]);
        assert_ne!(since[1], since[2]);
    }

    async fn what_is_asked_of_the_way_is_told_to_those_who_may_know(server: Server) {
        let (_, strangers) = server.second_org("acme").await;
        let keys = "/v1/audiences/default/migration";
        let own = key(&server, json!({"name": "own", "org_role": "member"})).await;
        for path in ["/v1/migration", keys] {
            assert_eq!(outcome_of(&server, &own, "GET", path, Value::Null).await, "200", "{path}");
        }
        let none = key(&server, json!({"name": "none", "scopes": ["chat"]})).await;
        for path in ["/v1/migration", keys] {
            assert_ne!(outcome_of(&server, &none, "GET", path, Value::Null).await, "200", "{path}");
        }
        let of_own = format!("/v1/keys/{}/migration", own.id);
        assert_eq!(outcome_of(&server, &strangers, "GET", &of_own, Value::Null).await, "404 not_found");
        let theirs = key(&server, json!({"name": "theirs", "scopes": ["read:org/*"]})).await;
        assert_eq!(outcome_of(&server, &theirs, "GET", &of_own, Value::Null).await, "200");
        for query in ["days=0", "days=x", "days=367", "scope=read", "cursor=x", "colour=red", "locked_out=maybe"] {
            let answer = call(&server, "GET", &format!("{keys}?{query}"), Value::Null).await;
            assert_eq!(fields(&answer), [query.split('=').next().unwrap()], "{query}");
        }
        assert_eq!(outcome(&server, "GET", "/v1/audiences/nowhere/migration", Value::Null).await, "404 not_found");
    }
}
