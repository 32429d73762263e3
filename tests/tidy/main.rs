//! Rules of this tree that no compiler keeps: layers, names, language, and the places of some calls.

mod files;
mod language;

use std::fs;
use std::path::{Path, PathBuf};

/// Modules know lower ranks only, and equal ranks don't know each other.
const RANKS: &[(&str, u32)] = &[
    ("id", 0),
    ("units", 0),
    ("text", 0),
    ("error", 0),
    ("modes", 0),
    ("regular_file", 1),
    ("threads", 1),
    ("format", 1),
    ("store", 2),
    ("local", 2),
    ("repo", 2),
    ("config", 3),
    ("parallel", 3),
    ("progress", 3),
    ("index", 4),
    ("upload", 5),
    ("download", 5),
    ("maintain", 5),
    ("engine", 6),
    ("agent", 7),
    ("coordinator", 8),
    ("cli", 9),
];

/// `id` needs the error kinds for text that it can't parse, and an error is text that may be shown. Uploads
/// and downloads still keep their state in the engine, and ask it for its store and cache.
const EXCEPTIONS: &[(&str, &str)] =
    &[("id", "error"), ("error", "text"), ("upload", "engine"), ("download", "engine")];

/// A file of the library or the program.
struct Source {
    path: PathBuf,
    /// The text before `#[cfg(test)] mod tests`.
    code: String,
    text: String,
}

impl Source {
    /// The module below `src` that the file belongs to.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src").unwrap();
        inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs")
    }

    fn is(&self, path: &str) -> bool {
        self.path.starts_with(path)
    }

    /// Reports every line of `code` that has `needle`, comments aside.
    fn forbid(&self, breaches: &mut Vec<String>, needle: &str, why: &str) {
        for (number, line) in self.code.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            if code.contains(needle) {
                breaches.push(format!("{}:{}: {needle} {why}", self.path.display(), number + 1));
            }
        }
    }
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    files_below(folder, "rs")
}

/// The documents at the top and all below `docs`.
fn documents() -> Vec<PathBuf> {
    let top = fs::read_dir(".").unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = top.filter(|path| ends_with(path, "md")).collect();
    files.sort();
    files.extend(files_below("docs", "md"));
    files
}

fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if ends_with(&path, extension) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The files of the library and the program; those that exist for tests only are left out.
fn sources() -> Vec<Source> {
    let for_tests = [
        "src/engine/tests",
        "src/test_data.rs",
        "src/store/tests",
        "src/store/faulty.rs",
        "src/local/partial_download/tests.rs",
        "src/local/block_cache/tests.rs",
    ];
    let files = rust_files("src").into_iter();
    let files = files.filter(|path| !for_tests.iter().any(|t| path.starts_with(t)));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
        Source { path, code, text }
    };
    files.map(read).collect()
}

fn ends_with(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Panics with all breaches, if there are any.
fn assert_none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

fn rank(module: &str) -> Option<u32> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

#[test]
fn imports_point_to_lower_ranks() {
    let mut breaches = Vec::new();
    for source in sources() {
        let module = source.module();
        let Some(own) = rank(module) else {
            assert!(["lib", "main"].contains(&module), "{module} has no rank");
            continue;
        };
        for (number, line) in source.code.lines().enumerate() {
            for imported in line.split("crate::").skip(1) {
                let end = imported.find(|c: char| !c.is_alphanumeric() && c != '_');
                let other = &imported[..end.unwrap_or(imported.len())];
                assert!(
                    !other.is_empty(),
                    "{}:{}: import one path a line",
                    source.path.display(),
                    number + 1
                );
                let allowed = other == module
                    || EXCEPTIONS.contains(&(module, other))
                    || rank(other).is_some_and(|other| other < own);
                // links in comments explain, they don't depend
                if !allowed && !line.trim_start().starts_with("//") {
                    breaches.push(format!(
                        "{}:{}: {module} knows {other}",
                        source.path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn libraries_are_used_where_they_belong() {
    let mut breaches = Vec::new();
    for source in sources() {
        for (needle, home) in [
            ("object_store::", "src/store"),
            ("reqwest::", "src/store/network"),
            ("aws_", "src/store/network/aws"),
            ("tokio::", "src/store"),
            ("clap::", "src/cli"),
            ("tracing_subscriber::", "src/local/log.rs"),
            ("Command::new", "src/repo.rs"),
            ("thread::spawn(", "src/threads.rs"),
            ("thread::Builder", "src/threads.rs"),
            ("scope.spawn(", "src/threads.rs"),
            ("rayon::spawn", "src/threads.rs"),
            ("rayon::in_place", "src/threads.rs"),
            // all output passes there, and foreign text with it
            ("print!(", "src/cli/print.rs"),
            ("println!", "src/cli/print.rs"),
            ("io::stdout", "src/cli/print.rs"),
            ("io::stderr", "src/cli/print.rs"),
            ("stdout()", "src/cli/print.rs"),
            ("stderr()", "src/cli/print.rs"),
            ("Arguments::parse()", "src/cli/print.rs"),
        ] {
            if !source.is(home) {
                source.forbid(&mut breaches, needle, &format!("belongs in {home}"));
            }
        }
        if source.is("src/format") {
            for needle in ["std::fs", "std::time", "std::net", "std::thread", "async "] {
                source.forbid(&mut breaches, needle, "has no place in src/format");
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn nothing_panics_by_carelessness() {
    let mut breaches = Vec::new();
    for source in sources() {
        for needle in [".unwrap()", ".expect(", "todo!(", "unimplemented!(", "panic!(", "unsafe ", "dbg!("] {
            source.forbid(&mut breaches, needle, "is not used outside tests");
        }
    }
    assert_none(breaches);
}

/// Only two things delete from a store. `probe` deletes its own probes, and a compaction deletes replaced
/// files. No transfer deletes (I8). The backend of directories passes on the requests of these two.
#[test]
fn only_a_compaction_deletes_from_a_store() {
    let mut breaches = Vec::new();
    let rooms = ["src/store", "src/index", "src/upload", "src/download", "src/maintain", "src/engine"];
    let deleting = ["src/store/probe.rs", "src/store/deleter.rs", "src/store/local_files.rs"];
    for source in sources().iter().filter(|s| rooms.iter().any(|room| s.is(room))) {
        for needle in ["remove_file", "remove_dir", ".delete(", ".delete_stream("] {
            if !deleting.iter().any(|file| source.is(file)) {
                source.forbid(&mut breaches, needle, "would delete from a store");
            }
        }
    }
    for source in sources().iter().filter(|s| !s.is("src/maintain/compact/removal.rs")) {
        for needle in [".remove_segments(", ".remove_shards("] {
            source.forbid(&mut breaches, needle, "belongs in src/maintain/compact/removal.rs");
        }
    }
    assert_none(breaches);
}

#[test]
fn public_documentation_is_demanded() {
    let lib = sources().into_iter().find(|s| s.is("src/lib.rs")).unwrap();
    assert!(lib.text.contains("#![warn(missing_docs)]"));
}
