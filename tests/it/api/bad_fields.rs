//! Every bad field of a request has its entry at once, whoever finds it: the reader of the JSON, the
//! parser of the field, or the database.

use serde_json::{Value, json};

use crate::api::{at, call, fields, good, key, message, text, told};
use crate::server::{Server, on_both_engines};

/// The fields that a refusal of this call names, in the order of the alphabet.
async fn refused(server: &Server, method: &str, path: &str, body: Value) -> Vec<String> {
    let answer = call(server, method, path, body).await;
    assert_eq!(told(&answer), "400 invalid_request", "{method} {path}");
    let mut named = fields(&answer);
    named.sort_unstable();
    named
}

on_both_engines! {
    async fn every_bad_field_of_a_new_key_is_told_at_once(server: Server) {
        let ask = json!({
            "name": "", "scopes": ["No"], "audiences": ["urn:nobody", "urn:nowhere"],
            "space": "nowhere", "expires_at": "2001-01-01", "quota": {"limit": "many"},
            "key_type": "robot", "org_role": "king", "colour": "red",
        });
        let named = refused(&server, "POST", "/v1/keys", ask).await;
        assert_eq!(
            named,
            [
                "audiences", "audiences", "colour", "expires_at", "key_type", "name", "org_role",
                "quota", "scopes", "space",
            ]
        );
        let ask = json!({"name": "n", "bot": "bot_0123456789abcdef", "scopes": ["No"]});
        assert_eq!(refused(&server, "POST", "/v1/keys", ask).await, ["bot", "scopes"]);
        let ask = json!({"name": "n", "space": "nowhere"});
        assert_eq!(told(&call(&server, "POST", "/v1/keys", ask).await), "404 not_found");
    }

    async fn every_bad_field_of_an_edited_key_is_told_at_once(server: Server) {
        let key = key(&server, json!({})).await;
        let ask = json!({
            "name": "", "scopes": ["No"], "audiences": ["urn:nobody"], "allow": ["x"],
            "quota": 5, "expires_at": "2001-01-01",
        });
        let named = refused(&server, "PATCH", &at(&key), ask).await;
        assert_eq!(named, ["allow", "audiences", "expires_at", "name", "quota", "scopes"]);
    }

    async fn every_bad_field_of_an_audience_is_told_at_once(server: Server) {
        let ask = json!({
            "uri": "nothing", "slug": "No", "actions": ["No"], "paths": ["//"],
            "token_lifetime": 1, "token_type": "x", "raw_keys": {"policy": 5},
        });
        let named = refused(&server, "POST", "/v1/audiences", ask).await;
        let all =
            ["actions", "paths", "raw_keys", "slug", "token_lifetime", "token_type", "uri"];
        assert_eq!(named, all);
        good(&server, "POST", "/v1/audiences", json!({"uri": "urn:a:b", "slug": "ab"})).await;
        let ask = json!({"actions": ["No"], "paths": ["//"], "token_lifetime": 1});
        let named = refused(&server, "PATCH", "/v1/audiences/ab", ask).await;
        assert_eq!(named, ["actions", "paths", "token_lifetime"]);
    }

    async fn every_bad_field_of_a_user_or_bot_is_told_at_once(server: Server) {
        let ask = json!({"email": "nobody", "name": "", "role": "king"});
        assert_eq!(refused(&server, "POST", "/v1/users", ask).await, ["email", "name", "role"]);
        let ask = json!({"email": 5, "name": "", "role": "king"});
        assert_eq!(refused(&server, "POST", "/v1/users", ask).await, ["email", "name", "role"]);
        let ask = json!({"email": "a@example.com", "role": "king"});
        assert_eq!(refused(&server, "POST", "/v1/users", ask).await, ["role"]);
        let ask = json!({
            "name": "", "grants": ["No"], "space": "nowhere", "org_role": "king",
            "space_role": "queen",
        });
        let named = refused(&server, "POST", "/v1/bots", ask).await;
        assert_eq!(named, ["grants", "name", "org_role", "space"]);
        let ask = json!({"name": "", "grants": "read:a"});
        let bot = good(&server, "POST", "/v1/bots", json!({"name": "b"})).await;
        let path = format!("/v1/bots/{}", bot["id"].as_str().unwrap());
        assert_eq!(refused(&server, "PATCH", &path, ask).await, ["grants", "name"]);
    }

    async fn every_bad_field_of_a_role_or_organization_is_told_at_once(server: Server) {
        let ask = json!({"name": "", "level": "planet", "scopes": 5});
        let named = refused(&server, "POST", "/v1/roles", ask).await;
        assert_eq!(named, ["level", "name", "scopes"]);
        let ask = json!({"name": "", "default_audience": "urn:nobody"});
        let named = refused(&server, "PATCH", "/v1/organization", ask).await;
        assert_eq!(named, ["default_audience", "name"]);
        let key = key(&server, json!({})).await;
        let ask = json!({"grace_period_seconds": 100_000, "expires_at": "2001-01-01", "force": 5});
        let named = refused(&server, "POST", &format!("{}/refresh", at(&key)), ask).await;
        assert_eq!(named, ["expires_at", "force", "grace_period_seconds"]);
    }

    async fn every_bad_parameter_of_a_list_is_told_at_once(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        for (list, more, expected) in [
            ("keys", "&status=dead&owner=nobody&key_type=x", "cursor key_type limit owner status"),
            ("audit", "&since=soon&until=late&actor=%20", "actor cursor limit since until"),
            ("installation/audit", "&since=soon&until=late", "cursor limit since until"),
            ("bots", "", "cursor limit"),
            ("users", "", "cursor limit"),
            ("roles", "", "cursor limit"),
            ("spaces", "", "cursor limit"),
            ("audiences", "", "cursor limit"),
            ("organizations", "", "cursor limit"),
            ("spaces/alpha/members", "", "cursor limit"),
        ] {
            let path = format!("/v1/{list}?limit=999&cursor=x{more}");
            assert_eq!(refused(&server, "GET", &path, Value::Null).await.join(" "), expected, "{path}");
        }
        let path = "/v1/usage?since=soon&until=late&by=year";
        assert_eq!(refused(&server, "GET", path, Value::Null).await, ["by", "since", "until"]);
    }

    async fn an_element_of_a_list_of_scopes_is_one_scope(server: Server) {
        let key = key(&server, json!({})).await;
        let bot = good(&server, "POST", "/v1/bots", json!({"name": "b"})).await;
        let bot = format!("/v1/bots/{}", bot["id"].as_str().unwrap());
        let role = json!({"name": "r", "level": "organization", "scopes": ["read:a"]});
        let role = good(&server, "POST", "/v1/roles", role).await;
        let role = format!("/v1/roles/{}", role["id"].as_str().unwrap());
        for two in ["read:a write:b", " read:a", "read:a\tchat", "read:a ", ""] {
            let scopes = json!(["chat", two]);
            for (method, path, body) in [
                ("POST", "/v1/keys", json!({"name": "n", "scopes": scopes})),
                ("PATCH", &at(&key), json!({"scopes": scopes})),
                ("POST", "/v1/bots", json!({"name": "n", "grants": scopes})),
                ("PATCH", &bot, json!({"grants": scopes})),
                ("POST", "/v1/roles", json!({"name": "n", "level": "space", "scopes": scopes})),
                ("PATCH", &role, json!({"scopes": scopes})),
            ] {
                let answer = call(&server, method, path, body).await;
                assert_eq!(told(&answer), "400 invalid_request", "{method} {path} {two:?}");
                let said = message(&answer);
                assert!(said.contains("an element of the list is one scope"), "{said}");
            }
        }
    }

    async fn a_field_that_cannot_be_cleared_is_never_null_in_a_change(server: Server) {
        let bot = text(&good(&server, "POST", "/v1/bots", json!({"name": "b"})).await, "id");
        let user = text(&good(&server, "POST", "/v1/users", json!({"email": "a@example.com"})).await, "id");
        let role = json!({"name": "r", "level": "organization", "scopes": ["read:a"]});
        let role = text(&good(&server, "POST", "/v1/roles", role).await, "id");
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let key = key(&server, json!({"expires_at": "9d"})).await;
        for (path, fields) in [
            (at(&key), "description expires_at name"),
            (format!("/v1/bots/{bot}"), "name"),
            (format!("/v1/users/{user}"), "name"),
            (format!("/v1/roles/{role}"), "name scopes"),
            ("/v1/spaces/alpha".to_owned(), "name"),
            ("/v1/organization".to_owned(), "default_audience name"),
            ("/v1/audiences/default".to_owned(), "token_type"),
        ] {
            let ask: Value = fields.split(' ').map(|field| (field.to_owned(), Value::Null)).collect();
            assert_eq!(refused(&server, "PATCH", &path, ask).await.join(" "), fields, "{path}");
        }
        let made = call(&server, "POST", "/v1/keys", json!({"name": "n", "expires_at": null})).await;
        assert_eq!(told(&made), "201", "where nothing was before, `null` is nothing");
    }

    async fn a_parameter_that_is_empty_or_repeated_or_has_a_nul_does_not_hide_another_bad_one(server: Server) {
        let path = "/v1/keys?limit=999&owner=&name=a%00&status=active&status=dead&status=x&colour=red&key_type=&cursor=x";
        let named = refused(&server, "GET", path, Value::Null).await;
        assert_eq!(named, ["colour", "cursor", "key_type", "limit", "name", "owner", "status"]);
        let path = "/v1/spaces?dry_run=perhaps&organization=&colour=red";
        let named = refused(&server, "POST", path, json!({"slug": 5})).await;
        assert_eq!(named, ["colour", "dry_run", "organization", "slug"]);
        let path = "/v1/keys/import?dry_run=perhaps&atomic=&colour=red";
        let headers = [("Content-Type", "application/x-ndjson")];
        let bearer = format!("Bearer {}", server.administrator.text);
        let all = [&headers[..], &[("Authorization", bearer.as_str())]].concat();
        let mut named = fields(&server.send("POST", path, &all, b"{}").await);
        named.sort_unstable();
        assert_eq!(named, ["atomic", "colour", "dry_run"]);
        let path = "/v1/installation/audit?organization=default&limit=";
        assert_eq!(refused(&server, "GET", path, Value::Null).await, ["limit", "organization"]);
    }

    async fn a_bad_flag_of_the_url_does_not_hide_a_bad_body(server: Server) {
        let path = "/v1/spaces?dry_run=perhaps";
        let named = refused(&server, "POST", path, json!({"slug": "No", "name": ""})).await;
        assert_eq!(named, ["dry_run", "name", "slug"]);
    }
}
