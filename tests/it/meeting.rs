//! The places where agents meet: which will do, and what may stand there already.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::coordinator::{agents, assert_uploads, files, meeting, objects, terminate, wait_until};
use crate::play::{Agent, Sandbox};

/// Holds the seat of the sandbox's agents; the path is that of the socket, which nobody listens at.
fn take_seat(sandbox: &Sandbox) -> (File, PathBuf) {
    for mut agent in agents(sandbox, "upload", 1) {
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
    }
    let [lock, socket] = &files(&meeting(sandbox))[..] else { panic!("a lock and a socket are there") };
    let seat = File::options().write(true).open(lock).unwrap();
    seat.lock().unwrap();
    fs::remove_file(socket).unwrap();
    (seat, socket.clone())
}

/// An agent whose environment is changed.
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
    let alone = log.lines().filter(|line| line.contains("this agent works for itself"));
    let alone: Vec<&str> = alone.collect();
    assert_eq!(alone.len(), 3, "{log}");
    assert!(alone[0].contains("open to other users") && alone[0].contains("not a folder"), "{}", alone[0]);
}

#[test]
fn where_a_path_is_too_long_for_a_socket_agents_meet_elsewhere() {
    let sandbox = Sandbox::new();
    let (long, short) = (sandbox.path(&"long".repeat(20)), sandbox.path("t"));
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
fn whatever_sits_on_the_seat_and_is_no_coordinator_costs_seconds_only() {
    for answer in [&b""[..], b"garbage\n", b"{}\n{}\n", b"{\"event\":\"complete\",\"oid\":\"0\"}\n"] {
        let sandbox = Sandbox::new();
        let (_seat, socket) = take_seat(&sandbox);
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
            // it greets as one, and then talks nonsense for every object: that is the object's error
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
    let (_seat, socket) = take_seat(&sandbox);
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
    let (_seat, socket) = take_seat(&sandbox);
    let _stopped = UnixListener::bind(&socket).unwrap();
    let (ends, waits) = (sandbox.session("upload"), sandbox.session("upload"));
    ends.end();
    assert!(!log(&sandbox).contains("does not answer"), "the other one still waits");
    wait_until("it gives up", || log(&sandbox).contains("does not answer"));
    waits.end();
}
