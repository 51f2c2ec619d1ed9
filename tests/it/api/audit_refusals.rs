//! What the audit tells of a refused change: whose credential it was, and what it would have changed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{
    at, audited, good, good_of, key, key_of, other_org, outcome, outcome_of, text, with_role,
};
use crate::server::{Key, Server, on_both_engines};

/// A change that whoever presents this is refused, and what the audit then told of it.
async fn turned_away(server: &Server, presented: &str) -> Vec<Value> {
    let before = audited(server, "").await.len();
    server.clock.wind(Duration::from_millis(1));
    let ask = json!({"name": "x"});
    let answer = server.api_with(presented, "PATCH", "/v1/organization", ask, &[]).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    let look = server.api_with(presented, "GET", "/v1/organization", Value::Null, &[]).await;
    assert_eq!(look.status, 401, "{look:?}");
    let entries = audited(server, "").await;
    entries[..entries.len() - before].to_vec()
}

async fn owner_of(server: &Server, key: &Key) -> String {
    text(&good(server, "GET", &at(key), Value::Null).await, "owner")
}

async fn admin(server: &Server, more: Value) -> Key {
    let mut ask = json!({"name": "admin", "org_role": "admin", "scopes": ["*:*"]});
    ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key(server, ask).await
}

/// Keys that were good once, or elsewhere, each with what is presented of it.
async fn dead_credentials(server: &Server) -> Vec<(&'static str, Key, String)> {
    let none = json!({});
    let mut dead = Vec::new();
    let mut add = |why, key: Key| dead.push((why, key.clone(), key.text));
    let revoked = admin(server, none.clone()).await;
    server.revoke(&revoked.id).await;
    add("revoked", revoked);
    add("expired", admin(server, json!({"expires_at": "1m"})).await);
    let replaced = admin(server, none.clone()).await;
    good(server, "POST", &format!("{}/rotate", at(&replaced)), json!({})).await;
    add("replaced", replaced);
    let suspended = admin(server, none.clone()).await;
    let bot = owner_of(server, &suspended).await;
    good(server, "POST", &format!("/v1/bots/{bot}/suspend"), Value::Null).await;
    add("suspended", suspended);
    add("from elsewhere", admin(server, json!({"allow": ["192.0.2.0/24"]})).await);
    add("for an API", admin(server, json!({"audiences": ["default"]})).await);
    let of_dead = admin(server, none.clone()).await;
    let token = server.token(&of_dead, "audience=management").await.token();
    good(server, "POST", &format!("{}/revoke", at(&of_dead)), Value::Null).await;
    dead.push(("a token of a dead key", of_dead, token));
    let of_api = admin(server, none).await;
    let token = server.token(&of_api, "").await.token();
    dead.push(("a token for an API", of_api, token));
    dead
}

on_both_engines! {
    async fn a_change_with_a_credential_that_holds_no_more_is_told_with_whose_it_was(server: Server) {
        let dead = dead_credentials(&server).await;
        server.wind(Duration::from_mins(2)).await;
        for (why, key, presented) in dead {
            let entries = turned_away(&server, &presented).await;
            assert_eq!(entries.len(), 1, "{why}: a look is no change: {entries:?}");
            let entry = &entries[0];
            assert_eq!(text(entry, "action"), "organization.edit", "{why}");
            assert_eq!(text(entry, "outcome"), "unauthenticated", "{why}");
            assert_eq!(text(entry, "object"), "organization", "{why}");
            assert_eq!(entry["api_key"], key.id.to_string(), "{why}");
            assert_eq!(text(entry, "actor"), owner_of(&server, &key).await, "{why}");
            assert_eq!(entry["organization"], server.org.id.to_string(), "{why}");
            assert_eq!(entry["address"], "127.0.0.1", "{why}");
            assert!(entry["after"].is_string(), "what was said: {entry}");
        }
    }

    async fn a_change_with_a_secret_that_is_nobodys_is_told_of_no_key(server: Server) {
        let revoked = server.api_key("*:*").await;
        server.revoke(&revoked.id).await;
        let token = server.token(&server.administrator, "audience=management").await.token();
        let forged = |text: &str| format!("{}{}", &text[..text.len() - 2], "xx");
        for presented in [&forged(&revoked.text), &forged(&token), "a.b.c", "tm_x"] {
            assert_eq!(turned_away(&server, presented).await, Vec::<Value>::new(), "{presented}");
        }
    }

    async fn what_a_path_names_by_another_name_is_told_by_its_id(server: Server) {
        other_org(&server, "other").await;
        good(&server, "POST", "/v1/spaces?organization=other", json!({"slug": "theirs"})).await;
        let reader = with_role(&server, "read-only").await;
        let space = good(&server, "POST", "/v1/spaces", json!({"slug": "alpha", "name": "Z\u{fc}rich +1"})).await;
        let ask = json!({"uri": "https://first.example", "slug": "first"});
        let audience = good(&server, "POST", "/v1/audiences", ask).await;
        let ask = json!({"name": "web", "audience": "first", "rules": [{"path": "/x"}]});
        let policy = good(&server, "POST", "/v1/gateway-policies", ask).await;
        let [space, audience, policy] = [&space, &audience, &policy].map(|made| text(made, "id"));
        let org = server.org.id.to_string();
        for (method, path, object) in [
            ("PATCH", "/v1/spaces/alpha", space.as_str()),
            ("PATCH", "/v1/spaces/Z%C3%BCrich%20+1", &space),
            ("POST", &format!("/v1/spaces/{space}/suspend"), &space),
            ("PATCH", "/v1/spaces/theirs", "theirs"),
            ("PATCH", "/v1/spaces/alpha?organization=other", "alpha"),
            ("PATCH", "/v1/audiences/first", &audience),
            ("PATCH", "/v1/audiences/https:%2F%2Ffirst.example", &audience),
            ("PATCH", "/v1/gateway-policies/web", &policy),
            ("POST", "/v1/organizations/default/suspend", &org),
            ("POST", "/v1/organizations/other/suspend", "other"),
        ] {
            server.clock.wind(Duration::from_millis(1));
            let body = if method == "PATCH" { json!({"name": "x"}) } else { Value::Null };
            let told = outcome_of(&server, &reader, method, path, body).await;
            assert!(told.starts_with("40"), "{method} {path}: {told}");
            assert_eq!(audited(&server, "").await[0]["object"], object, "{method} {path}: {told}");
        }
        let taken = outcome(&server, "POST", "/v1/organizations/other/bootstrap", json!({})).await;
        assert_eq!(taken, "409 already_bootstrapped");
        let other = text(&good(&server, "GET", "/v1/organizations/other", Value::Null).await, "id");
        assert_eq!(audited(&server, &format!("object={other}&outcome=already_bootstrapped")).await.len(), 1);
    }

    async fn a_refused_binding_is_told_of_whom_it_was_for_and_of_its_space(server: Server) {
        let space = text(&good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await, "id");
        let reader = with_role(&server, "read-only").await;
        let bot = text(&good(&server, "POST", "/v1/bots", json!({"name": "b"})).await, "id");
        let role = json!({"role": "admin"});
        for (method, path, place) in [
            ("PUT", format!("/v1/spaces/alpha/members/{bot}"), json!({"space": space})),
            ("DELETE", format!("/v1/spaces/{space}/members/{bot}"), json!({"space": space})),
            ("PUT", format!("/v1/owners/{bot}/role"), Value::Null),
            ("PUT", format!("/v1/installation/admins/{bot}"), Value::Null),
        ] {
            server.clock.wind(Duration::from_millis(1));
            let body = if method == "PUT" { role.clone() } else { Value::Null };
            let told = outcome_of(&server, &reader, method, &path, body).await;
            let entry = &audited(&server, "").await[0];
            assert!(told.starts_with("40") && told.ends_with(&text(entry, "outcome")), "{path}: {told}");
            assert_eq!(text(entry, "object"), bot, "{path}");
            assert_eq!(entry["before"], place, "{path}");
        }
        // as of a binding that was done, of one in a space those are told who see into it
        let insider = json!({"name": "i", "space": "alpha", "space_role": "read-only", "org_role": "read-only"});
        let insider = key_of(&good(&server, "POST", "/v1/keys", insider).await);
        for (key, expected) in [(&reader, 2), (&insider, 4)] {
            let list = good_of(&server, key, "GET", &format!("/v1/audit?object={bot}&limit=200"), Value::Null).await;
            let items = list["items"].as_array().unwrap().iter();
            assert_eq!(items.filter(|entry| entry["outcome"] != "done").count(), expected);
        }
    }
}
