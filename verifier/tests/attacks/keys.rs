//! Keys that must never check a signature.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use serde_json::{Value, json};
use tenmint_verifier::{InvalidToken, JwkSet};

use crate::common::{Forge, claims, encode, header, refused, verifier_of, with};

#[test]
fn a_key_on_another_curve_is_no_key() {
    let forge = Forge::new();
    for crv in ["P-384", "secp256k1", "p-256", "Ed25519", ""] {
        let jwk = with(forge.es256_jwk(), "crv", json!(crv));
        assert_eq!(skipped(&jwk), 1, "{crv}");
    }
    // a point that is not on the curve
    let jwk = with(forge.es256_jwk(), "y", json!(encode([7; 32])));
    let verifier = verifier_of(&json!({"keys": [jwk]}));
    let token = forge.sign(header(), claims());
    assert_eq!(verifier.verify_held(&token), refused(InvalidToken::BadSignature));
}

#[test]
fn a_weak_or_foreign_key_is_skipped_and_the_others_serve() {
    let forge = Forge::new();
    let es = forge.es256_jwk();
    let rsa = json!({"kty": "RSA", "kid": "rsa", "n": SOUND_MODULUS, "e": "AQAB"});
    assert_eq!(skipped(&rsa), 0);
    let odd = [
        with(rsa.clone(), "n", json!(ROCA_MODULUS)),
        with(rsa.clone(), "e", json!("AQ")),
        with(rsa.clone(), "e", json!("Ag")),
        with(rsa.clone(), "e", json!("AAEAAQ")),
        with(rsa.clone(), "e", json!("")),
        with(rsa.clone(), "n", json!(&SOUND_MODULUS[..171])),
        with(rsa.clone(), "d", json!("AQAB")),
        with(rsa.clone(), "alg", json!("HS256")),
        with(rsa.clone(), "alg", json!("RSA-OAEP")),
        with(rsa, "use", json!("enc")),
        with(es.clone(), "key_ops", json!(["sign"])),
        with(es.clone(), "key_ops", json!("verify")),
        with(es.clone(), "alg", json!("ES384")),
        with(es.clone(), "kid", None),
        with(es.clone(), "kid", json!("")),
        with(es.clone(), "x", json!("AA")),
        with(es.clone(), "kty", json!("oct")),
        json!({"kty": "oct", "kid": "oct", "k": "AAAA"}),
        json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({}),
        json!("es"),
        json!(null),
    ];
    for jwk in &odd {
        assert_eq!(skipped(jwk), 1, "{jwk}");
        let verifier = verifier_of(&json!({"keys": [jwk, es]}));
        assert!(verifier.verify_held(&forge.sign(header(), claims())).is_ok(), "{jwk}");
    }
}

#[test]
fn of_two_keys_with_one_name_the_first_counts() {
    let (forge, evil) = (Forge::new(), Forge::new());
    let both = json!({"keys": [forge.es256_jwk(), evil.es256_jwk()]});
    let set = JwkSet::parse(both.to_string().as_bytes()).unwrap();
    assert_eq!((set.len(), set.skipped()), (1, 1));
    let verifier = verifier_of(&both);
    assert!(verifier.verify_held(&forge.sign(header(), claims())).is_ok());
    let forged = evil.sign(header(), claims());
    assert_eq!(verifier.verify_held(&forged), refused(InvalidToken::BadSignature));
}

#[test]
fn a_document_that_is_no_set_is_no_set() {
    let many = json!({"keys": vec![json!({}); 101]}).to_string();
    let twice = r#"{"keys":[],"keys":[]}"#;
    for document in ["", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":null}"#, twice, &many] {
        assert!(JwkSet::parse(document.as_bytes()).is_err(), "{document}");
    }
}

#[test]
fn keys_can_change_under_the_same_rules() {
    let (old, new) = (Forge::new(), Forge::new());
    let first = old.verifier();
    let second = first.with_keys(JwkSet::parse(new.jwks().to_string().as_bytes()).unwrap());
    let [old, new] = [old, new].map(|forge| forge.sign(header(), claims()));
    assert!(first.verify_held(&old).is_ok() && second.verify_held(&new).is_ok());
    assert_eq!(first.verify_held(&new), refused(InvalidToken::BadSignature));
    assert_eq!(second.verify_held(&old), refused(InvalidToken::BadSignature));
    let emptied = second.with_keys(JwkSet::default());
    assert_eq!(emptied.verify_held(&new), refused(InvalidToken::UnknownKey));
}

fn skipped(jwk: &Value) -> usize {
    JwkSet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap().skipped()
}

/// 2048 bits with no structure; nobody needs to know its factors.
const SOUND_MODULUS: &str = "\
    rUXyPTsaEd9Yf9KAO6tsOY2INIp-7Y0U8G0_73AZZqDDgeiPOMDI_YcSuLwHbzeHudF54GwP1PX4EwxCN3MO36-9\
    Z_lhlpnP4ZiK2fBsFEoCW0E_ipoCHqZIp90Gg565Bbbm4wfUvtxRQxGT5sPzORorjx_x_UKil1XUwTqQKTHNRH41\
    uLbY_kQuPUNyBOUtsiIaWACKBabEZHFZwyTJhZuBDnZuydKGY8qCjdX0s7LksGzmB0HHqHzkLIIYBy6MNb-ZLcnp\
    xhZhLnaWps7MG3jlEGFzEdijws5vRH7U1XseL-uJQUw0PBAnxNHDhrvEzWE-MNjxat-Rt1hKImWx9Q";

/// 2048 bits with the fingerprint of CVE-2017-15361: `k * M + 65537^a mod M`.
const ROCA_MODULUS: &str = "\
    qjY76tJ_qLRngE_VqHXGPR4xlSXgr1uT7_Y2wNQrFJQurpavzFXGaOoSbT0-dSLVKBFGmuFXZf602ARvSVixloyv\
    NF17DvJ3JVA6xl2L8Lz5pfDvRVrStE6e1lT0-f2edEfNdPGIgXwK5mF6c11BRVUfmsWr91EIsGbh6xoi03LjesEx\
    Gyy7F0VvM6AvyeVV0Tq1jUAprlzb9HAHE507uphzCndPbL18cvkMIC49t01kYgcm9I2IuaWu8VMTfV7Dzm3Vgb2j\
    I_VPmf-d4-8WdoYyfHPniEM5ZAeZi4AJodCX5a4FC0LPrI6hjT6htZGX_ZzZ50vyTZwedeGviHYe8w";
