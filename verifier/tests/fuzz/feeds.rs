//! Lines, each the claims of a revocation feed, taken one after the other and held against a list of all
//! that was ever void.
//!
//! Both the fuzz target and the replay of its corpus include this file.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use std::collections::HashMap;

use serde_json::Value;
use tenmint_verifier::{Revocation, RevocationFeed, Revocations, RevokedSubject};

/// An id whose digest stands in the corpus.
const ID: &str = "key_0123456789abcdef";

pub(crate) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (mut held, mut heard) = (Revocations::default(), Vec::new());
    for feed in text.lines().filter_map(parsed) {
        let before = (held.len(), held.revision(), held.epoch().map(str::to_owned));
        if held.apply(&feed).is_err() {
            let after = (held.len(), held.revision(), held.epoch().map(str::to_owned));
            assert_eq!(before, after, "a gap changes nothing");
            continue;
        }
        heard.extend(feed.void);
        assert_eq!(held.epoch(), Some(feed.epoch.as_str()));
        assert!(held.revision() >= feed.rev);
        assert!(feed.kids.iter().all(|kid| held.is_withdrawn(kid)));
        check_held(&held, &heard);
    }
}

/// A feed, which says what a lenient reader finds in it, and comes back as it was written.
fn parsed(line: &str) -> Option<RevocationFeed> {
    let feed = RevocationFeed::parse(line)?;
    let written = serde_json::to_string(&feed).unwrap();
    assert_eq!(RevocationFeed::parse(&written).as_ref(), Some(&feed), "{written}");
    if let Ok(asked) = serde_json::from_str::<Value>(line) {
        assert_eq!(asked["rev"].as_u64(), Some(feed.rev));
        assert_eq!(asked["since"].as_u64(), Some(feed.since));
        assert_eq!(asked["epoch"].as_str(), Some(feed.epoch.as_str()));
        assert_eq!(asked["void"].as_array().map(Vec::len), Some(feed.void.len()));
    }
    Some(feed)
}

fn check_held(held: &Revocations, heard: &[Revocation]) {
    let mut below: HashMap<RevokedSubject, u64> = HashMap::new();
    for entry in heard {
        let most = below.entry(entry.subject).or_default();
        *most = entry.below.unwrap_or(u64::MAX).max(*most);
    }
    assert_eq!(held.len(), below.len());
    let most = below.get(&RevokedSubject::of(ID)).copied();
    for rev in [0, 1, 6, 7, 8, u64::MAX - 1, u64::MAX] {
        let expected = most.is_some_and(|most| rev < most || most == u64::MAX);
        assert_eq!(held.voids_of(ID, rev), expected, "{rev} of {most:?}");
    }
}
