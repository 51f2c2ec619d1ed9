//! Bots: service accounts, their grants and their end.

use serde_json::{Value, json};

use crate::api::{
    at, call, each, fields, good, good_of, key, key_of, org_admin, outcome, outcome_of, text,
};
use crate::server::on_both_engines;

on_both_engines! {
    async fn a_bot_holds_its_grants_and_its_roles(server: Server) {
        let ask = json!({"name": "builder", "grants": ["chat"], "org_role": "read-only"});
        let bot = text(&good(&server, "POST", "/v1/bots", ask).await, "id");
        let all = key(&server, json!({"bot": bot})).await;
        assert_eq!(server.token(&all, "").await.json()["scope"], "chat read:org/*");
        let some = key(&server, json!({"bot": bot, "scopes": ["read:org/keys/*"]})).await;
        assert_eq!(server.token(&some, "").await.json()["scope"], "read:org/keys/*");
        let beyond = json!({"name": "x", "bot": bot, "scopes": ["models"]});
        assert_eq!(fields(&call(&server, "POST", "/v1/keys", beyond).await), ["scopes"]);
        good(&server, "PATCH", &format!("/v1/bots/{bot}"), json!({"grants": []})).await;
        assert_eq!(server.token(&all, "").await.json()["scope"], "read:org/*", "taken away at once");
        assert_eq!(server.token(&all, "scope=chat").await.outcome(), "400 invalid_scope");
    }

    async fn grants_are_given_by_who_holds_them_and_taken_away_by_who_does_not(server: Server) {
        let ask = json!({"name": "b", "grants": ["chat", "models"], "org_role": "none"});
        let bot = format!("/v1/bots/{}", text(&good(&server, "POST", "/v1/bots", ask).await, "id"));
        let narrow = key(&server, json!({"scopes": ["admin:org/bots/*", "read:org/*"]})).await;
        assert_eq!(outcome_of(&server, &narrow, "PATCH", &bot, json!({"grants": ["chat"]})).await, "200");
        for beyond in [json!(["chat", "models"]), json!(["*:*"])] {
            assert_eq!(outcome_of(&server, &narrow, "PATCH", &bot, json!({"grants": beyond})).await, "403 forbidden");
        }
        for ask in [json!({"name": "x", "grants": ["chat"]}), json!({"name": "x", "org_role": "admin"})] {
            assert_eq!(outcome_of(&server, &narrow, "POST", "/v1/bots", ask).await, "403 forbidden");
        }
        assert_eq!(outcome_of(&server, &narrow, "POST", "/v1/bots", json!({"name": "x"})).await, "201");
    }

    async fn a_suspended_bot_stops_its_keys_and_a_deleted_one_for_ever(server: Server) {
        let bot = text(&good(&server, "POST", "/v1/bots", json!({"name": "b"})).await, "id");
        let path = format!("/v1/bots/{bot}");
        let key = key(&server, json!({"bot": bot})).await;
        good(&server, "POST", &format!("{path}/suspend"), Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "401 invalid_client");
        good(&server, "POST", &format!("{path}/resume"), Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        good(&server, "DELETE", &path, Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "401 invalid_client");
        for (method, path, body) in [
            ("GET", path.clone(), Value::Null),
            ("POST", format!("{path}/resume"), Value::Null),
            ("PATCH", path.clone(), json!({"name": "x"})),
            ("POST", "/v1/keys".to_owned(), json!({"name": "x", "bot": bot})),
        ] {
            assert_eq!(outcome(&server, method, &path, body).await, "404 not_found", "{method} {path}");
        }
        let record = good(&server, "GET", &at(&key), Value::Null).await;
        assert_eq!(record["status"], "revoked", "the record stays");
        assert_eq!(server.token(&key, "").await.description(), "the API key was revoked");
        for verb in ["rotate", "refresh"] {
            let path = format!("{}/{verb}", at(&key));
            assert_eq!(outcome(&server, "POST", &path, json!({})).await, "409 not_active", "{verb}");
        }
    }

    async fn a_deleted_bot_has_no_role_anywhere(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let role = json!({"name": "builder", "level": "organization", "scopes": ["read:builds/*"]});
        let role = text(&good(&server, "POST", "/v1/roles", role).await, "id");
        let ask = json!({"name": "b", "space": "alpha", "org_role": role});
        let bot = text(&good(&server, "POST", "/v1/bots", ask).await, "id");
        let admin = format!("/v1/installation/admins/{bot}");
        good(&server, "PUT", &admin, json!({"role": "admin"})).await;
        let path = format!("/v1/bots/{bot}");
        let would = good(&server, "DELETE", &format!("{path}?dry_run=true"), Value::Null).await;
        let lost: Vec<&Value> = would["also"].as_array().unwrap().iter().collect();
        assert_eq!(lost.len(), 3, "{would}");
        assert!(lost.iter().all(|one| one["action"] == "role.unbind" && one["after"].is_null()));
        let members = async || {
            let space = good(&server, "GET", "/v1/spaces/alpha/members", Value::Null).await;
            let admins = good(&server, "GET", "/v1/installation/admins", Value::Null).await;
            (each(&space, "owner").contains(&bot), each(&admins, "owner").contains(&bot))
        };
        assert_eq!(members().await, (true, true));
        good(&server, "DELETE", &path, Value::Null).await;
        assert_eq!(members().await, (false, false));
        good(&server, "DELETE", &format!("/v1/roles/{role}"), Value::Null).await;
    }

    async fn roles_are_given_to_a_new_bot_alone(server: Server) {
        let bot = text(&good(&server, "POST", "/v1/bots", json!({"name": "b"})).await, "id");
        for (field, ask) in [
            ("bot", json!({"name": "x", "bot": bot, "org_role": "member"})),
            ("space_role", json!({"name": "x", "space_role": "member"})),
            ("org_role", json!({"name": "x", "org_role": "owner"})),
            ("key_type", json!({"name": "x", "key_type": "user", "bot": bot})),
            ("key_type", json!({"name": "x", "key_type": "robot"})),
        ] {
            assert_eq!(fields(&call(&server, "POST", "/v1/keys", ask).await), [field]);
        }
    }

    async fn bots_are_listed_by_their_space(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        for (name, space) in [("a", json!("alpha")), ("b", Value::Null), ("c", json!("alpha"))] {
            good(&server, "POST", "/v1/bots", json!({"name": name, "space": space})).await;
        }
        let all = good(&server, "GET", "/v1/bots", Value::Null).await;
        assert_eq!(each(&all, "name"), ["c", "b", "a", "administrator"]);
        let inside = good(&server, "GET", "/v1/bots?space=alpha", Value::Null).await;
        assert_eq!(each(&inside, "name"), ["c", "a"]);
    }

    async fn a_bot_of_one_key_lives_on_when_its_maker_is_gone(server: Server) {
        let maker = org_admin(&server).await;
        let ask = json!({"name": "x", "scopes": ["chat"]});
        let made = key_of(&good_of(&server, &maker, "POST", "/v1/keys", ask).await);
        let owner = text(&good(&server, "GET", &at(&maker), Value::Null).await, "owner");
        good(&server, "DELETE", &format!("/v1/bots/{owner}"), Value::Null).await;
        assert_eq!(server.token(&maker, "").await.outcome(), "401 invalid_client");
        assert_eq!(server.token(&made, "").await.outcome(), "200");
    }
}
