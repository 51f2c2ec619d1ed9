//! The scope language, held against the sets of resources that its words mean.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on says so")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use tenmint_verifier::{Action, Resource, ResourceFilter, Scope, ScopeSet};

/// Every filter of up to `length` segments over two literals and the wildcards.
fn filters(length: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut heads = vec![String::new()];
    for _ in 0..length {
        all.extend(
            heads.iter().flat_map(|head| ["a", "b", "*", "?"].map(|s| format!("{head}{s}"))),
        );
        heads = heads
            .iter()
            .flat_map(|head| ["a", "b", "*"].map(|segment| format!("{head}{segment}/")))
            .collect();
    }
    all
}

/// Every resource of up to `length` segments over the literals of the filters and one of no
/// filter, which stands for all the others.
fn resources(length: usize) -> Vec<Vec<&'static str>> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    let mut row: Vec<Vec<&str>> = vec![Vec::new()];
    for _ in 0..length {
        row = row
            .iter()
            .flat_map(|head| ["a", "b", "c"].map(|s| [head.as_slice(), &[s]].concat()))
            .collect();
        all.extend(row.iter().cloned());
    }
    all
}

/// What a filter means, told a second time and as simply as can be.
fn selects(filter: &str, resource: &[&str]) -> bool {
    let segments: Vec<&str> = filter.split('/').collect();
    let open = segments.last() == Some(&"*");
    let fits =
        if open { resource.len() >= segments.len() } else { resource.len() == segments.len() };
    fits && segments.iter().zip(resource).all(|(s, r)| matches!(*s, "*" | "?") || s == r)
}

type Bits = Vec<bool>;

fn meaning(filter: &str, resources: &[Vec<&str>]) -> Bits {
    resources.iter().map(|resource| selects(filter, resource)).collect()
}

fn within(narrow: &Bits, wide: &[&Bits]) -> bool {
    narrow.iter().enumerate().all(|(at, in_it)| !in_it || wide.iter().any(|bits| bits[at]))
}

fn filter(text: &str) -> ResourceFilter {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn set(text: &str) -> ScopeSet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn scope(text: &str) -> Scope {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn matching_is_what_the_table_says_for_every_small_filter_and_resource() {
    for text in filters(3) {
        for resource in resources(5) {
            let expected = selects(&text, &resource);
            let found = filter(&text).matches(&Resource::new(&resource).unwrap());
            assert_eq!(found, expected, "{text} on {resource:?}");
        }
    }
}

#[test]
fn one_filter_covers_another_exactly_when_its_resources_include_the_others() {
    let resources = resources(5);
    let all: Vec<(String, Bits)> =
        filters(3).into_iter().map(|text| (text.clone(), meaning(&text, &resources))).collect();
    for (wide, wide_bits) in &all {
        for (narrow, narrow_bits) in &all {
            let expected = within(narrow_bits, &[wide_bits]);
            assert_eq!(filter(wide).covers(&filter(narrow)), expected, "{wide} covers {narrow}");
        }
    }
}

#[test]
fn the_intersection_of_two_filters_is_one_filter_of_exactly_the_common_resources() {
    let resources = resources(5);
    for a in filters(3) {
        for b in filters(3) {
            let expected: Bits =
                resources.iter().map(|r| selects(&a, r) && selects(&b, r)).collect();
            let found = filter(&a).intersect(&filter(&b));
            match &found {
                Some(both) => assert_eq!(meaning(both.as_str(), &resources), expected, "{a} {b}"),
                None => assert!(!expected.contains(&true), "{a} and {b} have something in common"),
            }
            if let Some(both) = found {
                assert_eq!(filter(both.as_str()), both, "what it prints parses again");
            }
        }
    }
}

#[test]
fn a_set_of_two_covers_exactly_what_its_resources_include_together() {
    covers_is_union(&filters(3), 2, 5);
}

#[test]
fn a_set_of_three_covers_exactly_what_its_resources_include_together() {
    covers_is_union(&filters(2), 3, 4);
}

fn covers_is_union(filters: &[String], size: usize, longest: usize) {
    let resources = resources(longest);
    let bits: Vec<Bits> = filters.iter().map(|text| meaning(text, &resources)).collect();
    for members in combinations(filters.len(), size) {
        let texts: Vec<String> =
            members.iter().map(|at| format!("read:{}", filters[*at])).collect();
        let wide = set(&texts.join(" "));
        let wide_bits: Vec<&Bits> = members.iter().map(|at| &bits[*at]).collect();
        for (narrow, narrow_bits) in filters.iter().zip(&bits) {
            let expected = within(narrow_bits, &wide_bits);
            let found = wide.covers(&scope(&format!("read:{narrow}")));
            assert_eq!(found, expected, "{wide} covers read:{narrow}");
        }
    }
}

fn combinations(of: usize, size: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..size {
        rows = rows
            .iter()
            .flat_map(|row| {
                let first = row.last().map_or(0, |last| last + 1);
                (first..of).map(|next| [row.as_slice(), &[next]].concat())
            })
            .collect();
    }
    rows
}

#[test]
fn sets_with_actions_cover_and_intersect_as_sets_of_actions_and_resources() {
    let actions = ["read", "write", "*"];
    let all: Vec<String> = actions
        .iter()
        .flat_map(|action| filters(2).into_iter().map(move |f| format!("{action}:{f}")))
        .collect();
    let resources = resources(3);
    // `chat` stands for every action that no scope names
    let points: Vec<(&str, &Vec<&str>)> = ["read", "write", "chat"]
        .iter()
        .flat_map(|action| resources.iter().map(move |resource| (*action, resource)))
        .collect();
    let allows = |scope: &str, (action, resource): &(&str, &Vec<&str>)| {
        let (own, filter) = scope.split_once(':').unwrap();
        (own == "*" || own == *action) && selects(filter, resource)
    };
    for a in &all {
        for b in &all {
            let (a_set, b_set) = (set(a), set(b));
            let included = points.iter().all(|point| !allows(b, point) || allows(a, point));
            assert_eq!(a_set.covers(&scope(b)), included, "{a} covers {b}");
            let both = a_set.intersect(&b_set);
            for point in &points {
                let expected = allows(a, point) && allows(b, point);
                let found = both.as_ref().is_some_and(|both| {
                    let resource = Resource::new(point.1).unwrap();
                    both.matches(&Action::named(point.0).unwrap(), &resource)
                });
                assert_eq!(found, expected, "{a} and {b} at {point:?}");
            }
        }
    }
}

#[test]
fn a_union_of_two_sets_allows_exactly_what_one_or_the_other_does() {
    let filters = filters(2);
    let resources = resources(3);
    let bits: Vec<Bits> = filters.iter().map(|text| meaning(text, &resources)).collect();
    let exact: Vec<Resource> = resources.iter().map(|r| Resource::new(r).unwrap()).collect();
    let pairs = combinations(filters.len(), 2);
    let text = |pair: &[usize]| format!("read:{} read:{}", filters[pair[0]], filters[pair[1]]);
    for (a, b) in pairs.iter().flat_map(|a| pairs.iter().map(move |b| (a, b))) {
        let union = set(&text(a)).union(&set(&text(b)));
        for (at, resource) in exact.iter().enumerate() {
            let expected = a.iter().chain(b).any(|member| bits[*member][at]);
            assert_eq!(union.matches(&Action::Read, resource), expected, "{union}: {resource}");
            assert!(!union.matches(&Action::Write, resource), "{union}");
        }
    }
}

#[test]
fn a_union_keeps_actions_apart_and_drops_what_another_scope_covers() {
    for (a, b, both) in [
        ("read:a", "write:a", "read:a write:a"),
        ("read:a/b chat", "read:a/*", "chat read:a/*"),
        ("*:a/*", "read:a/b chat:a/?", "*:a/*"),
        ("read:a/?", "read:a/*", "read:a/*"),
        ("chat", "chat:*", "chat"),
    ] {
        assert_eq!(set(a).union(&set(b)).as_str(), both);
    }
}

#[test]
fn a_set_of_any_length_parses_back_and_each_of_its_scopes_is_checked() {
    let many = (0..500).map(|number| scope(&format!("read:projects/{number}")));
    let made = ScopeSet::from_scopes(many).unwrap();
    assert!(made.as_str().parse::<ScopeSet>().is_err(), "a caller may not write so many");
    assert_eq!(ScopeSet::parse_any_length(made.as_str()).unwrap(), made);
    assert!(made.covers(&scope("read:projects/499")) && !made.covers(&scope("read:projects/500")));
    for tail in [" ", "  chat", " read", " read:a/../b", " read:/a", " READ:a", "\tchat"] {
        let text = format!("{made}{tail}");
        assert!(ScopeSet::parse_any_length(&text).is_err(), "{tail:?}");
    }
    for text in ["", " ", " chat"] {
        assert!(ScopeSet::parse_any_length(text).is_err(), "{text:?}");
    }
    assert!(ScopeSet::from_scopes([]).is_none());
}

#[test]
fn a_prefix_of_bytes_never_matches() {
    for (wide, narrow) in [
        ("projects/alpha", "projects/alphabet"),
        ("projects/alpha/*", "projects/alphabet/x"),
        ("projects/alpha/*", "projects/alpha"),
        ("projects/alpha", "projects/alpha/x"),
        ("a/*", "a"),
        ("projects/*/logs", "projects/a/b/logs"),
        ("projects/*/logs", "projects/a/logs/x"),
        ("projects/?", "projects/a/b"),
    ] {
        let narrow: Resource = narrow.parse().unwrap();
        assert!(!filter(wide).matches(&narrow), "{wide} must not match {narrow}");
    }
}

#[test]
fn what_is_not_canonical_is_refused_with_the_fix_named() {
    let long_segment = "x".repeat(129);
    let long_filter = ["x".repeat(128).as_str(); 4].join("/") + "/x";
    let deep = ["a"; 17].join("/");
    for (text, fix) in [
        ("", "write `*` for every resource"),
        ("/a", "does not start with `/`"),
        ("a/", "does not end with `/`"),
        ("a//b", "write one `/`"),
        ("a/./b", "no segments"),
        ("..", "no segments"),
        ("a/../b", "no segments"),
        ("a/%2f", "write `%2F`"),
        ("a/%2e%2e", "write `%2E`"),
        ("a/%2E%2E", "write `.`"),
        ("a/%41", "write `A`"),
        ("a/%", "write a `%` as `%25`"),
        ("a/%2", "write a `%` as `%25`"),
        ("a/%2/b", "write a `%` as `%25`"),
        ("a/%zz", "write a `%` as `%25`"),
        ("a*", "whole segment"),
        ("a/b*/c", "whole segment"),
        ("a/**", "every depth"),
        ("a/?/b", "write `*` here"),
        ("a/b?", "whole segment"),
        ("a#b", "write `%23`"),
        ("a+b", "write `%2B`"),
        ("a,b", "write `%2C`"),
        ("a b", "write `%20`"),
        ("a\\b", "write `%5C`"),
        ("a\"b", "write `%22`"),
        ("a\0b", "write `%00`"),
        ("caf\u{e9}", "write `%C3%A9`"),
        (&long_segment, "at most 128 characters"),
        (&long_filter, "at most 512 bytes"),
        (&deep, "at most 16 segments"),
    ] {
        let error = text.parse::<ResourceFilter>().expect_err(text).to_string();
        assert!(error.contains(fix), "{text:?}: {error}");
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    assert!(["a"; 16].join("/").parse::<ResourceFilter>().is_ok());
    assert!("x".repeat(128).parse::<ResourceFilter>().is_ok());
    assert!("%20".repeat(128).parse::<ResourceFilter>().is_ok(), "an escape counts as one");
    assert!(vec!["chat"; 64].join(" ").parse::<ScopeSet>().is_ok());
    assert!(vec!["chat"; 65].join(" ").parse::<ScopeSet>().is_err());
    assert!(format!("read:{}", "a".repeat(4096)).parse::<ScopeSet>().is_err());
}

#[test]
fn a_scope_is_an_action_and_a_filter_or_a_bare_name() {
    for (text, fix) in [
        ("read", "write `read:*`"),
        ("write", "write `write:*`"),
        ("admin", "write `admin:*`"),
        ("*", "write `*:*`"),
        ("read:", "write `read:*`"),
        ("chat:", "write `chat:*`"),
        (":a", "starts with an action"),
        ("Read:a", "is no action"),
        ("9a:b", "is no action"),
        ("projects/alpha", "has no action"),
        ("re ad:a", "is no action"),
    ] {
        let error = text.parse::<Scope>().expect_err(text).to_string();
        assert!(error.contains(fix), "{text:?}: {error}");
    }
    assert_eq!(scope("chat"), scope("chat:*"));
    assert_eq!(scope("chat").to_string(), "chat", "the spelling is kept");
    assert_eq!(scope("read:a:b").view().filter(), "a:b", "the first colon splits");
    assert!(format!("{}:*", "a".repeat(64)).parse::<Scope>().is_ok());
    assert!(format!("{}:*", "a".repeat(65)).parse::<Scope>().is_err());
}

#[test]
fn no_action_implies_another() {
    assert!(!set("admin:*").covers(&scope("read:*")));
    assert!(!set("write:*").covers(&scope("read:a")));
    assert!(set("*:*").covers(&scope("admin:*")));
    assert!(!set("read:* write:* admin:*").covers(&scope("*:a")), "others can be defined");
}

#[test]
fn an_empty_or_loosely_spaced_list_is_refused() {
    for text in ["", " ", "chat ", " chat", "chat  read:*", "chat\tread:*"] {
        assert!(text.parse::<ScopeSet>().is_err(), "{text:?}");
    }
}

#[test]
fn a_resource_is_built_from_raw_segments_and_encodes_them() {
    let resource = Resource::new(["files", "a/b", "caf\u{e9} 100%", "*"]).unwrap();
    assert_eq!(resource.as_str(), "files/a%2Fb/caf%C3%A9%20100%25/%2A");
    assert!(filter("files/*/*/%2A").matches(&resource));
    assert!(Resource::new(Vec::<&str>::new()).is_err());
    for bad in ["", ".", ".."] {
        assert!(Resource::new(["files", bad]).is_err(), "{bad:?}");
    }
    assert!("files/*".parse::<Resource>().is_err(), "a resource has no wildcards");
    let long = "x".repeat(10_000);
    let resource = Resource::new(["files", long.as_str()]).unwrap();
    assert!(filter("files/*").matches(&resource), "a resource may be longer than any filter");
    assert_eq!(resource.as_str().parse::<Resource>().unwrap(), resource);
}

fn any_filter() -> impl Strategy<Value = String> {
    let literal = "[ab]{1,2}|%20|%2F";
    let inner = prop_oneof![3 => literal.prop_map(String::from), 1 => Just("*".to_owned())];
    let last = prop_oneof![
        2 => literal.prop_map(String::from),
        1 => Just("*".to_owned()),
        1 => Just("?".to_owned())
    ];
    (prop::collection::vec(inner, 0..6), last).prop_map(|(mut segments, last)| {
        segments.push(last);
        segments.join("/")
    })
}

fn any_set() -> impl Strategy<Value = String> {
    let action = prop_oneof![Just("read"), Just("write"), Just("*"), Just("chat")];
    let scope = (action, any_filter()).prop_map(|(action, filter)| format!("{action}:{filter}"));
    prop::collection::vec(scope, 1..6).prop_map(|scopes| scopes.join(" "))
}

proptest! {
    #[test]
    fn parsing_never_panics_and_prints_what_it_took(text in "\\PC{0,40}|[a-z*?/:%. ]{0,40}") {
        if let Ok(set) = text.parse::<ScopeSet>() {
            prop_assert_eq!(set.to_string(), text);
        }
    }

    #[test]
    fn any_segments_make_a_resource_that_parses_back(segments in prop::collection::vec("\\PC{1,8}", 1..5)) {
        if let Ok(resource) = Resource::new(&segments) {
            prop_assert_eq!(resource.as_str().parse::<Resource>().unwrap(), resource.clone());
            prop_assert!(ResourceFilter::all().matches(&resource));
            prop_assert_eq!(resource.as_str().split('/').count(), segments.len());
        }
    }

    #[test]
    fn an_intersection_is_covered_by_both_sides_and_is_symmetric(a in any_set(), b in any_set()) {
        let (a, b) = (set(&a), set(&b));
        let both = a.intersect(&b);
        if let Some(both) = &both {
            prop_assert!(a.first_uncovered(both).is_none());
            prop_assert!(b.first_uncovered(both).is_none());
            let other = b.intersect(&a).unwrap();
            prop_assert!(other.first_uncovered(both).is_none() && both.first_uncovered(&other).is_none());
        } else {
            prop_assert!(b.intersect(&a).is_none());
        }
    }

    #[test]
    fn a_union_covers_both_sides_and_holds_no_scope_of_neither(a in any_set(), b in any_set()) {
        let (a, b) = (set(&a), set(&b));
        let union = a.union(&b);
        prop_assert!(union.first_uncovered(&a).is_none() && union.first_uncovered(&b).is_none());
        prop_assert!(union.iter().all(|scope| a.iter().chain(b.iter()).any(|own| own == scope)));
        let other = b.union(&a);
        prop_assert!(other.first_uncovered(&union).is_none() && union.first_uncovered(&other).is_none());
        prop_assert_eq!(union.without_covered(), union.clone(), "nothing is left to drop");
        prop_assert_eq!(ScopeSet::parse_any_length(union.as_str()).unwrap(), union);
    }

    #[test]
    fn dropping_covered_scopes_changes_nothing(text in any_set()) {
        let full = set(&text);
        let short = full.without_covered();
        prop_assert!(full.first_uncovered(&short).is_none() && short.first_uncovered(&full).is_none());
        let texts: BTreeSet<_> = short.iter().map(|scope| scope.as_str().to_owned()).collect();
        prop_assert_eq!(texts.len(), short.iter().count());
    }

    #[test]
    fn what_covers_also_matches(wide in any_set(), narrow in any_filter(), tail in "[ab]{1,2}") {
        let wide = set(&wide);
        let narrow = scope(&format!("read:{narrow}"));
        if wide.covers(&narrow) {
            let segments = narrow.view().filter().split('/').map(|segment| match segment {
                "*" | "?" => tail.clone(),
                other => other.to_owned(),
            });
            let resource: Resource = segments.collect::<Vec<_>>().join("/").parse().unwrap();
            prop_assert!(narrow.matches(&Action::Read, &resource));
            prop_assert!(wide.matches(&Action::Read, &resource));
        }
    }
}
