//! The agent's log. It is a file, because git-lfs hides the output of an agent. Its size is bounded: a
//! full log is renamed, and only the last full one stays.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::{Error, Result};
use crate::modes::Modes;
use crate::regular_file::{self, Links};
use crate::text;
use crate::units::MIB;

/// Size beyond which the agent's log is rotated. One older file is kept.
const LOG_BYTES: u64 = MIB as u64;

/// The variable that sets how much is logged, in tracing's syntax (`debug`, `git_lfs_cdc=trace`).
pub const LEVEL_VARIABLE: &str = "GIT_LFS_CDC_LOG";

/// Sends this process's log to `lfs/cdc/log` below the git directory. Returns the log's path.
pub fn start(git_dir: &Path, modes: Modes) -> Result<PathBuf> {
    let folder = git_dir.join("lfs").join("cdc");
    let path = folder.join("log");
    let failed = |e| Error::io(format!("opening the log {}", path.display()), &e);
    modes.make_folders(&folder).map_err(failed)?;
    let writer = LogFile::open(path.clone(), modes).map_err(failed)?;
    let level = EnvFilter::try_from_env(LEVEL_VARIABLE);
    let level = level.unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(LogWriter(Arc::new(Mutex::new(writer))))
        .with_ansi(false)
        .with_target(false)
        .with_timer(Clock)
        .with_filter(FilterFn::new(|line| is_ours(line.target()) || *line.level() <= Level::WARN));
    // a second subscriber is refused, so in tests the first one serves
    let _ = tracing_subscriber::registry().with(level).with(lines).try_init();
    Ok(path)
}

/// Shows warnings to the user of a command, by `show`. Each warning is shown once.
pub fn to_terminal(show: fn(&str)) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Terminal { show, shown: Arc::default() })
        .with_ansi(false)
        .with_target(false)
        .with_level(false)
        .without_time()
        .with_filter(FilterFn::new(|line| is_ours(line.target()) && *line.level() <= Level::WARN));
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// Returns true for lines of this program. The lines of libraries may name keys and headers, so only their
/// warnings are kept.
fn is_ours(target: &str) -> bool {
    target.split("::").next() == Some(env!("CARGO_CRATE_NAME"))
}

/// A clock that writes the time and the process, because the agents of one command write to one file.
struct Clock;

impl tracing_subscriber::fmt::time::FormatTime for Clock {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        tracing_subscriber::fmt::time::SystemTime.format_time(w)?;
        write!(w, " [{}]", std::process::id())
    }
}

/// A log file that is renamed away when it is too large.
struct LogFile {
    path: PathBuf,
    modes: Modes,
    file: File,
}

impl LogFile {
    fn open(path: PathBuf, modes: Modes) -> io::Result<Self> {
        let mut options = File::options();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, modes.file());
        // a link is refused: in a shared repository another user might point it at any file of this user
        let file = regular_file::open_with(&options, &path, Links::Refused)?;
        modes.give(&file);
        Ok(Self { path, modes, file })
    }

    /// Begins a new file if this one is full. The agents of one command share the file, and one of them
    /// renames it. The others still have the old file open. They notice its size and open the new one.
    fn rotate(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() < LOG_BYTES {
            return Ok(());
        }
        if fs::metadata(&self.path).is_ok_and(|m| m.len() >= LOG_BYTES) {
            fs::rename(&self.path, self.path.with_extension("old"))?;
        }
        *self = Self::open(self.path.clone(), self.modes)?;
        Ok(())
    }
}

/// A terminal that shows each line once.
#[derive(Clone)]
struct Terminal {
    show: fn(&str),
    shown: Arc<Mutex<HashSet<String>>>,
}

impl Write for Terminal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).trim().to_owned();
        if self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            (self.show)(&text);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[derive(Clone)]
struct LogWriter(Arc<Mutex<LogFile>>);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.rotate()?;
        // a pager shows the log, so text of a store or a server must not steer it or look like another line
        let text = String::from_utf8_lossy(line);
        let shown = text::visible(text.trim_end_matches('\n'));
        log.file.write_all(format!("{shown}\n").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_one_line_and_steers_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut writer =
            LogWriter(Arc::new(Mutex::new(LogFile::open(path.clone(), Modes::default()).unwrap())));
        writer.write_all("WARN a\u{1b}[2J\nINFO forged\n".as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "WARN a\\u{1b}[2J\\nINFO forged\n");
    }

    #[test]
    fn the_log_is_bounded_and_two_writers_share_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut writers: Vec<_> = (0..2)
            .map(|_| LogWriter(Arc::new(Mutex::new(LogFile::open(path.clone(), Modes::default()).unwrap()))))
            .collect();
        let line = [b'x'; 1024];
        for _ in 0..2 * LOG_BYTES / 1024 {
            writers.iter_mut().for_each(|w| w.write_all(&line).unwrap());
        }
        let sizes: Vec<u64> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|s| *s <= LOG_BYTES + 1024), "{sizes:?}");
    }
}
