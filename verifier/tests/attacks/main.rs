//! Attacks on a verifier of JWTs, each one that has worked on some verifier before.

#[path = "../common/mod.rs"]
mod common;

mod claims;
mod form;
mod header;
mod keys;
mod reach;
mod restrictions;
mod signature;
