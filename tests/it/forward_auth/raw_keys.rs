//! Raw API keys at a gateway: decided on like their tokens, counted, and led to tokens by the policy
//! of the audience.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{good, key, of_many_scopes};
use crate::forward_auth::{Held, guarded, told};
use crate::server::{Key, Server, on_both_engines};

const ALPHA: &str = "/projects/alpha";

/// What the default audience does with raw keys from now on.
async fn switch(server: &Server, raw_keys: Value) {
    good(server, "PATCH", "/v1/audiences/default", json!({"raw_keys": raw_keys})).await;
}

/// The statuses for a raw key and for its token.
async fn of_both(server: &Server, gateway: &Key, key: &Key, token: &str) -> [u16; 2] {
    let status =
        async |text: &str| Held::get(ALPHA, text).asked(server, gateway, "api").await.status;
    [status(&key.text).await, status(token).await]
}

on_both_engines! {
    async fn a_raw_key_passes_as_its_token_without_an_id_of_one(server: Server) {
        let gateway = guarded(&server).await;
        let key = key(&server, json!({"scopes": ["read:projects/*"]})).await;
        let token = server.token(&key, "").await.token();
        let of_key = Held::get(ALPHA, &key.text).asked(&server, &gateway, "api").await;
        let of_token = Held::get(ALPHA, &token).asked(&server, &gateway, "api").await;
        for name in ["client-id", "subject", "organization", "space", "scope", "audience"] {
            let name = format!("tenmint-{name}");
            assert_eq!(of_key.header(&name), of_token.header(&name), "{name}");
        }
        assert_eq!((of_key.header("tenmint-token-id"), of_key.header("tenmint-raw-key")), (None, Some("allow")));
    }

    async fn a_raw_key_of_more_scopes_than_a_token_holds_passes_with_all_of_them(server: Server) {
        let gateway = guarded(&server).await;
        let key = of_many_scopes(&server).await;
        for (path, decided) in [("/projects/a0", "200"), ("/projects/b29", "200"), ("/projects/c", "403 insufficient_scope")] {
            let answer = Held::get(path, &key.text).asked(&server, &gateway, "api").await;
            assert_eq!(told(&answer), decided, "{path}");
            assert!(decided != "200" || answer.header("tenmint-scope").unwrap().split(' ').count() == 90);
        }
    }

    async fn each_call_is_counted_for_the_way_to_tokens(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let gateway = guarded(&server).await;
        let key = key(&server, json!({"scopes": ["read:projects/*"]})).await;
        let token = server.token(&key, "").await.token();
        for text in [&key.text, &key.text, &token, &token, &token] {
            Held::get(ALPHA, text).asked(&server, &gateway, "api").await;
        }
        writer.write_all().await.unwrap();
        let apis = good(&server, "GET", &format!("/v1/keys/{}/migration", key.id), Value::Null).await;
        let told = &apis["items"][0];
        assert_eq!((&told["raw"]["calls"], &told["token"]["calls"]), (&json!(2), &json!(3)), "{apis}");
        assert_eq!((&told["raw"]["address"], &told["reason"]), (&json!("192.0.2.1"), &json!("raw_in_use")));

        switch(&server, json!({"rules": [{"scope": "*:*", "mode": "deny"}]})).await;
        assert_eq!(Held::get(ALPHA, &key.text).asked(&server, &gateway, "api").await.status, 401);
        // what is for another API is no use of this one
        server.register("https://other.example").await;
        let elsewhere = server.token(&key, "resource=https://other.example").await.token();
        assert_eq!(Held::get(ALPHA, &elsewhere).asked(&server, &gateway, "api").await.status, 401);
        writer.write_all().await.unwrap();
        let apis = good(&server, "GET", &format!("/v1/keys/{}/migration", key.id), Value::Null).await;
        let at = |item: &&Value| item["raw"].is_object();
        let told = apis["items"].as_array().unwrap().iter().find(at).unwrap();
        assert_eq!((&told["raw"]["calls"], &told["token"]["calls"]), (&json!(3), &json!(3)), "{apis}");
    }

    async fn a_raw_key_and_its_token_get_the_same_decision(server: Server) {
        let gateway = guarded(&server).await;
        server.register("https://other.example").await;
        for (what, fields, change, decided) in [
            ("valid", json!({}), None, 200),
            ("for all that its owner has", json!({"org_role": "admin", "scopes": null}), None, 200),
            ("narrower", json!({"scopes": ["read:projects/beta"]}), None, 403),
            ("of another action", json!({"scopes": ["write:projects/alpha"]}), None, 403),
            ("revoked", json!({}), Some(("POST", "/revoke", Value::Null)), 401),
            ("deleted", json!({}), Some(("DELETE", "", Value::Null)), 401),
            ("rotated", json!({}), Some(("POST", "/rotate", json!({}))), 401),
            ("refreshed", json!({}), Some(("POST", "/refresh", json!({}))), 401),
            ("narrowed to another audience", json!({}), Some(("PATCH", "", json!({"audiences": ["https://other.example"]}))), 401),
            ("blocked here from now on", json!({}), Some(("PATCH", "", json!({"block": ["192.0.2.0/24"]}))), 401),
            ("renamed", json!({}), Some(("PATCH", "", json!({"name": "other"}))), 200),
        ] {
            let mut ask = json!({"name": what, "scopes": ["read:projects/alpha"]});
            ask.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let key = key(&server, ask).await;
            let token = server.token(&key, "").await.token();
            if let Some((method, path, ask)) = change {
                assert_eq!(of_both(&server, &gateway, &key, &token).await, [200, 200], "{what}");
                good(&server, method, &format!("/v1/keys/{}{path}", key.id), ask).await;
            }
            assert_eq!(of_both(&server, &gateway, &key, &token).await, [decided, decided], "{what}");
        }
        let expiring = key(&server, json!({"scopes": ["read:projects/alpha"], "expires_at": "2027-01-15T08:05:00Z"})).await;
        let token = server.token(&expiring, "").await.token();
        for (seconds, decided) in [(299, 200), (4, 401)] {
            server.wind(Duration::from_secs(seconds)).await;
            assert_eq!(of_both(&server, &gateway, &expiring, &token).await, [decided; 2]);
        }
        for text in ["nonsense", "tm_default_x", "a.b", "x".repeat(3_000).as_str()] {
            assert_eq!(told(&Held::get(ALPHA, text).asked(&server, &gateway, "api").await), "401 unknown_api_key", "{text}");
        }
    }

    async fn the_audience_leads_raw_keys_to_tokens(server: Server) {
        let gateway = guarded(&server).await;
        let key = server.api_key("*:projects/*").await;
        let token = server.token(&key, "").await.token();
        let asked = async |method: &str, text: &str| {
            Held { method, ..Held::get(ALPHA, text) }.asked(&server, &gateway, "api").await
        };
        let told_of = json!({"sunset_at": "2027-06-01", "link": "https://example.com/tokens"});
        let with = |rules: Value| {
            let mut raw_keys = told_of.clone();
            raw_keys["rules"] = rules;
            raw_keys
        };
        switch(&server, with(json!([{"scope": "*:*", "mode": "warn"}, {"scope": "write:*", "mode": "deny"}]))).await;
        let warned = asked("GET", &key.text).await;
        assert_eq!((told(&warned).as_str(), warned.header("tenmint-raw-key")), ("200", Some("warn")));
        assert_eq!(warned.header("deprecation"), Some("@1800000000"));
        assert_eq!(warned.header("sunset"), Some("Tue, 01 Jun 2027 00:00:00 GMT"));
        assert_eq!(warned.header("link"), Some("<https://example.com/tokens>; rel=\"deprecation\""));
        let denied = asked("PUT", &key.text).await;
        assert_eq!((told(&denied).as_str(), denied.header("sunset")), ("401 token_required", warned.header("sunset")));
        assert_eq!(denied.outcome(), "401 invalid_token");

        switch(&server, with(json!([{"scope": "*:*", "mode": "deny"}]))).await;
        let denied = asked("GET", &key.text).await;
        assert_eq!((told(&denied).as_str(), denied.header("deprecation")), ("401 token_required", Some("@1800000000")));
        for method in ["GET", "PUT"] {
            let passed = asked(method, &token).await;
            assert_eq!((told(&passed).as_str(), passed.header("deprecation")), ("200", None), "{method}");
        }

        switch(&server, Value::Null).await;
        let allowed = asked("GET", &key.text).await;
        assert_eq!((allowed.header("tenmint-raw-key"), allowed.header("deprecation")), (Some("allow"), None));
    }

    async fn a_canary_refuses_its_share_of_the_requests(server: Server) {
        let gateway = guarded(&server).await;
        let key = server.api_key("read:projects/*").await;
        switch(&server, json!({"rules": [{"scope": "*:*", "mode": "deny", "share": 30}]})).await;
        let mut denied = 0;
        for _ in 0..300 {
            let answer = Held::get(ALPHA, &key.text).asked(&server, &gateway, "api").await;
            denied += u32::from(told(&answer) == "401 token_required");
        }
        // six standard deviations
        assert!((43..=137).contains(&denied), "{denied}");
    }

    async fn each_request_with_a_raw_key_is_a_use_of_it_and_of_its_quota(server: Server) {
        let gateway = guarded(&server).await;
        let key = key(&server, json!({"scopes": ["read:projects/*"], "quota": {"limit": 3}})).await;
        let token = server.token(&key, "").await.token();
        let elsewhere = Held::get("/projects//alpha", &key.text).asked(&server, &gateway, "api").await;
        assert_eq!(told(&elsewhere), "403 path_not_canonical", "which leads nowhere and uses nothing");
        for expected in ["200", "200", "403 quota_spent"] {
            let answer = Held::get(ALPHA, &key.text).asked(&server, &gateway, "api").await;
            assert_eq!(told(&answer), expected);
            assert_eq!(answer.header("retry-after").is_some(), expected != "200");
        }
        assert_eq!(told(&Held::get(ALPHA, &token).asked(&server, &gateway, "api").await), "200", "of a token it counts nothing");
        let usage = good(&server, "GET", &format!("/v1/keys/{}/usage", key.id), Value::Null).await;
        assert_eq!(usage["totals"]["introspected"], 2, "{usage}");
        assert_eq!(usage["last_used"]["address"], "192.0.2.1", "{usage}");
    }
}
