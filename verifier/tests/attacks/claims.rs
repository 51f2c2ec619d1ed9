//! Claims that are missing, of another type, for somebody else, or out of time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tenmint_verifier::{InvalidToken, JwkSet, Verifier};

use crate::common::{AUDIENCE, Forge, ISSUER, NOW, claims, header, refused, with};

#[test]
fn every_claim_is_required() {
    let forge = Forge::new();
    for name in claims().as_object().unwrap().keys() {
        let tried = forge.try_claims(with(claims(), name, None));
        assert_eq!(tried, refused(InvalidToken::BadClaims), "{name}");
    }
}

#[test]
fn every_claim_has_one_type() {
    let forge = Forge::new();
    let odd = [json!(null), json!(true), json!(-1), json!(1.5), json!([]), json!({}), json!([1])];
    for name in claims().as_object().unwrap().keys() {
        let other = if claims()[name].is_string() { json!(1) } else { json!("1") };
        for value in odd.iter().cloned().chain([other, json!("")]) {
            let tried = forge.try_claims(with(claims(), name, value.clone()));
            assert!(tried.is_err(), "{name}: {value}");
        }
        if name != "aud" {
            let many = json!([claims()[name]]);
            assert!(forge.try_claims(with(claims(), name, many)).is_err(), "{name} in an array");
        }
    }
    for number in ["1e99", "1e400", "1800000600.0", "18446744073709551616", "-0", "0x7fffffff"] {
        let text = claims().to_string().replace(&(NOW + 600).to_string(), number);
        assert!(forge.try_claims(&text).is_err(), "{number}");
    }
    assert_eq!(
        forge.try_claims(with(claims(), "nbf", json!("0"))),
        refused(InvalidToken::BadClaims)
    );
}

#[test]
fn a_scope_claim_is_canonical() {
    let forge = Forge::new();
    for scope in ["", " ", "read", "read:*  chat", " chat", "read:/a", "READ:a", "read:a/../b"] {
        let tried = forge.try_claims(with(claims(), "scope", json!(scope)));
        assert_eq!(tried, refused(InvalidToken::BadClaims), "{scope}");
    }
}

#[test]
fn an_issuer_is_compared_byte_by_byte() {
    let forge = Forge::new();
    for iss in [
        "https://auth.example.com/",
        "https://AUTH.example.com",
        "http://auth.example.com",
        "https://auth.example.com.evil.test",
        "https://auth.example.com:443",
        "auth.example.com",
    ] {
        let tried = forge.try_claims(with(claims(), "iss", json!(iss)));
        assert_eq!(tried, refused(InvalidToken::WrongIssuer), "{iss}");
    }
}

#[test]
fn an_audience_is_compared_byte_by_byte() {
    let forge = Forge::new();
    for aud in [
        json!("https://api.example.com/"),
        json!("https://API.example.com"),
        json!("https://api.example.co"),
        json!("https://api.example.com https://other.example"),
        json!([]),
        json!(["https://other.example"]),
        json!(["https://api.example.com.evil.test", "*", ".*"]),
    ] {
        let tried = forge.try_claims(with(claims(), "aud", aud.clone()));
        assert_eq!(tried, refused(InvalidToken::WrongAudience), "{aud}");
    }
    let several = json!(["https://other.example", AUDIENCE]);
    assert!(forge.try_claims(with(claims(), "aud", several)).is_ok());
}

#[test]
fn a_token_holds_from_iat_to_exp_give_or_take_five_seconds() {
    let forge = Forge::new();
    let at = |name: &str, moment: u64| forge.try_claims(with(claims(), name, json!(moment)));
    assert!(at("exp", NOW - 4).is_ok());
    assert_eq!(at("exp", NOW - 5), refused(InvalidToken::Expired));
    assert_eq!(at("exp", 0), refused(InvalidToken::Expired));
    assert!(at("iat", NOW + 5).is_ok());
    assert_eq!(at("iat", NOW + 6), refused(InvalidToken::NotYetValid));
    assert!(at("nbf", NOW + 5).is_ok());
    assert_eq!(at("nbf", NOW + 6), refused(InvalidToken::NotYetValid));
    assert_eq!(at("nbf", u64::MAX), refused(InvalidToken::NotYetValid));
    assert!(at("exp", u64::MAX).is_ok());
}

#[test]
fn the_leeway_can_be_none() {
    let forge = Forge::new();
    let exact = Verifier::builder(ISSUER).audience(AUDIENCE).clock(|| NOW);
    let exact = exact.leeway(std::time::Duration::ZERO);
    let keys = JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap();
    let exact = exact.with_keys(keys).unwrap();
    let expiring = |exp: u64| forge.sign(header(), with(claims(), "exp", json!(exp)));
    assert!(exact.verify_held(&expiring(NOW + 1)).is_ok());
    assert_eq!(exact.verify_held(&expiring(NOW)), refused(InvalidToken::Expired));
}

#[test]
fn a_token_that_was_good_is_refused_once_it_has_expired() {
    let seconds = Arc::new(AtomicU64::new(NOW));
    let wound = seconds.clone();
    let forge = Forge::new();
    let verifier = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .clock(move || wound.load(Ordering::Relaxed))
        .with_keys(JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap())
        .unwrap();
    let text = forge.sign(header(), claims());
    assert!(verifier.verify_held(&text).is_ok());
    seconds.store(NOW + 610, Ordering::Relaxed);
    assert_eq!(verifier.verify_held(&text), refused(InvalidToken::Expired));
}
