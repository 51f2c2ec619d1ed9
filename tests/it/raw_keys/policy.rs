//! From raw keys to tokens, switched by the service while the API runs.

use serde_json::{Value, json};
use tenmint_verifier::RawKeyMode;

use crate::api::{good, key};
use crate::oauth::post_form;
use crate::raw_keys::{Api, on_reachable_servers, until};
use crate::server::{AUDIENCE, Answer, Key, Server};

/// What the audience does with raw keys from now on.
async fn switch(server: &Server, api: &Api, raw_keys: Value) {
    let before = api.verifier.raw_key_policy().unwrap();
    good(server, "PATCH", "/v1/audiences/default", json!({"raw_keys": raw_keys})).await;
    until("heard", async || api.verifier.raw_key_policy() != Some(before.clone())).await;
}

async fn asked(server: &Server, key: &Key, query: &str) -> Answer {
    let bearer = format!("Bearer {}", key.text);
    server.send("GET", &format!("/oauth/raw-keys{query}"), &[("Authorization", &bearer)], b"").await
}

on_reachable_servers! {
    async fn an_api_follows_the_service_from_raw_keys_to_tokens_and_back(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let token = server.token(&key, "").await.token();
        let raw = async || api.bearer("GET", "/projects/alpha", &key.text).await;

        let allowed = raw().await;
        assert_eq!((allowed.status, allowed.header("deprecation")), (200, None));

        let told = json!({"sunset_at": "2027-06-01", "link": "https://example.com/tokens"});
        let with = |mode: &str| {
            let mut raw_keys = told.clone();
            raw_keys["rules"] = json!([{"scope": "*:*", "mode": mode}]);
            raw_keys
        };
        switch(&server, &api, with("warn")).await;
        let warned = raw().await;
        assert_eq!(warned.status, 200);
        assert_eq!(warned.header("deprecation"), Some("@1800000000"));
        assert_eq!(warned.header("sunset"), Some("Tue, 01 Jun 2027 00:00:00 GMT"));
        assert_eq!(warned.header("link"), Some("<https://example.com/tokens>; rel=\"deprecation\""));
        let links = warned.headers.iter().filter(|(name, _)| name == "link").count();
        assert_eq!(links, 1, "two layers, and told once");

        switch(&server, &api, with("deny")).await;
        let denied = raw().await;
        assert_eq!(denied.outcome(), "401 invalid_token");
        assert_eq!(denied.description(), "API keys are not taken here: exchange it for a token");
        assert_eq!(denied.header("sunset"), Some("Tue, 01 Jun 2027 00:00:00 GMT"));

        let with_token = api.bearer("GET", "/projects/alpha", &token).await;
        assert_eq!((with_token.status, with_token.header("deprecation")), (200, None));

        switch(&server, &api, Value::Null).await;
        let allowed = raw().await;
        assert_eq!((allowed.status, allowed.header("deprecation")), (200, None));
    }

    async fn a_rule_is_for_the_requests_that_it_names(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = key(&server, json!({"scopes": ["*:projects/*"]})).await;
        switch(&server, &api, json!({"rules": [
            {"scope": "write:*", "mode": "deny"},
            {"scope": "read:projects/beta", "mode": "warn"},
        ]})).await;
        let raw = async |method, path| {
            let answer = api.bearer(method, path, &key.text).await;
            (answer.status, answer.header("deprecation").is_some())
        };
        assert_eq!(raw("GET", "/projects/alpha").await, (200, false));
        assert_eq!(raw("GET", "/projects/beta").await, (200, true));
        assert_eq!(raw("PUT", "/projects/alpha").await, (401, true));
        assert_eq!(raw("GET", "/whoami").await, (200, false));
    }

    async fn a_canary_refuses_its_share_of_the_requests(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        switch(&server, &api, json!({"rules": [
            {"scope": "*:*", "mode": "warn"},
            {"scope": "*:*", "mode": "deny", "share": 30},
        ]})).await;
        let mut denied = 0;
        for _ in 0..1_000 {
            let answer = api.bearer("GET", "/projects/alpha", &key.text).await;
            assert!(matches!(answer.status, 200 | 401));
            assert!(answer.header("deprecation").is_some());
            denied += u32::from(answer.status == 401);
        }
        // six standard deviations
        assert!((213..=387).contains(&denied), "{denied}");
    }

    async fn an_api_that_has_just_started_does_not_let_pass_what_was_switched_off(server: Server) {
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        good(&server, "PATCH", "/v1/audiences/default", json!({"raw_keys": {"rules": [{"scope": "*:*", "mode": "deny"}]}})).await;
        let api = Api::of(&server).await;
        let answer = api.bearer("GET", "/projects/alpha", &key.text).await;
        assert_eq!(answer.outcome(), "401 invalid_token");
        assert_eq!(api.verifier.raw_key_policy().unwrap().rules[0].mode(), RawKeyMode::Deny);
    }

    async fn an_api_that_asks_for_itself_is_told_that_a_key_is_worth_nothing_where_all_are_refused(server: Server) {
        let asker = key(&server, json!({"name": "api", "org_role": "verifier"})).await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let active = async || {
            let form = format!("token={}&audience={AUDIENCE}", key.text);
            post_form(&server, "/oauth/introspect", &asker, &form).await.json()["active"].clone()
        };
        assert_eq!(active().await, true);
        for (share, is_active) in [(99, true), (100, false)] {
            let rules = json!([{"scope": "*:*", "mode": "deny", "share": share}]);
            good(&server, "PATCH", "/v1/audiences/default", json!({"raw_keys": {"rules": rules}})).await;
            assert_eq!(active().await, is_active, "{share}");
        }
        let token = server.token(&key, "").await.token();
        let form = format!("token={token}&audience={AUDIENCE}");
        assert_eq!(post_form(&server, "/oauth/introspect", &asker, &form).await.json()["active"], true);
    }

    async fn a_policy_is_told_to_the_api_that_it_is_of_and_to_nobody_else(server: Server) {
        let asker = key(&server, json!({"name": "api", "org_role": "verifier"})).await;
        let other = key(&server, json!({"scopes": ["read:*"]})).await;
        let (_, stranger) = server.second_org("other").await;
        let told = asked(&server, &asker, &format!("?audience={AUDIENCE}")).await;
        assert_eq!(told.status, 200, "{told:?}");
        assert_eq!(told.json()["rules"], json!([]));
        assert_eq!(told.header("cache-control"), Some("no-store"));
        assert_eq!(asked(&server, &asker, "?audience=default").await.status, 200);
        for (who, query, outcome) in [
            (&asker, "", "400 invalid_request"),
            (&asker, "?audience=default&audience=default", "400 invalid_request"),
            (&asker, "?audience=https://nobody.example", "400 invalid_target"),
            (&other, "?audience=default", "403 insufficient_scope"),
            (&stranger, &format!("?audience={AUDIENCE}"), "400 invalid_target"),
        ] {
            assert_eq!(asked(&server, who, query).await.outcome(), outcome, "{query}");
        }
        let nobody = server.get("/oauth/raw-keys?audience=default").await;
        assert_eq!(nobody.outcome(), "401 invalid_client");
    }

    async fn what_is_no_policy_is_refused_with_the_field(server: Server) {
        for raw_keys in [
            json!({"rules": [{"scope": "read", "mode": "deny"}]}),
            json!({"rules": [{"scope": "*:*", "mode": "stop"}]}),
            json!({"rules": [{"scope": "*:*", "mode": "deny", "share": 0}]}),
            json!({"rules": [{"scope": "*:*", "mode": "deny", "share": 1000}]}),
            json!({"rules": [{"scope": "*:*"}]}),
            json!({"rules": [], "link": "javascript:x"}),
            json!({"rules": [], "sunset_at": "soon"}),
            json!({"rules": [], "more": 1}),
            json!([]),
        ] {
            let answer = server.api(&server.administrator, "PATCH", "/v1/audiences/default", json!({"raw_keys": raw_keys})).await;
            assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (400, Some("raw_keys")), "{raw_keys}: {answer:?}");
        }
    }
}
