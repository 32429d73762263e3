//! A machine: a home, a git configuration and a cache of its own, and commands that see nothing else of the
//! environment.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Outcome, Running};
use crate::repo::Repo;
use crate::s3::Role;
use crate::sandbox::{full, path_str};
use crate::scan::Secrets;
use crate::storage::Storage;

const AGENT: &str = env!("CARGO_BIN_EXE_git-lfs-cdc");
const GIT_CONFIG: &str = "\
[user]
\tname = Someone
\temail = someone@example.com
[init]
\tdefaultBranch = main
[protocol \"file\"]
\tallow = always
[safe]
\tdirectory = *
[advice]
\tdetachedHead = false
[gc]
\tauto = 0
";

/// git-lfs's own number of agents. In the short form of the tests it is set, so that `init` asks for no more:
/// a hundred processes for each push take minutes in all.
const FEW_AGENTS: &str = "[lfs]\n\tconcurrenttransfers = 8\n";

/// The ids and the umask under which a machine's commands run. Needs root.
#[derive(Clone)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub umask: &'static str,
}

impl Identity {
    /// A program run under these ids.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={}", self.uid), &format!("--regid={}", self.gid), "--clear-groups"]);
        command.args(["sh", "-c", "umask \"$0\" && exec \"$@\"", self.umask, program]);
        command
    }
}

/// Copies a program into a folder. Another process writes it: this one starts processes all the time, each
/// has its open files for a moment, and a program that somebody writes can't be run.
pub fn copy_program(program: &Path, folder: &Path) {
    assert!(Command::new("cp").args([program, folder]).status().unwrap().success());
}

#[derive(Clone)]
pub struct Machine {
    sandbox: PathBuf,
    home: PathBuf,
    identity: Option<Identity>,
    /// Variables of its commands' environment, beyond those of every machine.
    environment: Vec<(String, String)>,
    secrets: Secrets,
}

impl Machine {
    pub fn new(sandbox: &Path, name: &str, identity: Option<Identity>, secrets: Secrets) -> Machine {
        let home = sandbox.join(name);
        fs::create_dir_all(home.join("bin")).unwrap();
        let few_agents = if full() { "" } else { FEW_AGENTS };
        fs::write(home.join(".gitconfig"), format!("{GIT_CONFIG}{few_agents}")).unwrap();
        fs::DirBuilder::new().mode(0o700).create(home.join("runtime")).unwrap();
        let sandbox = sandbox.to_path_buf();
        let machine = Machine { sandbox, home, identity, environment: Vec::new(), secrets };
        if let Some(identity) = &machine.identity {
            machine.bring_binaries();
            give(&machine.home, identity);
        }
        machine
    }

    /// Leaves the number of agents to `init`, as it is in the long form anyway.
    pub fn leave_agents_to_init(&self) {
        let path = self.config_file();
        let config = fs::read_to_string(&path).unwrap();
        fs::write(path, config.replace(FEW_AGENTS, "")).unwrap();
    }

    /// The same machine with a variable in the environment of its commands.
    pub fn with_variable(mut self, name: &str, value: &str) -> Machine {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same machine with a role's keys for S3.
    pub fn with_keys(self, role: Role) -> Machine {
        let (id, secret) = role.keys();
        self.with_variable("AWS_ACCESS_KEY_ID", &id).with_variable("AWS_SECRET_ACCESS_KEY", &secret)
    }

    /// The same machine without any keys.
    pub fn without_keys(mut self) -> Machine {
        self.environment.retain(|(name, _)| !name.starts_with("AWS_"));
        // else the agent asks for an instance's keys, which takes two seconds
        self.with_variable("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// Makes the machine's user trust a service, so that requests to it are signed.
    pub fn trusts(&self, endpoint: &str) {
        self.configure("lfs-cdc.trustedEndpoint", endpoint);
    }

    /// Another user may not reach the build folder: copies of the binaries go into the machine's own `bin`.
    fn bring_binaries(&self) {
        let mut binaries = vec![PathBuf::from(AGENT)];
        binaries.extend(git_lfs_folder().map(|folder| folder.join("git-lfs")));
        for binary in binaries {
            copy_program(&binary, &self.home.join("bin"));
        }
    }

    /// Returns true if its binaries are copies in a folder of its own.
    pub fn has_own_binaries(&self) -> bool {
        self.identity.is_some()
    }

    /// The binary that this machine uses.
    pub fn agent(&self) -> PathBuf {
        if self.identity.is_some() { self.home.join("bin/git-lfs-cdc") } else { AGENT.into() }
    }

    pub fn config_file(&self) -> PathBuf {
        self.home.join(".gitconfig")
    }

    /// Adds a setting, without a process for it: the last one counts.
    pub fn configure(&self, name: &str, value: &str) {
        let (section, key) = name.split_once('.').unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(self.config_file()).unwrap();
        writeln!(file, "[{section}]\n\t{key} = {value}").unwrap();
    }

    /// A command of this machine, with nothing of the caller's environment but `PATH`.
    pub fn command<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = match &self.identity {
            None => Command::new(program),
            Some(identity) => identity.command(program),
        };
        command.args(args).current_dir(dir).env_clear();
        command.env("PATH", self.search_path()).env("HOME", &self.home).env("LC_ALL", "C");
        command
            .env("XDG_CACHE_HOME", self.home.join(".cache"))
            .env("XDG_CONFIG_HOME", self.home.join(".config"))
            .env("XDG_RUNTIME_DIR", self.home.join("runtime"));
        command.env("GIT_CONFIG_GLOBAL", self.config_file()).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_TERMINAL_PROMPT", "0");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn search_path(&self) -> OsString {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let own = self.identity.is_some().then(|| self.home.join("bin"));
        let folders = own.into_iter().chain(git_lfs_folder()).chain(std::env::split_paths(&inherited));
        std::env::join_paths(folders).unwrap()
    }

    pub fn start<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Running {
        Running::start(self.command(dir, program, args), self.secrets.clone())
    }

    pub fn run<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Outcome {
        self.start(dir, program, args).wait()
    }

    pub fn git<'a>(&self, dir: &Path, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.run(dir, "git", args)
    }

    /// Runs git, which has to succeed; gives its standard output.
    #[track_caller]
    pub fn must<'a>(&self, dir: &Path, args: impl IntoIterator<Item = &'a str>) -> String {
        self.expect_success(self.git(dir, args)).stdout
    }

    /// Runs the agent's binary.
    pub fn cdc<'a>(&self, dir: &Path, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.run(dir, path_str(&self.agent()), args)
    }

    /// Installs the agent for this machine's user.
    #[track_caller]
    pub fn install(&self) {
        self.expect_success(self.cdc(&self.home, ["install", "--global"]));
    }

    /// Clones with the content checked out, to a path relative to the sandbox.
    #[track_caller]
    pub fn clone_of(&self, remote: &Path, into: &str) -> Repo {
        self.must(&self.sandbox, ["clone", "--quiet", path_str(remote), into]);
        self.repo_at(into)
    }

    pub fn repo_at(&self, path: &str) -> Repo {
        Repo { machine: self.clone(), path: self.sandbox.join(path) }
    }

    /// The agents that its git-lfs is running, the oldest first.
    pub fn agents(&self) -> Vec<u32> {
        let mut home = b"GIT_CONFIG_GLOBAL=".to_vec();
        home.extend_from_slice(self.config_file().as_os_str().as_bytes());
        let contains = |bytes: &[u8], word: &[u8]| bytes.split(|byte| *byte == 0).any(|part| part == word);
        let is_agent = |process: &Path| {
            // A process may be gone between any two of these reads.
            let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
            read("comm") == b"git-lfs-cdc\n"
                && contains(&read("cmdline"), b"transfer")
                && contains(&read("environ"), &home)
        };
        let mut ids: Vec<u32> = fs::read_dir("/proc")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|process| is_agent(process))
            .filter_map(|process| process.file_name()?.to_str()?.parse().ok())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Files that agents have left at their meeting place.
    pub fn left_by_agents(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.home.join("runtime/git-lfs-cdc")).into_iter().flatten();
        folder.map(|entry| entry.unwrap().path()).collect()
    }

    /// Creates a store that no repository uses yet.
    #[track_caller]
    pub fn create_store(&self, storage: &Storage) {
        let location = storage.location();
        let scratch = self.repo_at(&format!("scratch-{}", location.rsplit('/').next().unwrap()));
        self.must(&self.sandbox, ["init", "--quiet", path_str(&scratch.path)]);
        scratch.init(&storage.url());
    }

    #[track_caller]
    pub fn expect_success(&self, outcome: Outcome) -> Outcome {
        if !outcome.success() {
            self.fail(&outcome, "failed");
        }
        outcome
    }

    /// Panics unless the command failed and its output has all words of `expected`, in any case of letters.
    #[track_caller]
    pub fn expect_failure(&self, outcome: Outcome, expected: &[&str]) {
        if outcome.success() {
            self.fail(&outcome, "succeeded, and should have failed");
        }
        let text = outcome.text().to_lowercase();
        if let Some(missing) = expected.iter().find(|part| !text.contains(&part.to_lowercase())) {
            self.fail(&outcome, &format!("failed without saying {missing:?}"));
        }
    }

    #[track_caller]
    fn fail(&self, outcome: &Outcome, what: &str) -> ! {
        panic!(
            "{} {what} (exit code {:?})\n--- stdout\n{}--- stderr\n{}--- agents' logs\n{}",
            outcome.command,
            outcome.code,
            outcome.stdout,
            outcome.stderr,
            log_tails(&self.sandbox)
        )
    }
}

/// Makes a user the owner of a folder and of its whole content.
pub fn give(folder: &Path, owner: &Identity) {
    let ids = format!("{}:{}", owner.uid, owner.gid);
    let status = Command::new("chown").args(["-R", &ids]).arg(folder).status().unwrap();
    assert!(status.success(), "chown {ids} {}", folder.display());
}

fn git_lfs_folder() -> Option<PathBuf> {
    std::env::var_os("GIT_LFS_CDC_TEST_GIT_LFS").map(PathBuf::from)
}

/// The last lines of every agent's log below a folder.
fn log_tails(sandbox: &Path) -> String {
    let found =
        Command::new("find").arg(sandbox).args(["-path", "*/lfs/cdc/log", "-type", "f"]).output().unwrap();
    let paths = String::from_utf8_lossy(&found.stdout).into_owned();
    let mut text = String::new();
    for path in paths.lines() {
        let log = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        text.push_str(&format!("{path}:\n{tail}\n"));
    }
    text
}
