//! See `proxy/tests/fuzz/targets.rs`.
#![no_main]
#![allow(dead_code, reason = "each target is one of the functions that they share")]

#[path = "../../tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::resource(data));
