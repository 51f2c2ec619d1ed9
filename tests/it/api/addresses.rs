//! Address rules at the token endpoint and on the management API, with no proxy, one and two.

use serde_json::{Value, json};
use tenmint::http::client_ip::TrustedProxies;

use crate::api::{at, call, fields, good, key, message, outcome_of, told};
use crate::server::{Engine, Key, Server, Setup, on_both_engines};

/// A server on which the words of these proxies count.
async fn behind(proxies: &[&str], header: &str) -> Server {
    let mut setup = Setup::on(Engine::Sqlite);
    let proxies: Vec<String> = proxies.iter().map(|range| (*range).to_owned()).collect();
    setup.trusted_proxies = TrustedProxies::parse(&proxies, header).unwrap();
    setup.start().await.unwrap()
}

/// What came of a token request with these headers.
async fn issues(server: &Server, key: &Key, headers: &[(&str, &str)]) -> String {
    let bearer = format!("Bearer {}", key.text);
    let mut all = vec![("Authorization", bearer.as_str())];
    all.extend_from_slice(headers);
    server.post("", &all).await.outcome()
}

/// A key that may be used from these addresses.
async fn allowed_from(server: &Server, ranges: Value) -> Key {
    key(server, json!({"scopes": ["chat"], "allow": ranges})).await
}

const GOOD: &str = "200";
const BAD: &str = "400 unauthorized_client";

#[tokio::test]
async fn without_trusted_proxies_every_forwarding_header_is_the_word_of_nobody() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let (here, there) = (
        allowed_from(&server, json!(["127.0.0.1"])).await,
        allowed_from(&server, json!(["192.0.2.1"])).await,
    );
    for header in [
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X_Forwarded_For",
        "X-Original-Forwarded-For",
    ] {
        for value in [
            "192.0.2.1",
            "for=192.0.2.1",
            "127.0.0.1, 192.0.2.1",
            "192.0.2.1, 127.0.0.1",
            "nonsense",
        ] {
            assert_eq!(issues(&server, &here, &[(header, value)]).await, GOOD, "{header}: {value}");
            assert_eq!(issues(&server, &there, &[(header, value)]).await, BAD, "{header}: {value}");
        }
    }
}

#[tokio::test]
async fn behind_one_proxy_the_right_most_hop_is_the_caller() {
    let server = behind(&["127.0.0.1"], "x-forwarded-for").await;
    let there = allowed_from(&server, json!(["192.0.2.1"])).await;
    for (value, expected) in [
        ("192.0.2.1", GOOD),
        ("198.51.100.9, 192.0.2.1", GOOD),
        ("nonsense, 192.0.2.1", GOOD),
        ("192.0.2.1, 198.51.100.9", BAD),
        ("192.0.2.1, nonsense", BAD),
        ("192.0.2.1, unknown", BAD),
        ("192.0.2.1,", BAD),
        ("192.0.2.1, 127.0.0.1", GOOD),
        ("198.51.100.9", BAD),
        ("::ffff:192.0.2.1", GOOD),
        ("192.0.2.1:4711", GOOD),
        ("192.0.2.01", BAD),
        ("", BAD),
    ] {
        assert_eq!(
            issues(&server, &there, &[("X-Forwarded-For", value)]).await,
            expected,
            "{value}"
        );
    }
    assert_eq!(
        issues(&server, &there, &[("Forwarded", "for=192.0.2.1")]).await,
        BAD,
        "the one header that is configured"
    );
    assert_eq!(issues(&server, &there, &[]).await, BAD);
    let two = [("X-Forwarded-For", "198.51.100.9"), ("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(issues(&server, &there, &two).await, GOOD, "two lines are one list");
    let two = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "198.51.100.9")];
    assert_eq!(issues(&server, &there, &two).await, BAD);
    let free = key(&server, json!({"scopes": ["chat"]})).await;
    assert_eq!(
        issues(&server, &free, &[("X-Forwarded-For", "nonsense")]).await,
        GOOD,
        "without rules it does not matter"
    );
    let blocked = key(&server, json!({"scopes": ["chat"], "block": ["192.0.2.1"]})).await;
    assert_eq!(
        issues(&server, &blocked, &[("X-Forwarded-For", "nonsense")]).await,
        BAD,
        "an address that cannot be told passes no rule"
    );
}

#[tokio::test]
async fn behind_two_proxies_the_first_hop_that_is_none_of_them_is_the_caller() {
    let server = behind(&["127.0.0.1", "10.0.0.0/8"], "x-forwarded-for").await;
    let there = allowed_from(&server, json!(["192.0.2.1"])).await;
    for (value, expected) in [
        ("192.0.2.1, 10.0.0.7", GOOD),
        ("198.51.100.9, 192.0.2.1, 10.0.0.7", GOOD),
        ("192.0.2.1, 198.51.100.9, 10.0.0.7", BAD),
        ("192.0.2.1, 10.0.0.7, 10.0.0.8", GOOD),
        ("192.0.2.1, 11.0.0.7", BAD),
        ("192.0.2.1", GOOD),
        ("10.0.0.7", BAD),
    ] {
        assert_eq!(
            issues(&server, &there, &[("X-Forwarded-For", value)]).await,
            expected,
            "{value}"
        );
    }
    let server = behind(&["127.0.0.1", "10.0.0.0/8"], "forwarded").await;
    let there = allowed_from(&server, json!(["192.0.2.1", "2001:db8::/32"])).await;
    for (value, expected) in [
        ("for=192.0.2.1, for=10.0.0.7", GOOD),
        ("for=192.0.2.1;proto=https, for=\"10.0.0.7:80\"", GOOD),
        ("for=\"[2001:db8::1]:4711\", for=10.0.0.7", GOOD),
        ("for=192.0.2.1, for=198.51.100.9, for=10.0.0.7", BAD),
        ("for=192.0.2.1, for=_hidden, for=10.0.0.7", BAD),
        ("for=192.0.2.1, proto=https", BAD),
    ] {
        assert_eq!(issues(&server, &there, &[("Forwarded", value)]).await, expected, "{value}");
    }
    assert_eq!(issues(&server, &there, &[("X-Forwarded-For", "192.0.2.1")]).await, BAD);
}

#[tokio::test]
async fn the_audit_names_the_caller_and_not_the_proxy() {
    let server = behind(&["127.0.0.1"], "x-forwarded-for").await;
    let ask = json!({"name": "x"});
    let headers = [("X-Forwarded-For", "198.51.100.9, 2001:DB8::1")];
    server.api_with(&server.administrator.text, "POST", "/v1/bots", ask, &headers).await;
    let entry = &good(&server, "GET", "/v1/audit", Value::Null).await["items"][0];
    assert_eq!(entry["address"], "2001:db8::1");
}

on_both_engines! {
    async fn block_wins_over_allow_and_a_family_without_entry_is_refused(server: Server) {
        for (rules, expected) in [
            (json!({"allow": ["127.0.0.0/8"]}), GOOD),
            (json!({"allow": ["127.0.0.0/8"], "block": ["127.0.0.1"]}), BAD),
            (json!({"allow": ["127.0.0.1"], "block": ["127.0.0.0/8"]}), BAD),
            (json!({"block": ["127.0.0.2"]}), GOOD),
            (json!({"block": ["0.0.0.0/0"]}), BAD),
            (json!({"block": ["::/0"]}), GOOD),
            (json!({"allow": ["::/0"]}), BAD),
            (json!({"allow": ["0.0.0.0/0"]}), GOOD),
            (json!({"allow": ["::ffff:127.0.0.1"]}), GOOD),
            (json!({"allow": ["::ffff:127.0.0.0/104"]}), GOOD),
            (json!({"allow": ["::1"]}), BAD),
            (json!({}), GOOD),
        ] {
            let mut ask = rules.clone();
            ask["scopes"] = json!(["chat"]);
            let key = key(&server, ask).await;
            assert_eq!(server.token(&key, "").await.outcome(), expected, "{rules}");
            let opens = outcome_of(&server, &key, "GET", "/v1/whoami", Value::Null).await;
            assert_eq!(opens, if expected == GOOD { "200" } else { "401 unauthenticated" }, "{rules}");
        }
    }

    async fn a_token_of_a_key_with_rules_is_held_to_them_too(server: Server) {
        let key = key(&server, json!({"org_role": "member", "scopes": ["read:org/*"]})).await;
        let token = server.token(&key, "audience=management").await.token();
        let opens = async |token: &str| server.api_with(token, "GET", "/v1/whoami", Value::Null, &[]).await.status;
        assert_eq!(opens(&token).await, 200);
        good(&server, "PATCH", &at(&key), json!({"block": ["192.0.2.1"]})).await;
        let token = server.token(&key, "audience=management").await.token();
        assert_eq!(opens(&token).await, 200);
        let claims = server.token(&key, "").await.claims();
        assert_eq!(claims["net"]["block"], json!(["192.0.2.1"]));
        good(&server, "PATCH", &at(&key), json!({"allow": ["192.0.2.0/24"]})).await;
        assert_eq!(opens(&token).await, 401);
    }

    async fn a_range_that_is_not_what_it_says_is_refused_with_the_fix(server: Server) {
        for (range, fix) in [
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("10.0.0.0/33", ""),
            ("::/129", ""),
            ("010.0.0.1", ""),
            ("10.1", ""),
            ("10.0.0.0/", ""),
            ("fe80::1%eth0", ""),
            ("example.com", ""),
            ("", ""),
            ("10.0.0.1 ", ""),
            ("10.0.0.0/8,::1", ""),
        ] {
            for field in ["allow", "block"] {
                let answer = call(&server, "POST", "/v1/keys", json!({"name": "x", field: [range]})).await;
                assert_eq!((told(&answer).as_str(), fields(&answer)), ("400 invalid_request", vec![field.to_owned()]), "{range}");
                assert!(message(&answer).contains(fix), "{range}: {}", message(&answer));
            }
        }
    }
}
