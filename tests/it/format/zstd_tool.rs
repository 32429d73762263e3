//! The real `zstd`, which reads stored bytes without this program.

use std::io::Write;
use std::process::{Command, Stdio};

/// Returns the output of `zstd` with these arguments for `input`.
///
/// # Panics
/// If `zstd` is not installed, or fails.
pub fn zstd(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("zstd");
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("zstd starts; remedy: install zstd");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("zstd ends")
    });
    assert!(output.status.success(), "zstd {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
