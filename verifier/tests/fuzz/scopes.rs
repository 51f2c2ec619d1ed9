//! Two lines, each a set of scopes, held against an oracle that is as simple as it is slow.
//!
//! Both the fuzz target and the replay of its corpus include this file.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use std::collections::BTreeSet;

use tenmint_verifier::{Action, Resource, Scope, ScopeSet, ScopeView};

/// Resources of a universe: a set that needs more is only parsed.
const MAX_UNIVERSE: usize = 4096;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (a, b) = text.split_once('\n').unwrap_or((text, ""));
    let (a, b) = (parse(a), parse(b));
    let (Some(a), Some(b)) = (a, b) else { return };
    let Some(universe) = universe(&[&a, &b]) else { return };
    for narrow in b.iter() {
        let narrow = narrow.to_scope();
        let covered = a.covers(&narrow);
        assert_eq!(covered, covers(&a, &narrow, &universe), "{a} covers {narrow}");
    }
    check_intersection(&a, &b, &universe);
    check_union(&a, &b, &universe);
}

fn parse(text: &str) -> Option<ScopeSet> {
    let set = text.parse::<ScopeSet>();
    assert_eq!(set.is_ok(), is_set(text), "{text:?}: {set:?}");
    let set = set.ok()?;
    assert_eq!(set.as_str(), text);
    for scope in set.iter() {
        let alone: Scope = scope.as_str().parse().unwrap();
        assert_eq!(alone, scope.to_scope());
    }
    Some(set)
}

fn check_intersection(a: &ScopeSet, b: &ScopeSet, universe: &Universe) {
    let both = a.intersect(b);
    for (action, resource) in universe.questions() {
        let expected = allows(a, &action, &resource) && allows(b, &action, &resource);
        let told = both.as_ref().is_some_and(|both| allows(both, &action, &resource));
        assert_eq!(told, expected, "{a} and {b} make {both:?}: {action} {resource:?}");
        let exact = Resource::new(&resource).unwrap();
        assert_eq!(a.matches(&action, &exact), allows(a, &action, &resource));
    }
}

fn check_union(a: &ScopeSet, b: &ScopeSet, universe: &Universe) {
    let either = a.union(b);
    for (action, resource) in universe.questions() {
        let expected = allows(a, &action, &resource) || allows(b, &action, &resource);
        let told = allows(&either, &action, &resource);
        assert_eq!(told, expected, "{a} or {b} make {either}: {action} {resource:?}");
    }
    assert_eq!(ScopeSet::parse_any_length(either.as_str()).unwrap(), either);
}

/// The grammar of docs/scopes.md, word by word.
fn is_set(text: &str) -> bool {
    let scopes: Vec<&str> = text.split(' ').collect();
    text.len() <= 4096 && scopes.len() <= 64 && scopes.iter().all(|scope| is_scope(scope))
}

fn is_scope(text: &str) -> bool {
    match text.split_once(':') {
        Some((action, filter)) => (action == "*" || is_name(action)) && is_filter(filter),
        None => is_name(text) && !["read", "write", "admin"].contains(&text),
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}

fn is_filter(text: &str) -> bool {
    let segments: Vec<&str> = text.split('/').collect();
    let last = segments.len() - 1;
    text.len() <= 512
        && segments.len() <= 16
        && segments.iter().enumerate().all(|(at, segment)| {
            *segment == "*" || *segment == "?" && at == last || is_literal(segment)
        })
}

fn is_literal(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:@=".contains(c);
    let (mut rest, mut characters) = (text, 0);
    while let Some(c) = rest.chars().next() {
        let length = if c == '%' { 3 } else { c.len_utf8() };
        let canonical = c != '%'
            || rest.get(1..3).is_some_and(|hex| {
                hex.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c))
                    && !plain(u8::from_str_radix(hex, 16).unwrap().into())
            });
        if !(c == '%' || plain(c)) || !canonical {
            return false;
        }
        rest = &rest[length..];
        characters += 1;
    }
    (1..=128).contains(&characters) && text != "." && text != ".."
}

/// What a filter means, told a second time.
fn selects(filter: &str, resource: &[String]) -> bool {
    let segments: Vec<&str> = filter.split('/').collect();
    let open = segments.last() == Some(&"*");
    let fits =
        if open { resource.len() >= segments.len() } else { resource.len() == segments.len() };
    fits && segments.iter().zip(resource).all(|(s, r)| *s == "*" || *s == "?" || decoded(s) == *r)
}

fn decoded(literal: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = literal.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let hex = [*high, *low];
                (u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap(), tail)
            }
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn allows(set: &ScopeSet, action: &Action, resource: &[String]) -> bool {
    set.iter().any(|scope| {
        (scope.action() == action.as_str() || scope.action() == "*")
            && selects(scope.filter(), resource)
    })
}

fn covers(wide: &ScopeSet, narrow: &Scope, universe: &Universe) -> bool {
    let narrow = ScopeSet::from(narrow.clone());
    universe.questions().all(|(action, resource)| {
        !allows(&narrow, &action, &resource) || allows(wide, &action, &resource)
    })
}

/// Enough resources to tell any two sets of these scopes apart: at each position the literals that
/// stand there and one that stands nowhere, and one segment more than the longest has.
struct Universe {
    actions: Vec<Action>,
    resources: Vec<Vec<String>>,
}

impl Universe {
    fn questions(&self) -> impl Iterator<Item = (Action, Vec<String>)> {
        self.actions.iter().flat_map(|action| {
            self.resources.iter().map(move |resource| (action.clone(), resource.clone()))
        })
    }
}

fn universe(sets: &[&ScopeSet]) -> Option<Universe> {
    let scopes = || sets.iter().flat_map(|set| set.iter());
    let mut names: BTreeSet<&str> = scopes().map(ScopeView::action).collect();
    names.extend(["read", "no-other-scope-names-this"]);
    let longest = scopes().map(|scope| scope.filter().split('/').count()).max()?;
    let (mut resources, mut row) = (Vec::new(), vec![Vec::new()]);
    for position in 0..=longest {
        let mut literals: BTreeSet<String> = scopes()
            .filter_map(|scope| scope.filter().split('/').nth(position))
            .filter(|segment| !["*", "?"].contains(segment))
            .map(decoded)
            .collect();
        // bytes that are no text cannot be asked for: a resource is built from strings
        if literals.iter().any(|literal| literal.contains('\u{fffd}')) {
            return None;
        }
        literals.insert("no other filter has this".to_owned());
        row = row
            .iter()
            .flat_map(|head: &Vec<String>| {
                literals
                    .iter()
                    .map(|literal| [head.as_slice(), std::slice::from_ref(literal)].concat())
            })
            .collect();
        resources.extend(row.iter().cloned());
        if resources.len() * names.len() > MAX_UNIVERSE {
            return None;
        }
    }
    // `*` as an action of a request asks for all of them at once, which is `covers`, not `matches`
    let actions = names.into_iter().filter(|name| *name != "*");
    Some(Universe { actions: actions.map(|name| name.parse().unwrap()).collect(), resources })
}
