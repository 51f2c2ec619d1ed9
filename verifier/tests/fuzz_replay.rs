//! The fuzz targets of the verifier on a stable compiler.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

#[path = "fuzz/feeds.rs"]
mod feeds;
#[path = "../../fuzz/replay.rs"]
mod replay;
#[path = "fuzz/scopes.rs"]
mod scopes;
#[path = "fuzz/tokens.rs"]
mod tokens;

use crate::replay::replay;

#[test]
fn scopes_hold_against_their_oracle() {
    replay("scopes", 20_000, scopes::check);
}

#[test]
fn tokens_hold_against_their_oracle() {
    replay("tokens", 10_000, tokens::check);
}

#[test]
fn feeds_hold_against_their_oracle() {
    replay("feeds", 10_000, feeds::check);
}
