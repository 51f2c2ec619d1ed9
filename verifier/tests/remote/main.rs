//! The keys of a running issuer: fetched once for all, kept while it is down, never forged.
//!
//! The clock is wound by hand and stands still for nobody: a test never sleeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

mod feed;
#[cfg(feature = "raw-keys")]
mod raw_keys;
mod site;

use std::time::Duration;

use serde_json::{Value, json};
use site::{Answer, Site};
use tenmint_verifier::testing::TestIssuer;
use tenmint_verifier::{InvalidToken, Verifier, VerifierBuilder, VerifyError};

const AUDIENCE: &str = "https://api.example.com";
const ORG: &str = "org_0000000000000000";
const UNKNOWN_KEY: VerifyError = VerifyError::InvalidToken(InvalidToken::UnknownKey);

#[tokio::test]
async fn the_keys_of_a_running_issuer_verify_its_tokens() {
    let (_site, issuer, verifier) = running("").await;
    let token = verifier.verify_held(&token(&issuer)).unwrap();
    assert_eq!(token.claims().org, ORG);
    assert_eq!(verifier.fetch_error(), None);
}

#[tokio::test]
async fn a_token_that_comes_before_the_keys_waits_for_the_first_fetch() {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    let verifier = builder(&site).remote().unwrap();
    let text = token(&issuer);
    assert_eq!(verifier.verify_held(&text), Err(VerifyError::KeysUnavailable));
    site.set_jwks(Answer::ok("", &issuer.jwks()));
    assert!(verifier.verify(&text).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_down_makes_a_503_and_no_wait() {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    let verifier = builder(&site).remote().unwrap();
    site.hit(2).await;
    wind(2).await;
    until(|| verifier.fetch_error().is_some()).await;
    assert!(verifier.fetch_error().unwrap().ends_with("no answer within 2s"));
    // the next fetch hangs too, and nobody hangs with it
    wind(2).await;
    site.hit(3).await;
    let good = token(&issuer);
    let answer = tokio::time::timeout(Duration::from_millis(500), verifier.verify(&good));
    assert_eq!(answer.await.unwrap(), Err(VerifyError::KeysUnavailable));
    assert_eq!(verifier.ready(Duration::ZERO).await, Err(VerifyError::KeysUnavailable));
}

#[tokio::test]
async fn an_issuer_that_comes_up_later_is_found() {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::status("503 Service Unavailable", "", ""));
    let verifier = builder(&site).remote().unwrap();
    for round in 1..8 {
        site.hit(2 * round).await;
        until(|| verifier.fetch_error().is_some()).await;
        wind(10).await;
    }
    site.set_jwks(Answer::ok("", &issuer.jwks()));
    wind(10).await;
    assert_eq!(verifier.ready(PATIENCE).await, Ok(()));
    assert!(verifier.verify_held(&token(&issuer)).is_ok());
}

#[tokio::test]
async fn a_new_key_is_found_by_its_first_token() {
    let (site, old, verifier) = running("").await;
    let new = TestIssuer::new(AUDIENCE).at(&site.origin);
    assert_eq!(verifier.verify_held(&token(&new)), Err(UNKNOWN_KEY));
    site.set_jwks(Answer::ok("", &both(&old, &new)));
    assert!(verifier.verify(&token(&new)).await.is_ok());
    assert!(verifier.verify_held(&token(&old)).is_ok());
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_for_a_new_key() {
    let (site, old, verifier) = running("").await;
    let new = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::ok("", &both(&old, &new)));
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let (verifier, text) = (verifier.clone(), token(&new));
            tokio::spawn(async move { verifier.verify(&text).await.is_ok() })
        })
        .collect();
    for waiter in waiters {
        assert!(waiter.await.unwrap());
    }
    assert_eq!(site.key_requests().len(), 2);
}

#[tokio::test]
async fn ten_thousand_unknown_keys_make_one_fetch() {
    let (site, issuer, verifier) = running("").await;
    let (evil, good) = (TestIssuer::new(AUDIENCE).at(&site.origin), token(&issuer));
    for number in 0..10_000 {
        let forged = evil.token(ORG, "read:*").header("kid", number.to_string()).sign();
        assert_eq!(verifier.verify(&forged).await, Err(UNKNOWN_KEY));
    }
    assert!(verifier.verify(&good).await.is_ok());
    assert_eq!(site.key_requests().len(), 2);
}

#[tokio::test]
async fn unknown_keys_make_a_fetch_again_after_the_cool_down() {
    let (site, _issuer, verifier) = running("").await;
    let forged = token(&TestIssuer::new(AUDIENCE).at(&site.origin));
    assert_eq!(verifier.verify(&forged).await, Err(UNKNOWN_KEY));
    wind(29).await;
    assert_eq!(verifier.verify(&forged).await, Err(UNKNOWN_KEY));
    assert_eq!(site.key_requests().len(), 2);
    wind(1).await;
    assert_eq!(verifier.verify(&forged).await, Err(UNKNOWN_KEY));
    assert_eq!(site.key_requests().len(), 3);
}

#[tokio::test]
async fn a_known_key_does_not_wait_while_the_issuer_hangs() {
    let (site, issuer, verifier) = running("").await;
    site.set_jwks(Answer::Hang(Vec::new()));
    let (other, forged) = (verifier.clone(), token(&TestIssuer::new(AUDIENCE)));
    let waiter = tokio::spawn(async move { other.verify(&forged).await });
    site.hit(3).await;
    assert!(verifier.verify(&token(&issuer)).await.is_ok());
    assert!(!waiter.is_finished());
    wind(2).await;
    assert_eq!(waiter.await.unwrap(), Err(UNKNOWN_KEY));
    assert!(verifier.verify_held(&token(&issuer)).is_ok());
}

#[tokio::test]
async fn keys_are_fetched_ahead_of_the_end_of_their_freshness() {
    let (site, _issuer, _verifier) = running("cache-control: max-age=1000\r\n").await;
    wind(639).await;
    assert_eq!(site.key_requests().len(), 1);
    wind(800 - 639).await;
    site.hit(3).await;
    assert_eq!(site.key_requests().len(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_is_forgotten_with_the_next_fetch() {
    let (site, old, verifier) = running("cache-control: max-age=60\r\n").await;
    let new = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::ok("", &new.jwks()));
    wind(60).await;
    until(|| verifier.verify_held(&token(&old)) == Err(UNKNOWN_KEY)).await;
    assert!(verifier.verify_held(&token(&new)).is_ok());
}

#[tokio::test]
async fn an_unchanged_set_is_confirmed_and_stays_fresh() {
    let headers = "cache-control: max-age=60\r\netag: \"one\"\r\n";
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::ok(headers, &issuer.jwks()));
    let verifier = builder(&site).serve_stale(Duration::ZERO).remote().unwrap();
    verifier.ready(PATIENCE).await.unwrap();
    site.set_jwks(Answer::status("304 Not Modified", "cache-control: max-age=60\r\n", ""));
    let unknown = token(&TestIssuer::new(AUDIENCE));
    for round in 1..5 {
        wind(50).await;
        // whoever waits for a fetch has seen it end
        assert_eq!(verifier.verify(&unknown).await, Err(UNKNOWN_KEY));
        assert!(verifier.verify_held(&token(&issuer)).is_ok(), "round {round}");
    }
    let requests = site.key_requests();
    assert!(requests.len() >= 5);
    assert!(!requests[0].contains("if-none-match"));
    assert!(requests[1..].iter().all(|head| head.contains("if-none-match: \"one\"\r\n")));
}

#[tokio::test]
async fn keys_serve_while_the_issuer_is_down_up_to_a_bound() {
    let (site, issuer, verifier) = running("cache-control: max-age=60\r\n").await;
    site.set_jwks(Answer::status("500 Internal Server Error", "", ""));
    site.set_metadata(Answer::status("500 Internal Server Error", "", ""));
    wind(60).await;
    until(|| verifier.fetch_error().is_some()).await;
    wind(3599).await;
    assert!(verifier.verify_held(&token(&issuer)).is_ok());
    wind(1).await;
    assert_eq!(verifier.verify_held(&token(&issuer)), Err(VerifyError::KeysUnavailable));
    assert_eq!(verifier.verify(&token(&issuer)).await, Err(VerifyError::KeysUnavailable));
}

#[tokio::test]
async fn the_bound_can_be_for_ever() {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::ok("", &issuer.jwks()));
    let verifier = builder(&site).serve_stale(Duration::MAX).remote().unwrap();
    verifier.ready(PATIENCE).await.unwrap();
    assert!(verifier.verify_held(&token(&issuer)).is_ok());
}

#[tokio::test]
async fn no_bad_answer_replaces_good_keys() {
    let huge = format!(r#"{{"keys":[{}"#, " ".repeat(257 * 1024));
    let evil = TestIssuer::new(AUDIENCE);
    let cases = [
        (Answer::ok("", r#"{"keys":[]}"#), "no key of the set can be used"),
        (Answer::ok("", r#"{"keys":[{"kty":"oct","k":"AA"}]}"#), "no key of the set can be used"),
        (Answer::ok("", "{}"), "no JWK Set"),
        (Answer::ok("", "<html>"), "no JWK Set"),
        (Answer::ok("", ""), "no JWK Set"),
        (Answer::ok("", &huge), "length limit"),
        (Answer::status("304 Not Modified", "", ""), "answered 304"),
        (Answer::status("500 Internal Server Error", "", &evil.jwks()), "answered 500"),
        (Answer::status("206 Partial Content", "", &evil.jwks()), "answered 206"),
        (Answer::status("302 Found", "location: /other.json\r\n", &evil.jwks()), "answered 302"),
        (Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{".to_vec()), "jwks.json"),
        (Answer::Bytes(b"SSH-2.0-OpenSSH\r\n".to_vec()), "jwks.json"),
        (Answer::Bytes(Vec::new()), "jwks.json"),
    ];
    for (answer, reason) in cases {
        let (site, issuer, verifier) = running("").await;
        site.set_jwks(answer);
        let forged = token(&evil);
        assert_eq!(verifier.verify(&forged).await, Err(UNKNOWN_KEY), "{reason}");
        assert!(verifier.verify_held(&token(&issuer)).is_ok(), "{reason}");
        let error = verifier.fetch_error().unwrap();
        assert!(error.contains(reason), "{error} is not {reason}");
    }
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_off() {
    let (site, issuer, verifier) = running("").await;
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(300 * 1024));
    site.set_jwks(Answer::Hang(endless.into_bytes()));
    assert_eq!(verifier.verify(&token(&TestIssuer::new(AUDIENCE))).await, Err(UNKNOWN_KEY));
    assert!(verifier.fetch_error().unwrap().contains("length limit"));
    assert!(verifier.verify_held(&token(&issuer)).is_ok());
}

#[tokio::test]
async fn one_odd_key_does_not_spoil_the_set() {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    let mut jwks: Value = serde_json::from_str(&issuer.jwks()).unwrap();
    let odd = [json!({"kty": "AKP", "alg": "ML-DSA-44"}), json!(7), json!({"kty": "EC"})];
    jwks["keys"].as_array_mut().unwrap().splice(0..0, odd);
    site.set_jwks(Answer::ok("", &jwks.to_string()));
    let verifier = builder(&site).remote().unwrap();
    assert!(verifier.verify(&token(&issuer)).await.is_ok());
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let (site, evil) = (Site::start().await, Site::start().await);
    let to_evil = |status| Answer::status(status, &format!("location: {}/\r\n", evil.origin), "");
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        site.set_metadata(to_evil(status));
        let verifier = builder(&site).remote().unwrap();
        until(|| verifier.fetch_error().is_some()).await;
        assert!(verifier.fetch_error().unwrap().contains("answered 30"));
    }
    assert_eq!(evil.hits(), 0);
}

#[tokio::test]
async fn keys_are_never_fetched_from_another_origin() {
    let (site, evil) = (Site::start().await, Site::start().await);
    let host = evil.origin.strip_prefix("http://").unwrap();
    for jwks_uri in [
        format!("{}/jwks.json", evil.origin),
        format!("{}@{host}/jwks.json", site.origin),
        format!("{}.evil.test/jwks.json", site.origin),
        format!("{}0/jwks.json", site.origin),
        format!("//{host}/jwks.json"),
        site.origin.replace("http", "https") + "/jwks.json",
        "/jwks.json".to_owned(),
        format!("{}\\@{host}/", site.origin),
        String::new(),
    ] {
        let metadata = json!({"issuer": site.origin, "jwks_uri": jwks_uri});
        site.set_metadata(Answer::ok("", &metadata.to_string()));
        let verifier = builder(&site).remote().unwrap();
        until(|| verifier.fetch_error().is_some()).await;
        let error = verifier.fetch_error().unwrap();
        assert!(error.ends_with("`jwks_uri` leaves the issuer's origin"), "{jwks_uri}: {error}");
    }
    assert_eq!(evil.hits(), 0);
}

#[tokio::test]
async fn metadata_of_another_issuer_is_refused() {
    let site = Site::start().await;
    for issuer in [format!("{}/", site.origin), "https://evil.test".to_owned(), String::new()] {
        let jwks_uri = format!("{}/jwks.json", site.origin);
        let metadata = json!({"issuer": issuer, "jwks_uri": jwks_uri});
        site.set_metadata(Answer::ok("", &metadata.to_string()));
        let verifier = builder(&site).remote().unwrap();
        until(|| verifier.fetch_error().is_some()).await;
        assert!(verifier.fetch_error().unwrap().contains("names another issuer"), "{issuer}");
    }
    assert_eq!(site.key_requests().len(), 0);
}

#[tokio::test]
async fn plain_http_is_for_loopback_only() {
    let build = |issuer: &str| Verifier::builder(issuer).audience(AUDIENCE).remote();
    for issuer in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost:1"]
    {
        assert!(build(issuer).is_ok(), "{issuer}");
    }
    for issuer in [
        "http://auth.example.com",
        "http://localhost.evil.test",
        "http://127.0.0.1.evil.test",
        "http://10.0.0.1",
        "http://[::ffff:127.0.0.1]",
        "http://0.0.0.0",
        "http://2130706433",
        "ftp://127.0.0.1",
        "127.0.0.1",
        "http://127.0.0.1/path",
    ] {
        assert!(build(issuer).is_err(), "{issuer}");
    }
}

#[tokio::test]
async fn https_is_never_plain_and_asks_for_no_provider_of_the_process() {
    let site = Site::start().await;
    let origin = site.origin.replace("http:", "https:");
    match Verifier::builder(origin).audience(AUDIENCE).remote() {
        Ok(verifier) => {
            wind(2).await;
            until(|| verifier.fetch_error().is_some()).await;
            assert_eq!(site.hits(), 0);
        }
        // a machine without root certificates says so at once
        Err(error) => assert!(error.to_string().starts_with("no root certificates")),
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[test]
fn a_remote_verifier_needs_a_runtime() {
    let built = Verifier::builder("http://127.0.0.1:1").audience(AUDIENCE).remote();
    assert_eq!(built.unwrap_err().to_string(), "a remote verifier is built inside a tokio runtime");
}

#[test]
fn a_verifier_outlives_its_runtime_with_the_keys_it_has() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (_site, issuer, verifier) = first.block_on(running(""));
    drop(first);
    assert!(verifier.verify_held(&token(&issuer)).is_ok());
    let unknown = token(&TestIssuer::new(AUDIENCE));
    assert_eq!(runtime().block_on(verifier.verify(&unknown)), Err(UNKNOWN_KEY));
}

#[tokio::test]
async fn the_task_ends_with_the_last_verifier() {
    let (_site, _issuer, verifier) = running("").await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    settle().await;
    let before = alive();
    let clone = verifier.clone();
    drop(verifier);
    settle().await;
    assert_eq!(alive(), before);
    drop(clone);
    // one hears of keys, one of revocations
    until(|| alive() == before - 2).await;
}

const PATIENCE: Duration = Duration::from_secs(5);

/// A site that serves the keys of an issuer with these headers, and a verifier that has them.
async fn running(headers: &str) -> (Site, TestIssuer, Verifier) {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::ok(headers, &issuer.jwks()));
    let verifier = builder(&site).remote().unwrap();
    verifier.ready(PATIENCE).await.unwrap();
    (site, issuer, verifier)
}

fn builder(site: &Site) -> VerifierBuilder {
    Verifier::builder(&site.origin).audience(AUDIENCE)
}

fn token(issuer: &TestIssuer) -> String {
    issuer.token(ORG, "read:*").sign()
}

fn both(a: &TestIssuer, b: &TestIssuer) -> String {
    let keys = |issuer: &TestIssuer| {
        let jwks: Value = serde_json::from_str(&issuer.jwks()).unwrap();
        jwks["keys"].as_array().unwrap().clone()
    };
    let keys = [keys(a), keys(b)].concat();
    json!({"keys": keys}).to_string()
}

/// Moves the clock by that many seconds, at once.
async fn wind(seconds: u64) {
    // what is ready now happens before, not after
    settle().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// Lets every task that can run do so.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn until(happened: impl Fn() -> bool) {
    let wait = async {
        while !happened() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it did not happen");
}
