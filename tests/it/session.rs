//! Sessions with an engine, or a store, that never answers. They must end all the same.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use git_lfs_cdc::agent::run;
use git_lfs_cdc::engine::Transfer;
use git_lfs_cdc::error::{Error, Result};
use git_lfs_cdc::id::Oid;
use git_lfs_cdc::progress::Progress;

/// An engine, named after its behaviour.
#[derive(Clone, Copy)]
enum Engine {
    /// Before the first object, and with every one.
    NeverBegins,
    /// With every object.
    Hangs,
    /// Every object is there at once.
    IsDone,
    Panics,
    /// Downloads to this file, when a file with the same name and the ending `go` is there.
    Waits(&'static Path),
}

impl Transfer for Engine {
    fn prepare(&self) {
        if matches!(self, Self::NeverBegins) {
            hang()
        }
    }

    fn finish(&self) {}

    fn upload(&self, _: &Oid, _: u64, _: &Path, _: &Arc<Progress>) -> Result<()> {
        match self {
            Self::NeverBegins | Self::Hangs => hang(),
            Self::IsDone => Ok(()),
            Self::Panics | Self::Waits(_) => panic!("as the test wants it"),
        }
    }

    fn download(&self, _: &Oid, _: u64, _: &Arc<Progress>) -> Result<PathBuf> {
        let Self::Waits(path) = self else { return Err(Error::busy("not asked for")) };
        while !path.with_extension("go").exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::fs::write(path, b"done").unwrap();
        std::fs::rename(path.with_extension("go"), path.with_extension("done")).unwrap();
        Ok(path.to_path_buf())
    }
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// A session on pipes; the receiver hears when it has ended.
fn session(engine: Engine) -> (PipeWriter, BufReader<PipeReader>, Receiver<()>) {
    let (input, to) = pipe().unwrap();
    let (from, output) = pipe().unwrap();
    let (ended, end) = channel();
    std::thread::spawn(move || {
        run(input, output, move |_| Arc::new(engine)).unwrap();
        ended.send(()).unwrap();
    });
    (to, BufReader::new(from), end)
}

fn ask_for_an_object(to: &mut PipeWriter, from: &mut BufReader<PipeReader>) {
    ask("upload", to, from);
}

fn ask(operation: &str, to: &mut PipeWriter, from: &mut BufReader<PipeReader>) {
    let mut line = String::new();
    writeln!(to, r#"{{"event":"init","operation":"{operation}","remote":"origin"}}"#).unwrap();
    from.read_line(&mut line).unwrap();
    assert_eq!(line, "{}\n");
    let oid = "0".repeat(64);
    writeln!(to, r#"{{"event":"{operation}","oid":"{oid}","size":3,"path":"/x"}}"#).unwrap();
    line.clear();
    from.read_line(&mut line).unwrap();
    assert!(line.contains("progress"), "{line}");
}

#[track_caller]
fn assert_ends(end: &Receiver<()>) {
    end.recv_timeout(Duration::from_secs(20)).expect("the session does not end");
}

#[test]
fn the_end_of_input_ends_a_session_whose_engine_hangs() {
    let (mut to, mut from, end) = session(Engine::Hangs);
    ask_for_an_object(&mut to, &mut from);
    drop(to);
    assert_ends(&end);
}

#[test]
fn terminate_ends_a_session_whose_store_does_not_open() {
    let (mut to, mut from, end) = session(Engine::NeverBegins);
    ask_for_an_object(&mut to, &mut from);
    writeln!(to, r#"{{"event":"terminate"}}"#).unwrap();
    assert_ends(&end);
}

/// The thread that reads may begin after the first object is done. Once, both threads then waited for each
/// other.
#[test]
fn objects_done_at_once_are_answered_even_if_the_reading_thread_is_late() {
    let (all_answered, end) = channel();
    std::thread::spawn(move || {
        for _ in 0..4_000 {
            let (mut to, mut from, end) = session(Engine::IsDone);
            ask_for_an_object(&mut to, &mut from);
            let mut line = String::new();
            while !line.contains("complete") {
                line.clear();
                from.read_line(&mut line).unwrap();
            }
            writeln!(to, r#"{{"event":"terminate"}}"#).unwrap();
            assert_ends(&end);
        }
        all_answered.send(()).unwrap();
    });
    end.recv_timeout(Duration::from_secs(300)).expect("a session hangs");
}

#[test]
fn a_panic_is_an_error_of_one_object() {
    let (mut to, mut from, end) = session(Engine::Panics);
    ask_for_an_object(&mut to, &mut from);
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    assert!(line.contains("panicked") && line.contains("complete"), "{line}");
    drop(to);
    assert_ends(&end);
}

#[test]
fn a_download_that_is_finished_when_its_session_is_over_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path: &'static Path = Box::leak(folder.path().join("download").into_boxed_path());
    let (mut to, mut from, end) = session(Engine::Waits(path));
    ask("download", &mut to, &mut from);
    drop(to);
    assert_ends(&end);
    std::fs::write(path.with_extension("go"), b"").unwrap();
    let since = std::time::Instant::now();
    while !path.with_extension("done").exists() || path.exists() {
        assert!(since.elapsed() < Duration::from_secs(20), "the file is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}
