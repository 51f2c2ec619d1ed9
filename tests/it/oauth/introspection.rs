//! `POST /oauth/introspect`: what a token or an API key is worth, told to whoever may ask.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{good, key, key_of, of_many_scopes};
use crate::oauth::{imported, post_form};
use crate::server::{AUDIENCE, Answer, Key, START, Server, on_both_engines};

async fn key_in(server: &Server, query: &str, ask: Value) -> Key {
    key_of(&good(server, "POST", &format!("/v1/keys{query}"), ask).await)
}

/// A key of an API, which may ask about tokens and nothing else.
async fn asker(server: &Server) -> Key {
    key(server, json!({"name": "api", "org_role": "verifier"})).await
}

async fn ask(server: &Server, asker: &Key, form: &str) -> Answer {
    let answer = post_form(server, "/oauth/introspect", asker, form).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer
}

/// What is said of an API key that was sent to the API, and of its token.
async fn of_both(server: &Server, asker: &Key, key: &Key, token: &str, more: &str) -> [Value; 2] {
    let told = async |text: &str| {
        let answer = ask(server, asker, &format!("token={text}&audience={AUDIENCE}{more}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    [told(&key.text).await, told(token).await]
}

const INACTIVE: &str = r#"{"active":false}"#;

on_both_engines! {
    async fn a_token_is_told_with_its_claims(server: Server) {
        let (asker, key) = (asker(&server).await, server.api_key("read:a/* chat").await);
        let token = server.token(&key, "scope=chat").await;
        let told = ask(&server, &asker, &format!("token={}", token.token())).await;
        let mut expected = token.claims();
        expected["active"] = json!(true);
        expected["token_type"] = json!("Bearer");
        assert_eq!((told.status, told.json()), (200, expected));
    }

    async fn a_token_of_type_jwt_is_told_too(server: Server) {
        good(&server, "POST", "/v1/audiences", json!({"uri": "https://spring.example", "slug": "spring", "token_type": "JWT"})).await;
        let (asker, key) = (asker(&server).await, server.api_key("chat").await);
        let token = server.token(&key, "audience=spring").await.token();
        assert_eq!(ask(&server, &asker, &format!("token={token}")).await.json()["active"], true);
        post_form(&server, "/oauth/revoke", &key, &format!("token={token}")).await;
        assert_eq!(ask(&server, &asker, &format!("token={token}")).await.body, INACTIVE);
    }

    async fn an_api_key_is_told_as_its_token_would_be(server: Server) {
        let asker = asker(&server).await;
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let key = key(&server, json!({
            "name": "k", "scopes": ["read:spaces/alpha/*", "chat"], "space": "alpha",
            "allow": ["127.0.0.1"], "quota": {"limit": 100},
        })).await;
        let token = server.token(&key, "").await;
        let [of_key, mut of_token] = of_both(&server, &asker, &key, &token.token(), "&client_ip=127.0.0.1").await;
        assert_eq!(of_token["jti"], token.claims()["jti"]);
        of_token.as_object_mut().unwrap().remove("jti");
        assert_eq!(of_key, of_token);
        for name in ["client_id", "sub", "org", "space", "aud", "scope", "exp", "rev", "net", "quota"] {
            assert!(!of_key[name].is_null(), "{name}: {of_key}");
        }
    }

    async fn an_api_key_of_more_scopes_than_a_token_holds_is_told_with_all_of_them(server: Server) {
        let (asker, key) = (asker(&server).await, of_many_scopes(&server).await);
        assert_eq!(server.token(&key, "").await.outcome(), "400 invalid_scope", "too much for a token");
        let told = ask(&server, &asker, &format!("token={}&audience=default", key.text)).await.json();
        assert_eq!(told["active"], true, "{told}");
        assert_eq!(told["scope"].as_str().unwrap().split(' ').count(), 90, "{told}");
        assert_eq!(told["client_id"], key.id.to_string());
    }

    async fn a_key_and_its_token_are_worth_the_same_whatever_becomes_of_them(server: Server) {
        let asker = asker(&server).await;
        let audience = json!({"uri": "https://other.example"});
        good(&server, "POST", "/v1/audiences", audience).await;
        for (what, fields, change, is_active) in [
            ("valid", json!({}), None, true),
            ("revoked", json!({}), Some(("POST", "/revoke", Value::Null)), false),
            ("rotated", json!({}), Some(("POST", "/rotate", json!({}))), false),
            ("of an allowed address", json!({"allow": ["192.0.2.1", "127.0.0.1"]}), None, true),
            ("of a blocked address", json!({"block": ["192.0.2.1"]}), None, false),
            ("narrowed to another audience", json!({}), Some(("PATCH", "", json!({"audiences": ["https://other.example"]}))), false),
        ] {
            let mut ask = json!({"name": what, "scopes": ["chat"]});
            ask.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let key = key(&server, ask).await;
            let token = server.token(&key, "").await.token();
            if let Some((method, path, ask)) = change {
                good(&server, method, &format!("/v1/keys/{}{path}", key.id), ask).await;
            }
            let told = of_both(&server, &asker, &key, &token, "&client_ip=192.0.2.1").await;
            for told in told {
                assert_eq!(told["active"], is_active, "{what}: {told}");
                assert!(is_active || told == json!({"active": false}), "{what}: {told}");
            }
        }
    }

    async fn what_has_expired_or_is_suspended_is_worth_nothing(server: Server) {
        let asker = asker(&server).await;
        let key = key(&server, json!({"name": "k", "scopes": ["chat"], "expires_at": "2027-01-15T08:01:00Z"})).await;
        let token = server.token(&key, "").await.token();
        let bot = good(&server, "GET", &format!("/v1/keys/{}", key.id), Value::Null).await["owner"].as_str().unwrap().to_owned();
        let active = async || of_both(&server, &asker, &key, &token, "").await.map(|told| told["active"].as_bool().unwrap());
        assert_eq!(active().await, [true, true]);
        good(&server, "POST", &format!("/v1/bots/{bot}/suspend"), Value::Null).await;
        assert_eq!(active().await, [false, false]);
        good(&server, "POST", &format!("/v1/bots/{bot}/resume"), Value::Null).await;
        assert_eq!(active().await, [true, false], "what was issued before stays void");
        let token = server.token(&key, "").await.token();
        let active = async || of_both(&server, &asker, &key, &token, "").await.map(|told| told["active"].as_bool().unwrap());
        server.wind(Duration::from_secs(59)).await;
        assert_eq!(active().await, [true, true]);
        server.wind(Duration::from_secs(3)).await;
        assert_eq!(active().await, [false, false]);
    }

    async fn a_key_with_address_rules_needs_to_be_told_with_the_address(server: Server) {
        let asker = asker(&server).await;
        let key = key(&server, json!({"name": "k", "scopes": ["chat"], "allow": ["192.0.2.0/24"]})).await;
        let of = async |more: &str| ask(&server, &asker, &format!("token={}&audience=default{more}", key.text)).await;
        assert_eq!(of("").await.body, INACTIVE);
        assert_eq!(of("&client_ip=198.51.100.1").await.body, INACTIVE);
        assert_eq!(of("&client_ip=192.0.2.7").await.json()["active"], true);
        assert_eq!(of("&client_ip=nonsense").await.outcome(), "400 invalid_request");
    }

    async fn an_api_key_is_asked_about_by_an_api_that_it_is_for(server: Server) {
        good(&server, "POST", "/v1/audiences", json!({"uri": "https://other.example", "slug": "other"})).await;
        let restricted = key(&server, json!({"name": "api", "org_role": "verifier", "audiences": ["default"]})).await;
        let key = server.api_key("chat").await;
        let of = async |asker: &Key, form: &str| ask(&server, asker, &format!("token={}{form}", key.text)).await;
        assert_eq!(of(&restricted, "").await.outcome(), "400 invalid_target", "an API key names its audience");
        assert_eq!(of(&restricted, "&audience=default").await.json()["active"], true);
        assert_eq!(of(&restricted, &format!("&audience={AUDIENCE}")).await.json()["aud"], AUDIENCE);
        for foreign in ["other", "https://other.example", "management", "http://127.0.0.1/v1", "nobody"] {
            assert_eq!(of(&restricted, &format!("&audience={foreign}")).await.outcome(), "400 invalid_target", "{foreign}");
        }
        let asker = asker(&server).await;
        assert_eq!(of(&asker, "&audience=other").await.json()["aud"], "https://other.example");
    }

    async fn a_stranger_learns_nothing_unless_the_api_is_for_all(server: Server) {
        good(&server, "POST", "/v1/organizations", json!({"slug": "other"})).await;
        good(&server, "POST", "/v1/organizations/other/bootstrap", json!({})).await;
        let foreign = key_in(&server, "?organization=other", json!({"name": "k", "scopes": ["chat"]})).await;
        let asker = asker(&server).await;
        let token = server.token(&foreign, "").await.token();
        assert_eq!(of_both(&server, &asker, &foreign, &token, "").await, [json!({"active": false}), json!({"active": false})]);
        assert_eq!(ask(&server, &asker, &format!("token={token}")).await.body, INACTIVE);
        let spent = key_in(&server, "?organization=other", json!({"name": "q", "scopes": ["chat"], "quota": {"limit": 1}})).await;
        server.token(&spent, "").await;
        assert_eq!(ask(&server, &asker, &format!("token={}&audience=default", spent.text)).await.body, INACTIVE, "nor of its quota");
        good(&server, "POST", "/v1/audiences", json!({"uri": "https://saas.example", "slug": "saas", "shared": true})).await;
        let token = server.token(&foreign, "resource=https://saas.example").await.token();
        let of_token = ask(&server, &asker, &format!("token={token}")).await.json();
        let of_key = ask(&server, &asker, &format!("token={}&audience=saas", foreign.text)).await.json();
        assert_eq!((&of_token["active"], &of_key["active"]), (&json!(true), &json!(true)));
        assert_eq!(of_token["org"], of_key["org"]);
        // whoever is of the organization and does not serve the API learns nothing of others
        let theirs = key_in(&server, "?organization=other", json!({"name": "api", "org_role": "verifier"})).await;
        let ours = server.token(&server.api_key("chat").await, "resource=https://saas.example").await.token();
        assert_eq!(ask(&server, &theirs, &format!("token={ours}")).await.body, INACTIVE);
    }

    async fn only_who_holds_introspect_may_ask(server: Server) {
        let (asker, key) = (asker(&server).await, server.api_key("chat").await);
        let form = format!("token={}", server.token(&key, "").await.token());
        for (who, outcome) in [
            (&key, "403 insufficient_scope"),
            (&Key { text: "tm_default_wrong".to_owned(), ..asker.clone() }, "401 invalid_client"),
            (&asker, "200"),
            (&server.administrator, "200"),
        ] {
            assert_eq!(ask(&server, who, &form).await.outcome(), outcome);
        }
        let form_type = ("Content-Type", "application/x-www-form-urlencoded");
        let none = server.send("POST", "/oauth/introspect", &[form_type], form.as_bytes()).await;
        assert_eq!(none.outcome(), "401 invalid_client");
        for (scope, outcome) in [("introspect:org/tokens/*", "200"), ("read:org/keys/*", "403 insufficient_scope")] {
            let token = server.token(&server.administrator, &format!("audience=management&scope={scope}")).await.token();
            let bearer = format!("Bearer {token}");
            let answer = server.send("POST", "/oauth/introspect", &[form_type, ("Authorization", &bearer)], form.as_bytes()).await;
            assert_eq!(answer.outcome(), outcome, "{scope}");
        }
        let api_token = format!("Bearer {}", server.token(&server.administrator, "").await.token());
        let answer = server.send("POST", "/oauth/introspect", &[form_type, ("Authorization", &api_token)], form.as_bytes()).await;
        assert_eq!(answer.outcome(), "401 invalid_token", "a token for an API is none for this");
    }

    async fn asking_about_an_api_key_counts_against_its_quota(server: Server) {
        let asker = asker(&server).await;
        let key = key(&server, json!({"name": "k", "scopes": ["chat"], "quota": {"limit": 3}})).await;
        let of_key = async || ask(&server, &asker, &format!("token={}&audience=default", key.text)).await;
        let token = server.token(&key, "").await.token();
        assert_eq!([of_key().await.status, of_key().await.status], [200, 200]);
        let spent = of_key().await;
        assert_eq!(spent.outcome(), "429 temporarily_unavailable");
        assert!(spent.header("retry-after").is_some());
        assert_eq!(server.token(&key, "").await.status, 429);
        assert_eq!(ask(&server, &asker, &format!("token={token}")).await.status, 200, "of a token it counts nothing");
    }

    async fn garbage_is_worth_nothing_and_no_fault_of_ours(server: Server) {
        let asker = asker(&server).await;
        for text in ["a.b.c", "..", "eyJhbGciOiJub25lIn0.e30.", "%00", "tm_default_x", "%FF%FE", "x".repeat(5_000).as_str()] {
            let answer = ask(&server, &asker, &format!("token={text}&audience=default")).await;
            assert!(answer.body == INACTIVE || answer.outcome() == "400 invalid_request", "{text}: {answer:?}");
        }
        assert_eq!(ask(&server, &asker, "audience=default").await.outcome(), "400 invalid_request");
        assert_eq!(ask(&server, &asker, "token=a&token=b").await.outcome(), "400 invalid_request");
        assert_eq!(server.get("/oauth/introspect").await.status, 405);
        let json_type = [("Content-Type", "application/json")];
        assert_eq!(server.send("POST", "/oauth/introspect", &json_type, b"{}").await.status, 415);
        assert_eq!(server.clock.now().as_seconds(), START);
    }

    async fn what_is_no_api_key_that_one_may_know_of_needs_no_audience(server: Server) {
        let (_, foreign) = server.second_org("other").await;
        let (asker, dead) = (asker(&server).await, server.api_key("chat").await);
        server.revoke(&dead.id).await;
        imported(&server, "old.key.text").await;
        let of = async |text: &str| ask(&server, &asker, &format!("token={text}")).await;
        for text in ["garbage", "a.b", "a.b.c", "tm_default_wrong", "%00", foreign.text.as_str()] {
            let told = of(text).await;
            assert_eq!((told.status, told.body.as_str()), (200, INACTIVE), "{text}");
        }
        for known in [&server.api_key("chat").await.text, &dead.text, "old.key.text"] {
            assert_eq!(of(known).await.outcome(), "400 invalid_target", "{known}");
        }
        good(&server, "POST", "/v1/audiences", json!({"uri": "https://saas.example", "slug": "saas", "shared": true})).await;
        assert_eq!(of(&foreign.text).await.outcome(), "400 invalid_target", "the API of all may know of it");
        assert_eq!(of("garbage").await.body, INACTIVE);
        let narrow = key(&server, json!({"name": "api", "org_role": "verifier", "audiences": ["default"]})).await;
        assert_eq!(ask(&server, &narrow, &format!("token={}", foreign.text)).await.body, INACTIVE, "not its API");
    }
}
