//! What happens when something breaks under load: signing keys take turns every few seconds, a node
//! is cut off, PostgreSQL is gone or frozen, clocks are apart. Here real time passes, and each test
//! ends with the counts of what it saw.

#![allow(unreachable_pub, reason = "a test binary has no other reader than its modules")]
#![allow(
    clippy::await_holding_lock,
    clippy::needless_for_each,
    clippy::unchecked_time_subtraction,
    clippy::unused_self,
    reason = "a test reads like the sentence it is, and what it counted nobody else takes any more"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails says where, and one that passes what it saw"
)]

#[path = "../it/answer.rs"]
#[allow(dead_code, reason = "the tests that wind their clocks use the rest of it")]
mod answer;
mod clients;
mod clocks;
mod cluster;
mod cut_off;
mod database;
mod network;
mod postgres;
mod rotation;
#[path = "../it/server.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    clippy::unused_self,
    clippy::format_push_string,
    reason = "the tests that wind their clocks use the rest of it"
)]
mod server;
