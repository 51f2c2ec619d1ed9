//! How often a verification asks the allocator: never, for a token that was seen before. A bench of its
//! own, because counting costs time.
//!
//! `cargo bench -p tenmint-verifier --bench allocations`
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::{AUDIENCE, Forge, ISSUER, builder, claims, header};
use divan::{AllocProfiler, Bencher, black_box};
use tenmint_verifier::{Action, JwkSet, Resource, Verifier, VerifierBuilder};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A token, and a verifier that holds it good.
fn token_for(builder: VerifierBuilder) -> (String, Verifier) {
    let forge = Forge::new();
    let keys = JwkSet::parse(forge.jwks().to_string().as_bytes()).unwrap();
    (forge.sign(header(), claims()), builder.with_keys(keys).unwrap())
}

/// One that remembers, by the clock of the machine.
fn remembering() -> VerifierBuilder {
    let ever = Duration::from_hours(24 * 365 * 100);
    Verifier::builder(ISSUER).audience(AUDIENCE).leeway(ever)
}

#[divan::bench]
fn token_seen_before(bencher: Bencher<'_, '_>) {
    let (token, verifier) = token_for(remembering());
    bencher.bench_local(|| drop(black_box(verifier.verify_held(black_box(&token)).unwrap())));
}

#[divan::bench]
fn token_seen_before_and_scope_checked(bencher: Bencher<'_, '_>) {
    let (token, verifier) = token_for(remembering());
    let org = verifier.verify_held(&token).unwrap().claims().org.clone();
    let resource = Resource::new(["projects", "alpha", "logs"]).unwrap();
    bencher.bench_local(|| {
        let token = verifier.verify_held(black_box(&token)).unwrap();
        drop(black_box(token.require(&org, &Action::Read, &resource)));
    });
}

#[divan::bench]
fn token_first_sight(bencher: Bencher<'_, '_>) {
    let (token, verifier) = token_for(builder().cache(0));
    bencher.bench_local(|| drop(black_box(verifier.verify_held(black_box(&token)).unwrap())));
}
