//! Skipping of tests that this machine can't run, because it lacks a right or a program.
//!
//! Such a test is marked `#[ignore = "needs …"]`, so that `cargo test` never counts it as passed. It skips
//! itself only where `--include-ignored` asks for it, as `tests/run.sh` does.

use std::io::Write;

/// Prints that the running test is skipped. The test harness hides the output of tests that pass, but not
/// this line. Hosted runners refuse mounts too, so this is no failure where `CI` is set; a missing server is.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    std::io::stderr().write_all(format!("SKIPPED {test}: {reason}\n").as_bytes()).unwrap();
}
