//! What the issuer revokes is heard at once, and nothing else is believed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tenmint_verifier::testing::TestIssuer;
use tenmint_verifier::{InvalidToken, Revocation, RevokedSubject, Verifier, VerifyError};

use crate::site::{Answer, Site};
use crate::{AUDIENCE, PATIENCE, builder, settle, token, until, wind};

const REVOKED: VerifyError = VerifyError::InvalidToken(InvalidToken::Revoked);

const NOW: u64 = 1_800_000_000;

/// The key of every token here.
fn key(below: Option<u64>) -> Value {
    let subject = RevokedSubject::of("key_0000000000000000");
    serde_json::to_value(Revocation { subject, below, until: u64::MAX }).unwrap()
}

/// A feed as this issuer signs it.
fn signed(issuer: &TestIssuer, site: &Site, (since, rev): (u64, u64), void: &[Value]) -> String {
    feed_of(issuer, &site.origin, &json!({"epoch": "1", "since": since, "rev": rev, "void": void}))
}

pub(crate) fn feed_of(issuer: &TestIssuer, iss: &str, claims: &Value) -> String {
    let bare = issuer.token("org_0000000000000000", "x").header("typ", "tm-revocations+jwt");
    let bare = ["sub", "client_id", "scope", "org", "aud", "exp", "jti"]
        .iter()
        .fold(bare.issuer(iss), |token, claim| token.without_claim(claim));
    let claims = claims.as_object().unwrap().clone();
    claims.into_iter().fold(bare, |token, (name, value)| token.claim(&name, value)).sign()
}

pub(crate) fn answer(feed: &str, age: u64) -> Answer {
    Answer::ok(&format!("etag: \"1.{}\"\r\nage: {age}\r\n", feed.len()), feed)
}

/// A site with a feed that says nothing yet, and what a verifier needs.
async fn hearing() -> (Site, TestIssuer) {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::ok("", &issuer.jwks()));
    let nothing = signed(&issuer, &site, (0, 1), &[]);
    site.set_feed(answer(&nothing, 0));
    (site, issuer)
}

async fn ready(verifier: &Verifier) {
    verifier.ready(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_token_is_refused_once_the_feed_says_so() {
    let (site, issuer) = hearing().await;
    let verifier = builder(&site).remote().unwrap();
    ready(&verifier).await;
    let text = token(&issuer);
    assert!(verifier.verify_held(&text).is_ok());
    site.set_feed(answer(&signed(&issuer, &site, (1, 5), &[key(Some(2))]), 0));
    until(|| verifier.verify_held(&text) == Err(REVOKED)).await;
    let newer = issuer.token("org_0000000000000000", "x").claim("rev", 2).sign();
    assert!(verifier.verify_held(&newer).is_ok());
    let status = verifier.status().unwrap();
    assert_eq!((status.revocations, status.feed_error), (1, None));
    let requests = site.feed_requests();
    assert!(requests[0].starts_with("get /feed http"), "the first one asks for all");
    assert!(requests[1].starts_with("get /feed?since=1&wait=30 "));
    assert!(requests[1].contains("if-none-match: \"1."));
    until(|| site.feed_requests().last().unwrap().starts_with("get /feed?since=5&wait=30 ")).await;
}

#[tokio::test]
async fn what_the_issuer_did_not_sign_as_a_feed_is_not_believed() {
    let (site, issuer) = hearing().await;
    let verifier = builder(&site).remote().unwrap();
    ready(&verifier).await;
    let text = token(&issuer);
    let evil = TestIssuer::new(AUDIENCE).at(&site.origin);
    let void = json!({"epoch": "1", "since": 1, "rev": 5, "void": [key(None)]});
    let good = signed(&issuer, &site, (1, 5), &[key(None)]);
    for (what, feed) in [
        ("unknown key", signed(&evil, &site, (1, 5), &[key(None)])),
        ("another issuer", feed_of(&issuer, "https://evil.test", &void)),
        ("a token", issuer.token("org_0000000000000000", "x").sign()),
        ("cut", good[..good.len() - 2].to_owned()),
        ("no feed", feed_of(&issuer, &site.origin, &json!({"rev": 5}))),
        ("a gap", signed(&issuer, &site, (3, 5), &[key(None)])),
        ("empty", String::new()),
    ] {
        site.set_feed(answer(&feed, 0));
        until(|| verifier.status().unwrap().feed_error.is_some()).await;
        assert!(verifier.verify_held(&text).is_ok(), "{what}");
        site.set_feed(answer(&signed(&issuer, &site, (0, 1), &[]), 0));
        until(|| verifier.status().unwrap().feed_error.is_none()).await;
    }
    site.set_feed(answer(&signed(&issuer, &site, (0, 5), &[key(None)]), 0));
    until(|| verifier.verify_held(&text) == Err(REVOKED)).await;
}

#[tokio::test]
async fn a_feed_that_goes_back_brings_nothing_back() {
    let (site, issuer) = hearing().await;
    let verifier = builder(&site).remote().unwrap();
    ready(&verifier).await;
    let text = token(&issuer);
    site.set_feed(answer(&signed(&issuer, &site, (0, 5), &[key(None)]), 0));
    until(|| verifier.verify_held(&text) == Err(REVOKED)).await;
    site.set_feed(answer(&signed(&issuer, &site, (0, 3), &[]), 0));
    until(|| site.feed_requests().len() > 2).await;
    assert_eq!(verifier.verify_held(&text), Err(REVOKED));
    let other = json!({"epoch": "2", "since": 0, "rev": 1, "void": []});
    site.set_feed(answer(&feed_of(&issuer, &site.origin, &other), 0));
    until(|| site.feed_requests().len() > 3).await;
    assert_eq!(verifier.verify_held(&text), Err(REVOKED), "nor one of another epoch");
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_and_comes_back_loses_no_revocation() {
    let (site, issuer) = hearing().await;
    let clock = Arc::new(AtomicU64::new(NOW));
    let seconds = Arc::clone(&clock);
    let verifier = builder(&site).clock(move || seconds.load(Ordering::Relaxed)).remote().unwrap();
    ready(&verifier).await;
    let feed = |rev: u64, iat: u64, void: &[Value]| {
        let claims = json!({"epoch": "1", "since": 0, "rev": rev, "iat": iat, "void": void});
        answer(&feed_of(&issuer, &site.origin, &claims), 0)
    };
    let subject = RevokedSubject::of("key_0000000000000000");
    let void = serde_json::to_value(Revocation { subject, below: None, until: NOW + 600 }).unwrap();
    for (what, answer, clock_says, held) in [
        ("revoked", feed(5, NOW, &[void]), NOW, 1),
        ("the clock leaps", Answer::status("304 Not Modified", "", ""), NOW + 3_600, 1),
        ("and comes back", Answer::status("304 Not Modified", "", ""), NOW, 1),
        ("the issuer's is ahead", feed(6, NOW + 3_600, &[]), NOW, 1),
        ("both are past the end", feed(7, NOW + 3_600, &[]), NOW + 3_600, 0),
    ] {
        clock.store(clock_says, Ordering::Relaxed);
        site.set_feed(answer);
        let asked = site.feed_requests().len();
        while site.feed_requests().len() < asked + 3 {
            wind(1).await;
        }
        assert_eq!(verifier.status().unwrap().revocations, held, "{what}");
    }
}

#[tokio::test]
async fn what_a_withdrawn_key_signed_is_refused() {
    let (site, issuer) = hearing().await;
    let verifier = builder(&site).remote().unwrap();
    ready(&verifier).await;
    let kids = json!({"epoch": "1", "since": 0, "rev": 5, "void": [], "kids": [issuer.kid()]});
    site.set_feed(answer(&feed_of(&issuer, &site.origin, &kids), 0));
    let refused = VerifyError::InvalidToken(InvalidToken::WithdrawnKey);
    until(|| verifier.verify_held(&token(&issuer)) == Err(refused.clone())).await;
    let void = signed(&issuer, &site, (0, 6), &[key(None)]);
    site.set_feed(answer(&void, 0));
    until(|| verifier.status().unwrap().feed_error.is_some()).await;
    assert_eq!(verifier.status().unwrap().revocations, 0, "nor is a feed of it believed");
}

#[tokio::test]
async fn without_the_issuer_verification_goes_on_as_long_as_the_keys_serve() {
    let (site, issuer) = hearing().await;
    let verifier = builder(&site).remote().unwrap();
    ready(&verifier).await;
    site.set_feed(Answer::status("500 Internal Server Error", "", ""));
    site.set_jwks(Answer::status("500 Internal Server Error", "", ""));
    until(|| verifier.status().unwrap().feed_error.is_some()).await;
    wind(600).await;
    assert!(verifier.verify_held(&token(&issuer)).is_ok());
    let age = verifier.status().unwrap().feed_age.unwrap();
    assert!(age >= Duration::from_mins(10) && age < Duration::from_secs(630), "{age:?}");
}

#[tokio::test]
async fn a_bound_on_silence_holds_to_the_second_and_ends_with_the_silence() {
    let (site, issuer) = hearing().await;
    let nothing = signed(&issuer, &site, (0, 1), &[]);
    // the issuer had not looked at its database for twenty seconds
    site.set_feed(answer(&nothing, 20));
    let bound = Duration::from_mins(1);
    let verifier = builder(&site).serve_unheard(bound).remote().unwrap();
    ready(&verifier).await;
    site.set_feed(Answer::status("500 Internal Server Error", "", ""));
    until(|| verifier.status().unwrap().feed_error.is_some()).await;
    let text = token(&issuer);
    wind(39).await;
    assert!(verifier.verify_held(&text).is_ok());
    wind(1).await;
    assert_eq!(verifier.verify_held(&text), Err(VerifyError::RevocationsUnavailable));
    assert_eq!(verifier.verify(&text).await, Err(VerifyError::RevocationsUnavailable));
    site.set_feed(answer(&nothing, 0));
    wind(5).await;
    until(|| verifier.verify_held(&text).is_ok()).await;
}

#[tokio::test]
async fn an_issuer_that_is_well_is_never_silent_however_short_the_bound() {
    for bound in [0, 1, 5, 30] {
        let (site, issuer) = hearing().await;
        let verifier = builder(&site).serve_unheard(Duration::from_secs(bound)).remote().unwrap();
        ready(&verifier).await;
        let text = token(&issuer);
        for second in 0..90 {
            assert!(verifier.verify_held(&text).is_ok(), "bound {bound} s, after {second} s");
            wind(1).await;
            settle().await;
        }
        assert_eq!(verifier.status().unwrap().feed_error, None);
    }
}

#[tokio::test]
async fn an_issuer_that_hangs_is_silent_at_the_bound_or_after_five_seconds() {
    for (bound, silent_after) in [(0, 5), (3, 5), (5, 5), (20, 20)] {
        let (site, issuer) = hearing().await;
        let verifier = builder(&site).serve_unheard(Duration::from_secs(bound)).remote().unwrap();
        ready(&verifier).await;
        let text = token(&issuer);
        site.set_feed(Answer::Hang(Vec::new()));
        wind(silent_after - 1).await;
        assert!(verifier.verify_held(&text).is_ok(), "bound {bound} s");
        wind(1).await;
        let silent = Err(VerifyError::RevocationsUnavailable);
        assert_eq!(verifier.verify_held(&text), silent, "bound {bound} s");
    }
}

#[tokio::test]
async fn without_any_bound_on_silence_a_failure_is_enough() {
    let (site, issuer) = hearing().await;
    let verifier = builder(&site).serve_unheard(Duration::ZERO).remote().unwrap();
    ready(&verifier).await;
    let text = token(&issuer);
    site.set_feed(Answer::status("500 Internal Server Error", "", ""));
    let silent = Err(VerifyError::RevocationsUnavailable);
    until(|| verifier.verify_held(&text) == silent).await;
    site.set_feed(answer(&signed(&issuer, &site, (0, 1), &[]), 0));
    wind(5).await;
    until(|| verifier.verify_held(&text).is_ok()).await;
    // the node that answered is cut off from its database
    site.set_feed(answer(&signed(&issuer, &site, (0, 2), &[]), 20));
    until(|| site.feed_requests().last().unwrap().starts_with("get /feed?since=2")).await;
    for _ in 0..4 {
        wind(1).await;
        settle().await;
    }
    assert!(verifier.verify_held(&text).is_ok(), "an older answer makes nothing older");
}

#[tokio::test]
async fn an_issuer_without_a_feed_is_fine_unless_one_is_asked_for() {
    let site = Site::start().await;
    let issuer = TestIssuer::new(AUDIENCE).at(&site.origin);
    site.set_jwks(Answer::ok("", &issuer.jwks()));
    let (lax, strict) = (builder(&site), builder(&site).serve_unheard(PATIENCE));
    let (lax, strict) = (lax.remote().unwrap(), strict.remote().unwrap());
    ready(&lax).await;
    ready(&strict).await;
    assert!(lax.verify_held(&token(&issuer)).is_ok());
    assert_eq!(lax.status().unwrap().feed_age, None);
    assert_eq!(strict.verify_held(&token(&issuer)), Err(VerifyError::RevocationsUnavailable));
    assert!(site.feed_requests().is_empty());
}

#[tokio::test]
async fn a_verifier_that_leaves_the_feed_out_never_asks_for_it() {
    let (site, issuer) = hearing().await;
    site.set_feed(answer(&signed(&issuer, &site, (0, 5), &[key(None)]), 0));
    let verifier = builder(&site).without_revocations().remote().unwrap();
    ready(&verifier).await;
    settle().await;
    assert!(verifier.verify_held(&token(&issuer)).is_ok());
    assert!(site.feed_requests().is_empty());
}

#[tokio::test]
async fn a_feed_elsewhere_than_at_the_issuer_is_not_asked() {
    let site = Site::start().await;
    let metadata = json!({"issuer": site.origin, "jwks_uri": format!("{}/jwks.json", site.origin),
        "revocation_feed_uri": "http://127.0.0.1.evil.test/feed"});
    site.set_metadata(Answer::ok("", &metadata.to_string()));
    let verifier = builder(&site).remote().unwrap();
    until(|| verifier.fetch_error().is_some()).await;
    assert!(verifier.fetch_error().unwrap().ends_with("leaves the issuer's origin"));
}
