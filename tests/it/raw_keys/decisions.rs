//! A raw key is decided on like its token: the same matrix, byte for byte.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{good, key, of_many_scopes};
use crate::raw_keys::{Api, decision, on_reachable_servers, until};
use crate::server::{AUDIENCE, Key};

/// What happens to a key before it is used once more.
type Change = Option<(&'static str, &'static str, Value)>;

struct Case {
    what: &'static str,
    fields: Value,
    change: Change,
    /// Nothing for an address of its own: whoever was wrong is asked about again after a second.
    caller: Option<&'static str>,
    /// How the decision on `GET /projects/alpha` begins.
    decided: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |what, fields, change, decided| Case { what, fields, change, caller: None, decided };
    let refused = "401 [Bearer realm=\"api\", error=\"invalid_token\"]";
    vec![
        case("valid", json!({}), None, "200 "),
        case(
            "for all that its owner has",
            json!({"org_role": "admin", "scopes": null}),
            None,
            "200 ",
        ),
        case(
            "narrower",
            json!({"scopes": ["read:projects/beta"]}),
            None,
            "403 [Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"read:projects/alpha\"]",
        ),
        case("of another action", json!({"scopes": ["write:projects/alpha"]}), None, "403 "),
        case("revoked", json!({}), Some(("POST", "/revoke", Value::Null)), refused),
        case("deleted", json!({}), Some(("DELETE", "", Value::Null)), refused),
        case("rotated", json!({}), Some(("POST", "/rotate", json!({}))), refused),
        case("refreshed", json!({}), Some(("POST", "/refresh", json!({}))), refused),
        case(
            "narrowed to another audience",
            json!({}),
            Some(("PATCH", "", json!({"audiences": ["https://other.example"]}))),
            refused,
        ),
        case(
            "blocked here from now on",
            json!({}),
            Some(("PATCH", "", json!({"block": ["198.51.100.0/24"]}))),
            refused,
        ),
        case("renamed", json!({}), Some(("PATCH", "", json!({"name": "other"}))), "200 "),
        case(
            "of an allowed address",
            json!({"allow": ["127.0.0.1", "198.51.100.0/24"]}),
            None,
            "200 ",
        ),
        Case {
            caller: Some("192.0.2.7"),
            ..case("used elsewhere", json!({"allow": ["127.0.0.1"]}), None, refused)
        },
        Case {
            caller: Some("::ffff:127.0.0.1"),
            ..case("of an allowed address in six", json!({"allow": ["127.0.0.1"]}), None, "200 ")
        },
    ]
}

/// The decisions on a raw key and on its token, about a request from this address.
async fn of_both(api: &Api, key: &Key, token: &str, caller: &str) -> [String; 2] {
    let mut decisions = Vec::new();
    for text in [&key.text, token] {
        let bearer = format!("Bearer {text}");
        let headers = [("authorization", bearer.as_str()), ("x-caller", caller)];
        decisions.push(decision(&api.send("GET", "/projects/alpha", &headers).await));
    }
    decisions.try_into().unwrap()
}

on_reachable_servers! {
    async fn a_raw_key_and_its_token_get_the_same_decision_to_the_byte(server: Server) {
        server.register("https://other.example").await;
        let api = Api::of(&server).await.ready().await;
        for (number, Case { what, fields, change, caller, decided }) in cases().into_iter().enumerate() {
            let caller = &caller.map_or(format!("198.51.100.{number}"), str::to_owned);
            let mut ask = json!({"name": what, "scopes": ["read:projects/alpha"]});
            ask.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let key = key(&server, ask).await;
            let token = server.token(&key, "").await.token();
            if let Some((method, path, ask)) = change {
                // known before it changes
                let [raw, of_token] = of_both(&api, &key, &token, caller).await;
                assert!(raw.starts_with("200 ") && raw == of_token, "{what}: {raw} {of_token}");
                good(&server, method, &format!("/v1/keys/{}{path}", key.id), ask).await;
                until(what, async || of_both(&api, &key, &token, caller).await[1].starts_with(decided)).await;
            }
            // the second time out of memory
            for _ in 0..2 {
                let [raw, of_token] = of_both(&api, &key, &token, caller).await;
                assert_eq!(raw, of_token, "{what}");
                assert!(raw.starts_with(decided), "{what}: {raw}");
            }
            server.wind(Duration::from_secs(2)).await;
        }
    }

    async fn an_expired_key_is_refused_when_its_token_is(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"], "expires_at": "2027-01-15T08:05:00Z"})).await;
        let token = server.token(&key, "").await.token();
        for (seconds, decided) in [(0, "200 "), (299, "200 "), (15, "401 [Bearer realm=\"api\", error=\"invalid_token\"]")] {
            server.wind(Duration::from_secs(seconds)).await;
            let [raw, of_token] = of_both(&api, &key, &token, "127.0.0.1").await;
            assert_eq!(raw, of_token);
            assert!(raw.starts_with(decided), "{seconds}: {raw}");
        }
    }

    async fn a_suspended_owner_is_refused_with_either(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let bot = server.shown(&key.id).await.owner.to_string();
        let token = server.token(&key, "").await.token();
        let [raw, of_token] = of_both(&api, &key, &token, "127.0.0.1").await;
        assert!(raw == of_token && raw.starts_with("200 "));
        good(&server, "POST", &format!("/v1/bots/{bot}/suspend"), Value::Null).await;
        until("suspended", async || of_both(&api, &key, &token, "127.0.0.1").await[1].starts_with("401 ")).await;
        let [raw, of_token] = of_both(&api, &key, &token, "127.0.0.1").await;
        assert_eq!(raw, of_token);
    }

    async fn a_key_of_more_scopes_than_a_token_holds_is_worth_all_of_them_as_it_is(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = of_many_scopes(&server).await;
        assert_eq!(server.token(&key, "").await.outcome(), "400 invalid_scope", "too much for a token");
        for (path, status) in [("/projects/a0", 200), ("/projects/b29", 200), ("/projects/c", 403)] {
            let answer = api.bearer("GET", path, &key.text).await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
        }
        let told = api.bearer("GET", "/whoami", &key.text).await.json();
        assert_eq!(told["scope"].as_str().unwrap().split(' ').count(), 90, "{told}");
    }

    async fn a_stranger_is_refused_with_either(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let (_, stranger) = server.second_org("other").await;
        good(&server, "GET", "/v1/whoami", Value::Null).await;
        let made = server.api(&stranger, "POST", "/v1/audiences", json!({"uri": "https://theirs.example"})).await;
        assert_eq!(made.status, 201, "{made:?}");
        let token = server.token(&stranger, "resource=https://theirs.example").await.token();
        let [raw, of_token] = of_both(&api, &stranger, &token, "127.0.0.1").await;
        assert_eq!(raw, of_token);
        assert!(raw.starts_with("401 "), "{raw}");
        let refused = server.token(&stranger, &format!("resource={AUDIENCE}")).await;
        assert_eq!(refused.outcome(), "400 invalid_target");
    }
}
