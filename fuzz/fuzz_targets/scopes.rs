#![no_main]

#[path = "../../verifier/tests/fuzz/scopes.rs"]
mod scopes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scopes::check(data));
