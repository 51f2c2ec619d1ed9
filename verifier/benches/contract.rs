//! What a check costs: scopes in nanoseconds, a token beside the bare signature it carries.
//!
//! `cargo bench -p tenmint-verifier --bench contract`
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/jwt.rs"]
mod jwt;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{AUDIENCE, Forge, ISSUER, builder, claims, header, verifier_of, with};
use divan::{Bencher, black_box};
use jsonwebtoken::{DecodingKey, Validation, decode};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tenmint_verifier::{Claims, JwkSet, Resource, ResourceFilter, Scope, ScopeSet, Verifier};

fn main() {
    divan::main();
}

#[divan::bench(args = ["projects/alpha", "projects/alpha/*", "projects/*/logs", "*"])]
fn filter_matches(bencher: Bencher<'_, '_>, filter: &str) {
    let filter: ResourceFilter = filter.parse().unwrap();
    let resource = Resource::new(["projects", "alpha", "logs"]).unwrap();
    bencher.bench_local(|| black_box(&filter).matches(black_box(&resource)));
}

#[divan::bench(args = ["read:projects/alpha/*", "chat", "read:projects/*/logs/?"])]
fn scope_parses(bencher: Bencher<'_, '_>, scope: &str) {
    // dropped within the measure, so that the allocator is asked as it is in a request
    bencher.bench_local(|| drop(black_box(black_box(scope).parse::<Scope>())));
}

/// The first of the five, the last, none of them, and none though it takes a look at each length.
#[divan::bench(args = [
    "read:projects/alpha/logs", "chat", "admin:org", "write:projects/beta/x/y", "admin:org/*"
])]
fn five_scopes_cover(bencher: Bencher<'_, '_>, narrow: &str) {
    let text = "read:projects/* write:projects/alpha/* write:projects/beta/? models:gpt/* chat";
    let five: ScopeSet = text.parse().unwrap();
    let narrow: Scope = narrow.parse().unwrap();
    bencher.bench_local(|| black_box(&five).covers(black_box(&narrow)));
}

/// A token, and the point of the key that signed it.
fn token() -> (String, Forge) {
    let forge = Forge::new();
    (forge.sign(header(), claims()), forge)
}

/// A verifier that remembers nothing.
fn forgetful(forge: &Forge) -> Verifier {
    let keys = JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap();
    builder().cache(0).with_keys(keys).unwrap()
}

#[divan::bench]
fn token_first_sight(bencher: Bencher<'_, '_>) {
    let (token, forge) = token();
    let verifier = forgetful(&forge);
    bencher.bench_local(|| verifier.verify_held(black_box(&token)).unwrap());
}

#[divan::bench]
fn token_seen_before(bencher: Bencher<'_, '_>) {
    let (token, forge) = token();
    let verifier = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .leeway(Duration::from_hours(24 * 365 * 100))
        .with_keys(JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap())
        .unwrap();
    bencher.bench_local(|| verifier.verify_held(black_box(&token)).unwrap());
}

#[divan::bench]
fn token_jsonwebtoken(bencher: Bencher<'_, '_>) {
    jwt::install();
    let (token, forge) = token();
    let key = DecodingKey::from_ec_der(forge.point());
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    bencher
        .bench_local(|| decode::<serde_json::Value>(black_box(&token), &key, &validation).unwrap());
}

#[divan::bench]
fn token_bare_signature(bencher: Bencher<'_, '_>) {
    let (token, forge) = token();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, forge.point());
    bencher.bench_local(|| key.verify(black_box(signed.as_bytes()), &signature).unwrap());
}

/// The longest lists that a key may have, in a token.
#[divan::bench]
fn token_with_a_hundred_ranges(bencher: Bencher<'_, '_>) {
    let forge = Forge::new();
    let ranges: Vec<String> = (0..100).map(|number| format!("2001:db8:{number:x}::/48")).collect();
    let claims = with(claims(), "net", serde_json::json!({"allow": ranges}));
    let token = forge.sign(header(), claims);
    let verifier = forgetful(&forge);
    bencher.bench_local(|| verifier.verify_held(black_box(&token)).unwrap());
}

/// A verifier after a rotation, from the document of two keys.
#[divan::bench]
fn keys_change(bencher: Bencher<'_, '_>) {
    let forge = Forge::new();
    let (verifier, jwks) = (forge.verifier(), forge.jwks().to_string());
    bencher.bench_local(|| verifier.with_keys(JwkSet::parse(black_box(jwks.as_bytes())).unwrap()));
}

/// All of `verify_held` but the signature: what a forged `kid` costs.
#[divan::bench]
fn token_of_an_unknown_key(bencher: Bencher<'_, '_>) {
    let (token, _forge) = token();
    let other = verifier_of(&serde_json::json!({"keys": []}));
    bencher.bench_local(|| other.verify_held(black_box(&token)).unwrap_err());
}

#[divan::bench]
fn claims_to_json(bencher: Bencher<'_, '_>) {
    let (token, forge) = token();
    let token = forge.verifier().verify_held(&token).unwrap();
    let claims: &Claims = token.claims();
    bencher.bench_local(|| serde_json::to_string(black_box(claims)).unwrap());
}
