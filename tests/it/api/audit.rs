//! The audit: every change and every refusal of one, and never a secret.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{
    at, audited, call, fields, good, good_of, key, key_of, org_admin, other_org, outcome_of, text,
    with_role,
};
use crate::server::{Key, Server, on_both_engines};

/// Lets a moment pass: changes of one moment are in their order, refusals in none.
fn a_moment_passes(server: &Server) {
    server.clock.wind(Duration::from_millis(1));
}

/// An entry as `action outcome object`.
fn line(entry: &Value) -> String {
    format!("{} {} {}", text(entry, "action"), text(entry, "outcome"), text(entry, "object"))
}

async fn lines(server: &Server, query: &str) -> Vec<String> {
    audited(server, query).await.iter().map(line).collect()
}

on_both_engines! {
    async fn every_change_of_a_key_is_told_with_who_what_when_where_before_and_after(server: Server) {
        let key = key(&server, json!({"name": "old", "scopes": ["chat"]})).await;
        let id = key.id.to_string();
        let administrator = server.administrator.text.clone();
        let answer = server.api_with(&administrator, "PATCH", &at(&key), json!({"name": "new"}), &[("User-Agent", "ci/1.0")]).await;
        good(&server, "POST", &format!("{}/rotate", at(&key)), json!({})).await;
        let new = key_of(&good(&server, "POST", &format!("{}/refresh", at(&key)), json!({"grace_period_seconds": 5})).await);
        good(&server, "POST", &format!("{}/revoke", at(&key)), Value::Null).await;
        good(&server, "DELETE", &at(&key), Value::Null).await;
        let told = lines(&server, &format!("object={id}")).await;
        let expected = ["delete", "revoke", "edit", "rotate", "edit", "create"].map(|verb| format!("api_key.{verb} done {id}"));
        assert_eq!(told, expected);
        assert_eq!(lines(&server, &format!("object={}", new.id)).await, [format!("api_key.refresh done {}", new.id)]);
        let edits = audited(&server, &format!("object={id}&action=api_key.edit")).await;
        assert_eq!(edits[0]["after"], json!({"expires_at": "2027-01-15T08:00:05Z"}), "replaced");
        let entry = &edits[1];
        assert_eq!((entry["before"]["name"].clone(), entry["after"]["name"].clone()), (json!("old"), json!("new")));
        assert_eq!(entry["at"], "2027-01-15T08:00:00Z");
        assert_eq!((entry["address"].clone(), entry["user_agent"].clone()), (json!("127.0.0.1"), json!("ci/1.0")));
        assert_eq!(entry["api_key"], server.administrator.id.to_string());
        assert_eq!(entry["request_id"], answer.header("x-request-id").unwrap());
        assert_eq!(entry["organization"], server.org.id.to_string());
        assert!(text(entry, "actor").starts_with("bot_"));
        let created = &audited(&server, &format!("object={id}&action=api_key.create")).await[0];
        assert_eq!(created["before"], Value::Null);
    }

    async fn what_comes_along_with_a_change_is_told_too(server: Server) {
        let ask = json!({"name": "k", "scopes": ["chat"], "org_role": "admin", "account_role": "admin"});
        let would = good(&server, "POST", "/v1/keys?dry_run=true", ask.clone()).await;
        let also: Vec<String> = would["also"].as_array().unwrap().iter().map(|change| text(change, "action")).collect();
        assert_eq!(also, ["bot.create", "role.bind", "role.bind"]);
        let made = good(&server, "POST", "/v1/keys", ask).await;
        let bot = text(&made, "owner");
        let entries = audited(&server, &format!("object={bot}")).await;
        let told: Vec<(String, &Value)> = entries.iter().map(|entry| (text(entry, "action"), &entry["after"])).collect();
        assert_eq!(told[1].0, "bot.create");
        assert_eq!(told[1].1["grants"], json!(["chat"]));
        assert_eq!((told[0].0.as_str(), &told[0].1["role"], &told[0].1["level"]), ("role.bind", &json!("admin"), &json!("organization")));
        assert_eq!(told.len(), 2, "what is of the account is told to its admins");
        let list = good(&server, "GET", "/v1/installation/audit", Value::Null).await;
        let bound = list["items"].as_array().unwrap().iter().find(|entry| entry["object"] == *bot).unwrap();
        assert_eq!((text(bound, "action").as_str(), &bound["after"]["level"]), ("role.bind", &json!("account")));
        let narrow = key(&server, json!({"scopes": ["chat"]})).await;
        let made = good(&server, "PATCH", &at(&narrow), json!({"scopes": ["chat", "read:x"]})).await;
        let bot = text(&made, "owner");
        let entries = audited(&server, &format!("object={bot}")).await;
        assert_eq!((text(&entries[0], "action").as_str(), &entries[0]["after"]["grants"]), ("bot.edit", &json!(["chat", "read:x"])));
    }

    async fn every_noun_tells_its_changes(server: Server) {
        let space = text(&good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await, "id");
        let user = text(&good(&server, "POST", "/v1/users", json!({"email": "ada@example.com"})).await, "id");
        let bot = text(&good(&server, "POST", "/v1/bots", json!({"name": "b"})).await, "id");
        let role = text(&good(&server, "POST", "/v1/roles", json!({"name": "r", "level": "organization", "scopes": ["read:x"]})).await, "id");
        let audience = text(&good(&server, "POST", "/v1/audiences", json!({"uri": "https://first.example"})).await, "id");
        for (method, path, body) in [
            ("PATCH", format!("/v1/spaces/{space}"), json!({"name": "x"})),
            ("POST", format!("/v1/users/{user}/suspend"), Value::Null),
            ("PATCH", format!("/v1/bots/{bot}"), json!({"name": "x"})),
            ("PATCH", format!("/v1/roles/{role}"), json!({"name": "x"})),
            ("PATCH", format!("/v1/audiences/{audience}"), json!({"token_lifetime": 60})),
            ("PUT", format!("/v1/owners/{bot}/role"), json!({"role": "member"})),
            ("DELETE", format!("/v1/owners/{bot}/role"), Value::Null),
            ("PUT", format!("/v1/spaces/{space}/members/{bot}"), json!({"role": "member"})),
            ("PATCH", "/v1/organization".to_owned(), json!({"name": "x"})),
        ] {
            good(&server, method, &path, body).await;
        }
        for (object, expected) in [
            (space.as_str(), vec!["space.edit", "space.create"]),
            (user.as_str(), vec!["user.suspend", "role.bind", "user.create"]),
            (role.as_str(), vec!["role.edit", "role.create"]),
            (audience.as_str(), vec!["audience.edit", "audience.create"]),
            (bot.as_str(), vec!["role.bind", "role.unbind", "role.bind", "bot.edit", "role.bind", "bot.create"]),
        ] {
            let entries = audited(&server, &format!("object={object}")).await;
            let actions: Vec<String> = entries.iter().map(|entry| text(entry, "action")).collect();
            assert_eq!(actions, expected);
            assert!(entries.iter().all(|entry| entry["outcome"] == "done"));
            let gone = |entry: &Value| entry["action"] == "role.unbind";
            assert!(entries.iter().all(|entry| entry["after"].is_object() != gone(entry)));
        }
    }

    async fn every_refusal_of_a_change_is_told_with_its_reason(server: Server) {
        let (reader, victim) = (with_role(&server, "read-only").await, server.api_key("chat").await);
        other_org(&server, "other").await;
        let id = victim.id.to_string();
        for (method, path, body, expected) in [
            ("PATCH", at(&victim), json!({"name": "x"}), format!("api_key.edit forbidden {id}")),
            ("DELETE", at(&victim), Value::Null, format!("api_key.delete forbidden {id}")),
            ("POST", format!("{}/rotate", at(&victim)), json!({"x": 1}), format!("api_key.rotate forbidden {id}")),
            ("POST", "/v1/keys".to_owned(), json!({"x": 1}), "api_key.create invalid_request keys".to_owned()),
            ("POST", "/v1/keys".to_owned(), json!({"name": "x", "scopes": ["*:*"]}), "api_key.create forbidden keys".to_owned()),
            ("POST", "/v1/keys/key_0123456789abcdef/revoke".to_owned(), Value::Null, "api_key.revoke not_found key_0123456789abcdef".to_owned()),
            ("POST", "/v1/organizations".to_owned(), json!({"slug": "x"}), "organization.create forbidden organizations".to_owned()),
            ("POST", "/v1/spaces?organization=other".to_owned(), json!({"slug": "x"}), "space.create not_found spaces".to_owned()),
        ] {
            a_moment_passes(&server);
            let outcome = outcome_of(&server, &reader, method, &path, body).await;
            let entry = &audited(&server, "").await[0];
            assert_eq!(line(entry), expected, "{outcome}");
            assert_eq!(entry["api_key"], reader.id.to_string());
            assert!(entry["after"].is_string() && entry["before"].is_null(), "what was said: {entry}");
        }
        let number = audited(&server, "").await.len();
        outcome_of(&server, &reader, "GET", "/v1/keys/key_0123456789abcdef", Value::Null).await;
        assert_eq!(audited(&server, "").await.len(), number, "a look is no change");
    }

    async fn what_happens_in_a_space_is_told_to_those_who_see_into_it(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let reader = with_role(&server, "read-only").await;
        let ask = json!({"name": "insider", "space": "alpha", "space_role": "read-only", "org_role": "read-only"});
        let insider = key(&server, ask).await;
        let made = key(&server, json!({"name": "hidden", "space": "alpha"})).await;
        let bot = text(&good(&server, "POST", "/v1/bots", json!({"name": "b", "space": "alpha"})).await, "id");
        good(&server, "PUT", &format!("/v1/spaces/alpha/members/{bot}"), json!({"role": "admin"})).await;
        good(&server, "POST", &format!("{}/rotate", at(&made)), json!({})).await;
        outcome_of(&server, &insider, "PATCH", &at(&made), json!({"name": "x"})).await;
        let inside = [
            "api_key.edit forbidden", "api_key.rotate done", "role.bind done",
            // each bot comes with two roles
            "role.bind done", "role.bind done", "bot.create done",
            "role.bind done", "role.bind done", "bot.create done", "api_key.create done",
            "role.bind done", "role.bind done", "bot.create done", "api_key.create done",
        ];
        let of = async |key: &Key| -> Vec<String> {
            let list = server.api(key, "GET", "/v1/audit?limit=200", Value::Null).await.json();
            let told = list["items"].as_array().unwrap().iter();
            told.map(|entry| format!("{} {}", text(entry, "action"), text(entry, "outcome"))).collect()
        };
        let all = of(&server.administrator).await;
        assert_eq!(of(&insider).await, all);
        // the refusal came in the moment of the changes
        let told: Vec<String> = all.iter().filter(|line| line.ends_with("forbidden")).chain(all.iter().filter(|line| line.ends_with("done"))).cloned().collect();
        assert_eq!(told[..inside.len()], inside);
        // and what those bots may do in the organization
        let outside = [&vec!["role.bind done".to_owned(); 3], &told[inside.len()..]].concat();
        assert_eq!(of(&reader).await, outside);
        let ask = json!({"grace_period_seconds": 60});
        good(&server, "POST", &format!("{}/refresh", at(&made)), ask).await;
        // the role of the new key's bot comes along
        let after = of(&reader).await;
        assert!(after.iter().all(|line| !line.starts_with("api_key.edit")), "nor what a change brings along: {after:?}");
        good(&server, "DELETE", &at(&made), Value::Null).await;
        assert_eq!(of(&reader).await.len(), after.len(), "nor what comes after");
    }

    async fn no_entry_holds_a_secret(server: Server) {
        let first = key(&server, json!({"name": "k"})).await;
        let second = key_of(&good(&server, "POST", &format!("{}/rotate", at(&first)), json!({})).await);
        let third = key_of(&good(&server, "POST", &format!("{}/refresh", at(&first)), json!({})).await);
        let administrator = &server.administrator.text;
        let agent = format!("curl {}", third.text);
        server.api_with(administrator, "PATCH", &at(&third), json!({"name": "x"}), &[("User-Agent", &agent)]).await;
        call(&server, "POST", &format!("/v1/keys/{}/revoke", third.text), Value::Null).await;
        call(&server, "PATCH", &at(&third), json!({third.text.as_str(): 1})).await;
        let all = call(&server, "GET", "/v1/audit?limit=200", Value::Null).await.body;
        for key in [&first, &second, &third, &server.administrator] {
            let secret = &key.text[key.text.len() - 49..];
            assert!(!all.contains(secret), "{all}");
        }
    }

    async fn entries_are_filtered_and_paged(server: Server) {
        let admin = org_admin(&server).await;
        let owner = text(&good(&server, "GET", &at(&admin), Value::Null).await, "owner");
        server.wind(Duration::from_hours(1)).await;
        for n in 0..3 {
            good_of(&server, &admin, "POST", "/v1/bots", json!({"name": format!("b{n}")})).await;
            server.wind(Duration::from_secs(1)).await;
        }
        outcome_of(&server, &admin, "POST", "/v1/bots", json!({})).await;
        for (query, expected) in [
            (format!("actor={owner}"), 7),
            (format!("actor={owner}&outcome=done"), 6),
            (format!("actor={owner}&outcome=invalid_request"), 1),
            (format!("api_key={}", admin.id), 7),
            (format!("api_key={}&action=bot.create&outcome=done", admin.id), 3),
            (format!("api_key={}&actor={owner}&outcome=invalid_request", admin.id), 1),
            (format!("api_key={}&object={}", admin.id, admin.id), 0),
            ("api_key=key_0123456789abcdef".to_owned(), 0),
            ("action=bot.".to_owned(), 5),
            ("action=bot.create&outcome=done".to_owned(), 4),
            ("action=ot.create".to_owned(), 0),
            ("since=2027-01-15T09:00:00Z".to_owned(), 7),
            ("since=2027-01-15T09:00:00.001Z".to_owned(), 5),
            ("since=2027-01-15T09:00:00Z&until=2027-01-15T09:00:02Z".to_owned(), 4),
            ("until=2027-01-15T09:00:00Z".to_owned(), 3),
            ("object=bot_0123456789abcdef".to_owned(), 0),
        ] {
            assert_eq!(audited(&server, &query).await.len(), expected, "{query}");
        }
        let mut pages = Vec::new();
        let mut path = "/v1/audit?limit=2".to_owned();
        loop {
            let page = good(&server, "GET", &path, Value::Null).await;
            pages.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/audit?limit=2&cursor={next}");
        }
        assert_eq!(pages, audited(&server, "").await);
        for (query, field) in [("since=soon", "since"), ("until=x", "until"), ("cursor=x", "cursor"), ("who=x", "who"), ("api_key=x", "api_key")] {
            assert_eq!(fields(&call(&server, "GET", &format!("/v1/audit?{query}"), Value::Null).await), [field]);
        }
    }

    async fn all_entries_are_exported_as_json_lines(server: Server) {
        let administrator = server.administrator.text.clone();
        for n in 0..205 {
            let ask = json!({"name": format!("n{n}")});
            server.api_with(&administrator, "PATCH", "/v1/organization", ask, &[]).await;
        }
        let accept = [("Accept", "application/x-ndjson")];
        let export = server.api_with(&administrator, "GET", "/v1/audit?action=organization.", Value::Null, &accept).await;
        assert_eq!((export.status, export.header("content-type")), (200, Some("application/x-ndjson")));
        let entries: Vec<Value> = unchunked(&export.body).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(entries.len(), 205);
        assert_eq!(entries[0]["after"]["name"], "n204");
        assert_eq!(entries[204]["after"]["name"], "n0");
        let nobody = with_role(&server, "none").await;
        let refused = server.api_with(&nobody.text, "GET", "/v1/audit", Value::Null, &accept).await;
        assert_eq!(refused.status, 404, "{refused:?}");
    }

    async fn what_is_done_to_the_installation_is_told_to_admins_of_the_account(server: Server) {
        let admin = org_admin(&server).await;
        let owner = text(&good(&server, "GET", &at(&admin), Value::Null).await, "owner");
        good(&server, "PUT", &format!("/v1/installation/admins/{owner}"), json!({"role": "member"})).await;
        let list = good(&server, "GET", "/v1/installation/audit", Value::Null).await;
        assert_eq!(list["items"].as_array().unwrap().iter().map(line).collect::<Vec<_>>(), [format!("role.bind done {owner}")]);
        assert_eq!(outcome_of(&server, &admin, "GET", "/v1/installation/audit", Value::Null).await, "403 forbidden");
        let told = audited(&server, "action=role.bind").await;
        assert!(told.iter().all(|entry| entry["after"]["level"] == "organization"), "in the one place alone");
    }
}

/// A body that came in chunks.
fn unchunked(body: &str) -> String {
    let mut rest = body;
    let mut all = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let Ok(length) = usize::from_str_radix(length, 16) else { break };
        all += &after[..length];
        rest = after[length..].trim_start_matches("\r\n");
    }
    all
}
