//! Any bytes as a token, as the two signed parts of one, and as a key set.
//!
//! Both the fuzz target and the replay of its corpus include this file.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tenmint_verifier::{IpRange, JwkSet, Verifier};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "https://api.example.com";
const NOW: u64 = 1_800_000_000;

/// A key that everybody knows, so that what lies behind the signature is reached too.
static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let x = URL_SAFE_NO_PAD.encode(KEY.public_key());
    let jwks = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x},
        {"kty": "RSA", "kid": "rsa", "n": URL_SAFE_NO_PAD.encode([0xc5; 256]), "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "es",
            "x": URL_SAFE_NO_PAD.encode([1; 32]), "y": URL_SAFE_NO_PAD.encode([2; 32])},
    ]});
    let keys = JwkSet::parse(jwks.to_string().as_bytes()).unwrap();
    assert_eq!(keys.len(), 3);
    let builder = Verifier::builder(ISSUER).audience(AUDIENCE).clock(|| NOW);
    builder.with_keys(keys).unwrap()
});

/// The first byte says what the rest is.
pub(crate) fn check(data: &[u8]) {
    match data {
        [b'j', document @ ..] => check_jwks(document),
        [b's', parts @ ..] => check_signed(parts),
        token => check_token(token),
    }
}

fn check_token(data: &[u8]) {
    let token = String::from_utf8_lossy(data);
    if VERIFIER.verify_held(&token).is_ok() {
        let signed = token.rsplit_once('.').unwrap().0;
        let signature = URL_SAFE_NO_PAD.encode(KEY.sign(signed.as_bytes()));
        assert_eq!(token, format!("{signed}.{signature}"), "a forgery");
    }
}

/// Header and claims, a line each, signed well: what is accepted must be what it says it is.
fn check_signed(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, claims) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(KEY.sign(signed.as_bytes()));
    let Ok(token) = VERIFIER.verify_held(&format!("{signed}.{signature}")) else { return };
    // text all of it, though a number that nobody reads may be larger than this reader can take
    assert!(std::str::from_utf8(header).is_ok() && std::str::from_utf8(claims).is_ok());
    let (Ok(header), Ok(asked)) = (serde_json::from_slice(header), serde_json::from_slice(claims))
    else {
        return;
    };
    let (header, asked): (Value, Value) = (header, asked);
    assert_eq!((&header["alg"], &header["kid"]), (&json!("EdDSA"), &json!("ed")));
    assert!(header.get("crit").is_none() && header.get("jwk").is_none());
    for (name, value) in serde_json::to_value(token.claims()).unwrap().as_object().unwrap() {
        if name == "net" {
            assert_eq!(*value, canonical(&asked[name]));
            continue;
        }
        let lone = asked[name].as_array().filter(|many| many.len() == 1);
        assert_eq!(value, lone.map_or(&asked[name], |many| &many[0]), "{name}");
    }
    assert_eq!(token.claims().iss, ISSUER);
    assert!(token.claims().aud.iter().any(|audience| audience == AUDIENCE));
    assert!(token.claims().exp > NOW - 10 && token.claims().iat <= NOW + 10);
}

/// The lists of `net`, each range in the one spelling that is printed.
fn canonical(net: &Value) -> Value {
    let mut net = net.clone();
    for list in net.as_object_mut().unwrap().values_mut() {
        for range in list.as_array_mut().unwrap() {
            *range = json!(range.as_str().unwrap().parse::<IpRange>().unwrap().to_string());
        }
    }
    net
}

fn check_jwks(document: &[u8]) {
    if let Ok(set) = JwkSet::parse(document) {
        assert!(set.len() + set.skipped() <= 100);
        if let Ok(asked) = serde_json::from_slice::<Value>(document) {
            assert_eq!(asked["keys"].as_array().map(Vec::len), Some(set.len() + set.skipped()));
        }
    }
}
