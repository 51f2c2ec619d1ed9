//! In which words a credential is refused at the endpoints about tokens: those of RFC 6749 for an API key,
//! those of RFC 6750 for a token.

use std::time::Duration;

use crate::api::key;
use crate::server::{Answer, Key, Server, basic, on_both_engines};
use serde_json::json;

const PLACES: [(&str, &str); 4] = [
    ("POST", "/oauth/introspect"),
    ("POST", "/oauth/revoke"),
    ("GET", "/oauth/raw-keys?audience=default"),
    ("POST", "/oauth/uses"),
];

async fn asked(server: &Server, (method, path): (&str, &str), authorization: &str) -> Answer {
    let media_type = match path {
        "/oauth/uses" => "application/json",
        _ => "application/x-www-form-urlencoded",
    };
    let headers = [("Authorization", authorization), ("Content-Type", media_type)];
    let body: &[u8] = if method == "GET" { b"" } else { b"token=x" };
    server.send(method, path, &headers, body).await
}

async fn management_token(server: &Server, key: &Key, scope: &str) -> String {
    server.token(key, &format!("audience=management&scope={scope}")).await.token()
}

on_both_engines! {
    async fn a_token_that_does_not_hold_is_refused_as_a_token(server: Server) {
        let old = key(&server, json!({"name": "k", "org_role": "admin", "scopes": ["*:*"]})).await;
        let revoked = management_token(&server, &old, "introspect:org/tokens/*").await;
        server.revoke(&old.id).await;
        let for_an_api = server.token(&server.administrator, "").await.token();
        let expired = management_token(&server, &server.administrator, "introspect:org/tokens/*").await;
        for text in [&revoked, &for_an_api, "a.b.c"] {
            all_refuse(&server, text).await;
        }
        server.wind(Duration::from_mins(11)).await;
        all_refuse(&server, &expired).await;
    }

    async fn a_token_without_the_scope_is_told_which_one_in_the_challenge(server: Server) {
        let token = management_token(&server, &server.administrator, "read:org/keys/*").await;
        let weak = server.api_key("chat").await;
        for place in PLACES.into_iter().filter(|(_, path)| *path != "/oauth/revoke") {
            for text in [&token, &weak.text] {
                let answer = asked(&server, place, &format!("Bearer {text}")).await;
                assert_eq!(answer.outcome(), "403 insufficient_scope", "{place:?}");
                let challenge = answer.header("www-authenticate").unwrap();
                let begins = "Bearer realm=\"tenmint\", error=\"insufficient_scope\", ";
                assert!(challenge.starts_with(begins), "{challenge}");
                assert!(challenge.ends_with(", scope=\"introspect:org/tokens/*\""), "{challenge}");
            }
            let by_basic = asked(&server, place, &basic("", &weak.text)).await;
            assert_eq!(by_basic.outcome(), "403 insufficient_scope", "{place:?}");
            assert_eq!(by_basic.header("www-authenticate"), None, "Bearer was not tried");
        }
    }

    async fn an_api_key_that_is_not_known_is_refused_as_a_client(server: Server) {
        for place in PLACES {
            let answer = asked(&server, place, "Bearer tm_default_wrong").await;
            assert_eq!(answer.outcome(), "401 invalid_client", "{place:?}");
            let none = server.send(place.0, place.1, &[("Content-Type", "application/x-www-form-urlencoded")], b"").await;
            assert_eq!(none.outcome(), "401 invalid_client", "{place:?}");
            assert!(none.header("www-authenticate").unwrap().starts_with("Basic "), "{place:?}");
        }
    }

    async fn a_bearer_that_cannot_be_read_gets_the_challenge_of_bearer(server: Server) {
        for (value, scheme) in [("Bearer k\u{e9}y", "Bearer "), ("bearer k\u{e9}y", "Bearer "), ("Basic k\u{e9}y", "Basic "), ("\u{e9}", "Basic ")] {
            for place in [("POST", "/oauth/token"), PLACES[0]] {
                let answer = asked(&server, place, value).await;
                assert_eq!(answer.outcome(), "401 invalid_client", "{value}");
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(challenge.starts_with(scheme), "{value}: {challenge}");
            }
        }
    }

    async fn a_head_that_is_too_large_is_told_as_every_endpoint_tells_its_refusals(server: Server) {
        let filler = "b".repeat(33 * 1024);
        for path in ["/oauth/token", "/oauth/introspect", "/oauth/revocations"] {
            let answer = server.send("POST", path, &[("X-A", &filler)], b"x=y").await;
            assert_eq!(answer.outcome(), "431 invalid_request", "{path}");
            assert!(!answer.description().is_empty(), "{path}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        }
        let elsewhere = server.send("GET", "/v1/whoami", &[("X-A", &filler)], b"").await;
        assert_eq!((elsewhere.status, &elsewhere.json()["code"]), (431, &json!("head_too_large")));
    }
}

/// Each endpoint says of this token that it is none, with the challenge of RFC 6750.
async fn all_refuse(server: &Server, text: &str) {
    for place in PLACES {
        let answer = asked(server, place, &format!("Bearer {text}")).await;
        assert_eq!(answer.outcome(), "401 invalid_token", "{place:?}: {answer:?}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer realm=\"tenmint\", error=\"invalid_token\""),
            "{challenge}"
        );
    }
}
