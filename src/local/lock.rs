//! Advisory locks on files that may be renamed or removed by whoever holds them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// Opens the file at `path` and locks it, unless another process, or another part of this one, holds it. A file that
/// was moved away while its lock was waited for doesn't count: then the one that stands there now is taken.
pub fn try_lock(options: &OpenOptions, path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        if is_at(&file, path) {
            return Ok(Some(file));
        }
    }
}

/// Whether an open file is the one that stands at `path` now.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Whether a file stands at `path`: there an open one keeps its place.
#[cfg(windows)]
pub fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_locked_once_and_one_that_was_moved_away_is_not_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        let held = try_lock(&options, &path).unwrap().unwrap();
        assert!(try_lock(&options, &path).unwrap().is_none());
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let other = try_lock(&options, &path).unwrap().expect("another file stands there now");
        assert!(!is_at(&held, &path) && is_at(&other, &path));
    }
}
