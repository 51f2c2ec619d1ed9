//! Signatures that are none, and algorithms that the token would choose itself.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;
use tenmint_verifier::{Algorithm, InvalidToken, JwkSet, Verifier};

use crate::common::{AUDIENCE, Forge, ISSUER, NOW, claims, encode, header, join, refused, with};

#[test]
fn a_good_token_is_good() {
    let forge = Forge::new();
    let token = forge.try_header(header()).unwrap();
    assert_eq!((token.claims().iss.as_str(), token.claims().exp), (ISSUER, NOW + 600));
    let ed25519 = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": "ed"});
    assert!(forge.verifier().verify_held(&forge.sign_ed25519(ed25519, claims())).is_ok());
}

#[test]
fn an_unsigned_token_is_refused_in_every_spelling() {
    let forge = Forge::new();
    for alg in ["none", "None", "NONE", "nOnE", "", "null"] {
        let unsigned = join(&with(header(), "alg", json!(alg)).to_string(), &claims().to_string());
        for token in [format!("{unsigned}."), format!("{unsigned}.AA"), unsigned] {
            assert!(forge.verifier().verify_held(&token).is_err(), "{token}");
        }
    }
}

#[test]
fn the_public_key_is_no_secret_for_hmac() {
    let forge = Forge::new();
    let spki_head = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let spki = [spki_head.as_slice(), forge.point()].concat();
    let pem = |end: &str| {
        let text = STANDARD.encode(&spki);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----{end}").into_bytes()
    };
    let secrets: [Vec<u8>; 8] = [
        Vec::new(),
        forge.point().to_vec(),
        forge.point()[1..].to_vec(),
        forge.point()[1..33].to_vec(),
        spki.clone(),
        pem("\n"),
        pem(""),
        forge.es256_jwk().to_string().into_bytes(),
    ];
    for secret in secrets {
        for alg in ["HS256", "hs256", "ES256"] {
            let header = with(header(), "alg", json!(alg)).to_string();
            let signed = join(&header, &claims().to_string());
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
            let token = format!("{signed}.{}", encode(tag));
            assert!(forge.verifier().verify_held(&token).is_err(), "{alg} {secret:?}");
        }
    }
}

#[test]
fn the_key_says_its_algorithm_and_the_token_does_not() {
    let forge = Forge::new();
    for (alg, kid) in [("EdDSA", "es"), ("RS256", "es"), ("ES384", "es"), ("ES256", "ed")] {
        let header = json!({"typ": "at+jwt", "alg": alg, "kid": kid});
        assert_eq!(forge.try_header(header), refused(InvalidToken::WrongAlgorithm), "{alg} {kid}");
    }
    let narrow = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .algorithms([Algorithm::Rs256])
        .clock(|| NOW)
        .with_keys(JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap())
        .unwrap();
    let token = forge.sign(header(), claims());
    assert_eq!(narrow.verify_held(&token), refused(InvalidToken::WrongAlgorithm));
}

#[test]
fn only_a_signature_of_two_full_numbers_counts() {
    let forge = Forge::new();
    let order = b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
    let good = forge.sign(header(), claims());
    let signed = good.rsplit_once('.').unwrap().0;
    let zero = [0; 32];
    let forgeries: [Vec<u8>; 7] = [
        Vec::new(),
        vec![0; 64],
        [zero.as_slice(), order].concat(),
        [order.as_slice(), order].concat(),
        vec![0xff; 64],
        vec![0; 63],
        vec![0; 65],
    ];
    for signature in forgeries {
        let token = format!("{signed}.{}", encode(signature));
        assert_eq!(forge.verifier().verify_held(&token), refused(InvalidToken::BadSignature));
    }
    let der = forge.sign_der(header(), claims());
    assert_eq!(forge.verifier().verify_held(&der), refused(InvalidToken::BadSignature));
}

#[test]
fn a_signature_does_not_carry_over_to_other_text() {
    let forge = Forge::new();
    let (a, b) = (forge.sign(header(), claims()), {
        let wide = with(claims(), "scope", json!("*:*"));
        forge.sign(header(), wide)
    });
    let (a, b): (Vec<_>, Vec<_>) = (a.split('.').collect(), b.split('.').collect());
    let spliced = [a[0], b[1], a[2]].join(".");
    assert_eq!(forge.verifier().verify_held(&spliced), refused(InvalidToken::BadSignature));
}
