//! The vectors of `vectors/`, which any language can run, held against this crate.
//!
//! `TENMINT_WRITE_VECTORS=1` signs the tokens anew, with keys that are thrown away; the other files
//! are edited like any text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

mod common;
#[path = "vectors/token_cases.rs"]
mod token_cases;
#[path = "vectors/tokens.rs"]
mod tokens;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tenmint_verifier::{
    Action, Resource, ResourceFilter, Revocation, Revocations, Scope, ScopeSet, SyntaxError,
};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)
}

fn file(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The cases of a file; fewer than `least` are not all of them.
fn cases(name: &str, least: usize) -> Vec<Value> {
    let cases = file(name)["cases"].as_array().unwrap().clone();
    assert!(cases.len() >= least, "{name} has {} cases", cases.len());
    cases
}

fn text<'v>(case: &'v Value, member: &str) -> &'v str {
    case[member].as_str().unwrap_or_else(|| panic!("no text `{member}` in {case}"))
}

fn texts<'v>(case: &'v Value, member: &str) -> Vec<&'v str> {
    let list = case[member].as_array().unwrap_or_else(|| panic!("no list `{member}` in {case}"));
    list.iter().map(|item| item.as_str().unwrap()).collect()
}

fn set(text: &str) -> ScopeSet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What the message of this crate says where a vector names this reason.
fn said_of(reason: &str) -> &'static str {
    match reason {
        "bad_escape" => "two hexadecimal digits",
        "bad_filter" => "",
        "bad_name" => "is no action",
        "character" => "is not allowed in a filter",
        "dot_segment" => "are no segments",
        "double_slash" => "`//` is refused",
        "double_star" => "`**` is not known",
        "empty_filter" => "has an empty filter",
        "escaped_plain" | "lower_case_hex" => "is not canonical: write",
        "filter_too_long" => "at most 512 bytes",
        "leading_slash" => "does not start with `/`",
        "needs_filter" => "needs a filter",
        "no_action" => "action: write `read:...`",
        "no_scope" => "an empty list of scopes",
        "no_segment" => "needs a segment",
        "not_a_segment" => "is no segment of a resource",
        "partial_wildcard" => "stands for a whole segment",
        "question_inside" => "only as the last segment",
        "segment_too_long" => "at most 128 characters",
        "spacing" => "exactly one space",
        "too_long" => "at most 4096 bytes",
        "too_many" => "at most 64 scopes",
        "too_many_segments" => "at most 16 segments",
        "trailing_slash" => "does not end with `/`",
        _ => panic!("no reason is called `{reason}`"),
    }
}

fn assert_refused(error: &SyntaxError, case: &Value) {
    let said = said_of(text(case, "reason"));
    assert!(error.to_string().contains(said), "{case}\nis refused for another reason: {error}");
}

#[test]
fn a_filter_is_canonical_or_refused_for_the_reason_that_the_vectors_name() {
    for case in cases("filters.json", 150) {
        match (text(&case, "text").parse::<ResourceFilter>(), case["valid"] == true) {
            (Ok(filter), true) => assert_eq!(filter.as_str(), text(&case, "text")),
            (Err(error), false) => assert_refused(&error, &case),
            (parsed, _) => panic!("{case}\nparses to {parsed:?}"),
        }
    }
}

#[test]
fn a_scope_string_is_the_scopes_that_the_vectors_name_or_refused() {
    for case in cases("scopes.json", 80) {
        match (text(&case, "text").parse::<ScopeSet>(), case["valid"] == true) {
            (Ok(set), true) => {
                let found: Vec<_> = set.iter().map(|one| [one.action(), one.filter()]).collect();
                assert_eq!(serde_json::to_value(&found).unwrap(), case["scopes"], "{case}");
                assert_eq!(set.as_str(), text(&case, "text"), "the spelling is kept");
            }
            (Err(error), false) => assert_refused(&error, &case),
            (parsed, _) => panic!("{case}\nparses to {parsed:?}"),
        }
    }
}

#[test]
fn scopes_allow_exactly_the_resources_that_the_vectors_name() {
    for case in cases("matches.json", 90) {
        let (scopes, action) = (set(text(&case, "scope")), text(&case, "action"));
        let action: Action = action.parse().unwrap();
        for (member, expected) in [("allows", true), ("refuses", false)] {
            for resource in texts(&case, member) {
                let parsed: Resource = resource.parse().unwrap();
                let found = scopes.matches(&action, &parsed);
                assert_eq!(found, expected, "`{scopes}` for {action} on {resource}");
            }
        }
    }
}

#[test]
fn scopes_cover_exactly_the_scopes_that_the_vectors_name() {
    for case in cases("covers.json", 80) {
        let held = set(text(&case, "held"));
        for (member, expected) in [("covers", true), ("refuses", false)] {
            for asked in texts(&case, member) {
                let asked: Scope = asked.parse().unwrap();
                assert_eq!(held.covers(&asked), expected, "`{held}` covers `{asked}`");
                if let Ok(alone) = held.as_str().parse::<Scope>() {
                    assert_eq!(alone.covers(&asked), expected, "`{alone}` covers `{asked}`");
                }
            }
        }
    }
}

#[test]
fn two_filters_have_in_common_what_the_vectors_name() {
    for case in cases("intersections.json", 140) {
        let [a, b] = ["a", "b"].map(|side| text(&case, side).parse::<ResourceFilter>().unwrap());
        for both in [a.intersect(&b), b.intersect(&a)] {
            let both = both.as_ref().map(ResourceFilter::as_str);
            assert_eq!(both, case["both"].as_str(), "{case}");
        }
    }
}

#[test]
fn raw_segments_make_the_resource_that_the_vectors_name_or_none() {
    for case in cases("resources.json", 60) {
        match (Resource::new(texts(&case, "segments")), case["text"].as_str()) {
            (Ok(resource), Some(text)) => {
                assert_eq!(resource.as_str(), text, "{case}");
                assert_eq!(text.parse::<Resource>().as_ref(), Ok(&resource), "{case}");
            }
            (Err(error), None) => assert_refused(&error, &case),
            (made, _) => panic!("{case}\nmakes {made:?}"),
        }
    }
}

#[test]
fn a_feed_voids_the_tokens_that_the_vectors_name() {
    for case in cases("revocations.json", 15) {
        let mut held = Revocations::default();
        let void: Vec<Revocation> = serde_json::from_value(case["void"].clone()).unwrap();
        for entry in void {
            held.void(entry);
        }
        let claims = &case["claims"];
        let ids = ["client_id", "sub", "space", "org", "jti"].into_iter();
        let rev = claims["rev"].as_u64().unwrap();
        let revoked = ids.filter_map(|name| claims[name].as_str()).any(|id| held.voids_of(id, rev));
        assert_eq!(revoked, case["revoked"] == true, "{case}");
    }
}
