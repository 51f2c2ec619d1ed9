//! Persons: members whose keys stop with them.

use serde_json::{Value, json};

use crate::api::{
    at, audited, call, each, fields, good, good_of, key, key_of, member, org_admin, outcome,
    outcome_of, text, told, user_key,
};
use crate::server::on_both_engines;

on_both_engines! {
    async fn a_member_is_made_shown_changed_and_listed(server: Server) {
        let ask = json!({"email": "Ada@Example.com", "name": "Ada"});
        let made = good(&server, "POST", "/v1/users", ask).await;
        let at = format!("/v1/users/{}", text(&made, "id"));
        assert_eq!((text(&made, "email").as_str(), text(&made, "name").as_str()), ("ada@example.com", "Ada"));
        assert_eq!(good(&server, "GET", &at, Value::Null).await, made);
        let roles = good(&server, "GET", &format!("/v1/owners/{}/roles", text(&made, "id")), Value::Null).await;
        assert_eq!(each(&roles, "role"), ["member"]);
        let edited = good(&server, "PATCH", &at, json!({"name": "A. Lovelace"})).await;
        assert_eq!(edited["name"], "A. Lovelace");
        assert_eq!(fields(&call(&server, "PATCH", &at, json!({"email": "x@y.z"})).await), ["email"]);
        let again = json!({"email": "ada@example.COM"});
        assert_eq!(outcome(&server, "POST", "/v1/users", again).await, "409 already_member");
        for email in ["", "ada", "a b@c", "@c", "a@"] {
            assert_eq!(fields(&call(&server, "POST", "/v1/users", json!({"email": email, "name": "x"})).await), ["email"], "{email}");
        }
    }

    async fn a_suspended_members_keys_stop_at_once_and_go_on_after(server: Server) {
        let ada = member(&server, "ada@example.com", "admin").await;
        let key = user_key(&server, &ada, None).await;
        let token = server.token(&key, "audience=management").await.token();
        let opens = async || server.api_with(&token, "GET", "/v1/whoami", Value::Null, &[]).await.status;
        assert_eq!(opens().await, 200);
        good(&server, "POST", &format!("/v1/users/{ada}/suspend"), Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "401 invalid_client");
        assert_eq!((opens().await, outcome_of(&server, &key, "GET", "/v1/whoami", Value::Null).await.as_str()), (401, "401 unauthenticated"));
        good(&server, "POST", &format!("/v1/users/{ada}/resume"), Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "200");
    }

    async fn a_member_shows_that_the_person_is_suspended_everywhere(server: Server) {
        let ada = member(&server, "ada@example.com", "member").await;
        let (suspend, shown) = (format!("/v1/installation/users/{ada}/suspend"), format!("/v1/users/{ada}"));
        let would = good(&server, "POST", &format!("{suspend}?dry_run=true"), Value::Null).await;
        assert_eq!(would["changes"][0]["field"], "suspended_at");
        let person = good(&server, "POST", &suspend, Value::Null).await;
        assert_eq!(person["email"], "ada@example.com");
        let member = good(&server, "GET", &shown, Value::Null).await;
        assert_eq!((&member["suspended_at"], &member["person_suspended_at"]), (&Value::Null, &person["suspended_at"]));
        good(&server, "POST", &format!("/v1/installation/users/{ada}/resume"), Value::Null).await;
        assert_eq!(good(&server, "GET", &shown, Value::Null).await["person_suspended_at"], Value::Null);
    }

    async fn a_person_that_is_suspended_stops_everywhere(server: Server) {
        let ada = member(&server, "ada@example.com", "member").await;
        let key = user_key(&server, &ada, None).await;
        let admin = org_admin(&server).await;
        let path = format!("/v1/installation/users/{ada}/suspend");
        assert_eq!(outcome_of(&server, &admin, "POST", &path, Value::Null).await, "403 forbidden");
        good(&server, "POST", &path, Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "401 invalid_client");
        good(&server, "POST", &format!("/v1/installation/users/{ada}/resume"), Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        for nobody in ["usr_0123456789abcdef", "nonsense"] {
            let path = format!("/v1/installation/users/{nobody}/suspend");
            assert_eq!(outcome(&server, "POST", &path, Value::Null).await, "404 not_found");
        }
    }

    async fn a_removed_members_keys_are_revoked_for_ever_while_a_bot_that_it_made_lives_on(server: Server) {
        let ada = member(&server, "ada@example.com", "admin").await;
        let mine = user_key(&server, &ada, None).await;
        let ask = json!({"name": "bot", "key_type": "service", "scopes": ["chat"]});
        let bots = key_of(&good_of(&server, &mine, "POST", "/v1/keys", ask).await);
        let would = good(&server, "DELETE", &format!("/v1/users/{ada}?dry_run=true"), Value::Null).await;
        let email = would["changes"].as_array().unwrap().iter().find(|change| change["field"] == "email");
        assert_eq!(email.unwrap(), &json!({"field": "email", "before": "ada@example.com", "after": null}));
        let also: Vec<String> = would["also"].as_array().unwrap().iter().map(|change| format!("{} {}", text(change, "action"), text(change, "object"))).collect();
        assert_eq!(also, [format!("api_key.revoke {}", mine.id), format!("role.unbind {ada}")]);
        assert_eq!(server.token(&mine, "").await.outcome(), "200", "that was a dry run");
        good(&server, "DELETE", &format!("/v1/users/{ada}"), Value::Null).await;
        let entries = audited(&server, &format!("object={}", mine.id)).await;
        assert_eq!(text(&entries[0], "action"), "api_key.revoke", "the key tells what ended it");
        let entries = audited(&server, &format!("object={ada}")).await;
        let actions: Vec<String> = entries.iter().map(|entry| text(entry, "action")).collect();
        assert_eq!(actions, ["role.unbind", "user.delete", "role.bind", "user.create"]);
        assert_eq!((&entries[1]["after"], &entries[1]["before"]["email"]), (&Value::Null, &json!("ada@example.com")));
        assert_eq!(server.token(&mine, "").await.description(), "the API key was revoked");
        assert_eq!(server.token(&bots, "").await.outcome(), "200", "it outlives the person");
        assert_eq!(outcome(&server, "GET", &format!("/v1/users/{ada}"), Value::Null).await, "404 not_found");
        assert_eq!(good(&server, "GET", &at(&mine), Value::Null).await["status"], "revoked");
        member(&server, "ada@example.com", "member").await;
        assert_eq!(server.token(&mine, "").await.outcome(), "401 invalid_client", "revoked stays revoked");
        let roles = good(&server, "GET", &format!("/v1/owners/{ada}/roles"), Value::Null).await;
        assert_eq!(each(&roles, "role"), ["member"], "nothing of before comes back");
    }

    async fn a_demoted_members_keys_lose_what_it_lost(server: Server) {
        let ada = member(&server, "ada@example.com", "admin").await;
        let mine = user_key(&server, &ada, Some("read:projects/* read:org/keys/*")).await;
        assert_eq!(server.token(&mine, "scope=read:projects/x").await.outcome(), "200");
        good(&server, "PUT", &format!("/v1/owners/{ada}/role"), json!({"role": "member"})).await;
        assert_eq!(server.token(&mine, "").await.json()["scope"], "read:org/keys/*");
        assert_eq!(server.token(&mine, "scope=read:projects/x").await.outcome(), "400 invalid_scope");
    }

    async fn the_last_admin_of_the_organization_stays(server: Server) {
        let root = text(&good(&server, "GET", &at(&server.administrator), Value::Null).await, "owner");
        let role = format!("/v1/owners/{root}/role");
        for (method, path, body) in [
            ("PUT", role.clone(), json!({"role": "member"})),
            ("DELETE", role.clone(), Value::Null),
            ("POST", format!("/v1/bots/{root}/suspend"), Value::Null),
            ("DELETE", format!("/v1/bots/{root}"), Value::Null),
            ("DELETE", format!("{role}?dry_run=true"), Value::Null),
            ("DELETE", format!("/v1/installation/admins/{root}"), Value::Null),
            ("PUT", format!("/v1/installation/admins/{root}"), json!({"role": "member"})),
        ] {
            assert_eq!(outcome(&server, method, &path, body).await, "409 last_admin", "{method} {path}");
        }
        let ada = member(&server, "ada@example.com", "admin").await;
        good(&server, "POST", &format!("/v1/users/{ada}/suspend"), Value::Null).await;
        assert_eq!(outcome(&server, "DELETE", &role, Value::Null).await, "409 last_admin", "one that is suspended is none");
        good(&server, "POST", &format!("/v1/users/{ada}/resume"), Value::Null).await;
        good(&server, "DELETE", &role, Value::Null).await;
        for (method, path, body) in [
            ("DELETE", format!("/v1/users/{ada}"), Value::Null),
            ("POST", format!("/v1/users/{ada}/suspend"), Value::Null),
            ("POST", format!("/v1/installation/users/{ada}/suspend"), Value::Null),
            ("DELETE", format!("/v1/owners/{ada}/role"), Value::Null),
        ] {
            assert_eq!(outcome(&server, method, &path, body).await, "409 last_admin", "{method} {path}");
        }
    }

    async fn the_last_admin_of_the_account_leaves_no_organization_either(server: Server) {
        let root = text(&good(&server, "GET", &at(&server.administrator), Value::Null).await, "owner");
        let ada = member(&server, "ada@example.com", "member").await;
        good(&server, "PUT", &format!("/v1/installation/admins/{ada}"), json!({"role": "admin"})).await;
        good(&server, "DELETE", &format!("/v1/installation/admins/{root}"), Value::Null).await;
        let hers = user_key(&server, &ada, None).await;
        for (method, verb) in [("POST", "/suspend"), ("DELETE", "")] {
            let path = format!("/v1/users/{ada}{verb}");
            assert_eq!(outcome_of(&server, &hers, method, &path, Value::Null).await, "409 last_admin", "{method} {path}");
        }
    }

    async fn everybody_sees_oneself_and_members_see_each_other(server: Server) {
        let ada = member(&server, "ada@example.com", "none").await;
        let eve = member(&server, "eve@example.com", "member").await;
        let (hers, other) = (user_key(&server, &ada, Some("chat")).await, user_key(&server, &eve, None).await);
        assert_eq!(outcome_of(&server, &hers, "GET", &format!("/v1/users/{ada}"), Value::Null).await, "200");
        assert_eq!(outcome_of(&server, &hers, "GET", &format!("/v1/users/{eve}"), Value::Null).await, "404 not_found");
        assert_eq!(outcome_of(&server, &other, "GET", &format!("/v1/users/{ada}"), Value::Null).await, "200");
        let answer = server.api(&other, "PATCH", &format!("/v1/users/{eve}"), json!({"name": "x"})).await;
        assert_eq!(told(&answer), "403 forbidden");
    }

    async fn nobody_is_made_a_member_with_more_than_the_maker_holds(server: Server) {
        let maker = key(&server, json!({"scopes": ["admin:org/members/*", "read:org/*"]})).await;
        for (role, expected) in [("read-only", "201"), ("none", "201"), ("member", "403 forbidden"), ("admin", "403 forbidden"), ("owner", "400 invalid_request")] {
            let ask = json!({"email": format!("{role}@example.com"), "role": role});
            assert_eq!(outcome_of(&server, &maker, "POST", "/v1/users", ask).await, expected, "{role}");
        }
    }
}
