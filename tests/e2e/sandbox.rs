//! The one builder of every test: a folder with a store, remotes, and machines whose environment is pinned.
//!
//! A [`Machine`] has its own home, git configuration and cache, so a clone made on another machine gets nothing but
//! what the store holds. Dropping the sandbox removes everything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::machine::{Identity, Machine};
use crate::repo::Repo;

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

pub fn path_str(path: &Path) -> &str {
    path.to_str().expect("the sandbox's paths are UTF-8")
}

/// Whether the large forms of the tests are wanted.
pub fn full() -> bool {
    std::env::var_os("GIT_LFS_CDC_FULL").is_some_and(|value| value == "1")
}
