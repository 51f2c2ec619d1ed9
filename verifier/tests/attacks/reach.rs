//! Good tokens that reach for what they do not cover.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use serde_json::json;
use tenmint_verifier::{Action, Resource, ResourceFilter, VerifyError};

use crate::common::{Forge, ORG, claims, header, with};

#[test]
fn a_token_of_another_organization_reaches_nothing() {
    let forge = Forge::new();
    let all = forge.try_claims(with(claims(), "scope", json!("*:*"))).unwrap();
    let alpha = Resource::new(["projects", "alpha"]).unwrap();
    assert!(all.allows(ORG, &Action::Read, &alpha));
    for org in ["org_1111111111111111", "", "*", "ORG_0000000000000000", "org_000000000000000"] {
        assert!(!all.allows(org, &Action::Read, &alpha), "{org}");
        let answer = all.require(org, &Action::Read, &alpha).unwrap_err();
        assert!(matches!(answer, VerifyError::InsufficientScope(_)));
    }
}

#[test]
fn a_filter_is_no_prefix() {
    let forge = Forge::new();
    let token = forge.try_header(header()).unwrap();
    let reads = |segments: &[&str]| {
        Resource::new(segments).is_ok_and(|resource| token.allows(ORG, &Action::Read, &resource))
    };
    assert!(reads(&["projects", "alpha", "logs"]));
    let traps: [&[&str]; 12] = [
        &["projects", "alpha"],
        &["projects", "alphabet"],
        &["projects", "alphabet", "logs"],
        &["projects", "alph", "a", "logs"],
        &["projects", "alpha/logs"],
        &["projects/alpha", "logs"],
        &["projects", "alpha", "..", "beta"],
        &["projects", "alpha", ".", "logs"],
        &["projects", "alpha", "", "logs"],
        &["Projects", "alpha", "logs"],
        &["projects", "%61lpha", "logs"],
        &["projects", "alpha\0", "logs"],
    ];
    for trap in traps {
        assert!(!reads(trap), "{trap:?}");
    }
    // what a router has not decoded stays text, and climbs nowhere
    assert!(reads(&["projects", "alpha", "%2e%2e", "beta"]));
    let text = Resource::new(["projects", "alpha", "%2e%2e", "a//b"]).unwrap();
    assert_eq!(text.as_str(), "projects/alpha/%252e%252e/a%2F%2Fb");
}

#[test]
fn a_filter_that_is_not_canonical_does_not_exist() {
    for text in [
        "projects/../admin",
        "projects/.",
        "projects//alpha",
        "/projects",
        "projects/",
        "projects/%2e%2e/x",
        "projects/%2E%2E/x",
        "projects/%2f",
        "projects/alpha*",
        "projects/**",
        "projects/?/x",
        "projects\\alpha",
        "projects/\u{ff0e}\u{ff0e}",
        "projects/%",
        "projects/%zz",
    ] {
        assert!(text.parse::<ResourceFilter>().is_err(), "{text}");
    }
}

#[test]
fn one_look_at_a_token_decides_nothing_for_the_next() {
    let forge = Forge::new();
    let (verifier, text) = (forge.verifier(), forge.sign(header(), claims()));
    let logs = Resource::new(["projects", "alpha", "logs"]).unwrap();
    for _ in 0..2 {
        let token = verifier.verify_held(&text).unwrap();
        assert!(token.allows(ORG, &Action::Read, &logs));
        assert!(!token.allows(ORG, &Action::Write, &logs));
    }
}
