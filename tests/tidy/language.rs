//! The language of comments and documents, as STYLE.md asks for it and as a test can judge it.
//!
//! `tests/language.py` measures more, and shows where.

use std::fs;

use super::{assert_none, documents, rust_files};

/// The widest line of a document, in characters.
const COLUMNS: usize = 100;

/// Words that no module head begins with. Such a head describes a question, and not a thing.
const QUESTIONS: [&str; 11] =
    ["What", "Whatever", "Whether", "Which", "Who", "Whoever", "Whose", "How", "Where", "When", "Why"];

/// Words that STYLE.md bans as subject or object. "of it" and "of that" count too.
const DIALECT: [&str; 5] = ["what", "whatever", "who", "whoever", "whose"];

/// The most words of dialect among 1,000 words. These numbers may only fall: lower one with each change that
/// lets you.
const IN_COMMENTS_OF_SRC: f64 = 1.9;
const IN_COMMENTS_OF_TESTS: f64 = 0.2;
const IN_DOCUMENTS: f64 = 3.2;

#[test]
fn module_heads_begin_with_a_noun() {
    let mut breaches = Vec::new();
    for path in ["src", "tests", "benches", "fuzz"].iter().flat_map(|f| rust_files(f)) {
        let text = fs::read_to_string(&path).unwrap();
        let head = text.strip_prefix("//!").unwrap_or_default();
        let first = head.split_whitespace().next().unwrap_or_default();
        if QUESTIONS.contains(&first) {
            breaches.push(format!("{}: begins with {first:?}: say what the thing is", path.display()));
        }
    }
    assert_none(breaches);
}

#[test]
fn documents_are_wrapped() {
    let mut breaches = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let mut is_code = false;
        for (number, line) in text.lines().enumerate() {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            let is_table = line.trim_start().starts_with('|');
            let has_link = line.contains("](");
            if !is_code && !is_fence && !is_table && !has_link && line.chars().count() > COLUMNS {
                breaches.push(format!("{}:{}: more than {COLUMNS} columns", path.display(), number + 1));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn words_of_dialect_become_fewer() {
    let mut comments_of_src = Words::default();
    for path in rust_files("src") {
        comments_of_src.add(&comments(&fs::read_to_string(path).unwrap()));
    }
    let mut comments_of_tests = Words::default();
    for path in ["tests", "benches", "fuzz"].iter().flat_map(|f| rust_files(f)) {
        comments_of_tests.add(&comments(&fs::read_to_string(path).unwrap()));
    }
    let mut in_documents = Words::default();
    for path in documents() {
        in_documents.add(&fs::read_to_string(path).unwrap());
    }
    let mut breaches = Vec::new();
    for (name, words, most) in [
        ("comments of src", comments_of_src, IN_COMMENTS_OF_SRC),
        ("comments of tests, benches and fuzz", comments_of_tests, IN_COMMENTS_OF_TESTS),
        ("documents", in_documents, IN_DOCUMENTS),
    ] {
        let rate = words.per_thousand();
        if rate > most {
            breaches.push(format!("{name}: {rate:.2} words of dialect per 1,000, more than {most}"));
        }
    }
    assert_none(breaches);
}

/// The comments of Rust code, with an empty line in the place of code.
fn comments(code: &str) -> String {
    let comment = |line: &str| {
        let start = if line.trim_start().starts_with("//") { line.find("//") } else { line.find(" // ") };
        let text = start.map_or("", |start| line[start..].trim_start());
        text.trim_start_matches('/').trim_start_matches('!').to_owned() + "\n"
    };
    code.lines().map(comment).collect()
}

/// Counts of words.
#[derive(Default)]
struct Words {
    all: usize,
    dialect: usize,
}

impl Words {
    /// Adds a text in Markdown. Blocks of code don't count, and a span of code is one word.
    fn add(&mut self, text: &str) {
        let mut paragraph = String::new();
        let mut is_code = false;
        for line in text.lines().map(str::trim) {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            if is_fence || line.is_empty() || line.starts_with(['#', '|']) {
                self.add_paragraph(&std::mem::take(&mut paragraph));
            }
            if is_code || is_fence {
                continue;
            }
            if line.starts_with('|') {
                line.split('|').for_each(|cell| self.add_paragraph(cell));
            } else {
                paragraph.push_str(line);
                paragraph.push(' ');
            }
        }
        self.add_paragraph(&paragraph);
    }

    fn add_paragraph(&mut self, text: &str) {
        let without_code = outside(text, '`').join("Code");
        let prose = outside(&without_code, '"').join("Text");
        let words = prose.split_whitespace().map(|word| word.split("](").next().unwrap());
        let words: Vec<String> = words
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
            .filter(|word| !word.is_empty())
            .collect();
        self.all += words.len();
        self.dialect += words.iter().filter(|word| DIALECT.contains(&word.as_str())).count();
        let pairs = words.windows(2).filter(|pair| pair[0] == "of" && ["it", "that"].contains(&&*pair[1]));
        self.dialect += pairs.count();
    }

    fn per_thousand(&self) -> f64 {
        1000.0 * self.dialect as f64 / self.all.max(1) as f64
    }
}

/// The parts of a text that stand outside of pairs of `mark`.
fn outside(text: &str, mark: char) -> Vec<&str> {
    text.split(mark).step_by(2).collect()
}

#[test]
fn dialect_is_counted_in_prose_only() {
    let mut words = Words::default();
    words.add("Who asks `what it is` is \"whoever\" of\nit.\n\n```\nwhat\n```\n| what | [whose](who) |\n");
    assert_eq!((words.all, words.dialect), (9, 4));
    assert_eq!(comments("let a = 1; // what\n//! Who\nlet url = \"s3://of it\";\n"), " what\n Who\n\n");
}
