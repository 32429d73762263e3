//! A fuzz target: `targets::refusal`, which `tests/it/format/hostile.rs` runs on stable too.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/it/format/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::refusal(data));
