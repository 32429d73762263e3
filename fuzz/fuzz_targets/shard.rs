//! A fuzz target: `targets::shard`, which `tests/it/format/hostile.rs` runs on stable too.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/it/format/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::shard(data));
