//! Agents of one command: they find each other, work together, and outlive each other.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::play::{Agent, Object, Sandbox};

/// The folder where the agents of a sandbox meet.
pub fn meeting(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("runtime/git-lfs-cdc")
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(20), "not in 20 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts `count` agents. The first is the coordinator.
pub fn agents(sandbox: &Sandbox, operation: &str, count: usize) -> Vec<Agent> {
    let first = sandbox.session(operation);
    let listens =
        || files(&meeting(sandbox)).iter().any(|file| file.extension().is_some_and(|e| e == "sock"));
    wait_until("the first agent listens", listens);
    let others = (1..count).map(|_| sandbox.session(operation));
    std::iter::once(first).chain(others).collect()
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

pub fn objects(sandbox: &Sandbox, seeds: std::ops::Range<u64>, bytes: usize) -> Vec<Object> {
    seeds.map(|seed| sandbox.object(&noise(seed, bytes))).collect()
}

#[track_caller]
pub fn assert_uploads(agents: &mut [Agent], objects: &[Object]) {
    agents.iter_mut().zip(objects).for_each(|(agent, object)| agent.say(&object.upload()));
    assert_uploaded(agents, objects);
}

#[track_caller]
pub fn assert_uploaded(agents: &mut [Agent], objects: &[Object]) {
    for (agent, object) in agents.iter_mut().zip(objects) {
        assert_eq!(agent.hear_answer().1, json!({"event": "complete", "oid": object.oid}));
    }
}

/// Ends all at once, as git-lfs does.
pub fn terminate(mut agents: Vec<Agent>) {
    agents.iter_mut().for_each(|agent| agent.say(&json!({"event": "terminate"})));
    agents.into_iter().for_each(Agent::end);
}

/// Waits for the answers to downloads, and takes the files as git-lfs does.
#[track_caller]
pub fn assert_downloaded(agents: &mut [Agent], objects: &[Object]) {
    for (agent, object) in agents.iter_mut().zip(objects) {
        let answer = agent.hear_answer().1;
        let path = answer["path"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(fs::read(path).unwrap() == fs::read(&object.path).unwrap());
        fs::remove_file(path).unwrap();
    }
}

#[track_caller]
pub fn assert_come_back(sandbox: &Sandbox, objects: &[Object]) {
    let mut agents = agents(sandbox, "download", objects.len().min(8));
    for part in objects.chunks(agents.len()) {
        agents.iter_mut().zip(part).for_each(|(agent, object)| agent.say(&object.download()));
        assert_downloaded(&mut agents, part);
    }
    terminate(agents);
}

#[test]
fn agents_of_one_command_commit_together_and_leave_nothing_behind() {
    let sandbox = Sandbox::new();
    let mut all = agents(&sandbox, "upload", 40);
    let objects = objects(&sandbox, 0..40, 10_000);
    assert_uploads(&mut all, &objects);
    let commits = files(&sandbox.path("store/index")).len();
    assert!(commits <= 5, "{commits} commits for 40 objects at once");
    assert_eq!(files(&meeting(&sandbox)).len(), 2, "a lock and a socket");
    terminate(all);
    assert_eq!(files(&meeting(&sandbox)), [] as [PathBuf; 0]);
    assert_come_back(&sandbox, &objects);
    assert_eq!(sandbox.scratch_files(), 0);
}

/// The threads of an agent's process.
#[cfg(target_os = "linux")]
fn threads(agent: &Agent) -> usize {
    fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap().count()
}

#[cfg(target_os = "linux")]
#[test]
fn an_agent_without_an_object_has_one_thread() {
    let sandbox = Sandbox::new();
    let mut all = agents(&sandbox, "upload", 10);
    wait_until("all have one", || all[1..].iter().all(|agent| threads(agent) == 1));
    assert_uploads(&mut all, &objects(&sandbox, 20..30, 1000));
    // one reads, one waits
    wait_until("all have two", || all[1..].iter().all(|agent| threads(agent) == 2));
    assert!(threads(&all[0]) < 20, "{}", threads(&all[0]));
    terminate(all);
}

#[test]
fn an_error_of_one_object_comes_through_and_harms_no_other() {
    let sandbox = Sandbox::new();
    let mut all = agents(&sandbox, "upload", 4);
    let objects = objects(&sandbox, 50..54, 100_000);
    fs::write(&objects[2].path, b"something else").unwrap();
    all.iter_mut().zip(&objects).for_each(|(agent, object)| agent.say(&object.upload()));
    for (number, (agent, object)) in all.iter_mut().zip(&objects).enumerate() {
        let answer = agent.hear_answer().1;
        assert_eq!(answer["oid"], json!(object.oid));
        if number != 2 {
            assert_eq!(answer, json!({"event": "complete", "oid": object.oid}));
            continue;
        }
        let message = answer["error"]["message"].as_str().unwrap();
        assert_eq!(answer["error"]["code"], json!(422));
        assert!(message.starts_with("git-lfs-cdc: the local copy"), "{message}");
        assert!(message.contains("; restore the file") && message.ends_with("lfs/cdc/log)"), "{message}");
        assert_eq!(message.matches("git-lfs-cdc: ").count(), 1, "{message}");
    }
    terminate(all);
}

#[test]
fn a_coordinator_that_is_killed_is_replaced_and_its_objects_are_asked_for_again() {
    let sandbox = Sandbox::new();
    let mut all = agents(&sandbox, "upload", 8);
    let objects = objects(&sandbox, 100..108, 6_000_000);
    all.iter_mut().zip(&objects).for_each(|(agent, object)| agent.say(&object.upload()));
    for _ in 0..3 {
        // the coordinator; then another agent is the coordinator
        let mut dead = all.remove(0);
        dead.child.kill().unwrap();
        dead.child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_uploaded(&mut all, &objects[3..]);
    assert_uploads(&mut all, &objects[..3]);
    terminate(all);
    assert_eq!(files(&meeting(&sandbox)), [] as [PathBuf; 0]);
    assert_come_back(&sandbox, &objects);
}

#[test]
fn a_coordinator_that_is_killed_while_objects_are_fetched_is_replaced() {
    let sandbox = Sandbox::new();
    let objects = objects(&sandbox, 200..206, 5_000_000);
    let mut all = agents(&sandbox, "upload", 6);
    assert_uploads(&mut all, &objects);
    terminate(all);
    let mut all = agents(&sandbox, "download", 6);
    all.iter_mut().zip(&objects).for_each(|(agent, object)| agent.say(&object.download()));
    let mut dead = all.remove(0);
    dead.child.kill().unwrap();
    dead.child.wait().unwrap();
    assert_downloaded(&mut all, &objects[1..]);
    terminate(all);
    assert_come_back(&sandbox, &objects);
}

#[test]
fn files_of_killed_agents_are_taken_over_and_swept() {
    let sandbox = Sandbox::new();
    for mut agent in agents(&sandbox, "upload", 3) {
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
    }
    assert_eq!(files(&meeting(&sandbox)).len(), 2, "nobody was left to remove them");
    fs::write(meeting(&sandbox).join("dead.lock"), b"").unwrap();
    drop(UnixListener::bind(meeting(&sandbox).join("dead.sock")).unwrap());
    let held = File::create(meeting(&sandbox).join("alive.lock")).unwrap();
    held.lock().unwrap();
    let mut all = agents(&sandbox, "upload", 3);
    let objects = objects(&sandbox, 300..303, 1000);
    assert_uploads(&mut all, &objects);
    terminate(all);
    assert_eq!(files(&meeting(&sandbox)), [meeting(&sandbox).join("alive.lock")]);
}

/// A store that has these objects.
fn filled(sandbox: &Sandbox, objects: &[Object]) {
    let mut all = agents(sandbox, "upload", objects.len());
    assert_uploads(&mut all, objects);
    terminate(all);
}

#[test]
fn an_interruption_leaves_no_fetched_files() {
    let sandbox = Sandbox::new();
    // larger ones stay for the next download
    let objects = objects(&sandbox, 1500..1503, 7_000_000);
    filled(&sandbox, &objects);
    // the coordinator has no object itself, and would be gone first
    let mut all = agents(&sandbox, "download", 4);
    all[1..].iter_mut().zip(&objects).for_each(|(agent, object)| agent.say(&object.download()));
    wait_until("objects are fetched", || sandbox.scratch_files() > 0);
    all.iter_mut().for_each(|agent| drop(agent.input.take()));
    all.iter_mut().for_each(Agent::assert_ends);
    assert_eq!((sandbox.scratch_files(), files(&meeting(&sandbox))), (0, Vec::new()));
}

#[test]
fn a_coordinator_that_ends_early_harms_no_other() {
    let sandbox = Sandbox::new();
    let objects = objects(&sandbox, 1600..1602, 7_000_000);
    filled(&sandbox, &objects);
    let mut all = agents(&sandbox, "download", 3);
    all[1].say(&objects[0].download());
    let answer = all[1].hear_answer().1;
    all[2].say(&objects[1].download());
    wait_until("the other is fetched", || sandbox.scratch_files() > 1);
    all.remove(0).end();
    assert!(Path::new(answer["path"].as_str().unwrap()).exists(), "git-lfs has yet to take it");
    assert_downloaded(&mut all[1..], &objects[1..]);
    terminate(all);
    assert_eq!((sandbox.scratch_files(), files(&meeting(&sandbox))), (0, Vec::new()));
}

#[test]
fn many_agents_work_where_few_files_may_be_open_at_first() {
    let sandbox = Sandbox::new();
    let start = || {
        let mut command = sandbox.command("sh");
        command.args(["-c", "ulimit -S -n 40 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_git-lfs-cdc")]);
        let mut agent = sandbox.agent_by(command);
        agent.begin("upload");
        agent
    };
    let mut all: Vec<Agent> = (0..60).map(|_| start()).collect();
    assert_uploads(&mut all, &objects(&sandbox, 1700..1760, 1000));
    terminate(all);
    assert!(files(&sandbox.path("store/index")).len() < 20, "they have met");
}
