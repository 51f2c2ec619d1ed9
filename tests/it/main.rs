//! The tests that drive the real server, on both engines. `server.rs` starts it.

#![allow(unreachable_pub, reason = "a test binary has no other reader than its modules")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_push_string,
    reason = "a test that fails says where"
)]

mod cli;
mod docs;
mod floors;
mod follow;
mod issuing;
mod kill;
mod oauth;
mod protected_api;
mod server;
mod store;
