//! Files: their sizes and names, and references to them.

use std::fs;
use std::path::Path;

use super::{assert_none, documents, rust_files};

/// Folders, and the most lines of their files. Long files of `src` are not all parted yet.
const FILE_LINES: [(&str, usize); 4] = [("src", 500), ("tests", 400), ("benches", 400), ("fuzz", 400)];

#[test]
fn every_file_has_a_head_a_name_and_a_readable_size() {
    let mut breaches = Vec::new();
    for (folder, most) in FILE_LINES {
        for path in rust_files(folder) {
            let text = fs::read_to_string(&path).unwrap();
            if !text.starts_with("//! ") {
                breaches.push(format!("{}: does not open with //!", path.display()));
            }
            if text.lines().count() > most {
                breaches.push(format!("{}: more than {most} lines", path.display()));
            }
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if ["utils", "util", "helpers", "helper", "manager", "misc", "common"].contains(&stem) {
                breaches.push(format!("{}: names nothing", path.display()));
            }
        }
    }
    assert_none(breaches);
}

/// A test file that no module declares would never run.
#[test]
fn every_test_file_is_declared() {
    let mut breaches = Vec::new();
    for path in ["tests/it", "tests/e2e", "tests/model", "tests/tidy"].iter().flat_map(|f| rust_files(f)) {
        let folder = path.parent().unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
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
