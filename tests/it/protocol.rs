//! The agent's protocol over pipes: each request has its answer, and the agent never falls out of step.

use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::play::{Agent, Object, Sandbox, init, noise};

/// Progress rises from above zero to the size, and its parts add up.
fn assert_progress(progress: &[Value], size: usize) {
    let bytes = |line: &Value, key: &str| line[key].as_u64().unwrap();
    let so_far: Vec<u64> = progress.iter().map(|line| bytes(line, "bytesSoFar")).collect();
    assert!(so_far[0] > 0 && so_far.is_sorted(), "{so_far:?}");
    assert_eq!(*so_far.last().unwrap(), size as u64);
    let sum: u64 = progress.iter().map(|line| bytes(line, "bytesSinceLast")).sum();
    assert_eq!(sum, size as u64);
}

#[test]
fn objects_go_up_and_come_back() {
    let sandbox = Sandbox::new();
    let large = sandbox.object(&noise(9_000_000));
    let small = sandbox.object(b"x");
    let mut agent = sandbox.session("upload");
    for object in [&large, &small, &large] {
        agent.say(&object.upload());
        let (progress, answer) = agent.hear_answer();
        assert_eq!(answer, json!({"event": "complete", "oid": object.oid}));
        assert_progress(&progress, object.size);
    }
    agent.say(&json!({"event": "terminate"}));
    agent.end();
    let mut agent = sandbox.session("download");
    for object in [&large, &small] {
        agent.say(&object.download());
        let (progress, answer) = agent.hear_answer();
        assert_progress(&progress, object.size);
        let path = Path::new(answer["path"].as_str().unwrap());
        assert!(
            path.starts_with(sandbox.repository().canonicalize().unwrap().join(".git/lfs/cdc/downloads")),
            "{path:?}"
        );
        assert!(std::fs::read(path).unwrap() == std::fs::read(&object.path).unwrap());
        std::fs::remove_file(path).unwrap();
    }
    agent.end();
    assert_eq!(sandbox.scratch_files(), 0);
}

#[test]
fn init_is_answered_before_any_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_git-lfs-cdc"));
    let command = command.arg("transfer").current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.env_clear().spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut agent = Agent { input: child.stdin.take(), output, child };
    agent.say(&init("download"));
    assert_eq!(agent.hear(), json!({}), "no repository, no store, no PATH: init is fine");
    let oid = "0".repeat(64);
    agent.say(&json!({"event": "download", "oid": oid, "size": 3, "action": null}));
    let (_, answer) = agent.hear_answer();
    assert_eq!(answer["oid"], json!(oid));
    assert!(answer["error"]["message"].as_str().unwrap().contains("git"), "{answer}");
    agent.end();
}

#[test]
fn each_failure_is_one_answer_and_the_agent_lives_on() {
    let sandbox = Sandbox::new();
    let object = sandbox.object(&noise(100_000));
    let mut agent = sandbox.session("upload");
    let mut missing = object.upload();
    missing["path"] = json!("/nowhere/at/all");
    let mut lying = object.upload();
    lying["size"] = json!(5);
    let mut wrong = object.upload();
    wrong["oid"] = json!("1".repeat(64));
    for (request, complaint) in [(missing, "/nowhere/at/all"), (lying, "damaged"), (wrong, "damaged")] {
        agent.say(&request);
        let (_, answer) = agent.hear_answer();
        assert_eq!(answer["oid"], request["oid"]);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(complaint), "{message}");
        assert!(message.contains("lfs/cdc/log") && !message.contains('\n'), "{message}");
        assert!(message.contains("; "), "no remedy: {message}");
    }
    agent.say(&object.upload());
    assert_eq!(agent.hear_answer().1, json!({"event": "complete", "oid": object.oid}));
    agent.end();
    let mut agent = sandbox.session("download");
    let oid = "2".repeat(64);
    agent.say(&json!({"event": "download", "oid": oid, "size": 3, "action": null}));
    let (_, answer) = agent.hear_answer();
    assert!(answer["error"]["message"].as_str().unwrap().contains("not in the store"), "{answer}");
    agent.end();
    assert_eq!(sandbox.scratch_files(), 0);
}

#[test]
fn lines_that_make_no_sense_get_one_answer_each() {
    let sandbox = Sandbox::new();
    let object = sandbox.object(b"still in step");
    let mut agent = sandbox.session("upload");
    let oversized = format!("{{\"event\":\"upload\",\"oid\":\"{}\"}}\n", "f".repeat(2_000_000));
    let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let other_way = format!("{}\n", object.download());
    let twice = format!("{}\n", init("upload"));
    for line in [
        "\n".as_bytes(),
        b"garbage\n",
        b"\xff\xfe\x00\n",
        b"{}\n",
        b"{\"event\":\"dance\"}\n",
        b"{\"event\":\"upload\",\"oid\":\"../../etc\",\"size\":1,\"path\":\"/x\"}\n",
        b"{\"event\":\"upload\",\"oid\":7,\"size\":-1}\n",
        oversized.as_bytes(),
        deep.as_bytes(),
        other_way.as_bytes(),
        twice.as_bytes(),
    ] {
        agent.say_raw(line);
        let (_, answer) = agent.hear_answer();
        assert_eq!(answer["event"], json!("complete"), "{answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
        agent.say(&object.upload());
        assert_eq!(agent.hear_answer().1, json!({"event": "complete", "oid": object.oid}));
    }
    agent.end();
}

#[test]
fn requests_before_init_are_refused_and_init_still_works() {
    let sandbox = Sandbox::new();
    let mut agent = sandbox.agent();
    agent.say(&json!({"event": "init", "operation": "sideways", "remote": "origin"}));
    assert!(agent.hear()["error"]["message"].as_str().unwrap().contains("sideways"));
    let object = sandbox.object(b"early");
    agent.say(&object.upload());
    assert!(agent.hear_answer().1["error"]["message"].as_str().unwrap().contains("before init"));
    agent.say(&init("upload"));
    assert_eq!(agent.hear(), json!({}));
    agent.end();
}

#[test]
fn the_end_of_input_ends_a_transfer_under_way() {
    let sandbox = Sandbox::new();
    let object = sandbox.object(&noise(60_000_000));
    let mut agent = sandbox.session("upload");
    agent.say(&object.upload());
    assert_eq!(agent.hear()["event"], json!("progress"));
    drop(agent.input.take());
    agent.assert_ends();
    // the object that was cut off is pushed the next time
    let mut agent = sandbox.session("upload");
    agent.say(&object.upload());
    assert_eq!(agent.hear_answer().1, json!({"event": "complete", "oid": object.oid}));
    agent.end();
    let mut agent = sandbox.session("download");
    agent.say(&object.download());
    assert_eq!(agent.hear()["event"], json!("progress"));
    agent.say(&json!({"event": "terminate"}));
    agent.assert_ends();
    assert!(sandbox.scratch_files() <= 1, "at most what was finished in that very moment");
}

#[test]
fn several_agents_work_on_one_repository_and_one_store() {
    let sandbox = Sandbox::new();
    let objects: Vec<Object> = (0..6).map(|i| sandbox.object(&noise(1_000_000 + i))).collect();
    let mut agents: Vec<Agent> = (0..6).map(|_| sandbox.session("upload")).collect();
    agents.iter_mut().zip(&objects).for_each(|(agent, object)| agent.say(&object.upload()));
    for (agent, object) in agents.iter_mut().zip(&objects) {
        assert_eq!(agent.hear_answer().1, json!({"event": "complete", "oid": object.oid}));
    }
    agents.into_iter().for_each(Agent::end);
    let mut agent = sandbox.session("download");
    for object in &objects {
        agent.say(&object.download());
        let answer = agent.hear_answer().1;
        assert!(
            std::fs::read(answer["path"].as_str().unwrap()).unwrap() == std::fs::read(&object.path).unwrap()
        );
    }
    agent.end();
}
