//! The only place that prints. Whatever goes out here may hold text of a repository, a store or a server: it is shown
//! with hidden characters written out, so that it can't steer the terminal or forge a line.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::text::{visible, visible_json};
use crate::threads;

/// How long a person waits without being told for what.
const WAIT_IN_SILENCE: Duration = Duration::from_secs(1);

/// One line of a report.
pub(super) fn line(text: impl Display) {
    report(&visible(&text.to_string()));
}

/// A report for machines.
pub(super) fn json(report_of: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(report_of);
    report(&visible_json(&text.map_err(|e| Error::internal(format!("the report can't be written: {e}")))?));
    Ok(())
}

/// The reader may have gone, as `head` does: then there is nothing to say. But a report that could not be written is
/// no report.
fn report(text: &str) {
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            error(&Error::io("writing the report", &e));
            std::process::exit(super::EXIT_FAILED.into());
        }
        _ => {}
    }
}

/// What a command that takes long is doing, for those who watch.
pub(super) fn progress(text: impl Display) {
    if io::stderr().is_terminal() {
        complain(&format!("{text} …"));
    }
}

/// Does `work`, and says what it waits for if that takes more than a moment.
pub(super) fn while_waiting<T>(what: impl Display, work: impl FnOnce() -> T) -> T {
    let (done, ended) = crossbeam_channel::bounded::<()>(0);
    let text = format!("waiting for {what} …");
    let watch = move || {
        if ended.recv_timeout(WAIT_IN_SILENCE) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            complain(&text);
        }
    };
    // without a thread nothing is said
    let here = move || {
        let result = work();
        drop(done);
        result
    };
    std::thread::scope(|scope| {
        let _ = threads::spawn_scoped(scope, "watch", watch);
        here()
    })
}

/// Why the command failed.
pub(super) fn error(error: &Error) {
    complain(&format!("git-lfs-cdc: {error}"));
}

/// Something that the user should know of.
pub(super) fn warning(text: &str) {
    complain(text);
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// Shows help, the version, or what is wrong with the arguments. Returns whether something is.
pub(super) fn arguments(answer: &clap::Error) -> bool {
    let text = answer.render();
    let is_wrong = answer.use_stderr();
    if is_wrong {
        // it repeats what was typed, or pasted
        text.to_string().trim_end().lines().for_each(complain);
    } else if io::stdout().is_terminal() {
        let _ = write!(io::stdout(), "{}", text.ansi());
    } else {
        let _ = write!(io::stdout(), "{text}");
    }
    is_wrong
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
