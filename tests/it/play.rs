//! A player of git-lfs over pipes: a repository with a store, objects, and agents that the tests talk to.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A repository with a store.
pub struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        let sandbox = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(sandbox.repository()).unwrap();
        std::fs::DirBuilder::new().mode(0o700).create(sandbox.path("runtime")).unwrap();
        for arguments in
            [&["git", "init", "-q", "."][..], &[env!("CARGO_BIN_EXE_git-lfs-cdc"), "init", "../store"]]
        {
            let output = sandbox.command(arguments[0]).args(&arguments[1..]).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.repository())
            .env("HOME", self.folder.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("GIT_CONFIG_GLOBAL", self.path("gitconfig"))
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    pub fn agent(&self) -> Agent {
        self.agent_by(self.command(env!("CARGO_BIN_EXE_git-lfs-cdc")))
    }

    /// An agent that is started by this command, which names the program.
    pub fn agent_by(&self, mut command: Command) -> Agent {
        let command =
            command.arg("transfer").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Agent { input: child.stdin.take(), output, child }
    }

    /// An agent that has answered `init`.
    pub fn session(&self, operation: &str) -> Agent {
        let mut agent = self.agent();
        agent.begin(operation);
        agent
    }

    pub fn object(&self, content: &[u8]) -> Object {
        let oid = hex::encode(Sha256::digest(content));
        let path = self.path(&oid);
        std::fs::write(&path, content).unwrap();
        Object { oid, size: content.len(), path }
    }

    pub fn scratch_files(&self) -> usize {
        let folder = self.repository().join(".git/lfs/cdc/downloads");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

pub struct Object {
    pub oid: String,
    pub size: usize,
    pub path: PathBuf,
}

impl Object {
    pub fn upload(&self) -> Value {
        json!({"event": "upload", "oid": self.oid, "size": self.size, "path": self.path, "action": null})
    }

    pub fn download(&self) -> Value {
        json!({"event": "download", "oid": self.oid, "size": self.size, "action": null})
    }
}

pub fn init(operation: &str) -> Value {
    json!({"event": "init", "operation": operation, "remote": "origin", "concurrent": true, "concurrenttransfers": 8})
}

pub struct Agent {
    pub child: Child,
    pub input: Option<ChildStdin>,
    pub output: BufReader<ChildStdout>,
}

impl Agent {
    pub fn begin(&mut self, operation: &str) {
        self.say(&init(operation));
        assert_eq!(self.hear(), json!({}));
    }

    pub fn say(&mut self, line: &Value) {
        self.say_raw(format!("{line}\n").as_bytes());
    }

    pub fn say_raw(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?} is not JSON: {e}"))
    }

    /// Progress lines, and the answer that ends them.
    pub fn hear_answer(&mut self) -> (Vec<Value>, Value) {
        let mut progress = Vec::new();
        loop {
            let line = self.hear();
            match line["event"].as_str() {
                Some("progress") => progress.push(line),
                _ => return (progress, line),
            }
        }
    }

    /// Closes the input, and fails unless the agent ends soon and says nothing more.
    pub fn end(mut self) {
        drop(self.input.take());
        let mut rest = String::new();
        while self.output.read_line(&mut rest).unwrap() > 0 {}
        assert_eq!(rest, "", "nothing is said after the end");
        self.assert_ends();
    }

    pub fn assert_ends(&mut self) {
        let since = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(since.elapsed() < Duration::from_secs(20), "the agent does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn noise(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}
