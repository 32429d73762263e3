//! The one builder of every test: a folder with a store, remotes, and machines whose environment is pinned.
//!
//! A [`Machine`] has its own home, git configuration and cache, so a clone made on another machine gets nothing but
//! what the store holds. Dropping the sandbox removes everything.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::data;
use crate::process::{Outcome, Running};

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

pub struct Sandbox {
    root: tempfile::TempDir,
    pub machine: Machine,
}

impl Sandbox {
    /// A sandbox with one machine, on which the agent is installed.
    pub fn new() -> Sandbox {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let machine = Machine::new(root.path(), "home", None);
        machine.install();
        Sandbox { root, machine }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Where `repository` puts its objects.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Another machine with the agent: it shares no cache with the first.
    pub fn other_machine(&self, name: &str) -> Machine {
        let machine = Machine::new(self.root.path(), name, None);
        machine.install();
        machine
    }

    /// The machine of another user, or none where these tests may not change users.
    pub fn user(&self, name: &str, identity: Identity) -> Option<Machine> {
        let allowed = identity.command("true").output().is_ok_and(|output| output.status.success());
        allowed.then(|| {
            let machine = Machine::new(self.root.path(), name, Some(identity));
            machine.install();
            machine
        })
    }

    /// Where the bare repository is that `repository` pushes to.
    pub fn remote(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.git"))
    }

    /// A repository on the first machine with a remote of its own and `*.bin` in LFS, initialised for the store.
    pub fn repository(&self, name: &str) -> Repo {
        let repo = self.repository_without_store(name);
        repo.init(&self.store().to_string_lossy());
        repo.commit("set up");
        repo.push();
        repo
    }

    /// The same before `git-lfs-cdc init`.
    pub fn repository_without_store(&self, name: &str) -> Repo {
        let (machine, path, remote) = (&self.machine, self.path(name), self.remote(name));
        machine.must(self.root.path(), ["init", "--quiet", "--bare", path_str(&remote)]);
        machine.must(self.root.path(), ["init", "--quiet", path_str(&path)]);
        let repo = Repo { machine: machine.clone(), path };
        repo.must(["remote", "add", "origin", path_str(&remote)]);
        repo.write(".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n");
        repo.commit("attributes");
        repo
    }

    /// A clone of `name`'s remote on a machine that never saw its content.
    pub fn clone_elsewhere(&self, name: &str) -> Repo {
        let label = (0..).map(|i| format!("elsewhere-{i}")).find(|label| !self.path(label).exists()).unwrap();
        self.other_machine(&label).clone_of(&self.remote(name), &format!("{label}/{name}"))
    }
}

/// The ids and the umask under which a machine's commands run. Needs root.
#[derive(Clone)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub umask: &'static str,
}

impl Identity {
    /// A program run under these ids.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={}", self.uid), &format!("--regid={}", self.gid), "--clear-groups"]);
        command.args(["sh", "-c", "umask \"$0\" && exec \"$@\"", self.umask, program]);
        command
    }
}

#[derive(Clone)]
pub struct Machine {
    sandbox: PathBuf,
    home: PathBuf,
    identity: Option<Identity>,
}

impl Machine {
    fn new(sandbox: &Path, name: &str, identity: Option<Identity>) -> Machine {
        let home = sandbox.join(name);
        fs::create_dir_all(home.join("bin")).unwrap();
        fs::write(home.join(".gitconfig"), GIT_CONFIG).unwrap();
        let machine = Machine { sandbox: sandbox.to_path_buf(), home, identity };
        if let Some(identity) = &machine.identity {
            machine.bring_binaries();
            give(&machine.home, identity);
        }
        machine
    }

    /// Another user may not reach the build folder: copies of the binaries go into the machine's own `bin`.
    fn bring_binaries(&self) {
        let mut binaries = vec![PathBuf::from(AGENT)];
        binaries.extend(git_lfs_folder().map(|folder| folder.join("git-lfs")));
        for binary in binaries {
            fs::copy(&binary, self.home.join("bin").join(binary.file_name().unwrap())).unwrap();
        }
    }

    /// The binary that this machine uses.
    pub fn agent(&self) -> PathBuf {
        if self.identity.is_some() { self.home.join("bin/git-lfs-cdc") } else { AGENT.into() }
    }

    pub fn config_file(&self) -> PathBuf {
        self.home.join(".gitconfig")
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
            .env("XDG_CONFIG_HOME", self.home.join(".config"));
        command.env("GIT_CONFIG_GLOBAL", self.config_file()).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_TERMINAL_PROMPT", "0");
        command
    }

    fn search_path(&self) -> OsString {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let own = self.identity.is_some().then(|| self.home.join("bin"));
        let folders = own.into_iter().chain(git_lfs_folder()).chain(std::env::split_paths(&inherited));
        std::env::join_paths(folders).unwrap()
    }

    pub fn run<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Outcome {
        Running::start(self.command(dir, program, args)).wait()
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

    /// Creates a store that no repository uses yet.
    #[track_caller]
    pub fn create_store(&self, path: &Path) {
        let scratch = self.repo_at(&format!("scratch-{}", path.file_name().unwrap().to_string_lossy()));
        self.must(&self.sandbox, ["init", "--quiet", path_str(&scratch.path)]);
        scratch.init(path_str(path));
    }

    #[track_caller]
    pub fn expect_success(&self, outcome: Outcome) -> Outcome {
        if !outcome.success() {
            self.fail(&outcome, "failed");
        }
        outcome
    }

    /// Panics unless the command failed and said all of `expected`, in any case of letters.
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

/// A work tree (or a bare repository) and the machine that it is on.
#[derive(Clone)]
pub struct Repo {
    pub machine: Machine,
    pub path: PathBuf,
}

impl Repo {
    pub fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.machine.git(&self.path, args)
    }

    #[track_caller]
    pub fn must<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        self.machine.must(&self.path, args)
    }

    pub fn cdc<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.machine.cdc(&self.path, args)
    }

    /// Runs `git-lfs-cdc init URL`.
    #[track_caller]
    pub fn init(&self, url: &str) {
        self.machine.expect_success(self.cdc(["init", url]));
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Commits everything in the work tree.
    #[track_caller]
    pub fn commit(&self, message: &str) {
        self.must(["add", "--all"]);
        self.must(["commit", "--quiet", "--allow-empty", "--message", message]);
    }

    /// Pushes the current branch.
    #[track_caller]
    pub fn push(&self) {
        self.must(["push", "--quiet", "origin", "HEAD"]);
    }

    /// Writes one file, commits and pushes it.
    #[track_caller]
    pub fn publish(&self, name: &str, bytes: &[u8]) {
        self.write(name, bytes);
        self.commit(name);
        self.push();
    }

    /// The oid in the pointer that HEAD has for a file; panics if it is no LFS pointer.
    #[track_caller]
    pub fn oid(&self, name: &str) -> String {
        let pointer = self.must(["show", &format!("HEAD:{name}")]);
        let oid = pointer.lines().find_map(|line| line.strip_prefix("oid sha256:"));
        oid.unwrap_or_else(|| panic!("{name} is not in LFS: {pointer}")).to_owned()
    }

    /// Where git-lfs keeps the object of a file.
    #[track_caller]
    pub fn local_object(&self, name: &str) -> PathBuf {
        let oid = self.oid(name);
        self.path.join(".git/lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
    }

    /// Removes all local objects, so that the next checkout needs the store, and says how many there were.
    pub fn forget_objects(&self) -> usize {
        let objects = self.path.join(".git/lfs/objects");
        let count = data::listing(&objects).len();
        fs::remove_dir_all(objects).unwrap();
        count
    }
}

/// Makes a user the owner of a folder and of all that is in it.
pub fn give(folder: &Path, owner: &Identity) {
    let ids = format!("{}:{}", owner.uid, owner.gid);
    let status = Command::new("chown").args(["-R", &ids]).arg(folder).status().unwrap();
    assert!(status.success(), "chown {ids} {}", folder.display());
}

pub fn path_str(path: &Path) -> &str {
    path.to_str().expect("the sandbox's paths are UTF-8")
}

/// Whether the large forms of the tests are wanted.
pub fn full() -> bool {
    std::env::var_os("GIT_LFS_CDC_FULL").is_some_and(|value| value == "1")
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
