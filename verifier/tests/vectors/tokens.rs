//! The tokens of `vectors/tokens.json`: that each is worth what the file says, and how the file is
//! written.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use ring::rsa::{KeyPair, PublicKeyComponents};
use serde_json::{Value, json};
use tenmint_verifier::{JwkSet, VerifyError};

use crate::common::{AUDIENCE, Forge, ISSUER, NOW, builder, encode};
use crate::token_cases::Cases;

const ABOUT: &str = "Tokens for the API `audience` at the moment `now`, with no leeway, and what \
    becomes of each: `valid`, or why not in the words of the Rust verifier, which other verifiers \
    may tell otherwise. `strict` marks what an issuer never writes: a verifier of tenmint refuses \
    it, a JWT library in general may let it pass.";

/// The file, signed anew where that is asked for: before any test reads it.
static FILE: LazyLock<Value> = LazyLock::new(|| {
    if std::env::var_os("TENMINT_WRITE_VECTORS").is_some() {
        write(&Forge::new());
    }
    crate::file("tokens.json")
});

#[test]
fn a_token_is_what_the_vectors_say() {
    let said = [crate::text(&FILE, "issuer"), crate::text(&FILE, "audience")];
    assert_eq!((said, FILE["now"].as_u64()), ([ISSUER, AUDIENCE], Some(NOW)));
    let keys = JwkSet::parse(FILE["jwks"].to_string().as_bytes()).unwrap();
    assert_eq!((keys.len(), keys.skipped()), (3, 0), "all are public keys");
    let verifier = builder().leeway(Duration::ZERO).with_keys(keys).unwrap();
    for case in FILE["cases"].as_array().unwrap() {
        let verdict = verifier.verify_held(crate::text(case, "token"));
        let found = verdict.as_ref().map_or_else(VerifyError::kind, |_| "valid");
        assert_eq!(found, crate::text(case, "expect"), "{}", crate::text(case, "name"));
    }
}

#[test]
fn the_file_holds_the_tokens_that_are_made_here() {
    let claims = |token: &str| token.split('.').nth(1).map(str::to_owned);
    let held = FILE["cases"].as_array().unwrap().iter().map(|case| {
        let [name, expect] = ["name", "expect"].map(|member| crate::text(case, member).to_owned());
        (name, expect, case["strict"] == true, claims(crate::text(case, "token")))
    });
    let made = Cases::of(&Forge::new(), None)
        .into_iter()
        .map(|case| (case.name, case.expect.to_owned(), case.strict, claims(&case.token)));
    let (held, made): (Vec<_>, Vec<_>) = (held.collect(), made.collect());
    assert!(held.len() >= 180 && held == made, "tokens.json is old: set TENMINT_WRITE_VECTORS=1");
}

/// A member a line, and a case a line, in the order in which a person reads them.
fn write(forge: &Forge) {
    let rsa = rsa_key();
    let head = [
        ("about", json!(ABOUT)),
        ("issuer", json!(ISSUER)),
        ("audience", json!(AUDIENCE)),
        ("now", json!(NOW)),
        ("jwks", jwks(forge, &rsa)),
    ];
    let head = head.map(|(name, value)| format!("  \"{name}\": {value},\n")).concat();
    let cases = Cases::of(forge, Some(&rsa)).into_iter().map(|case| {
        let [name, token] = [case.name, case.token].map(Value::from);
        let strict = if case.strict { ", \"strict\": true" } else { "" };
        let expect = case.expect;
        format!("    {{\"name\": {name}, \"expect\": \"{expect}\"{strict}, \"token\": {token}}}")
    });
    let cases = cases.collect::<Vec<_>>().join(",\n");
    let text = format!("{{\n{head}  \"cases\": [\n{cases}\n  ]\n}}\n");
    std::fs::write(crate::path("tokens.json"), text).unwrap();
}

fn jwks(forge: &Forge, rsa: &KeyPair) -> Value {
    let mut set = forge.jwks();
    let public = PublicKeyComponents::<Vec<u8>>::from(rsa.public());
    let rsa = json!({"kty": "RSA", "kid": "rs", "n": encode(public.n), "e": encode(public.e)});
    let keys = set["keys"].as_array_mut().unwrap();
    keys.push(rsa);
    for (key, alg) in keys.iter_mut().zip(["ES256", "EdDSA", "RS256"]) {
        key["alg"] = json!(alg);
        key["use"] = json!("sig");
    }
    set
}

/// A key that lives as long as this process. ring makes none of this kind.
fn rsa_key() -> KeyPair {
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let made = openssl.args(["-outform", "DER"]).output().expect("openssl, to write the vectors");
    // PKCS #8 as RFC 5958 has it, or the bare key of PKCS #1
    KeyPair::from_pkcs8(&made.stdout).or_else(|_| KeyPair::from_der(&made.stdout)).unwrap()
}
