//! Skipping of tests that this machine can't run, because it lacks a right or a program.
//!
//! Such a test is marked `#[ignore = "needs …"]`, so that `cargo test` never counts it as passed. It skips
//! itself only where `--include-ignored` asks for it, as `tests/run.sh` does.

use std::io::Write;

/// Prints that the running test is skipped. The test harness hides the output of tests that pass, but not
/// this line.
///
/// # Panics
/// If `CI` is set, because each test has to run there.
#[track_caller]
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(
        !is_ci,
        "{test} can't run: {reason}\n  remedy: run the tests as root on a machine of its own, or unset CI to skip it"
    );
    std::io::stderr().write_all(format!("SKIPPED {test}: {reason}\n").as_bytes()).unwrap();
}
