//! The verifier beside `jsonwebtoken`: it accepts nothing more, and much less.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

mod common;
#[path = "common/jwt.rs"]
mod jwt;

use common::{AUDIENCE, Forge, ISSUER, NOW, claims, encode, header, join, with};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, Validation, decode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tenmint_verifier::{InvalidToken, JwkSet, VerifyError};

/// What `jsonwebtoken` makes of a token, asked as strictly as it can be.
fn theirs(token: &str, forge: &Forge) -> Option<Value> {
    let mut strict = Validation::new(jsonwebtoken::Algorithm::ES256);
    strict.set_audience(&[AUDIENCE]);
    strict.set_issuer(&[ISSUER]);
    strict.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // its clock is that of the machine, which stands before `NOW`; expiry has tests of its own
    strict.validate_exp = false;
    decode_with(token, forge, &strict)
}

/// The same, asked as its documentation begins.
fn theirs_by_default(token: &str, forge: &Forge) -> Option<Value> {
    let mut plain = Validation::new(jsonwebtoken::Algorithm::ES256);
    plain.set_audience(&[AUDIENCE]);
    decode_with(token, forge, &plain)
}

fn decode_with(token: &str, forge: &Forge, validation: &Validation) -> Option<Value> {
    jwt::install();
    let key = DecodingKey::from_ec_der(forge.point());
    decode::<Value>(token, &key, validation).ok().map(|data| data.claims)
}

/// One change to a member: taken away, or set to one of the values that verifiers stumble over.
fn change(names: Vec<&'static str>) -> impl Strategy<Value = (&'static str, Option<Value>)> {
    let values = vec![
        None,
        Some(json!(null)),
        Some(json!("")),
        Some(json!("none")),
        Some(json!("es")),
        Some(json!("ed")),
        Some(json!("HS256")),
        Some(json!("ES256")),
        Some(json!("JWT")),
        Some(json!(["exp"])),
        Some(json!(ISSUER)),
        Some(json!([ISSUER])),
        Some(json!(AUDIENCE)),
        Some(json!([AUDIENCE])),
        Some(json!([AUDIENCE, "b"])),
        Some(json!([AUDIENCE, 1])),
        Some(json!({})),
        Some(json!(0)),
        Some(json!(-1)),
        Some(json!(1.5)),
        Some(json!(NOW)),
        Some(json!(NOW + 600)),
        Some(json!(u64::MAX)),
        Some(json!("read:*")),
        Some(json!("read:../x")),
        Some(json!(true)),
        Some(json!({"allow": ["10.0.0.0/8", "2001:db8::1"], "block": ["10.1.0.0/16"]})),
        Some(json!({"allow": ["10.0.0.1/8"]})),
        Some(json!({"allow": []})),
        Some(json!({"limit": 100, "window": 60})),
        Some(json!({"limit": 100, "window": 0})),
    ];
    (prop::sample::select(names), prop::sample::select(values))
}

fn changed(object: Value, changes: Vec<(&str, Option<Value>)>) -> Value {
    changes.into_iter().fold(object, |object, (name, value)| with(object, name, value))
}

const HEADERS: [&str; 8] = ["alg", "typ", "kid", "crit", "jku", "jwk", "b64", "x"];
const CLAIMS: [&str; 15] = [
    "iss",
    "sub",
    "aud",
    "client_id",
    "scope",
    "org",
    "iat",
    "exp",
    "jti",
    "rev",
    "nbf",
    "space",
    "net",
    "quota",
    "x",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_here_is_accepted_there_and_says_the_same(
        headers in prop::collection::vec(change(HEADERS.to_vec()), 0..2),
        members in prop::collection::vec(change(CLAIMS.to_vec()), 0..3),
        flip in prop::option::weighted(0.1, (any::<prop::sample::Index>(), 0_u8..8)),
    ) {
        let forge = Forge::new();
        let token = forge.sign(changed(header(), headers), changed(claims(), members));
        let mut token = token.into_bytes();
        if let Some((at, bit)) = flip {
            let at = at.index(token.len());
            token[at] ^= 1 << bit;
        }
        let token = String::from_utf8_lossy(&token);
        match (forge.verifier().verify_held(&token), theirs(&token, &forge)) {
            (Ok(ours), Some(theirs)) => {
                let ours = serde_json::to_value(ours.claims()).unwrap();
                for (name, value) in ours.as_object().unwrap() {
                    let lone = theirs[name].as_array().filter(|many| many.len() == 1);
                    prop_assert_eq!(value, lone.map_or(&theirs[name], |many| &many[0]));
                }
            }
            (Ok(_), None) => prop_assert!(false, "only we accept {}", token),
            // where it accepts more, it is by its known leniency and never by a check that both make
            (Err(VerifyError::InvalidToken(reason)), Some(_)) => prop_assert!(matches!(
                reason,
                InvalidToken::HeaderRefused | InvalidToken::WrongType | InvalidToken::UnknownKey
                    | InvalidToken::WrongAlgorithm | InvalidToken::BadClaims
                    | InvalidToken::NotYetValid | InvalidToken::Expired | InvalidToken::Malformed
            ), "{:?}: {}", reason, token),
            (Err(_), _) => {}
        }
    }
}

#[test]
fn what_it_lets_through_by_default_is_refused_here() {
    let forge = Forge::new();
    let headers = [
        with(header(), "crit", json!(["unknown"])),
        with(header(), "typ", json!("anything")),
        with(header(), "typ", None),
    ];
    let bodies = [
        with(claims(), "iss", None),
        with(claims(), "iss", json!(["https://evil.test"])),
        with(claims(), "iss", json!("https://evil.test")),
        with(claims(), "aud", None),
        with(claims(), "sub", None),
        with(claims(), "sub", json!(1)),
        with(claims(), "nbf", json!(NOW + 100_000_000)),
    ];
    let tokens = headers.iter().map(|header| forge.sign(header, claims()));
    let tokens = tokens.chain(bodies.iter().map(|claims| forge.sign(header(), claims)));
    let doubled = claims().to_string().replace('}', r#","org":"org_1"}"#);
    for token in tokens.chain([forge.sign(header(), doubled)]) {
        assert!(theirs_by_default(&token, &forge).is_some(), "no leniency any more: {token}");
        assert!(forge.verifier().verify_held(&token).is_err(), "{token}");
    }
}

#[test]
fn what_it_ignores_of_a_jwk_counts_here() {
    let forge = Forge::new();
    for (name, value) in
        [("use", json!("enc")), ("key_ops", json!(["sign"])), ("crv", json!("P-384"))]
    {
        let jwk = with(forge.es256_jwk(), name, value);
        let theirs: Jwk = serde_json::from_value(jwk.clone()).unwrap();
        assert!(DecodingKey::from_jwk(&theirs).is_ok(), "no leniency any more: {jwk}");
        let ours = JwkSet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        assert_eq!((ours.len(), ours.skipped()), (0, 1), "{jwk}");
    }
}

#[test]
fn neither_accepts_an_unsigned_token() {
    let forge = Forge::new();
    let unsigned = join(&with(header(), "alg", json!("none")).to_string(), &claims().to_string());
    for token in [format!("{unsigned}."), format!("{unsigned}.{}", encode([0; 64]))] {
        assert!(theirs(&token, &forge).is_none());
        assert!(forge.verifier().verify_held(&token).is_err());
    }
}
