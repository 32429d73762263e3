//! The meeting place of a command's agents: a lock that one of them holds, and the socket on which it
//! listens. The folder of both belongs to this user alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use interprocess::ConnectWaitMode;
#[cfg(unix)]
use interprocess::local_socket::traits::StreamCommon as _;
use interprocess::local_socket::{ConnectOptions, Listener, ListenerOptions, Name};

use super::command_id::Command;
use super::follower::{self, Connection};
use crate::error::{Error, Result};
use crate::local::lock::{self, Attempt};
use crate::progress::PROGRESS_INTERVAL_MS;
use crate::repo::Direction;

/// Most bytes of a socket's path. Linux has room for 107 bytes, other systems for 103.
const SOCKET_PATH_BYTES: usize = 103;
/// Time for which an agent looks for its coordinator before it works alone.
const MEETING_MS: u64 = 3000;

/// The version of the agents' protocol. Agents of different versions don't meet.
pub(super) const PROTOCOL: u32 = 1;

/// The meeting place of a command.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    direction: Direction,
    folder: PathBuf,
    lock: PathBuf,
    socket: PathBuf,
}

/// The result of joining.
pub(super) enum Outcome {
    /// This process is the coordinator.
    Leads(LeaderLock, Listener),
    /// Another process is the coordinator, and answers.
    Follows(Connection),
}

/// The lock of the coordinator. Only one process of a command holds it, and a process that dies loses it.
#[derive(Debug)]
pub(super) struct LeaderLock {
    file: File,
    lock: PathBuf,
    socket: PathBuf,
}

impl LeaderLock {
    /// Removes the files: the socket first, so that the next holder of the lock makes its own. If another
    /// process has removed the lock meanwhile, the files there belong to another one and stay.
    pub(super) fn release(&self) {
        if lock::is_at(&self.file, &self.lock) {
            for path in [&self.socket, &self.lock] {
                let _ = fs::remove_file(path);
            }
        }
        let _ = self.file.unlock();
    }
}

impl Meeting {
    /// Returns the place of this command, in the first usable folder.
    pub(super) fn of(command: &Command) -> Result<Self> {
        let mut refused = Vec::new();
        for folder in folders() {
            let meeting = Self::in_folder(folder, command);
            match meeting.prepare() {
                Ok(()) => return Ok(meeting),
                Err(e) => refused.push(e.to_string()),
            }
        }
        let refused = refused.join(", ");
        Err(Error::invalid(format!("there is no folder in which agents could meet ({refused})"))
            .remedy("set XDG_RUNTIME_DIR to a folder that belongs to you alone"))
    }

    fn in_folder(folder: PathBuf, command: &Command) -> Self {
        let file = |extension| folder.join(format!("{}.{extension}", command.name()));
        Self { direction: command.direction(), lock: file("lock"), socket: file("sock"), folder }
    }

    /// Checks that its files can be made here.
    fn prepare(&self) -> Result<()> {
        if self.socket.as_os_str().len() > SOCKET_PATH_BYTES {
            return Err(Error::invalid(format!("{} is too long", self.socket.display())));
        }
        prepare(&self.folder)?;
        let opened = lock_options().open(&self.lock);
        opened.map(drop).map_err(|e| Error::io(format!("opening {}", self.lock.display()), &e))
    }

    /// Takes the leader lock if it is free, or connects to the process that holds it. Stops early when
    /// `wanted` returns false.
    pub(super) fn join(&self, wanted: impl Fn() -> bool) -> Result<Outcome> {
        let until = Instant::now() + Duration::from_millis(MEETING_MS);
        let goes_on = || wanted() && Instant::now() < until;
        let mut pause = Duration::from_millis(1);
        // a process that has made the lock file takes the lock once, even if it leaves at once: then the file
        // is removed
        loop {
            if let Some((lock, listener)) = self.lead()? {
                return Ok(Outcome::Leads(lock, listener));
            }
            // the process that holds the lock may be about to listen, or to leave
            let refused = match self.connect(self.name()?, goes_on) {
                Ok(connection) => return Ok(Outcome::Follows(connection)),
                Err(e) => e,
            };
            if !goes_on() {
                let place = self.socket.display();
                return Err(Error::busy(format!("the coordinator at {place} does not answer: {refused}")));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(PROGRESS_INTERVAL_MS));
        }
    }

    /// Takes the leader lock if it is free, and listens.
    pub(super) fn lead(&self) -> Result<Option<(LeaderLock, Listener)>> {
        let Some(lock) = self.try_lock()? else { return Ok(None) };
        let listener = self.listen().inspect_err(|_| lock.release())?;
        self.sweep();
        Ok(Some((lock, listener)))
    }

    /// Connects to a coordinator that was found here before. Waits while it is there and takes no
    /// connections, for example because it is stopped.
    pub(super) fn connect_again(&self, wanted: impl Fn() -> bool) -> io::Result<Connection> {
        loop {
            let name = self.name().map_err(io::Error::other)?;
            match self.connect(name, &wanted) {
                Err(e) if is_full(&e) && wanted() => std::thread::sleep(Duration::from_millis(1)),
                connected => return connected,
            }
        }
    }

    /// Connects, with a timeout. A stopped coordinator takes no connections, and without a timeout this would
    /// last until it goes on.
    fn connect(&self, name: Name<'_>, goes_on: impl Fn() -> bool) -> io::Result<Connection> {
        let wait = ConnectWaitMode::Timeout(Duration::from_millis(PROGRESS_INTERVAL_MS));
        let connection = ConnectOptions::new().name(name).wait_mode(wait).connect_sync()?;
        #[cfg(unix)]
        if connection.peer_creds()?.euid() != Some(rustix::process::geteuid().as_raw()) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
        }
        follower::greet(connection, self.direction, goes_on)
    }

    fn try_lock(&self) -> Result<Option<LeaderLock>> {
        let locked = lock::try_lock(&lock_options(), &self.lock);
        match locked.map_err(|e| Error::io(format!("locking {}", self.lock.display()), &e))? {
            Attempt::Held(file) => {
                Ok(Some(LeaderLock { file, lock: self.lock.clone(), socket: self.socket.clone() }))
            }
            Attempt::Taken => Ok(None),
            Attempt::NoLocks(_) => {
                Err(Error::invalid(format!("{} is on a file system without locks", self.folder.display()))
                    .remedy("set XDG_RUNTIME_DIR to a folder on a local disk"))
            }
        }
    }

    /// Listens on the socket, in place of one that a killed process has left. Only the holder of
    /// the lock calls this.
    fn listen(&self) -> Result<Listener> {
        let _ = fs::remove_file(&self.socket);
        let listening = ListenerOptions::new().name(self.name()?).reclaim_name(false).create_sync();
        listening.map_err(|e| Error::io(format!("listening at {}", self.socket.display()), &e))
    }

    #[cfg(unix)]
    fn name(&self) -> Result<Name<'_>> {
        use interprocess::local_socket::{GenericFilePath, ToFsName};
        let name = self.socket.as_path().to_fs_name::<GenericFilePath>();
        name.map_err(|e| Error::io(format!("naming the socket {}", self.socket.display()), &e))
    }

    /// Returns the name of a pipe.
    #[cfg(windows)]
    fn name(&self) -> Result<Name<'_>> {
        use interprocess::local_socket::{GenericNamespaced, ToNsName};
        let name = self.socket.file_name().unwrap_or_default().to_ns_name::<GenericNamespaced>();
        name.map_err(|e| Error::io(format!("naming the pipe {}", self.socket.display()), &e))
    }

    /// Removes the files that killed agents of other commands have left.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let lock = entry.path();
            if lock.extension().is_none_or(|e| e != "lock") || lock == self.lock {
                continue;
            }
            if let Ok(Attempt::Held(file)) = lock::try_lock(File::options().write(true), &lock) {
                let socket = lock.with_extension("sock");
                LeaderLock { file, lock, socket }.release();
            }
        }
    }
}

/// Returns true if a process listens, but can take no more connections now.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn lock_options() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Returns the folders in which agents may meet, the best first. The system's folder for this purpose
/// vanishes when the user has left. Then come folders in which every user can make their own.
fn folders() -> impl Iterator<Item = PathBuf> {
    let directories = directories::BaseDirs::new();
    let runtime = directories.as_ref().and_then(|d| d.runtime_dir().map(Path::to_owned));
    let cache = directories.as_ref().map(|d| d.cache_dir().join("git-lfs-cdc").join("run"));
    #[cfg(unix)]
    let own = format!("git-lfs-cdc-{}", rustix::process::geteuid().as_raw());
    #[cfg(windows)]
    let own = "git-lfs-cdc";
    // another user's folder, for example after sudo, is no choice: that user could not enter a folder of this
    // one
    let runtime = runtime.filter(|folder| is_own(folder)).map(|folder| folder.join("git-lfs-cdc"));
    let all = [runtime, Some(std::env::temp_dir().join(own)), cache];
    // a variable may hold anything; no file is made in the current folder
    all.into_iter().flatten().filter(|folder| folder.is_absolute())
}

#[cfg(unix)]
fn is_own(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(windows)]
fn is_own(_: &Path) -> bool {
    true
}

/// Makes the folder if need be, and checks that no other user can put files there.
fn prepare(folder: &Path) -> Result<()> {
    let failed = |e| Error::io(folder.display(), &e);
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(e)),
    }
    let found = fs::symlink_metadata(folder).map_err(failed)?;
    if !found.is_dir() {
        return Err(Error::invalid(format!("{} is not a folder", folder.display())));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            return Err(Error::invalid(format!("{} is open to other users", folder.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_not_wanted_any_more_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let command = Command::of_this_process(Direction::Upload, "origin");
        let meeting = Meeting::in_folder(folder.path().join("run"), &command);
        meeting.prepare().unwrap();
        let Ok(Outcome::Leads(lock, _)) = meeting.join(|| false) else { panic!("the lock was free") };
        lock.release();
        assert_eq!(fs::read_dir(&meeting.folder).unwrap().count(), 0);
    }
}
