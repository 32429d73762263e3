//! The rules of this tree that no compiler keeps: layers, names, and where things may be used.

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

/// `id` needs the error kinds for text that it can't parse, and an error is text that may be shown. Uploads and downloads
/// still keep their state in the engine, and ask it for its store and cache.
const EXCEPTIONS: &[(&str, &str)] =
    &[("id", "error"), ("error", "text"), ("upload", "engine"), ("download", "engine")];

const FILE_LINES: usize = 500;

struct Source {
    path: PathBuf,
    /// Without what stands behind `#[cfg(test)]`.
    code: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src").unwrap();
        inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs")
    }

    fn is(&self, path: &str) -> bool {
        self.path.starts_with(path)
    }
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    files_below(folder, "rs")
}

/// The documents at the top and all below `docs`.
fn documents() -> Vec<PathBuf> {
    let top = fs::read_dir(".").unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = top.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
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
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == extension) => files.push(path),
                false => {}
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

/// Fails with every line of `code` that has `needle`, comments aside.
fn forbid(breaches: &mut Vec<String>, source: &Source, needle: &str, why: &str) {
    for (number, line) in source.code.lines().enumerate() {
        let code = line.split("//").next().unwrap();
        if code.contains(needle) {
            breaches.push(format!("{}:{}: {needle} {why}", source.path.display(), number + 1));
        }
    }
}

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
            // whatever is printed passes there, and foreign text with it
            ("print!(", "src/cli/print.rs"),
            ("println!", "src/cli/print.rs"),
            ("io::stdout", "src/cli/print.rs"),
            ("io::stderr", "src/cli/print.rs"),
            ("stdout()", "src/cli/print.rs"),
            ("stderr()", "src/cli/print.rs"),
            ("Arguments::parse()", "src/cli/print.rs"),
        ] {
            if !source.is(home) {
                forbid(&mut breaches, &source, needle, &format!("belongs in {home}"));
            }
        }
        if source.is("src/format") {
            for needle in ["std::fs", "std::time", "std::net", "std::thread", "async "] {
                forbid(&mut breaches, &source, needle, "has no place in src/format");
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
            forbid(&mut breaches, &source, needle, "is not used outside tests");
        }
    }
    assert_none(breaches);
}

/// What may take things away from a store: `probe`, what it has just written, and `compaction`, what was replaced. No
/// transfer (I8). The backend of directories hands on what these ask for.
#[test]
fn only_a_compaction_deletes_from_a_store() {
    let mut breaches = Vec::new();
    let rooms = ["src/store", "src/index", "src/upload", "src/download", "src/maintain", "src/engine"];
    let deleting = ["src/store/probe.rs", "src/store/deleter.rs", "src/store/local_files.rs"];
    for source in sources().iter().filter(|s| rooms.iter().any(|room| s.is(room))) {
        for needle in ["remove_file", "remove_dir", ".delete(", ".delete_stream("] {
            if !deleting.iter().any(|file| source.is(file)) {
                forbid(&mut breaches, source, needle, "would delete from a store");
            }
        }
    }
    for source in sources().iter().filter(|s| !s.is("src/maintain/compact/removal.rs")) {
        for needle in [".remove_segments(", ".remove_shards("] {
            forbid(&mut breaches, source, needle, "belongs in src/maintain/compact/removal.rs");
        }
    }
    assert_none(breaches);
}

#[test]
fn every_file_says_what_it_is_for_and_is_of_a_readable_size() {
    let mut breaches = Vec::new();
    for path in ["src", "tests", "benches", "fuzz"].iter().flat_map(|f| rust_files(f)) {
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//! ") {
            breaches.push(format!("{}: does not open with //!", path.display()));
        }
        if text.lines().count() > FILE_LINES {
            breaches.push(format!("{}: more than {FILE_LINES} lines", path.display()));
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["utils", "util", "helpers", "helper", "manager", "misc", "common"].contains(&stem) {
            breaches.push(format!("{}: names nothing", path.display()));
        }
    }
    assert_none(breaches);
}

/// A test file that no module declares would never run.
#[test]
fn every_test_file_is_declared() {
    let mut breaches = Vec::new();
    for path in ["tests/it", "tests/e2e"].iter().flat_map(|f| rust_files(f)) {
        let (folder, stem) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        let (parent, name) = match stem {
            "main" => continue,
            "mod" => (folder.parent().unwrap(), folder.file_name().unwrap().to_str().unwrap()),
            _ => (folder, stem),
        };
        let declared = ["main.rs", "mod.rs"].iter().any(|file| {
            let text = fs::read_to_string(parent.join(file)).unwrap_or_default();
            text.lines().any(|line| line.trim().trim_start_matches("pub ") == format!("mod {name};"))
        });
        if !declared {
            breaches.push(format!("{}: no `mod {name};` declares it", path.display()));
        }
    }
    assert_none(breaches);
}

#[test]
fn documents_name_only_files_that_exist() {
    let mut breaches = Vec::new();
    for path in documents() {
        let document = path.display();
        let text = fs::read_to_string(&path).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split_whitespace().next().unwrap_or_default().trim_start_matches("./");
            let ours = ["src/", "tests/", "docs/", "benches/", "fuzz/"].iter().any(|f| path.starts_with(f));
            if ours && !Path::new(path).exists() {
                breaches.push(format!("{document}: `{quoted}` does not exist"));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn public_documentation_is_demanded() {
    let lib = sources().into_iter().find(|s| s.is("src/lib.rs")).unwrap();
    assert!(lib.text.contains("#![warn(missing_docs)]"));
}
