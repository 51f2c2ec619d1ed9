//! Spaces: made once under a slug, suspended, deleted for ever.

use serde_json::{Value, json};

use crate::api::{
    at, call, each, fields, good, key, outcome, outcome_of, text, told, with_space_role,
};
use crate::server::on_both_engines;

on_both_engines! {
    async fn a_space_is_found_by_its_id_its_slug_and_a_name_of_its_own(server: Server) {
        let made = good(&server, "POST", "/v1/spaces", json!({"slug": "alpha-1", "name": "Alpha"})).await;
        for name in [text(&made, "id"), "alpha-1".to_owned(), "Alpha".to_owned()] {
            assert_eq!(good(&server, "GET", &format!("/v1/spaces/{name}"), Value::Null).await, made);
        }
        let edited = good(&server, "PATCH", "/v1/spaces/alpha-1", json!({"name": "Beta"})).await;
        assert_eq!((text(&edited, "name").as_str(), text(&edited, "slug").as_str()), ("Beta", "alpha-1"));
        let answer = call(&server, "PATCH", "/v1/spaces/alpha-1", json!({"slug": "beta"})).await;
        assert_eq!(fields(&answer), ["slug"], "a slug stays");
        let unnamed = good(&server, "POST", "/v1/spaces", json!({"slug": "beta"})).await;
        assert_eq!(unnamed["name"], "beta");
        let list = good(&server, "GET", "/v1/spaces", Value::Null).await;
        assert_eq!(each(&list, "slug"), ["beta", "alpha-1"]);
        good(&server, "POST", "/v1/spaces", json!({"slug": "gamma", "name": "Beta"})).await;
        let found = good(&server, "GET", "/v1/spaces/beta", Value::Null).await;
        assert_eq!(text(&found, "id"), text(&unnamed, "id"), "a slug goes before a name");
        assert_eq!(outcome(&server, "GET", "/v1/spaces/Beta", Value::Null).await, "409 name_ambiguous");
    }

    async fn a_slug_is_plain_and_never_used_again(server: Server) {
        for slug in ["", "Alpha", "a b", "a/b", "..", "caf\u{e9}", "a_b", &"a".repeat(41)] {
            let answer = call(&server, "POST", "/v1/spaces", json!({"slug": slug})).await;
            assert_eq!((told(&answer).as_str(), fields(&answer)[0].as_str()), ("400 invalid_request", "slug"), "{slug}");
        }
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        assert_eq!(outcome(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await, "409 slug_taken");
        good(&server, "DELETE", "/v1/spaces/alpha", Value::Null).await;
        assert_eq!(outcome(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await, "409 slug_taken");
        assert_eq!(outcome(&server, "GET", "/v1/spaces/alpha", Value::Null).await, "404 not_found");
    }

    async fn a_suspended_space_stops_its_keys_and_lets_them_go_on(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let inside = key(&server, json!({"space": "alpha", "scopes": ["chat"]})).await;
        let outside = key(&server, json!({"scopes": ["chat"]})).await;
        good(&server, "POST", "/v1/spaces/alpha/suspend", Value::Null).await;
        let said = server.token(&inside, "").await.description();
        assert_eq!(said, "the owner, space or organization of the API key is suspended");
        assert_eq!(server.token(&inside, "").await.outcome(), "401 invalid_client");
        assert_eq!(server.token(&outside, "").await.outcome(), "200");
        let new = json!({"name": "x", "space": "alpha"});
        assert_eq!(outcome(&server, "POST", "/v1/keys", new).await, "409 space_suspended");
        good(&server, "POST", "/v1/spaces/alpha/resume", Value::Null).await;
        assert_eq!(server.token(&inside, "").await.outcome(), "200");
        assert_eq!(server.token(&inside, "").await.claims()["space"].as_str().unwrap()[..4], *"spc_");
    }

    async fn a_key_of_a_bot_of_a_space_is_a_key_of_that_space_and_stops_with_it(server: Server) {
        for slug in ["alpha", "beta"] {
            good(&server, "POST", "/v1/spaces", json!({"slug": slug})).await;
        }
        let ask = json!({"name": "b", "space": "alpha", "grants": ["chat"]});
        let bot = text(&good(&server, "POST", "/v1/bots", ask).await, "id");
        let unsaid = key(&server, json!({"bot": bot})).await;
        let alpha = text(&good(&server, "GET", "/v1/spaces/alpha", Value::Null).await, "id");
        assert_eq!(good(&server, "GET", &at(&unsaid), Value::Null).await["space"], alpha.as_str());
        let elsewhere = json!({"name": "x", "bot": bot, "space": "beta"});
        assert_eq!(fields(&call(&server, "POST", "/v1/keys", elsewhere).await), ["space"]);
        good(&server, "POST", "/v1/spaces/alpha/suspend", Value::Null).await;
        assert_eq!(server.token(&unsaid, "").await.outcome(), "401 invalid_client");
        let new = json!({"name": "x", "bot": bot});
        assert_eq!(outcome(&server, "POST", "/v1/keys", new.clone()).await, "409 space_suspended");
        good(&server, "POST", "/v1/spaces/alpha/resume", Value::Null).await;
        assert_eq!(server.token(&unsaid, "").await.outcome(), "200");
        let shown = good(&server, "DELETE", "/v1/spaces/alpha?dry_run=true", Value::Null).await;
        let ends = |action: &str, object: &str| {
            let also = shown["also"].as_array().unwrap();
            also.iter().any(|one| one["action"] == action && one["object"] == object)
        };
        assert!(ends("api_key.revoke", &unsaid.id.to_string()) && ends("bot.delete", &bot), "{shown}");
        good(&server, "DELETE", "/v1/spaces/alpha", Value::Null).await;
        assert_eq!(server.token(&unsaid, "").await.outcome(), "401 invalid_client");
        assert_eq!(outcome(&server, "GET", &format!("/v1/bots/{bot}"), Value::Null).await, "404 not_found");
        assert_eq!(outcome(&server, "POST", "/v1/keys", new).await, "404 not_found");
    }

    async fn a_space_whose_bot_is_the_last_admin_beyond_it_stays(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let ask = json!({"name": "b", "space": "alpha", "org_role": "admin"});
        good(&server, "POST", "/v1/bots", ask).await;
        let root = text(&good(&server, "GET", "/v1/whoami", Value::Null).await, "owner");
        good(&server, "DELETE", &format!("/v1/owners/{root}/role"), Value::Null).await;
        for (method, path) in [("POST", "/v1/spaces/alpha/suspend"), ("DELETE", "/v1/spaces/alpha")] {
            assert_eq!(outcome(&server, method, path, Value::Null).await, "409 last_admin", "{method}");
        }
        good(&server, "PUT", &format!("/v1/owners/{root}/role"), json!({"role": "admin"})).await;
        assert_eq!(outcome(&server, "DELETE", "/v1/spaces/alpha", Value::Null).await, "200");
    }

    async fn a_deleted_space_stops_its_keys_and_roles_for_ever(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let inside = key(&server, json!({"space": "alpha", "scopes": ["chat"]})).await;
        let bot = text(&good(&server, "POST", "/v1/bots", json!({"name": "b"})).await, "id");
        good(&server, "PUT", &format!("/v1/spaces/alpha/members/{bot}"), json!({"role": "admin"})).await;
        let outside = key(&server, json!({"bot": bot})).await;
        assert_eq!(server.token(&outside, "scope=admin:spaces/alpha/x").await.outcome(), "200");
        good(&server, "DELETE", "/v1/spaces/alpha", Value::Null).await;
        assert_eq!(server.token(&inside, "").await.outcome(), "401 invalid_client");
        assert_eq!(server.token(&outside, "scope=admin:spaces/alpha/x").await.outcome(), "400 invalid_scope");
        for verb in ["suspend", "resume"] {
            assert_eq!(outcome(&server, "POST", &format!("/v1/spaces/alpha/{verb}"), Value::Null).await, "404 not_found");
        }
        let record = good(&server, "GET", &at(&inside), Value::Null).await;
        assert_eq!(record["name"], "test", "the record stays");
    }

    async fn the_members_of_a_space_are_those_with_a_role_in_it(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let mut owners = Vec::new();
        for n in 0..3 {
            let bot = good(&server, "POST", "/v1/bots", json!({"name": format!("b{n}")})).await;
            owners.push(text(&bot, "id"));
        }
        for (owner, role) in owners.iter().zip(["admin", "member", "read-only"]) {
            let place = format!("/v1/spaces/alpha/members/{owner}");
            let bound = good(&server, "PUT", &place, json!({"role": role})).await;
            assert_eq!((text(&bound, "level").as_str(), text(&bound, "role").as_str()), ("space", role));
        }
        owners.sort();
        let first = good(&server, "GET", "/v1/spaces/alpha/members?limit=2", Value::Null).await;
        let next = format!("/v1/spaces/alpha/members?limit=2&cursor={}", text(&first, "next_cursor"));
        let second = good(&server, "GET", &next, Value::Null).await;
        let mut found = each(&first, "owner");
        found.extend(each(&second, "owner"));
        assert_eq!(found, owners);
        for role in ["verifier", "nobody", "none", "rol_0123456789abcdef"] {
            let place = format!("/v1/spaces/alpha/members/{}", owners[0]);
            assert_eq!(outcome(&server, "PUT", &place, json!({"role": role})).await, "400 invalid_request", "{role}");
        }
    }

    async fn the_last_admin_of_a_space_stays(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let admin = with_space_role(&server, "alpha", "admin").await;
        let owner = text(&good(&server, "GET", &at(&admin), Value::Null).await, "owner");
        let place = format!("/v1/spaces/alpha/members/{owner}");
        for (method, path, body) in [
            ("DELETE", place.clone(), Value::Null),
            ("PUT", place.clone(), json!({"role": "member"})),
            ("POST", format!("/v1/bots/{owner}/suspend"), Value::Null),
            ("DELETE", format!("/v1/bots/{owner}"), Value::Null),
        ] {
            assert_eq!(outcome(&server, method, &path, body).await, "409 last_admin", "{method} {path}");
        }
        with_space_role(&server, "alpha", "admin").await;
        assert_eq!(outcome_of(&server, &admin, "DELETE", &place, Value::Null).await, "200");
    }
}
