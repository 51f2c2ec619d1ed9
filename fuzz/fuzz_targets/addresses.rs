#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tenmint::http::fuzzed::check(data));
