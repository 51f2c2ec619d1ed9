//! The issuer is asked about raw keys seldom, for a bounded time, and believed no further than it
//! should be.

use std::net::IpAddr;

use serde_json::{Value, json};
use tenmint_verifier::testing::{TestIssuer, TestToken};
use tenmint_verifier::{
    InvalidToken, Quota, RawKeys, Revocation, RevokedSubject, Verifier, VerifyError,
};

use crate::feed::{answer, feed_of};
use crate::site::{Answer, Site};
use crate::{AUDIENCE, ORG, PATIENCE, builder, settle, until, wind};

const UNKNOWN: VerifyError = VerifyError::InvalidToken(InvalidToken::UnknownApiKey);
const LATER: VerifyError = VerifyError::TryLater { retry_after: 1 };
const INTROSPECT: &str = "post /introspect";
const NOW: u64 = 1_800_000_000;

/// A site that knows no API key, and a verifier that takes them.
async fn taking() -> (Site, Verifier) {
    let (site, _, verifier) = taking_beside_tokens().await;
    (site, verifier)
}

/// The same, with the issuer of the tokens.
async fn taking_beside_tokens() -> (Site, TestIssuer, Verifier) {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::ok("", &issuer.jwks()));
    site.set_feed(feed(&issuer, &site, (0, 1), &[]));
    let origin = &site.origin;
    let metadata = json!({"issuer": origin, "jwks_uri": format!("{origin}/jwks.json"),
        "revocation_feed_uri": format!("{origin}/feed"),
        "introspection_endpoint": format!("{origin}/introspect"),
        "raw_key_policy_uri": format!("{origin}/raw-keys")});
    site.set_metadata(Answer::ok("", &metadata.to_string()));
    site.set_other("get /raw-keys", Answer::ok("connection: close\r\n", r#"{"rev":1,"rules":[]}"#));
    site.set_other(INTROSPECT, told(&json!({"active": false})));
    let verifier = builder(&site)
        .clock(|| NOW)
        .raw_keys(RawKeys::asked_with("own-key").header("x-api-key"))
        .remote()
        .unwrap();
    verifier.ready(PATIENCE).await.unwrap();
    (site, issuer, verifier)
}

/// A feed as of the clock of these tests.
fn feed(issuer: &TestIssuer, site: &Site, (since, rev): (u64, u64), void: &[Value]) -> Answer {
    let claims = json!({"epoch": "1", "since": since, "rev": rev, "void": void, "iat": NOW});
    answer(&feed_of(issuer, &site.origin, &claims), 0)
}

/// A token as of the clock of these tests.
fn timely<'i>(issuer: &'i TestIssuer, scope: &str) -> TestToken<'i> {
    issuer.token(ORG, scope).claim("iat", NOW).claim("exp", NOW + 600)
}

fn told(answer: &Value) -> Answer {
    Answer::ok("connection: close\r\n", &answer.to_string())
}

/// What the issuer says of a good key.
fn active(site: &Site) -> Value {
    json!({"active": true, "token_type": "Bearer", "iss": site.origin, "sub": "bot_0", "aud": AUDIENCE,
        "client_id": "key_0", "scope": "read:*", "org": ORG, "iat": NOW,
        "exp": NOW + 600, "rev": 1})
}

#[expect(clippy::unnecessary_wraps, reason = "a caller is an option everywhere")]
fn address(number: u32) -> Option<IpAddr> {
    Some(IpAddr::from(number.to_be_bytes()))
}

#[tokio::test]
async fn a_key_is_asked_about_once_and_with_the_key_of_the_api() {
    let (site, verifier) = taking().await;
    site.set_other(INTROSPECT, told(&active(&site)));
    for _ in 0..1_000 {
        let token = verifier.verify_raw_key("good", address(1)).await.unwrap();
        assert!(token.is_raw_key() && token.claims().jti.is_empty());
        assert_eq!(token.claims().client_id, "key_0");
    }
    let asked = site.requests(INTROSPECT);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("authorization: bearer own-key\r\n"));
    assert!(asked[0].contains("content-type: application/x-www-form-urlencoded\r\n"));
}

#[tokio::test]
async fn a_hundred_thousand_unknown_keys_of_one_address_are_asked_about_once_a_second() {
    let (site, verifier) = taking().await;
    for second in 1..=3 {
        for number in 0..33_334 {
            let refused = verifier.verify_raw_key(&format!("{second}-{number}"), address(1)).await;
            let expected = if number == 0 { UNKNOWN } else { LATER };
            assert_eq!(refused, Err(expected), "{second}, {number}");
            if number == 0 {
                // the others come within the second, however long they take here
                tokio::time::pause();
            }
        }
        tokio::time::resume();
        assert_eq!(site.requests(INTROSPECT).len(), second);
        wind(1).await;
    }
}

#[tokio::test]
async fn unknown_keys_of_many_addresses_are_asked_about_twenty_times_a_second() {
    let (site, verifier) = taking().await;
    for number in 0..10_000 {
        let refused = verifier.verify_raw_key(&number.to_string(), address(number)).await;
        assert_eq!(refused, Err(if number < 20 { UNKNOWN } else { LATER }), "{number}");
        if number == 19 {
            // the others come within the second, however long they take here
            tokio::time::pause();
        }
    }
    assert_eq!(site.requests(INTROSPECT).len(), 20);
}

#[tokio::test]
async fn an_unknown_key_that_comes_again_and_again_is_refused_without_a_question() {
    let (site, verifier) = taking().await;
    for _ in 0..1_000 {
        assert_eq!(verifier.verify_raw_key("bad", address(1)).await, Err(UNKNOWN));
    }
    assert_eq!(site.requests(INTROSPECT).len(), 1);
    site.set_other(INTROSPECT, told(&active(&site)));
    wind(5).await;
    assert!(verifier.verify_raw_key("bad", address(1)).await.is_ok(), "it was made meanwhile");
}

#[tokio::test]
async fn whoever_hangs_up_does_not_ask_for_free() {
    let (site, verifier) = taking().await;
    site.set_other(INTROSPECT, Answer::Hang(Vec::new()));
    for number in 0..100 {
        let key = number.to_string();
        let asking = verifier.verify_raw_key(&key, address(1));
        let gone = tokio::time::timeout(std::time::Duration::from_millis(500), asking).await;
        assert!(number == 0 || gone == Ok(Err(LATER)), "{number}: {gone:?}");
    }
    assert_eq!(site.requests(INTROSPECT).len(), 1);
}

#[tokio::test]
async fn an_issuer_that_hangs_is_waited_for_two_seconds_and_then_not_at_all() {
    let (site, verifier) = taking().await;
    site.set_other(INTROSPECT, Answer::Hang(Vec::new()));
    let (other, first) = (verifier.clone(), address(1));
    let waiting = tokio::spawn(async move { other.verify_raw_key("a", first).await });
    while site.requests(INTROSPECT).is_empty() {
        settle().await;
    }
    wind(2).await;
    assert_eq!(waiting.await.unwrap(), Err(VerifyError::IssuerUnavailable));
    for number in 0..1_000 {
        let refused = verifier.verify_raw_key(&number.to_string(), address(number)).await;
        assert_eq!(refused, Err(VerifyError::IssuerUnavailable));
    }
    assert_eq!(site.requests(INTROSPECT).len(), 1);
}

#[tokio::test]
async fn texts_that_can_be_no_key_are_not_asked_about() {
    let (site, verifier) = taking().await;
    let mistyped = format!("tm_default_{}", "0".repeat(65));
    let huge = "x".repeat(2_049);
    for text in ["", &mistyped, &huge] {
        assert_eq!(verifier.verify_raw_key(text, None).await, Err(UNKNOWN));
    }
    assert!(site.requests(INTROSPECT).is_empty());
}

#[tokio::test]
async fn an_answer_is_believed_no_further_than_a_token_would_be() {
    let (site, verifier) = taking().await;
    let good = active(&site);
    let with = |name: &str, value: Value| {
        let mut answer = good.clone();
        answer[name] = value;
        answer.to_string()
    };
    let without = |name: &str| {
        let mut answer = good.clone();
        answer.as_object_mut().unwrap().remove(name);
        answer.to_string()
    };
    let invalid = VerifyError::InvalidToken;
    for (number, (answer, error)) in [
        (with("aud", json!("https://other.example")), invalid(InvalidToken::WrongAudience)),
        (with("iss", json!("https://other.example")), invalid(InvalidToken::WrongIssuer)),
        (with("exp", json!(1_799_999_000)), invalid(InvalidToken::Expired)),
        (without("scope"), invalid(InvalidToken::BadClaims)),
        (without("rev"), invalid(InvalidToken::BadClaims)),
        (with("net", json!({"from": []})), invalid(InvalidToken::BadClaims)),
        (with("active", json!("true")), VerifyError::IssuerUnavailable),
        (without("active"), UNKNOWN),
        (with("active", json!(false)), UNKNOWN),
        ("<html>".to_owned(), VerifyError::IssuerUnavailable),
        (r#"{"active":false,"active":true}"#.to_owned(), VerifyError::IssuerUnavailable),
        ("x".repeat(65 * 1024), VerifyError::IssuerUnavailable),
    ]
    .into_iter()
    .enumerate()
    {
        site.set_other(INTROSPECT, Answer::ok("connection: close\r\n", &answer));
        let text = format!("key {number}");
        let address = address(u32::try_from(number).unwrap());
        let refused = verifier.verify_raw_key(&text, address).await;
        assert_eq!(refused, Err(error), "{answer:.200}");
        // an issuer that did not answer is left alone for a second
        wind(1).await;
    }
    for (status, error) in [
        ("429 Too Many Requests", VerifyError::TryLater { retry_after: 7 }),
        ("500 Internal Server Error", VerifyError::IssuerUnavailable),
        ("302 Found", VerifyError::IssuerUnavailable),
    ] {
        let headers = "connection: close\r\nretry-after: 7\r\nlocation: http://127.0.0.1:1/\r\n";
        site.set_other(INTROSPECT, Answer::status(status, headers, &good.to_string()));
        assert_eq!(verifier.verify_raw_key("key", None).await, Err(error), "{status}");
        wind(1).await;
    }
    // not what its caller could put right
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden"] {
        site.set_other(INTROSPECT, Answer::status(status, "connection: close\r\n", "{}"));
        let refused = verifier.verify_raw_key("key", None).await;
        assert_eq!(refused, Err(VerifyError::IssuerUnavailable), "{status}");
    }
}

#[tokio::test]
async fn a_quota_that_is_spent_at_the_issuer_is_told_as_one() {
    let (site, verifier) = taking().await;
    let quota = Quota::new(5, 60).unwrap();
    let refused = async |policy: &str| {
        let headers =
            format!("connection: close\r\nretry-after: 41\r\nratelimit-policy: {policy}\r\n");
        site.set_other(INTROSPECT, Answer::status("429 Too Many Requests", &headers, "{}"));
        verifier.verify_raw_key("key", None).await.unwrap_err()
    };
    let spent = refused(r#""api-key";q=5;w=60"#).await;
    assert_eq!(spent, VerifyError::QuotaSpent { quota, retry_after: 41 });
    assert_eq!(spent.to_string(), "the key is held to 5 requests within 60 s");
    for policy in ["nonsense", r#""api-key";q=5"#, r#""api-key";q=0;w=60"#, r#""api-key";q=x;w=60"#]
    {
        assert_eq!(refused(policy).await, VerifyError::TryLater { retry_after: 41 }, "{policy}");
    }
}

#[tokio::test]
async fn the_status_says_that_the_issuer_refuses_the_api_itself_until_it_does_not() {
    let (site, verifier) = taking().await;
    let error = || verifier.status().unwrap().raw_keys_error;
    assert_eq!(error(), None);
    site.set_other(INTROSPECT, Answer::status("401 Unauthorized", "connection: close\r\n", "{}"));
    let refused = verifier.verify_raw_key("key", None).await;
    assert_eq!(
        refused,
        Err(VerifyError::IssuerUnavailable),
        "no fault of the caller, and it may pass"
    );
    assert!(error().unwrap().contains("answered 401"), "{:?}", error());
    site.set_other(INTROSPECT, told(&active(&site)));
    assert!(verifier.verify_raw_key("key", None).await.is_ok());
    assert_eq!(error(), None);
}

#[tokio::test]
async fn a_token_that_comes_where_keys_do_is_verified_as_the_token_that_it_is() {
    let (site, issuer, verifier) = taking_beside_tokens().await;
    let text = timely(&issuer, "read:*").claim("jti", "J1").sign();
    let mut told_of_it = active(&site);
    told_of_it["jti"] = json!("J1");
    site.set_other(INTROSPECT, told(&told_of_it));
    let token = verifier.verify_raw_key(&text, address(1)).await.unwrap();
    assert_eq!((token.is_raw_key(), token.claims().jti.as_str()), (false, "J1"));
    let void = Revocation { subject: RevokedSubject::of("J1"), below: None, until: u64::MAX };
    let void = serde_json::to_value(void).unwrap();
    site.set_feed(feed(&issuer, &site, (1, 5), &[void]));
    until(|| verifier.status().unwrap().revocations == 1).await;
    let revoked = Err(VerifyError::InvalidToken(InvalidToken::Revoked));
    assert_eq!(verifier.verify_raw_key(&text, address(1)).await, revoked);
    let expired = Err(VerifyError::InvalidToken(InvalidToken::Expired));
    let old = timely(&issuer, "read:*").claim("exp", NOW - 60).sign();
    assert_eq!(verifier.verify_raw_key(&old, address(1)).await, expired);
    assert!(site.requests(INTROSPECT).is_empty());
}

#[tokio::test]
async fn a_key_that_looks_like_a_token_is_a_key_and_a_token_never_becomes_one() {
    let (site, _, verifier) = taking_beside_tokens().await;
    let foreign = TestIssuer::new(AUDIENCE).at(&site.origin);
    let text = timely(&foreign, "read:*").sign();
    let mut of_a_token = active(&site);
    of_a_token["jti"] = json!("J1");
    site.set_other(INTROSPECT, told(&of_a_token));
    assert_eq!(verifier.verify_raw_key(&text, address(1)).await, Err(UNKNOWN), "of a token");
    site.set_other(INTROSPECT, told(&active(&site)));
    let text = timely(&foreign, "write:*").sign();
    for text in [text.as_str(), "a.b.c"] {
        wind(1).await;
        let token = verifier.verify_raw_key(text, address(2)).await.unwrap();
        assert!(token.is_raw_key() && token.claims().jti.is_empty(), "{text}");
    }
}

#[tokio::test]
async fn a_verifier_that_takes_raw_keys_needs_a_running_issuer() {
    let issuer = TestIssuer::new(AUDIENCE);
    let keys = tenmint_verifier::JwkSet::parse(issuer.jwks().as_bytes()).unwrap();
    let raw_keys = RawKeys::asked_with("own-key");
    let built = Verifier::builder("https://issuer.test").audience(AUDIENCE).raw_keys(raw_keys);
    assert!(built.with_keys(keys).is_err());
    assert!(!issuer.verifier().takes_for_raw_key("tm_default_x"));
    assert_eq!(issuer.verifier().verify_raw_key("x", None).await, Err(UNKNOWN));
}
