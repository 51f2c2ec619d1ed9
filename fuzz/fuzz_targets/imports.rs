#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tenmint::service::import::fuzzed::check(data));
