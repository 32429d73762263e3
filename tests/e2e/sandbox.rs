//! Sandboxes of tests: a folder with a store, remotes, and machines with a pinned environment.
//!
//! A [`Machine`] has its own home, git configuration and cache, so a clone made on another machine gets all
//! content from the store. Dropping the sandbox removes the folder. Objects in a bucket go when its server
//! ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::machine::{Identity, Machine};
use crate::repo::Repo;
use crate::s3::{self, Role};
use crate::scan::Secrets;
use crate::storage::{Kind, Storage};

pub struct Sandbox {
    root: tempfile::TempDir,
    kind: Kind,
    secrets: Secrets,
    /// Endpoints that every machine's user trusts with signed requests.
    services: Mutex<Vec<String>>,
    pub machine: Machine,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(path) = self.secrets.in_files(self.root.path()) {
            panic!("there is a secret in {}", path.display());
        }
    }
}

impl Sandbox {
    /// A sandbox with one machine, on which the agent is installed. `GIT_LFS_CDC_TEST_STORE` says where its
    /// stores are.
    pub fn new() -> Sandbox {
        Sandbox::with(Kind::asked_for(), Secrets::in_use())
    }

    /// A sandbox with its stores in S3, also where `GIT_LFS_CDC_TEST_STORE` doesn't ask for it.
    ///
    /// # Panics
    /// If there is no S3 server.
    #[track_caller]
    pub fn in_s3(secrets: Secrets) -> Sandbox {
        s3::server();
        Sandbox::with(Kind::S3, secrets)
    }

    /// A sandbox in which no file may show these secrets.
    pub fn with(kind: Kind, secrets: Secrets) -> Sandbox {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let machine = Machine::new(root.path(), "home", None, secrets.clone());
        let services = s3::endpoint().into_iter().collect();
        let mut sandbox = Sandbox { root, kind, secrets, services: Mutex::new(services), machine };
        sandbox.machine = sandbox.equip(sandbox.machine.clone());
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Where `repository` puts its objects.
    pub fn store(&self) -> Storage {
        self.storage("store")
    }

    /// A place for a store, of the kind of all stores of this sandbox.
    pub fn storage(&self, name: &str) -> Storage {
        Storage::new(self.kind, self.root.path(), name)
    }

    /// Installs the agent on a machine. Where stores are in S3 it may push, but not delete: nothing needs
    /// more.
    fn equip(&self, machine: Machine) -> Machine {
        let machine = if self.kind == Kind::S3 { machine.with_keys(Role::Push) } else { machine };
        if machine.has_own_binaries() {
            machine.install();
        } else {
            install_like_the_first(&machine);
        }
        self.services.lock().unwrap().iter().for_each(|endpoint| machine.trusts(endpoint));
        machine
    }

    /// Has the users of machines to come trust one more service, as a team's own.
    pub fn trust(&self, endpoint: &str) {
        self.services.lock().unwrap().push(endpoint.to_owned());
    }

    /// Another machine with the agent: it shares no cache with the first.
    pub fn other_machine(&self, name: &str) -> Machine {
        self.equip(Machine::new(self.root.path(), name, None, self.secrets.clone()))
    }

    /// Another machine with these keys. Its user doesn't trust the endpoint of the stores.
    pub fn stranger(&self, name: &str) -> Machine {
        let machine = Machine::new(self.root.path(), name, None, self.secrets.clone()).with_keys(Role::Push);
        machine.install();
        machine
    }

    /// The machine of another user, or none where these tests may not change users.
    pub fn user(&self, name: &str, identity: Identity) -> Option<Machine> {
        let allowed = identity.command("true").output().is_ok_and(|output| output.status.success());
        allowed
            .then(|| self.equip(Machine::new(self.root.path(), name, Some(identity), self.secrets.clone())))
    }

    /// Where the bare repository is that `repository` pushes to.
    pub fn remote(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.git"))
    }

    /// A repository on the first machine with a remote of its own and `*.bin` in LFS, initialised for the
    /// store.
    pub fn repository(&self, name: &str) -> Repo {
        let repo = self.repository_without_store(name);
        repo.init(&self.store().url());
        repo.commit("set up");
        repo.push();
        repo
    }

    /// The same before `git-lfs-cdc init`.
    pub fn repository_without_store(&self, name: &str) -> Repo {
        let machine = &self.machine;
        let path = self.path(name);
        let remote = self.remote(name);
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

/// All machines that use the same binary get the same configuration: the first is installed, the others get a
/// copy.
fn install_like_the_first(machine: &Machine) {
    static INSTALLED: OnceLock<Vec<u8>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        machine.install();
        fs::read(machine.config_file()).unwrap()
    });
    fs::write(machine.config_file(), installed).unwrap();
}

pub fn path_str(path: &Path) -> &str {
    path.to_str().expect("the sandbox's paths are UTF-8")
}

/// Returns true if the large forms of the tests are wanted.
pub fn full() -> bool {
    std::env::var_os("GIT_LFS_CDC_FULL").is_some_and(|value| value == "1")
}

/// Holds back other tests that need tens of gigabytes of the disk. Their large forms run one after the other.
pub fn alone_if_large() -> Option<std::sync::MutexGuard<'static, ()>> {
    static LARGE: Mutex<()> = Mutex::new(());
    // one that has failed is no reason to fail
    full().then(|| LARGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}
