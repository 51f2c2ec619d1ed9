//! Who may what: credentials, roles, and the two planes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{
    at, call, fields, good, good_of, key, key_of, member, org_admin, outcome, outcome_of, text,
    told, user_key, with_role, with_space_role,
};
use crate::server::{Key, Server, on_both_engines};

/// Every operation of the document, with ids that belong to nothing.
async fn operations(server: &Server) -> Vec<(String, String, Value)> {
    let document = server.get("/v1/openapi.json").await.json();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if matches!(method.as_str(), "get" | "post" | "put" | "patch" | "delete") {
                found.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    assert!(found.len() > 40, "the document was read");
    found
}

/// A path with an id for each of its names.
fn filled(path: &str, server: &Server) -> String {
    path.replace("{id}", &server.administrator.id.to_string())
        .replace("{owner}", "usr_0123456789abcdef")
        .replace("{org}", "default")
        .replace("{space}", "alpha")
        .replace("{audience}", "default")
}

async fn opens(server: &Server, credential: &str) -> u16 {
    server.api_with(credential, "GET", "/v1/whoami", Value::Null, &[]).await.status
}

async fn owner_of(server: &Server, key: &Key) -> String {
    text(&good(server, "GET", &at(key), Value::Null).await, "owner")
}

on_both_engines! {
    async fn nobody_gets_anywhere_without_a_credential(server: Server) {
        for (method, path, _) in operations(&server).await {
            let answer = server.send(&method, &filled(&path, &server), &[], b"").await;
            assert_eq!(told(&answer), "401 unauthenticated", "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tenmint\""));
        }
    }

    async fn a_credential_that_holds_nothing_of_the_api_changes_and_sees_nothing(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let ask = json!({"name": "data", "org_role": "none", "scopes": ["read:projects/*", "chat"]});
        let data = key(&server, ask).await;
        for (method, path, _) in operations(&server).await {
            if path == "/v1/whoami" {
                continue;
            }
            let answer = server.api(&data, &method, &filled(&path, &server), Value::Null).await;
            if answer.status == 200 {
                assert_eq!(answer.json()["items"], json!([]), "{method} {path}: an empty list at most");
            } else {
                assert!(matches!(answer.status, 400 | 403 | 404 | 415), "{method} {path}: {answer:?}");
            }
        }
    }

    async fn only_a_token_for_the_management_audience_opens_the_api(server: Server) {
        let key = org_admin(&server).await;
        for (form, status) in [
            ("audience=management", 200),
            ("resource=http://127.0.0.1/v1", 200),
            ("", 401),
            ("audience=default", 401),
            ("resource=https://api.example.com", 401),
        ] {
            let token = server.token(&key, form).await.token();
            assert_eq!(opens(&server, &token).await, status, "{form}");
        }
        let claims = server.token(&key, "audience=management").await.claims();
        assert_eq!(claims["aud"], "http://127.0.0.1/v1");
        let both = "audience=management&resource=https://api.example.com";
        assert_eq!(server.token(&key, both).await.outcome(), "400 invalid_target");
        let both = "resource=http://127.0.0.1/v1&resource=https://api.example.com";
        assert_eq!(server.token(&key, both).await.outcome(), "400 invalid_target", "alone");
    }

    async fn the_management_audience_is_never_the_default(server: Server) {
        let only = key(&server, json!({"scopes": ["*:*"], "audiences": ["management"]})).await;
        assert_eq!(server.token(&only, "").await.outcome(), "400 invalid_target");
        assert_eq!(server.token(&only, "audience=management").await.outcome(), "200");
        assert_eq!(server.token(&only, "audience=default").await.outcome(), "400 invalid_target");
        let both = key(&server, json!({"scopes": ["*:*"], "audiences": ["management", "default"]})).await;
        assert_eq!(server.token(&both, "").await.claims()["aud"], "https://api.example.com");
        let edit = json!({"default_audience": "management"});
        assert_eq!(outcome(&server, "PATCH", "/v1/organization", edit).await, "400 invalid_request");
    }

    async fn a_key_for_other_audiences_opens_nothing_of_the_api(server: Server) {
        let data = key(&server, json!({"scopes": ["*:*"], "org_role": "admin", "audiences": ["default"]})).await;
        assert_eq!(opens(&server, &data.text).await, 401);
        assert_eq!(server.token(&data, "audience=management").await.outcome(), "400 invalid_target");
    }

    async fn a_token_may_do_no_more_than_its_scopes(server: Server) {
        let admin = org_admin(&server).await;
        let token = server.token(&admin, "audience=management&scope=read:org/*").await.token();
        let told_to = async |method: &str, path: &str, body: Value| {
            told(&server.api_with(&token, method, path, body, &[]).await)
        };
        assert_eq!(told_to("GET", "/v1/keys", Value::Null).await, "200");
        assert_eq!(told_to("POST", "/v1/keys", json!({"name": "x", "scopes": ["read:org/*"]})).await, "403 forbidden");
        assert_eq!(told_to("POST", &format!("{}/revoke", at(&admin)), Value::Null).await, "403 forbidden");
        let narrow = server.token(&admin, "audience=management&scope=admin:org/keys/*%20read:org/*%20chat").await.token();
        let give = async |scopes: Value| {
            let ask = json!({"name": "x", "scopes": scopes});
            told(&server.api_with(&narrow, "POST", "/v1/keys", ask, &[]).await)
        };
        assert_eq!((give(json!(["chat"])).await.as_str(), give(json!(["chat", "read:x"])).await.as_str()), ("201", "403 forbidden"));
    }

    async fn a_credential_that_is_dead_opens_nothing(server: Server) {
        let expiring = key(&server, json!({"org_role": "member", "expires_at": "1m"})).await;
        let (revoked, suspended) = (with_role(&server, "member").await, with_role(&server, "member").await);
        let mut tokens = Vec::new();
        for key in [&expiring, &revoked, &suspended] {
            assert_eq!(opens(&server, &key.text).await, 200);
            tokens.push(server.token(key, "audience=management").await.token());
        }
        server.revoke(&revoked.id).await;
        let bot = owner_of(&server, &suspended).await;
        good(&server, "POST", &format!("/v1/bots/{bot}/suspend"), Value::Null).await;
        server.wind(Duration::from_mins(1)).await;
        for (key, token) in [&expiring, &revoked, &suspended].into_iter().zip(&tokens) {
            assert_eq!((opens(&server, &key.text).await, opens(&server, token).await), (401, 401));
        }
        let token = server.token(&server.administrator, "audience=management").await.token();
        server.wind(Duration::from_secs(599)).await;
        assert_eq!(opens(&server, &token).await, 200);
        server.wind(Duration::from_secs(6)).await;
        assert_eq!(opens(&server, &token).await, 401, "a token has its own end");
    }

    async fn a_demotion_bites_at_the_next_call_and_at_the_next_token(server: Server) {
        let key = with_role(&server, "admin").await;
        let owner = owner_of(&server, &key).await;
        let token = server.token(&key, "audience=management").await.token();
        let role = format!("/v1/owners/{owner}/role");
        good(&server, "PUT", &role, json!({"role": "read-only"})).await;
        for credential in [&key.text, &token] {
            let whoami = server.api_with(credential, "GET", "/v1/whoami", Value::Null, &[]).await;
            assert_eq!(whoami.json()["scopes"], json!(["read:org/*"]));
        }
        assert_eq!(server.token(&key, "").await.json()["scope"], "read:org/*");
        good(&server, "DELETE", &role, Value::Null).await;
        assert_eq!(server.token(&key, "").await.outcome(), "400 invalid_scope");
        assert_eq!(outcome_of(&server, &key, "GET", "/v1/organization", Value::Null).await, "404 not_found");
    }

    async fn each_role_of_the_organization_may_what_the_contract_says(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let victim = server.api_key("chat").await;
        let (read, member, admin) = (with_role(&server, "read-only").await, with_role(&server, "member").await, org_admin(&server).await);
        let (ok, made, no, gone) = ("200", "201", "403 forbidden", "404 not_found");
        for (method, path, body, expected) in [
            ("GET", "/v1/organization".to_owned(), Value::Null, [ok, ok, ok]),
            ("GET", "/v1/keys".to_owned(), Value::Null, [ok, ok, ok]),
            ("GET", at(&victim), Value::Null, [ok, ok, ok]),
            ("GET", "/v1/audit".to_owned(), Value::Null, [ok, ok, ok]),
            ("GET", "/v1/usage".to_owned(), Value::Null, [ok, ok, ok]),
            ("GET", "/v1/spaces/alpha".to_owned(), Value::Null, [ok, ok, ok]),
            ("PATCH", "/v1/organization".to_owned(), json!({"name": "x"}), [no, no, ok]),
            ("POST", "/v1/users".to_owned(), json!({"email": "ada@example.com"}), [no, no, made]),
            ("POST", "/v1/bots".to_owned(), json!({"name": "x", "org_role": "none"}), [no, no, made]),
            ("POST", "/v1/roles".to_owned(), json!({"name": "x", "level": "organization", "scopes": ["read:org/keys/*"]}), [no, no, made]),
            ("POST", "/v1/spaces".to_owned(), json!({"slug": "beta"}), [no, no, made]),
            ("POST", "/v1/audiences".to_owned(), json!({"uri": "https://x.example"}), [no, no, made]),
            ("POST", "/v1/keys".to_owned(), json!({"name": "x", "org_role": "none", "scopes": ["read:org/keys/*"]}), [no, no, made]),
            ("PATCH", at(&victim), json!({"name": "y"}), [no, no, ok]),
            ("POST", format!("{}/rotate", at(&victim)), json!({}), [no, no, ok]),
            ("DELETE", at(&victim), Value::Null, [no, no, ok]),
            ("GET", "/v1/organizations".to_owned(), Value::Null, [no, no, no]),
            ("GET", "/v1/installation".to_owned(), Value::Null, [no, no, no]),
            ("GET", "/v1/keys/key_0123456789abcdef".to_owned(), Value::Null, [gone, gone, gone]),
        ] {
            for (actor, expected) in [&read, &member, &admin].into_iter().zip(expected) {
                assert_eq!(outcome_of(&server, actor, method, &path, body.clone()).await, expected, "{method} {path}");
            }
        }
    }

    async fn no_role_of_the_organization_below_admin_reaches_into_a_space(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let inside = key(&server, json!({"space": "alpha", "scopes": ["read:spaces/alpha/*"]})).await;
        for role in ["read-only", "member", "verifier"] {
            let key = with_role(&server, role).await;
            assert_eq!(outcome_of(&server, &key, "GET", &at(&inside), Value::Null).await, "404 not_found", "{role}");
            assert_eq!(outcome_of(&server, &key, "PATCH", &at(&inside), json!({"name": "x"})).await, "404 not_found");
            let list = server.api(&key, "GET", "/v1/keys?status=all&limit=200", Value::Null).await;
            assert!(!list.body.contains(&inside.id.to_string()), "{role}");
            let refused = server.token(&key, "scope=read:spaces/alpha/x").await;
            assert_eq!(refused.outcome(), "400 invalid_scope");
            let ask = json!({"name": "x", "space": "alpha", "org_role": "none"});
            assert!(matches!(outcome_of(&server, &key, "POST", "/v1/keys", ask).await.as_str(), "403 forbidden" | "404 not_found"));
        }
        let admin = org_admin(&server).await;
        assert_eq!(outcome_of(&server, &admin, "GET", &at(&inside), Value::Null).await, "200");
    }

    async fn each_role_of_a_space_may_what_the_contract_says_and_only_there(server: Server) {
        for slug in ["alpha", "beta"] {
            good(&server, "POST", "/v1/spaces", json!({"slug": slug})).await;
        }
        let mut actors = Vec::new();
        for role in ["read-only", "member", "admin"] {
            actors.push(with_space_role(&server, "alpha", role).await);
        }
        let alpha = key(&server, json!({"space": "alpha", "scopes": ["read:spaces/alpha/*"], "org_role": "none"})).await;
        let beta = key(&server, json!({"space": "beta", "scopes": ["read:spaces/beta/*"], "org_role": "none"})).await;
        let owner = owner_of(&server, &alpha).await;
        let new = |space: &str| json!({"name": "x", "space": space, "org_role": "none", "scopes": [format!("read:spaces/{space}/x")]});
        let (ok, made, no, gone) = ("200", "201", "403 forbidden", "404 not_found");
        for (method, path, body, expected) in [
            ("GET", at(&alpha), Value::Null, [ok, ok, ok]),
            ("GET", "/v1/spaces/alpha".to_owned(), Value::Null, [ok, ok, ok]),
            ("GET", "/v1/spaces/alpha/members".to_owned(), Value::Null, [ok, ok, ok]),
            ("GET", format!("/v1/bots/{owner}"), Value::Null, [ok, ok, ok]),
            ("POST", "/v1/keys".to_owned(), new("alpha"), [no, no, made]),
            ("PATCH", at(&alpha), json!({"name": "y"}), [no, no, ok]),
            ("PUT", format!("/v1/spaces/alpha/members/{owner}"), json!({"role": "read-only"}), [no, no, ok]),
            ("POST", format!("{}/revoke", at(&alpha)), Value::Null, [no, no, ok]),
            ("PATCH", "/v1/spaces/alpha".to_owned(), json!({"name": "y"}), [no, no, no]),
            ("GET", at(&beta), Value::Null, [gone, gone, gone]),
            ("GET", "/v1/spaces/beta".to_owned(), Value::Null, [gone, gone, gone]),
            ("GET", "/v1/spaces/beta/members".to_owned(), Value::Null, [gone, gone, gone]),
            ("POST", "/v1/keys".to_owned(), new("beta"), [gone, gone, gone]),
            ("PATCH", at(&beta), json!({"name": "y"}), [gone, gone, gone]),
            ("POST", "/v1/keys".to_owned(), json!({"name": "x"}), [no, no, no]),
            ("GET", "/v1/organization".to_owned(), Value::Null, [gone, gone, gone]),
            ("POST", "/v1/spaces".to_owned(), json!({"slug": "gamma"}), [no, no, no]),
        ] {
            for (actor, expected) in actors.iter().zip(expected) {
                assert_eq!(outcome_of(&server, actor, method, &path, body.clone()).await, expected, "{method} {path} {body}");
            }
        }
        for (actor, scopes) in actors.iter().zip(["read", "write", "admin"]) {
            let form = format!("scope={scopes}:spaces/alpha/x");
            assert_eq!(server.token(actor, &form).await.outcome(), "200", "{scopes}");
            let form = format!("scope={scopes}:spaces/beta/x");
            assert_eq!(server.token(actor, &form).await.outcome(), "400 invalid_scope", "{scopes}");
        }
    }

    async fn no_scope_of_an_organization_reaches_the_installation(server: Server) {
        let all = org_admin(&server).await;
        let token = server.token(&all, "audience=management").await.token();
        for (method, path, operation) in operations(&server).await {
            if operation["x-tenmint-plane"] != "installation" && !path.starts_with("/v1/installation") && !path.starts_with("/v1/organizations") {
                continue;
            }
            for credential in [&all.text, &token] {
                let body = if method == "GET" || method == "DELETE" { Value::Null } else { json!({}) };
                let answer = server.api_with(credential, &method, &filled(&path, &server), body, &[]).await;
                assert!(matches!(answer.status, 400 | 403 | 404 | 415), "{method} {path}: {answer:?}");
                assert!(answer.status != 400 || method == "PUT", "{method} {path}: {answer:?}");
            }
        }
        let shared = json!({"uri": "https://shared.example", "shared": true});
        assert_eq!(outcome_of(&server, &all, "POST", "/v1/audiences", shared).await, "403 forbidden");
        let promoted = json!({"name": "x", "account_role": "admin"});
        assert_eq!(outcome_of(&server, &all, "POST", "/v1/keys", promoted).await, "403 forbidden");
    }

    async fn a_scope_of_the_installation_is_held_by_admins_of_the_account_alone(server: Server) {
        let admin = org_admin(&server).await;
        let asked = "audience=management&scope=read:org/*+read:installation/*";
        assert_eq!(server.token(&admin, asked).await.outcome(), "400 invalid_scope");
        let bot = owner_of(&server, &admin).await;
        for scope in ["admin:installation/*", "*:installation", "read:installation/settings"] {
            let ask = json!({"name": "x", "bot": bot, "scopes": ["read:org/*", scope]});
            for credential in [&admin, &server.administrator] {
                let answer = server.api_with(&credential.text, "POST", "/v1/keys", ask.clone(), &[]).await;
                assert_eq!(fields(&answer), ["scopes"], "{scope}: {answer:?}");
            }
            let edit = json!({"scopes": ["*:*", scope]});
            assert_eq!(fields(&call(&server, "PATCH", &at(&admin), edit).await), ["scopes"]);
            let grants = json!({"name": "x", "grants": [scope]});
            assert_eq!(outcome_of(&server, &admin, "POST", "/v1/bots", grants).await, "403 forbidden");
        }
        assert_eq!(server.token(&server.administrator, asked).await.outcome(), "200");
        let narrow = json!({"name": "x", "account_role": "admin", "scopes": ["read:installation/*"]});
        let narrow = key(&server, narrow).await;
        let granted = server.token(&narrow, "audience=management").await.json();
        assert_eq!(granted["scope"], "read:installation/*");
        let demoted = format!("/v1/installation/admins/{}", owner_of(&server, &narrow).await);
        good(&server, "DELETE", &demoted, Value::Null).await;
        assert_eq!(server.token(&narrow, "audience=management").await.outcome(), "400 invalid_scope");
    }

    async fn an_admin_of_the_organization_gets_no_key_of_an_admin_of_the_account(server: Server) {
        let admin = org_admin(&server).await;
        let root = server.administrator.clone();
        let bot = owner_of(&server, &root).await;
        for scopes in [json!(["*:*"]), json!(["read:org/keys/*"]), Value::Null] {
            let ask = json!({"name": "x", "bot": bot, "scopes": scopes});
            assert_eq!(outcome_of(&server, &admin, "POST", "/v1/keys", ask).await, "403 forbidden");
        }
        for verb in ["rotate", "refresh"] {
            let path = format!("{}/{verb}", at(&root));
            assert_eq!(outcome_of(&server, &admin, "POST", &path, json!({})).await, "403 forbidden", "{verb}");
        }
        let narrow = key(&server, json!({"bot": bot, "scopes": ["chat"], "allow": ["192.0.2.1"]})).await;
        for wider in [json!({"scopes": ["*:*"]}), json!({"allow": null})] {
            assert_eq!(outcome_of(&server, &admin, "PATCH", &at(&narrow), wider).await, "403 forbidden");
        }
        assert_eq!(outcome_of(&server, &admin, "POST", &format!("{}/revoke", at(&narrow)), Value::Null).await, "200");
    }

    async fn an_admin_of_the_organization_stops_no_admin_of_the_account(server: Server) {
        let admin = org_admin(&server).await;
        let bot = owner_of(&server, &server.administrator).await;
        let user = member(&server, "ada@example.com", "member").await;
        let account = |owner: &str| format!("/v1/installation/admins/{owner}");
        good(&server, "PUT", &account(&user), json!({"role": "admin"})).await;
        let bots = format!("/v1/bots/{bot}");
        let users = format!("/v1/users/{user}");
        for place in [&bots, &users] {
            for (method, path, ask) in [
                ("POST", format!("{place}/suspend"), Value::Null),
                ("DELETE", place.clone(), Value::Null),
                ("PATCH", place.clone(), json!({"name": "x"})),
            ] {
                assert_eq!(outcome_of(&server, &admin, method, &path, ask).await, "403 forbidden", "{method} {path}");
            }
        }
        good(&server, "POST", &format!("{users}/suspend"), Value::Null).await;
        assert_eq!(outcome_of(&server, &admin, "POST", &format!("{users}/resume"), Value::Null).await, "403 forbidden");
        good(&server, "PUT", &account(&user), json!({"role": "member"})).await;
        assert_eq!(outcome_of(&server, &admin, "POST", &format!("{users}/resume"), Value::Null).await, "200");
    }

    async fn an_account_role_makes_and_unmakes_an_admin_of_the_account_at_once(server: Server) {
        let key = org_admin(&server).await;
        let owner = owner_of(&server, &key).await;
        let place = format!("/v1/installation/admins/{owner}");
        let reaches = async || outcome_of(&server, &key, "GET", "/v1/installation", Value::Null).await;
        assert_eq!(reaches().await, "403 forbidden");
        good(&server, "PUT", &place, json!({"role": "admin"})).await;
        assert_eq!(reaches().await, "200");
        good(&server, "PUT", &place, json!({"role": "member"})).await;
        assert_eq!(reaches().await, "403 forbidden");
        good(&server, "PUT", &place, json!({"role": "admin"})).await;
        good(&server, "DELETE", &place, Value::Null).await;
        assert_eq!(reaches().await, "403 forbidden");
    }

    async fn the_plane_of_the_installation_needs_its_scope_too(server: Server) {
        let bot = owner_of(&server, &server.administrator).await;
        let narrow = key(&server, json!({"bot": bot, "scopes": ["read:org/*", "read:installation/*"]})).await;
        assert_eq!(outcome_of(&server, &narrow, "GET", "/v1/installation", Value::Null).await, "200");
        let ask = json!({"slug": "other"});
        assert_eq!(outcome_of(&server, &narrow, "POST", "/v1/organizations", ask).await, "403 forbidden");
        let narrower = key(&server, json!({"bot": bot, "scopes": ["read:org/*"]})).await;
        assert_eq!(outcome_of(&server, &narrower, "GET", "/v1/installation", Value::Null).await, "403 forbidden");
    }

    async fn a_member_makes_and_keeps_keys_of_its_own_within_what_it_holds(server: Server) {
        let ada = member(&server, "ada@example.com", "member").await;
        let mine = user_key(&server, &ada, None).await;
        let made = good_of(&server, &mine, "POST", "/v1/keys", json!({"name": "laptop", "scopes": ["read:org/keys/*"]})).await;
        assert_eq!((text(&made, "owner"), text(&made, "key_type").as_str()), (ada.clone(), "user"));
        for refused in [json!({"name": "x", "scopes": ["*:*"]}), json!({"name": "x", "scopes": ["write:org/keys/*"]})] {
            let outcome = outcome_of(&server, &mine, "POST", "/v1/keys", refused.clone()).await;
            assert!(matches!(outcome.as_str(), "403 forbidden" | "400 invalid_request"), "{refused}: {outcome}");
        }
        let service = json!({"name": "x", "key_type": "service"});
        assert_eq!(outcome_of(&server, &mine, "POST", "/v1/keys", service).await, "403 forbidden");
        let laptop = key_of(&made);
        assert_eq!(outcome_of(&server, &mine, "POST", &format!("{}/rotate", at(&laptop)), json!({})).await, "200");
        assert_eq!(outcome_of(&server, &mine, "PATCH", &at(&laptop), json!({"name": "desk"})).await, "200");
        assert_eq!(outcome_of(&server, &mine, "DELETE", &at(&laptop), Value::Null).await, "200");
        let others = server.api_key("chat").await;
        assert_eq!(outcome_of(&server, &mine, "GET", &at(&others), Value::Null).await, "200");
        for (method, path) in [("PATCH", at(&others)), ("DELETE", at(&others))] {
            assert_eq!(outcome_of(&server, &mine, method, &path, json!({})).await, "403 forbidden");
        }
    }

    async fn a_key_of_a_person_is_rotated_and_refreshed_by_that_person_alone(server: Server) {
        let ada = member(&server, "ada@example.com", "member").await;
        let mine = user_key(&server, &ada, None).await;
        for verb in ["rotate", "refresh"] {
            let path = format!("{}/{verb}", at(&mine));
            assert_eq!(outcome(&server, "POST", &path, json!({})).await, "403 forbidden", "{verb}");
        }
        let new = key_of(&good_of(&server, &mine, "POST", &format!("{}/rotate", at(&mine)), json!({})).await);
        let next = key_of(&good_of(&server, &new, "POST", &format!("{}/refresh", at(&new)), json!({})).await);
        assert_eq!(server.token(&next, "").await.status, 200);
        assert_eq!(outcome(&server, "POST", &format!("{}/revoke", at(&next)), Value::Null).await, "200");
        let for_ada = json!({"name": "x", "key_type": "user"});
        assert_eq!(outcome(&server, "POST", "/v1/keys", for_ada).await, "400 invalid_request", "a bot makes none for her");
    }

    async fn everybody_is_told_what_the_credential_holds(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"], "expires_at": "9d", "audiences": ["management"]})).await;
        let whoami = good_of(&server, &key, "GET", "/v1/whoami", Value::Null).await;
        assert_eq!(whoami["api_key"], key.id.to_string());
        assert_eq!(whoami["organization"], server.org.id.to_string());
        assert_eq!((whoami["scopes"].clone(), whoami["is_account_admin"].clone()), (json!(["chat"]), json!(false)));
        assert_eq!(whoami["expires_at"], "2027-01-24T08:00:00Z");
        let root = good(&server, "GET", "/v1/whoami", Value::Null).await;
        assert_eq!((root["scopes"].clone(), root["is_account_admin"].clone()), (json!(["*:*"]), json!(true)));
        assert_eq!(call(&server, "GET", "/v1/whoami?organization=default", Value::Null).await.status, 400);
    }
}
