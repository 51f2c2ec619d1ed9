//! Edits of a key: what becomes narrower, what becomes wider, and what a dry run tells.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{
    at, audited, call, fields, good, good_of, key, key_of, org_admin, outcome, outcome_of,
    revision, text, told,
};
use crate::server::{Key, Server, on_both_engines};

async fn edit(server: &Server, key: &Key, ask: Value) -> Value {
    good(server, "PATCH", &at(key), ask).await
}

async fn edited_by(server: &Server, actor: &Key, key: &Key, ask: Value) -> String {
    outcome_of(server, actor, "PATCH", &at(key), ask).await
}

async fn issues(server: &Server, key: &Key, form: &str) -> String {
    server.token(key, form).await.outcome()
}

/// Somebody who administers the keys of the organization and holds a few scopes beside.
async fn key_admin(server: &Server, scopes: &[&str]) -> Key {
    let mut all = vec!["read:org/*", "admin:org/keys/*"];
    all.extend_from_slice(scopes);
    key(server, json!({"name": "key admin", "scopes": all})).await
}

/// What a dry run says of each field.
fn told_changes(answer: &Value) -> Vec<(String, Value, Value)> {
    let changes = answer["changes"].as_array().unwrap();
    changes
        .iter()
        .map(|change| (text(change, "field"), change["before"].clone(), change["after"].clone()))
        .collect()
}

/// The fields in which two shown keys differ.
fn differing(before: &Value, after: &Value) -> Vec<(String, Value, Value)> {
    // a write does not look up when a key was used
    let told = |field: &&String| *field != "warnings" && *field != "last_use";
    let fields = after.as_object().unwrap().keys().filter(told);
    fields
        .filter(|field| before[*field] != after[*field])
        .map(|field| (field.clone(), before[field].clone(), after[field].clone()))
        .collect()
}

on_both_engines! {
    async fn a_key_does_not_loosen_its_own_quota(server: Server) {
        let ask = json!({"name": "q", "org_role": "admin", "scopes": ["*:*"], "quota": {"limit": 9}});
        let limited = key(&server, ask).await;
        for (quota, expected) in [
            (Value::Null, "403 forbidden"),
            (json!({"limit": 10}), "403 forbidden"),
            (json!({"limit": 9, "window": 30}), "403 forbidden"),
            (json!({"limit": 8}), "200"),
        ] {
            let ask = json!({"quota": quota});
            assert_eq!(edited_by(&server, &limited, &limited, ask).await, expected, "{quota}");
        }
        let other = key(&server, json!({"quota": {"limit": 9}})).await;
        assert_eq!(edited_by(&server, &limited, &other, json!({"quota": null})).await, "200");
    }

    async fn an_edit_changes_what_it_names_and_nothing_else(server: Server) {
        let ask = json!({"name": "old", "description": "d", "scopes": ["chat", "read:x"], "allow": ["127.0.0.1"], "block": ["192.0.2.1"], "quota": {"limit": 3, "window": 60}, "expires_at": "9d"});
        let key = key(&server, ask).await;
        let mut before = good(&server, "GET", &at(&key), Value::Null).await;
        for (field, value) in [
            ("name", json!("new")),
            ("description", json!("")),
            ("scopes", json!(["chat"])),
            ("scopes", Value::Null),
            ("block", json!(["192.0.2.2"])),
            ("block", json!([])),
            ("allow", json!(["127.0.0.1", "192.0.2.0/24"])),
            ("allow", Value::Null),
            ("quota", json!({"limit": 4, "window": 30})),
            ("quota", Value::Null),
            ("audiences", Value::Null),
        ] {
            edit(&server, &key, json!({field: value})).await;
            let after = good(&server, "GET", &at(&key), Value::Null).await;
            let changed: Vec<String> = differing(&before, &after).into_iter().map(|(field, ..)| field).collect();
            let expected: &[&str] = if field == "audiences" { &[] } else { &[field] };
            assert_eq!(changed, expected, "{field}");
            before = after;
        }
    }

    async fn a_narrowing_edit_holds_from_its_answer_on_and_voids_the_tokens_of_before(server: Server) {
        let key = key(&server, json!({"org_role": "admin", "scopes": ["read:org/*", "chat"]})).await;
        let token = server.token(&key, "audience=management").await.token();
        let opens = async || server.api_with(&token, "GET", "/v1/whoami", Value::Null, &[]).await.status;
        edit(&server, &key, json!({"name": "renamed", "description": "x", "quota": {"limit": 99}})).await;
        edit(&server, &key, json!({"scopes": ["read:org/*", "chat", "read:x"]})).await;
        edit(&server, &key, json!({"scopes": ["read:org/*", "chat"]})).await;
        assert_eq!(opens().await, 401, "a scope was taken away");
        let token = server.token(&key, "audience=management").await.token();
        let opens = async || server.api_with(&token, "GET", "/v1/whoami", Value::Null, &[]).await.status;
        assert_eq!(opens().await, 200);
        edit(&server, &key, json!({"name": "again"})).await;
        assert_eq!(opens().await, 200, "a name voids nothing");
        edit(&server, &key, json!({"scopes": ["read:org/*"]})).await;
        assert_eq!(opens().await, 401);
        assert_eq!(issues(&server, &key, "scope=chat").await, "400 invalid_scope");
    }

    async fn each_way_to_narrow_voids_the_tokens_of_before(server: Server) {
        for narrower in [
            json!({"audiences": ["management"]}),
            json!({"allow": ["127.0.0.0/8"]}),
            json!({"block": ["192.0.2.1"]}),
            json!({"expires_at": "30d"}),
        ] {
            let key = org_admin(&server).await;
            let token = server.token(&key, "audience=management").await.token();
            let opens = async || server.api_with(&token, "GET", "/v1/whoami", Value::Null, &[]).await.status;
            assert_eq!(opens().await, 200);
            edit(&server, &key, narrower.clone()).await;
            assert_eq!(opens().await, 401, "{narrower}");
        }
    }

    async fn narrowing_needs_no_scope_of_the_key_and_widening_needs_all_of_them(server: Server) {
        server.register("https://first.example").await;
        server.register("https://second.example").await;
        let admin = key_admin(&server, &[]).await;
        let ask = json!({"scopes": ["chat", "read:x"], "audiences": ["https://first.example", "https://second.example"], "allow": ["127.0.0.0/8", "192.0.2.0/24"]});
        let key = key(&server, ask).await;
        for narrower in [
            json!({"scopes": ["chat"]}),
            json!({"audiences": ["https://first.example"]}),
            json!({"allow": ["127.0.0.0/8"]}),
            json!({"block": ["127.0.0.9"]}),
            json!({"expires_at": "9d"}),
            json!({"quota": {"limit": 9}}),
            json!({"quota": {"limit": 8, "window": 70}}),
            json!({}),
        ] {
            assert_eq!(edited_by(&server, &admin, &key, narrower.clone()).await, "200", "{narrower}");
        }
        for wider in [
            json!({"scopes": ["chat", "read:x"]}),
            json!({"scopes": ["*:*"]}),
            json!({"audiences": ["https://first.example", "https://second.example"]}),
            json!({"audiences": null}),
            json!({"allow": ["127.0.0.0/8", "192.0.2.0/24"]}),
            json!({"allow": null}),
            json!({"block": []}),
            json!({"quota": null}),
            json!({"quota": {"limit": 9, "window": 70}}),
            json!({"quota": {"limit": 8}}),
            // what something is called is no matter of narrowing
            json!({"name": "n"}),
            json!({"description": "d"}),
        ] {
            assert_eq!(edited_by(&server, &admin, &key, wider.clone()).await, "403 forbidden", "{wider}");
        }
        for verb in ["rotate", "refresh"] {
            let path = format!("{}/{verb}", at(&key));
            for ask in [json!({"expires_at": "1d"}), json!({})] {
                assert_eq!(outcome_of(&server, &admin, "POST", &path, ask).await, "403 forbidden", "{verb}");
            }
        }
        assert_eq!(outcome_of(&server, &admin, "POST", &format!("{}/revoke", at(&key)), Value::Null).await, "200");
    }

    async fn a_credential_gives_no_scope_that_it_does_not_hold(server: Server) {
        let admin = key_admin(&server, &["read:projects/alpha/*", "admin:org/*"]).await;
        for (scopes, expected) in [
            (json!(["read:projects/alpha/x"]), "201"),
            (json!(["read:projects/alpha/*"]), "201"),
            (json!(["read:projects/alpha"]), "403 forbidden"),
            (json!(["read:projects/*"]), "403 forbidden"),
            (json!(["read:projects/alphabet/x"]), "403 forbidden"),
            (json!(["write:projects/alpha/x"]), "403 forbidden"),
            (json!(["*:projects/alpha/x"]), "403 forbidden"),
            (json!(["read:projects/alpha/x", "chat"]), "403 forbidden"),
            (json!(["*:*"]), "403 forbidden"),
        ] {
            let ask = json!({"name": "x", "scopes": scopes, "org_role": "read-only"});
            assert_eq!(outcome_of(&server, &admin, "POST", "/v1/keys", ask).await, expected, "{scopes}");
        }
        let roles = json!({"name": "x", "scopes": ["read:projects/alpha/x"], "org_role": "admin"});
        assert_eq!(outcome_of(&server, &admin, "POST", "/v1/keys", roles).await, "403 forbidden", "nor a role");
    }

    async fn a_narrowed_credential_gives_no_audience_address_or_time_beyond_its_own(server: Server) {
        server.register("https://first.example").await;
        server.register("https://second.example").await;
        let ask = json!({"name": "narrow", "org_role": "admin", "scopes": ["*:*"], "audiences": ["management", "https://first.example"], "allow": ["127.0.0.0/8"], "block": ["127.0.0.9"], "expires_at": "10d"});
        let narrow = key(&server, ask).await;
        let within = json!({"name": "x", "scopes": ["chat"], "audiences": ["https://first.example"], "allow": ["127.0.0.1"], "expires_at": "9d"});
        let with = |field: &str, value: Value| {
            let mut ask = within.clone();
            ask[field] = value;
            ask
        };
        assert_eq!(outcome_of(&server, &narrow, "POST", "/v1/keys", within.clone()).await, "201");
        for beyond in [
            with("audiences", Value::Null),
            with("audiences", json!(["https://second.example"])),
            with("audiences", json!(["https://first.example", "https://second.example"])),
            with("allow", Value::Null),
            with("allow", json!([])),
            with("allow", json!(["127.0.0.0/8"])),
            with("allow", json!(["127.0.0.1", "::1"])),
            with("allow", json!(["192.0.2.1"])),
            with("expires_at", Value::Null),
            with("expires_at", json!("11d")),
        ] {
            assert_eq!(outcome_of(&server, &narrow, "POST", "/v1/keys", beyond.clone()).await, "403 forbidden", "{beyond}");
        }
        let blocked = json!({"name": "x", "scopes": ["chat"], "audiences": ["https://first.example"], "allow": ["127.0.0.0/8"], "block": ["127.0.0.8/30"], "expires_at": "9d"});
        assert_eq!(outcome_of(&server, &narrow, "POST", "/v1/keys", blocked).await, "201", "what it blocks is blocked there too");
    }

    async fn a_service_key_that_is_widened_takes_its_bot_along_and_says_so(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        let owner = text(&good(&server, "GET", &at(&key), Value::Null).await, "owner");
        let wide = edit(&server, &key, json!({"scopes": ["chat", "read:new/*"]})).await;
        assert!(wide["warnings"].to_string().contains(&owner), "{wide}");
        assert_eq!(issues(&server, &key, "scope=read:new/x").await, "200");
        let bot = good(&server, "GET", &format!("/v1/bots/{owner}"), Value::Null).await;
        assert_eq!(bot["grants"], json!(["chat", "read:new/*"]));
    }

    async fn an_edit_gives_a_bot_nothing_back_that_it_lost(server: Server) {
        let key = key(&server, json!({"scopes": ["chat", "read:x"]})).await;
        let bot = format!("/v1/bots/{}", text(&good(&server, "GET", &at(&key), Value::Null).await, "owner"));
        good(&server, "PATCH", &bot, json!({"grants": ["chat"]})).await;
        for no_wider in [json!(["chat", "read:x"]), json!(["read:x", "chat"]), json!(["read:x"])] {
            edit(&server, &key, json!({"scopes": no_wider})).await;
            assert_eq!(good(&server, "GET", &bot, Value::Null).await["grants"], json!(["chat"]), "{no_wider}");
            assert_eq!(issues(&server, &key, "scope=read:x").await, "400 invalid_scope", "{no_wider}");
        }
        edit(&server, &key, json!({"scopes": ["read:*"]})).await;
        assert_eq!(issues(&server, &key, "scope=read:x").await, "200", "what is new to the key is given to the bot too");
    }

    async fn to_empty_an_allow_list_has_to_be_said(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"], "allow": ["192.0.2.1"], "block": ["192.0.2.2"]})).await;
        let answer = call(&server, "PATCH", &at(&key), json!({"allow": []})).await;
        assert_eq!(fields(&answer), ["allow"], "{answer:?}");
        assert_eq!(issues(&server, &key, "").await, "400 unauthorized_client");
        let open = edit(&server, &key, json!({"allow": null})).await;
        assert_eq!((open["allow"].clone(), open["block"].clone()), (json!([]), json!(["192.0.2.2"])));
        assert_eq!(issues(&server, &key, "").await, "200");
        for field in ["scopes", "audiences"] {
            assert_eq!(fields(&call(&server, "PATCH", &at(&key), json!({field: []})).await), [field]);
        }
    }

    async fn an_expiry_only_comes_earlier(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        assert_eq!(edit(&server, &key, json!({"expires_at": "2027-03-01"})).await["expires_at"], "2027-03-01T00:00:00Z");
        for later in ["2027-03-01T00:00:00.001Z", "never", "2027-01-15T08:00:00Z", "2020-01-01", ""] {
            let answer = call(&server, "PATCH", &at(&key), json!({"expires_at": later})).await;
            assert_eq!(fields(&answer), ["expires_at"], "{later}: {answer:?}");
        }
        edit(&server, &key, json!({"expires_at": "2027-03-01T01:00:00+01:00"})).await;
        edit(&server, &key, json!({"expires_at": "1m"})).await;
        assert_eq!(server.token(&key, "").await.json()["expires_in"], 60);
        server.wind(Duration::from_mins(1)).await;
        assert_eq!(issues(&server, &key, "").await, "401 invalid_client");
    }

    async fn an_edit_warns_where_running_clients_can_break_and_where_a_range_is_everybody(server: Server) {
        let key = key(&server, json!({"scopes": ["chat", "read:x"]})).await;
        let warnings = async |ask: Value| edit(&server, &key, ask).await["warnings"].to_string();
        assert_eq!(warnings(json!({"name": "n"})).await, "null", "a name breaks nobody");
        assert!(warnings(json!({"scopes": ["chat"]})).await.contains("can break"));
        assert!(warnings(json!({"allow": ["127.0.0.0/8"]})).await.contains("can break"));
        server.register("https://first.example").await;
        for (audiences, breaks) in [
            (json!(["default", "https://first.example"]), true),
            (json!(["default", "management", "https://first.example"]), false),
            (json!(["default"]), true),
            (json!(["default", "https://first.example"]), false),
            (json!(["https://first.example", "default"]), true),
            (Value::Null, true),
        ] {
            let told = warnings(json!({"audiences": audiences})).await;
            assert_eq!(told.contains("can break"), breaks, "{audiences}");
        }
        assert!(warnings(json!({"allow": ["0.0.0.0/0"]})).await.contains("every IPv4 address"));
        let made = good(&server, "POST", "/v1/keys", json!({"name": "x", "allow": ["::/0"]})).await;
        assert!(made["warnings"].to_string().contains("every IPv6 address"), "{made}");
    }

    async fn a_dry_run_says_exactly_what_would_change_and_changes_nothing(server: Server) {
        let key = key(&server, json!({"name": "old", "scopes": ["chat", "read:x"], "expires_at": "9d"})).await;
        for (method, path, ask) in [
            ("PATCH", at(&key), json!({"name": "new", "scopes": ["chat"], "allow": ["192.0.2.1"]})),
            ("PATCH", at(&key), json!({})),
            ("POST", format!("{}/revoke", at(&key)), Value::Null),
            ("DELETE", at(&key), Value::Null),
        ] {
            let before = good(&server, "GET", &at(&key), Value::Null).await;
            let (number, audit) = (revision(&server).await, audited(&server, "").await);
            let answer = good(&server, method, &format!("{path}?dry_run=true"), ask.clone()).await;
            assert_eq!(answer["dry_run"], true);
            assert_eq!(good(&server, "GET", &at(&key), Value::Null).await, before, "{method} {path}");
            assert_eq!((revision(&server).await, audited(&server, "").await), (number, audit));
            assert_eq!(server.token(&key, "scope=read:x").await.outcome(), "200");
            assert_eq!(told_changes(&answer), differing(&before, &answer["after"]), "{answer}");
            if method == "PATCH" {
                let same = good(&server, "PATCH", &format!("{path}?dry_run=false"), ask).await;
                assert_eq!(told_changes(&answer), differing(&before, &same), "as the real one");
                edit(&server, &key, json!({"name": "old", "scopes": ["chat", "read:x"], "allow": null})).await;
            }
        }
    }

    async fn a_dry_run_makes_no_key_and_shows_no_text(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        let (number, audit) = (revision(&server).await, audited(&server, "").await);
        for (path, ask) in [
            ("/v1/keys".to_owned(), json!({"name": "new", "scopes": ["chat"]})),
            (format!("{}/rotate", at(&key)), json!({})),
            (format!("{}/refresh", at(&key)), json!({"grace_period_seconds": 5})),
        ] {
            let answer = call(&server, "POST", &format!("{path}?dry_run=true"), ask).await;
            assert_eq!(answer.status, 200, "nothing was made: {answer:?}");
            assert!(!answer.body.contains("\"api_key\""), "{answer:?}");
        }
        assert_eq!((revision(&server).await, audited(&server, "").await), (number, audit));
        assert_eq!(issues(&server, &key, "").await, "200");
        let list = good(&server, "GET", "/v1/keys?status=all&name=new", Value::Null).await;
        assert_eq!(list["items"], json!([]));
    }

    async fn a_dry_run_of_a_rotation_or_refresh_says_until_when_the_old_secret_goes_on(server: Server) {
        let made = key(&server, json!({"scopes": ["chat"], "expires_at": "1h"})).await;
        let would = async |verb: &str, ask: Value| {
            good(&server, "POST", &format!("{}/{verb}?dry_run=true", at(&made)), ask).await
        };
        let changes = |would: &Value| -> Vec<(String, Value)> {
            let changes = would["changes"].as_array().unwrap().iter();
            changes.map(|change| (text(change, "field"), change["after"].clone())).collect()
        };
        let now = json!("2027-01-15T08:00:00Z");
        let at_once = would("rotate", json!({})).await;
        assert_eq!(changes(&at_once), [("rotated_at".to_owned(), now.clone())]);
        let graceful = would("rotate", json!({"grace_period_seconds": 60})).await;
        let expected = [("old_secret_expires_at", json!("2027-01-15T08:01:00Z")), ("rotated_at", now)];
        assert_eq!(changes(&graceful), expected.map(|(field, after)| (field.to_owned(), after)));
        let beyond = would("rotate", json!({"grace_period_seconds": 7200})).await;
        assert_eq!(beyond["after"]["old_secret_expires_at"], "2027-01-15T09:00:00Z", "never past the expiry");
        let done = good(&server, "POST", &format!("{}/rotate", at(&made)), json!({"grace_period_seconds": 60})).await;
        assert_eq!((&done["rotated_at"], &done["old_secret_expires_at"]), (&graceful["after"]["rotated_at"], &graceful["after"]["old_secret_expires_at"]));
        let shown = good(&server, "GET", &at(&made), Value::Null).await;
        assert_eq!(shown["old_secret_expires_at"], done["old_secret_expires_at"]);
        for (grace, says) in [(0, "is revoked"), (60, "goes on until 2027-01-15T08:01:00Z"), (7200, "goes on until 2027-01-15T09:00:00Z")] {
            let ask = json!({"grace_period_seconds": grace, "expires_at": "30m"});
            let refreshed = would("refresh", ask).await;
            let expected = format!("the old key `{}` {says}", made.id);
            assert_eq!(refreshed["warnings"], json!([expected]));
            assert_eq!((&refreshed["after"]["rotated_at"], &refreshed["after"]["replaces"]), (&Value::Null, &json!(made.id.to_string())));
        }
    }

    async fn a_dry_run_is_refused_like_the_real_one(server: Server) {
        let (admin, key) = (key_admin(&server, &[]).await, key(&server, json!({"scopes": ["chat"]})).await);
        let dry = format!("{}?dry_run=true", at(&key));
        assert_eq!(outcome_of(&server, &admin, "PATCH", &dry, json!({"scopes": ["*:*"]})).await, "403 forbidden");
        assert_eq!(outcome(&server, "PATCH", &dry, json!({"color": 1})).await, "400 invalid_request");
        let answer = call(&server, "PATCH", &format!("{}?dry_run=maybe", at(&key)), json!({})).await;
        assert_eq!((told(&answer).as_str(), fields(&answer)), ("400 invalid_request", vec!["dry_run".to_owned()]));
    }

    async fn a_key_that_edits_itself_only_narrows(server: Server) {
        let ask = json!({"org_role": "member", "scopes": ["write:org/keys/own/*", "read:org/keys/*", "chat"]});
        let own = key_of(&good(&server, "POST", "/v1/keys", { let mut ask = ask; ask["name"] = json!("own"); ask }).await);
        good_of(&server, &own, "PATCH", &at(&own), json!({"allow": ["127.0.0.0/8"]})).await;
        for wider in [json!({"allow": null}), json!({"allow": ["127.0.0.0/8", "::1"]}), json!({"scopes": ["*:*"]})] {
            assert_eq!(edited_by(&server, &own, &own, wider.clone()).await, "403 forbidden", "{wider}");
        }
        let wider = edited_by(&server, &own, &own, json!({"scopes": null})).await;
        assert_eq!(wider, "403 forbidden", "what its bot holds beside is not the key's to take");
    }
}
