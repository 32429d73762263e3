//! Meeting places of agents: which of them will do, and other files that may stand there already.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::coordinator::{agents, assert_uploads, files, meeting, objects, terminate, wait_until};
use crate::play::{Agent, Sandbox};
use crate::skip::skip;

/// Takes the lock of the sandbox's agents. Returns it, and the path of their socket. Nobody listens there.
fn take_lock(sandbox: &Sandbox) -> (File, PathBuf) {
    for mut agent in agents(sandbox, "upload", 1) {
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
    }
    let [lock, socket] = &files(&meeting(sandbox))[..] else { panic!("a lock and a socket are there") };
    let lock_file = File::options().write(true).open(lock).unwrap();
    lock_file.lock().unwrap();
    fs::remove_file(socket).unwrap();
    (lock_file, socket.clone())
}

/// An agent with a changed environment.
fn changed(sandbox: &Sandbox, change: impl Fn(&mut Command) -> &mut Command) -> Agent {
    let mut command = sandbox.command(env!("CARGO_BIN_EXE_git-lfs-cdc"));
    change(&mut command);
    let mut agent = sandbox.agent_by(command);
    agent.begin("upload");
    agent
}

fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.repository().join(".git/lfs/cdc/log")).unwrap_or_default()
}

#[test]
fn agents_without_a_folder_of_their_own_work_for_themselves() {
    let sandbox = Sandbox::new();
    // others could put a socket of theirs there
    fs::set_permissions(sandbox.path("runtime"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::DirBuilder::new().mode(0o700).create(meeting(&sandbox)).unwrap();
    fs::set_permissions(meeting(&sandbox), fs::Permissions::from_mode(0o770)).unwrap();
    fs::create_dir_all(sandbox.path("cache/git-lfs-cdc")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("runtime"), sandbox.path("cache/git-lfs-cdc/run")).unwrap();
    let nowhere = sandbox.path("nowhere");
    let mut all: Vec<Agent> =
        (0..3).map(|_| changed(&sandbox, |command| command.env("TMPDIR", &nowhere))).collect();
    let objects = objects(&sandbox, 400..403, 1000);
    assert_uploads(&mut all, &objects);
    terminate(all);
    let log = log(&sandbox);
    let alone = log.lines().filter(|line| line.contains("this one runs alone"));
    let alone: Vec<&str> = alone.collect();
    assert_eq!(alone.len(), 3, "{log}");
    assert!(alone[0].contains("open to other users") && alone[0].contains("not a folder"), "{}", alone[0]);
}

#[test]
fn where_a_path_is_too_long_for_a_socket_agents_meet_elsewhere() {
    let sandbox = Sandbox::new();
    let long = sandbox.path(&"long".repeat(20));
    let short = sandbox.path("t");
    for folder in [&long, &short] {
        fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
    }
    let there = || changed(&sandbox, |command| command.env("XDG_RUNTIME_DIR", &long).env("TMPDIR", &short));
    let mut all: Vec<Agent> = (0..2).map(|_| there()).collect();
    let objects = objects(&sandbox, 500..502, 1000);
    assert_uploads(&mut all, &objects);
    let folder = files(&short).pop().unwrap();
    assert!(folder.file_name().unwrap().to_str().unwrap().starts_with("git-lfs-cdc-"));
    assert_eq!(files(&folder).len(), 2);
    terminate(all);
    assert!(files(&folder).is_empty() && !log(&sandbox).contains("for itself"));
}

#[test]
fn a_stranger_in_the_coordinators_place_costs_seconds_only() {
    for answer in [&b""[..], b"garbage\n", b"{}\n{}\n", b"{\"event\":\"complete\",\"oid\":\"0\"}\n"] {
        let sandbox = Sandbox::new();
        let (_lock_file, socket) = take_lock(&sandbox);
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut line = String::new();
                let _ = BufReader::new(&connection).read_line(&mut line);
                let _ = connection.write_all(answer);
                kept.push(connection);
            }
        });
        let mut all: Vec<Agent> = (0..2).map(|_| sandbox.session("upload")).collect();
        let objects = objects(&sandbox, 600..602, 1000);
        if answer == b"{}\n{}\n" {
            // it greets as a coordinator, and then its answer for each object makes no sense: that is the
            // object's error
            all.iter_mut().zip(&objects).for_each(|(agent, object)| agent.say(&object.upload()));
            for agent in &mut all {
                let answer = agent.hear_answer().1;
                assert!(
                    answer["error"]["message"].as_str().unwrap().contains("was lost 10 times"),
                    "{answer}"
                );
            }
        } else {
            assert_uploads(&mut all, &objects);
            assert!(log(&sandbox).contains("does not answer"), "{}", log(&sandbox));
        }
        terminate(all);
    }
}

#[test]
fn a_coordinator_that_takes_no_connections_is_not_waited_for() {
    let sandbox = Sandbox::new();
    let (_lock_file, socket) = take_lock(&sandbox);
    let stopped = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&stopped, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
    rustix::net::listen(&stopped, 0).unwrap();
    // there is room for one
    let _first = UnixStream::connect(&socket).unwrap();
    let mut all: Vec<Agent> = (0..2).map(|_| sandbox.session("upload")).collect();
    assert_uploads(&mut all, &objects(&sandbox, 700..702, 1000));
    assert_eq!(log(&sandbox).matches("does not answer").count(), 2, "{}", log(&sandbox));
    terminate(all);
}

#[test]
fn the_end_of_input_ends_an_agent_that_waits_for_a_coordinator() {
    let sandbox = Sandbox::new();
    let (_lock_file, socket) = take_lock(&sandbox);
    let _stopped = UnixListener::bind(&socket).unwrap();
    let [mut ends, mut waits] = [(); 2].map(|()| sandbox.session("upload"));
    let objects = objects(&sandbox, 750..752, 1000);
    for (agent, object) in [&mut ends, &mut waits].into_iter().zip(&objects) {
        agent.say(&object.upload());
        assert_eq!(agent.hear()["event"], "progress");
    }
    ends.end();
    assert!(!log(&sandbox).contains("does not answer"), "the other one still waits");
    wait_until("it gives up", || log(&sandbox).contains("does not answer"));
    assert!(waits.hear_answer().1.get("error").is_none(), "it works for itself");
    waits.end();
}

#[test]
fn a_coordinator_without_files_leaves_those_of_the_next_alone() {
    let sandbox = Sandbox::new();
    let mut first = agents(&sandbox, "upload", 1);
    files(&meeting(&sandbox)).iter().for_each(|file| fs::remove_file(file).unwrap());
    let second = agents(&sandbox, "upload", 1);
    let theirs = files(&meeting(&sandbox));
    assert_uploads(&mut first, &objects(&sandbox, 800..801, 1000));
    terminate(first);
    assert_eq!(files(&meeting(&sandbox)), theirs);
    terminate(second);
    assert_eq!(files(&meeting(&sandbox)), [] as [PathBuf; 0]);
}

#[test]
fn where_no_lock_can_be_made_agents_meet_elsewhere() {
    let sandbox = Sandbox::new();
    let short = sandbox.path("t");
    fs::create_dir(&short).unwrap();
    let there = || changed(&sandbox, |command| command.env("TMPDIR", &short));
    let first = there();
    wait_until("it listens", || files(&meeting(&sandbox)).len() == 2);
    let [lock, _] = &files(&meeting(&sandbox))[..] else { panic!("a lock and a socket are there") };
    first.end();
    fs::create_dir(lock).unwrap();
    let mut all: Vec<Agent> = (0..2).map(|_| there()).collect();
    assert_uploads(&mut all, &objects(&sandbox, 900..902, 1000));
    let folder = files(&short).pop().unwrap();
    assert_eq!(files(&folder).len(), 2);
    terminate(all);
    assert!(files(&folder).is_empty() && !log(&sandbox).contains("for itself"), "{}", log(&sandbox));
}

#[test]
fn an_agent_that_cannot_listen_leaves_no_lock() {
    let sandbox = Sandbox::new();
    let (lock_file, socket) = take_lock(&sandbox);
    drop(lock_file);
    fs::create_dir(&socket).unwrap();
    let mut all: Vec<Agent> = (0..2).map(|_| sandbox.session("upload")).collect();
    assert_uploads(&mut all, &objects(&sandbox, 1000..1002, 1000));
    terminate(all);
    assert_eq!(log(&sandbox).matches("listening at").count(), 2, "{}", log(&sandbox));
    assert_eq!(files(&meeting(&sandbox)), [socket]);
}

#[test]
#[ignore = "needs root, to give a folder away"]
fn folders_of_other_users_and_relative_paths_are_no_meeting_place() {
    let sandbox = Sandbox::new();
    if std::os::unix::fs::chown(sandbox.path("runtime"), Some(65534), None).is_err() {
        return skip("only root can give folders away");
    }
    let place = sandbox.path("cache/git-lfs-cdc/run");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    let before = files(&sandbox.repository());
    let mut all: Vec<Agent> =
        (0..2).map(|_| changed(&sandbox, |command| command.env("TMPDIR", ""))).collect();
    assert_uploads(&mut all, &objects(&sandbox, 1100..1102, 1000));
    assert_eq!(files(&place).len(), 2);
    terminate(all);
    assert_eq!(files(&sandbox.path("runtime")), [] as [PathBuf; 0]);
    assert_eq!(files(&sandbox.repository()), before);
}

#[test]
#[ignore = "needs root, to act as another user"]
fn a_coordinator_of_another_user_is_not_believed() {
    let sandbox = Sandbox::new();
    for folder in [sandbox.path(""), sandbox.path("runtime")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let folder = meeting(&sandbox);
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    let give = |uid| {
        [sandbox.path("runtime"), folder.clone()]
            .iter()
            .all(|f| std::os::unix::fs::chown(f, Some(uid), None).is_ok())
    };
    if !give(65534) {
        return skip("only root can act as another user");
    }
    let mut command = sandbox.command("setpriv");
    command.args(["--reuid=65534", "--clear-groups", "--", env!("CARGO_BIN_EXE_git-lfs-cdc")]);
    let mut other = sandbox.agent_by(command);
    other.begin("upload");
    wait_until("it listens", || files(&folder).len() == 2);
    give(0);
    let mut own = vec![sandbox.session("upload")];
    assert_uploads(&mut own, &objects(&sandbox, 1200..1201, 1000));
    terminate(own);
    assert!(log(&sandbox).contains("another user's"), "{}", log(&sandbox));
}

#[test]
fn agents_that_others_may_have_given_another_store_do_not_meet() {
    let sandbox = Sandbox::new();
    let mut all: Vec<Agent> = ["one", "another"]
        .map(|profile| changed(&sandbox, |command| command.env("AWS_PROFILE", profile)))
        .into();
    wait_until("both listen", || files(&meeting(&sandbox)).len() == 4);
    assert_uploads(&mut all, &objects(&sandbox, 1300..1302, 1000));
    terminate(all);
}

#[test]
#[ignore = "needs root, to make containers"]
fn agents_of_different_containers_do_not_meet() {
    let sandbox = Sandbox::new();
    let contained = || {
        let mut command = sandbox.command("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--", env!("CARGO_BIN_EXE_git-lfs-cdc")]);
        command
    };
    if !contained().arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("unshare can't make containers here");
    }
    let mut all: Vec<Agent> = (0..2).map(|_| sandbox.agent_by(contained())).collect();
    all.iter_mut().for_each(|agent| agent.begin("upload"));
    wait_until("both listen", || files(&meeting(&sandbox)).len() == 4);
    assert_uploads(&mut all, &objects(&sandbox, 1400..1402, 1000));
    terminate(all);
}
