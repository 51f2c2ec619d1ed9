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
#![allow(
    clippy::print_stdout,
    clippy::unused_self,
    clippy::option_option,
    clippy::similar_names,
    clippy::format_collect,
    clippy::needless_for_each,
    clippy::unchecked_time_subtraction,
    clippy::inconsistent_struct_constructor,
    clippy::explicit_auto_deref,
    clippy::redundant_closure,
    clippy::redundant_closure_for_method_calls,
    reason = "a test says what it saw, and reads like the sentence it is"
)]

mod answer;
mod api;
mod barrage;
mod cli;
mod deploy;
mod docs;
mod floors;
mod follow;
mod forward_auth;
mod import;
mod invariants;
mod issuing;
mod kill;
mod leaks;
mod ledger;
mod listener;
mod master_key;
mod metrics;
mod migrate;
mod nodes;
mod oauth;
mod openapi;
mod outcome;
mod protected_api;
mod quotas;
mod raw_keys;
mod restore;
mod server;
mod signing_keys;
mod store;
mod tls;
mod traced;
mod traces;
mod usage;
