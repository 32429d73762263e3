//! The output of all commands. Nothing else prints. A printed text may contain words of a repository, a store
//! or a server. So hidden characters become escapes, because they could steer the terminal or forge a line.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::text::{visible, visible_json};
use crate::threads;

/// Time after which a command says for what it waits.
const WAIT_IN_SILENCE: Duration = Duration::from_secs(1);

/// Prints one line of a report.
pub(super) fn line(text: impl Display) {
    report(&visible(&text.to_string()));
}

/// Prints a report for programs.
pub(super) fn json(report_of: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(report_of);
    report(&visible_json(&text.map_err(|e| Error::internal(format!("the report can't be written: {e}")))?));
    Ok(())
}

/// Writes a report to standard output. A reader that has ended, such as `head`, is no error. If the report
/// can't be written for another reason, the program ends with an error.
fn report(text: &str) {
    if let Err(e) = writeln!(io::stdout(), "{text}")
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        error(&Error::io("writing the report", &e));
        std::process::exit(super::EXIT_FAILED.into());
    }
}

/// Shows the present step of a long command, if a person watches.
pub(super) fn progress(text: impl Display) {
    if io::stderr().is_terminal() {
        complain(&format!("{text} …"));
    }
}

/// Does `work`. If that takes more than a moment, says that it waits for `what`.
pub(super) fn while_waiting<T>(what: impl Display, work: impl FnOnce() -> T) -> T {
    let (done, ended) = crossbeam_channel::bounded::<()>(0);
    let text = format!("waiting for {what} …");
    let watch = move || {
        if ended.recv_timeout(WAIT_IN_SILENCE) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            complain(&text);
        }
    };
    // if the system refuses a thread, nothing is said
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

/// Shows the error by which the command failed.
pub(super) fn error(error: &Error) {
    complain(&format!("git-lfs-cdc: {error}"));
}

/// Shows a warning.
pub(super) fn warning(text: &str) {
    complain(text);
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// Shows help, the version, or the mistake in the arguments. Returns true for a mistake.
pub(super) fn arguments(answer: &clap::Error) -> bool {
    let text = answer.render();
    let is_wrong = answer.use_stderr();
    if is_wrong {
        // the text repeats the user's words, which may be pasted
        text.to_string().trim_end().lines().for_each(complain);
    } else if io::stdout().is_terminal() {
        let _ = write!(io::stdout(), "{}", text.ansi());
    } else {
        let _ = write!(io::stdout(), "{text}");
    }
    is_wrong
}

/// Returns the output for the answers of the protocol with git-lfs.
pub(super) fn protocol() -> impl Write + Send {
    io::stdout()
}

/// Returns a size for people, in units of 1000 like the sizes of disks.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}
