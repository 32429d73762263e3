//! Deltas of large files: one more line costs bytes only. Every edition comes back as it was, even if agents
//! are killed.

use std::thread::sleep;
use std::time::Duration;

use crate::data::{assert_same_tree, noise};
use crate::kill::{pushed, start};
use crate::process::{say, signal};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, full, path_str};

/// Lines of text, no two of them the same.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 100);
    let mut line = 0u64;
    while text.len() < bytes {
        let words = noise(line, 12);
        text.extend_from_slice(format!("{line}: {words:02x?}\n").as_bytes());
        line += 1;
    }
    text
}

/// The content with a line more, somewhere.
fn with_line(mut content: Vec<u8>, seed: u64) -> Vec<u8> {
    let somewhere = noise(seed, 8).iter().fold(0usize, |all, byte| all << 8 | usize::from(*byte));
    let place = somewhere % content.len();
    content.splice(place..place, format!("line {seed} is new\n").into_bytes());
    content
}

#[test]
fn twenty_lines_one_after_the_other_take_at_most_20_kb_each() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("lines");
    let mut content = text(if full() { 500_000_000 } else { 50_000_000 });
    work.publish("text.bin", &content);
    let before = sandbox.store().total_bytes();
    // too few for a merge of the index, which is not to be counted
    for seed in 0..20 {
        content = with_line(content, seed);
        work.publish("text.bin", &content);
    }
    let added = sandbox.store().total_bytes() - before;
    say(&format!("twenty lines in a text of {} bytes: {added} bytes", content.len()));
    assert!(added <= 20 * 20_000, "{added} bytes for twenty lines");
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("lines").path);
}

/// The versions of a file have only their beginning in common. The later version has deltas to blocks with
/// none of its chunks.
#[test]
fn a_base_that_is_missing_or_damaged_is_named() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("bases");
    let same = noise(1, 600_000);
    let rest = noise(2, 1_500_000);
    let changed: Vec<u8> = rest.chunks(6000).flat_map(|part| [part, b"and a line\n"].concat()).collect();
    work.publish("a.bin", &[&same[..], &rest].concat());
    let store = sandbox.store();
    let [base] = &store.blocks()[..] else { panic!("one push of 2 MB makes one block") };
    work.publish("a.bin", &[&same[..], &changed].concat());
    let sound = store.read(base);
    assert!(store.total_bytes() < 2_300_000, "{} bytes, so it is no patch", store.total_bytes());

    let name = base.rsplit('/').next().unwrap().strip_suffix(".zst").unwrap();
    for how in ["missing", "damaged"] {
        store.remove(base);
        if how == "damaged" {
            // in a frame that only deltas need
            let mut bytes = sound.to_vec();
            bytes[1_400_000] ^= 1;
            store.write(base, &bytes);
        }
        let other = sandbox.other_machine(how);
        let outcome = other.git(&sandbox.path(how), ["clone", path_str(&sandbox.remote("bases")), "copy"]);
        other.expect_failure(outcome, &[name, &work.oid("a.bin")]);
        let copy = other.repo_at(&format!("{how}/copy"));
        assert!(!copy.local_object("a.bin").exists());
        store.write(base, &sound);
        copy.must(["reset", "--quiet", "--hard"]);
        assert_same_tree(&work.path, &copy.path);
    }
}

fn write_edition(repo: &Repo, contents: &mut [Vec<u8>], edition: u64) {
    for (number, content) in contents.iter_mut().enumerate() {
        for line in 0..40 {
            *content = with_line(std::mem::take(content), 1000 * edition + 50 * number as u64 + line);
        }
        repo.write(&format!("{number}.bin"), content);
    }
    repo.commit(&format!("edition {edition}"));
}

#[test]
fn agents_killed_while_editions_are_pushed() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("editions");
    let mut contents: Vec<Vec<u8>> = (0..6).map(|seed| noise(500 + seed, 4_000_000)).collect();
    for (number, content) in contents.iter().enumerate() {
        work.write(&format!("{number}.bin"), content);
    }
    work.commit("first");
    work.push();
    let mut delay = Duration::from_millis(30);
    for edition in 1..=8 {
        write_edition(&work, &mut contents, edition);
        let running = start(&work.machine, &work.path, &["push", "--quiet", "origin", "HEAD"]);
        sleep(delay);
        // all of them, or the one that the others depend on
        let victims = if edition % 2 == 0 { usize::MAX } else { 1 };
        for id in work.machine.agents().iter().take(victims) {
            signal("KILL", &id.to_string());
        }
        let outcome = running.wait();
        assert_eq!(outcome.success(), pushed(&work), "{}", outcome.text());
        if edition % 3 == 0 {
            work.push();
            assert_same_tree(&work.path, &sandbox.clone_elsewhere("editions").path);
        }
        delay = delay.mul_f64(1.5);
    }
    work.push();
    let copy = sandbox.clone_elsewhere("editions");
    for age in 0..9 {
        work.must(["checkout", "--quiet", &format!("main~{age}")]);
        copy.must(["checkout", "--quiet", &format!("main~{age}")]);
        assert_same_tree(&work.path, &copy.path);
    }
    let stats = work.machine.expect_success(work.cdc(["stats", "--json"]));
    let stats: serde_json::Value = serde_json::from_str(&stats.stdout).unwrap();
    assert!(stats["delta_frames"].as_u64() >= Some(6), "{stats}");
}
