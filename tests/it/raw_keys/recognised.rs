//! Where raw keys come in, and what happens to those that the issuer does not know.

use std::time::Duration;

use serde_json::json;

use crate::api::{good, key};
use crate::oauth::{imported, post_form};
use crate::raw_keys::{Api, on_reachable_servers, until};
use crate::server::Key;

/// A key of the right form that nobody has made.
fn unknown(key: &Key, number: u32) -> String {
    let (start, body) = key.text.split_at(key.text.len() - 65);
    let id = &body[..16];
    let before = format!("{start}{id}{number:0>43}");
    let mut rest = crc32fast::hash(before.as_bytes());
    let mut check = Vec::new();
    for _ in 0..6 {
        let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        check.insert(0, digits[rest as usize % 62]);
        rest /= 62;
    }
    before + std::str::from_utf8(&check).unwrap()
}

on_reachable_servers! {
    async fn a_raw_key_is_known_by_its_form_its_start_its_header_or_its_scheme(server: Server) {
        let api = Api::taking(&server, |raw_keys| {
            raw_keys.header("X-Api-Key").scheme("ApiKey").starting_with("sk_live_")
        }).await.ready().await;
        let ours = key(&server, json!({"scopes": ["read:projects/alpha"]})).await.text;
        for text in ["sk_live_51HCOXX", "9f8e7d", "a.b.c", "with space & more"] {
            imported(&server, text).await;
        }
        for (header, value, status) in [
            ("authorization", format!("Bearer {ours}"), 200),
            ("authorization", format!("ApiKey {ours}"), 200),
            ("authorization", format!("apikey {ours}"), 200),
            ("x-api-key", ours.clone(), 200),
            ("authorization", "Bearer sk_live_51HCOXX".into(), 200),
            ("authorization", "ApiKey 9f8e7d".into(), 200),
            ("authorization", "ApiKey a.b.c".into(), 200),
            ("x-api-key", "sk_live_51HCOXX".into(), 200),
            ("x-api-key", "with space & more".into(), 200),
            ("authorization", "Bearer 9f8e7d".into(), 401),
            ("authorization", "Token 9f8e7d".into(), 401),
            ("authorization", "9f8e7d".into(), 401),
            ("x-other", ours.clone(), 401),
            ("x-api-key", String::new(), 401),
        ] {
            let answer = api.send("GET", "/projects/alpha", &[(header, &value)]).await;
            assert_eq!(answer.status, status, "{header}: {value}: {answer:?}");
        }
    }

    async fn a_token_where_the_key_was_is_a_token_and_its_end_is_heard(server: Server) {
        let api = Api::taking(&server, |raw_keys| raw_keys.header("X-Api-Key").scheme("ApiKey")).await.ready().await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let ask = json!({"raw_keys": {"rules": [{"scope": "*:*", "mode": "deny"}]}});
        good(&server, "PATCH", "/v1/audiences/default", ask).await;
        let of_key = async || api.send("GET", "/projects/alpha", &[("x-api-key", &key.text)]).await.status;
        until("raw keys are refused", async || of_key().await == 401).await;
        let token = server.token(&key, "").await.token();
        let under_a_scheme = format!("ApiKey {token}");
        for header in [("x-api-key", token.as_str()), ("authorization", &under_a_scheme)] {
            let of_token = async || api.send("GET", "/projects/alpha", &[header]).await;
            let answer = of_token().await;
            assert_eq!((answer.status, answer.header("deprecation")), (200, None), "{header:?}: {answer:?}");
        }
        post_form(&server, "/oauth/revoke", &key, &format!("token={token}")).await;
        let of_token = async || api.send("GET", "/projects/alpha", &[("x-api-key", &token)]).await;
        until("the token is refused", async || of_token().await.status == 401).await;
        assert_eq!(of_token().await.description(), "the token was revoked");
    }

    async fn two_credentials_are_none_whichever_is_right(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let token = format!("Bearer {}", server.token(&key, "").await.token());
        let raw = format!("Bearer {}", key.text);
        for headers in [
            [("authorization", token.as_str()), ("x-api-key", key.text.as_str())],
            [("authorization", &raw), ("x-api-key", &key.text)],
            [("authorization", &raw), ("authorization", &token)],
            [("x-api-key", &key.text), ("x-api-key", &key.text)],
            [("authorization", &token), ("x-api-key", "nonsense")],
        ] {
            let answer = api.send("GET", "/projects/alpha", &headers).await;
            assert_eq!(answer.outcome(), "400 invalid_request", "{headers:?}");
        }
        let of_a_proxy = [("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", key.text.as_str())];
        assert_eq!(api.send("GET", "/projects/alpha", &of_a_proxy).await.status, 200);
    }

    async fn unknown_keys_are_asked_about_once_a_second_and_known_ones_never_wait(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        assert_eq!(api.bearer("GET", "/projects/alpha", &key.text).await.status, 200);
        let mut statuses = Vec::new();
        for number in 0..200 {
            statuses.push(api.bearer("GET", "/projects/alpha", &unknown(&key, number)).await.status);
            assert_eq!(api.bearer("GET", "/projects/alpha", &key.text).await.status, 200);
        }
        assert_eq!(statuses[0], 401);
        let asked = statuses.iter().filter(|status| **status == 401).count();
        let seconds_at_most = 20;
        assert!(asked <= seconds_at_most && statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
        let mut number = 1_000;
        let refused = loop {
            // one a second is asked about: the next one is not
            let answer = api.bearer("GET", "/projects/alpha", &unknown(&key, number)).await;
            if answer.status == 429 {
                break answer;
            }
            number += 1;
        };
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
        let again = api.bearer("GET", "/projects/alpha", &unknown(&key, 0)).await;
        assert_eq!(again.status, 401, "one that was asked about is remembered");
        let mistyped = key.text.replace(&key.text[key.text.len() - 6..], "000000");
        assert_eq!(api.bearer("GET", "/projects/alpha", &mistyped).await.status, 401, "without a question");
    }

    async fn a_known_key_goes_on_while_the_issuer_is_gone_and_another_one_is_no_401(server: Server) {
        let mut server = server;
        let api = Api::of(&server).await.ready().await;
        let key_of = async |name: &str| key(&server, json!({"name": name, "scopes": ["read:projects/alpha"]})).await;
        let (known, late) = (key_of("known").await, key_of("late").await);
        assert_eq!(api.bearer("GET", "/projects/alpha", &known.text).await.status, 200);
        server.stop().await;
        for seconds in [0, 200, 250, 140] {
            server.clock.wind(Duration::from_secs(seconds));
            let status = api.bearer("GET", "/projects/alpha", &known.text).await.status;
            assert_eq!(status, 200, "after {seconds} s more");
            let answer = api.bearer("GET", "/projects/alpha", &late.text).await;
            assert_eq!(answer.outcome(), "503 temporarily_unavailable");
            assert!(answer.header("retry-after").is_some());
        }
        server.clock.wind(Duration::from_secs(30));
        let answer = api.bearer("GET", "/projects/alpha", &known.text).await;
        assert_eq!(answer.outcome(), "503 temporarily_unavailable", "its ten minutes are over");
    }

    async fn a_question_counts_for_the_quota_and_what_is_remembered_does_not(server: Server) {
        let (api, other) = (Api::of(&server).await.ready().await, Api::of(&server).await.ready().await);
        let key = key(&server, json!({"scopes": ["read:projects/alpha"], "quota": {"limit": 1}})).await;
        for _ in 0..5 {
            assert_eq!(api.bearer("GET", "/projects/alpha", &key.text).await.status, 200);
        }
        let spent = other.bearer("GET", "/projects/alpha", &key.text).await;
        assert_eq!(spent.outcome(), "429 temporarily_unavailable");
        assert!(spent.header("retry-after").is_some() && spent.header("www-authenticate").is_none());
    }

    async fn a_key_with_wider_scopes_or_a_new_one_is_known_when_it_should(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let status = async |text: &str| api.bearer("GET", "/projects/beta", text).await.status;
        assert_eq!(status(&key.text).await, 403);
        let rotated = good(&server, "POST", &format!("/v1/keys/{}/rotate", key.id), json!({})).await;
        let text = rotated["api_key"].as_str().unwrap();
        assert_eq!(status(text).await, 403, "the new text at once");
        // from elsewhere: whoever was wrong is asked about again after a second
        let old = format!("Bearer {}", key.text);
        let headers = [("authorization", old.as_str()), ("x-caller", "192.0.2.1")];
        until("the old text", async || api.send("GET", "/projects/beta", &headers).await.status == 401).await;
        good(&server, "PATCH", &format!("/v1/keys/{}", key.id), json!({"scopes": ["read:projects/*"]})).await;
        server.wind(Duration::from_secs(590)).await;
        assert_eq!(status(text).await, 403);
        server.wind(Duration::from_secs(25)).await;
        assert_eq!(status(text).await, 200, "wider after ten minutes at most");
    }

    async fn an_api_whose_own_key_may_not_ask_says_so_and_blames_no_caller(server: Server) {
        let own = key(&server, json!({"scopes": ["read:a"]})).await;
        let key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let api = Api::with_key(&server, &own.text, |raw_keys| raw_keys);
        let answer = api.bearer("GET", "/projects/alpha", &key.text).await;
        assert_eq!(answer.outcome(), "503 temporarily_unavailable");
        let told = api.verifier.status().unwrap().raw_keys_error.unwrap();
        assert!(told.contains("answered 403"), "{told}");
        let token = server.token(&key, "").await.token();
        assert_eq!(api.bearer("GET", "/projects/alpha", &token).await.status, 200);
    }
}
