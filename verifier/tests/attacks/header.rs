//! Headers that ask for more than a plain signature by a known key.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use serde_json::json;
use tenmint_verifier::{InvalidToken, JwkSet, Verifier};

use crate::common::{AUDIENCE, Forge, ISSUER, NOW, claims, header, refused, with};

#[test]
fn a_header_that_asks_for_more_is_refused() {
    let forge = Forge::new();
    let evil = Forge::new();
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("b64", json!(false)),
        ("jwk", evil.es256_jwk()),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/chain.pem")),
        ("x5c", json!(["MIIB"])),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
    ] {
        let header = with(header(), name, value);
        assert_eq!(forge.try_header(&header), refused(InvalidToken::HeaderRefused), "{header}");
        let forged = evil.sign(&header, claims());
        assert!(forge.verifier().verify_held(&forged).is_err(), "{header}");
    }
}

#[test]
fn only_an_access_token_is_an_access_token() {
    let forge = Forge::new();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert!(forge.try_header(with(header(), "typ", json!(typ))).is_ok(), "{typ}");
    }
    for typ in ["JWT", "jwt", "", "at", "at+jwt ", "application/application/at+jwt", "dpop+jwt"] {
        let tried = forge.try_header(with(header(), "typ", json!(typ)));
        assert_eq!(tried, refused(InvalidToken::WrongType), "{typ}");
    }
    assert_eq!(forge.try_header(with(header(), "typ", None)), refused(InvalidToken::WrongType));
    for typ in [json!(null), json!(["at+jwt"]), json!(1)] {
        let tried = forge.try_header(with(header(), "typ", typ));
        assert_eq!(tried, refused(InvalidToken::Malformed));
    }
}

#[test]
fn plain_jwt_passes_where_the_api_says_so() {
    let forge = Forge::new();
    let keys = JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap();
    let lenient = Verifier::builder(ISSUER).audience(AUDIENCE).clock(|| NOW).accept_typ_jwt();
    let lenient = lenient.with_keys(keys).unwrap();
    let token = forge.sign(with(header(), "typ", json!("JWT")), claims());
    assert!(lenient.verify_held(&token).is_ok());
    let untyped = forge.sign(with(header(), "typ", None), claims());
    assert_eq!(lenient.verify_held(&untyped), refused(InvalidToken::WrongType));
}

#[test]
fn a_kid_is_a_name_and_nothing_else() {
    let forge = Forge::new();
    let kids =
        ["", "ES", "es ", "es\0", "../es", "/dev/null", "es' OR '1'='1", "e", "ess", "\u{455}s"];
    for kid in kids {
        let tried = forge.try_header(with(header(), "kid", json!(kid)));
        assert_eq!(tried, refused(InvalidToken::UnknownKey), "{kid}");
    }
    assert_eq!(forge.try_header(with(header(), "kid", None)), refused(InvalidToken::UnknownKey));
    for kid in [json!(null), json!(["es"]), json!({"es": 1}), json!(0)] {
        let tried = forge.try_header(with(header(), "kid", kid));
        assert_eq!(tried, refused(InvalidToken::Malformed));
    }
    let long = with(header(), "kid", json!("k".repeat(4000)));
    assert_eq!(forge.try_header(long), refused(InvalidToken::UnknownKey));
}
