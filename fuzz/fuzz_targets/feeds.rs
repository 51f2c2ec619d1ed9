#![no_main]

#[path = "../../verifier/tests/fuzz/feeds.rs"]
mod feeds;

libfuzzer_sys::fuzz_target!(|data: &[u8]| feeds::check(data));
