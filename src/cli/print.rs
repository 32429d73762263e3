//! The only place that prints.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::error::{Error, Result};

/// One line of a report. Who reads it may have gone, as `head` does: then there is nothing to say. But a
/// report that could not be written is no report.
pub(super) fn line(text: impl Display) {
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            error(&Error::io("writing the report", &e));
            std::process::exit(super::EXIT_FAILED.into());
        }
        _ => {}
    }
}

/// A report for machines.
pub(super) fn json(report: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(report);
    line(text.map_err(|e| Error::internal(format!("the report can't be written: {e}")))?);
    Ok(())
}

/// What a command that takes long is doing, for those who watch.
pub(super) fn progress(text: impl Display) {
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "{text} …");
    }
}

/// Why the command failed.
pub(super) fn error(error: &Error) {
    let _ = writeln!(io::stderr(), "git-lfs-cdc: {error}");
}

/// Where the protocol's answers go, and nothing else.
pub(super) fn protocol() -> impl Write + Send {
    io::stdout()
}

/// Bytes for people: in units of 1000, as disks are sold.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}
