//! The real `zstd`, to check that what is stored can be read without this program.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// What `zstd` with these arguments makes of `input`. `None`, and a printed line, only if there is no
/// `zstd` on this machine.
pub fn zstd(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("zstd");
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match piped.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: zstd is not installed");
            return None;
        }
        spawned => spawned.expect("zstd starts"),
    };
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("zstd ends")
    });
    assert!(output.status.success(), "zstd {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}
