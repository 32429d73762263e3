//! Advisory locks on files that may be renamed or removed while they are held. Some file systems have no
//! locks (NFS without its lock service, Lustre without `flock`). Then each caller goes on with a weaker
//! guarantee.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::regular_file::{self, Links};

/// Tries to lock the file at a path, where others may put another file there meanwhile.
const LOCK_TRIES: usize = 10;
/// Age from which a file in the making counts as abandoned, where nothing can be locked.
pub(crate) const UNLOCKED_STALE_SECONDS: u64 = 24 * 60 * 60;

/// The result of trying to lock a file.
#[derive(Debug)]
pub enum Attempt {
    /// The file is locked until it is closed.
    Held(File),
    /// The lock is held by another process, or by another part of this one.
    Taken,
    /// The file is open, but its file system has no locks.
    NoLocks(File),
}

impl Attempt {
    /// Returns the file if it is locked now.
    pub fn held(self) -> Option<File> {
        match self {
            Self::Held(file) => Some(file),
            Self::Taken | Self::NoLocks(_) => None,
        }
    }
}

/// Opens the file at `path` and locks it, without waiting. If the file was moved away before its lock was
/// taken, the file that stands there now is locked instead. Links are refused, and everything else that is no
/// file.
pub fn try_lock(options: &OpenOptions, path: &Path) -> io::Result<Attempt> {
    try_lock_while(options, path, is_at)
}

fn try_lock_while(
    options: &OpenOptions,
    path: &Path,
    is_at: impl Fn(&File, &Path) -> bool,
) -> io::Result<Attempt> {
    for _ in 0..LOCK_TRIES {
        let file = regular_file::open_with(options, path, Links::Refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Taken),
            Err(TryLockError::Error(e)) if is_without_locks(&e) => return Ok(Attempt::NoLocks(file)),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        if is_at(&file, path) {
            return Ok(Attempt::Held(file));
        }
    }
    // files change their numbers on this file system, so it is unknown if others lock the same file
    regular_file::open_with(options, path, Links::Refused).map(Attempt::NoLocks)
}

/// Locks a file that no other process has seen yet. Succeeds without a lock if the file system has no locks.
pub fn hold_new(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::Error(e)) if is_without_locks(&e) => Ok(()),
        Err(TryLockError::Error(e)) => Err(e),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::ResourceBusy.into()),
    }
}

/// Returns true if files can be locked in a folder. Finds out by trying.
pub fn are_in(folder: &Path) -> bool {
    let tried = tempfile::Builder::new().prefix("lock-").suffix(".part").tempfile_in(folder);
    tried.is_ok_and(|file| file.as_file().try_lock().is_ok())
}

/// Returns true if an error means that the file system has no locks.
#[cfg(unix)]
fn is_without_locks(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let without = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS, Errno::INVAL];
    e.kind() == io::ErrorKind::Unsupported
        || without.iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error()))
}

/// Returns true if an error means that the file system has no locks: the function is unknown or not
/// supported.
#[cfg(windows)]
fn is_without_locks(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::Unsupported || matches!(e.raw_os_error(), Some(1 | 50))
}

/// Returns true if an open file is the one that stands at `path` now.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Returns true if a file stands at `path`. On Windows an open file keeps its place.
#[cfg(windows)]
pub fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> OpenOptions {
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        options
    }

    #[test]
    fn a_file_is_locked_once_and_one_that_was_moved_away_is_not_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let held = try_lock(&options(), &path).unwrap().held().unwrap();
        assert!(matches!(try_lock(&options(), &path).unwrap(), Attempt::Taken));
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let other = try_lock(&options(), &path).unwrap().held().expect("another file stands there now");
        assert!(!is_at(&held, &path) && is_at(&other, &path));
    }

    #[test]
    fn where_files_change_their_numbers_nothing_is_tried_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let attempt = try_lock_while(&options(), &path, |_, _| false).unwrap();
        assert!(matches!(attempt, Attempt::NoLocks(_)), "{attempt:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_a_folder_and_a_pipe_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("elsewhere"), b"").unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        for name in ["link", "dangling", "folder", "pipe"] {
            let refused = try_lock(&options(), &at(name)).unwrap_err();
            assert!(refused.to_string().starts_with("it is"), "{name}: {refused}");
        }
        assert!(!at("nowhere").exists(), "a link was followed");
    }

    /// Checks the errors of file systems without locks: NFS without its lock service, Lustre and FUSE without
    /// `flock`.
    #[cfg(unix)]
    #[test]
    fn a_file_system_without_locks_is_recognised() {
        use rustix::io::Errno;
        let says = |errno: Errno| is_without_locks(&errno.into());
        assert!([Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL].into_iter().all(says));
        assert!(![Errno::ACCESS, Errno::IO, Errno::AGAIN, Errno::BADF].into_iter().any(says));
        assert!(are_in(tempfile::tempdir().unwrap().path()));
    }
}
