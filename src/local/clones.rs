//! The clone notes: a list of the clones that this program has worked for on this machine. Objects in one
//! clone need not be fetched by another. The notes are only hints.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::metadata_cache;
use crate::regular_file::{self, Links};

/// Most clones that are remembered, the last used ones.
const CLONES: usize = 16;
/// Time after which an unused clone is forgotten.
const CLONE_SECONDS: u64 = 90 * 24 * 60 * 60;
/// Most bytes of a clone's path.
const CLONE_PATH_BYTES: u64 = 4096;

/// The number of hash digits in a note's name.
const NAME_DIGITS: usize = 32;

/// The folder of the notes in the user's cache. Each note is a small file that holds the path of a clone's
/// LFS storage. Any number of processes may write, read and remove notes at the same time.
#[derive(Clone, Debug)]
pub struct Clones {
    /// `None` if the user has no home. Then no clone is remembered.
    folder: Option<PathBuf>,
}

impl Clones {
    /// Returns the clone notes of the user of this process. Never fails.
    pub fn of_user() -> Self {
        Self { folder: metadata_cache::root().map(|root| root.join("clones")) }
    }

    /// Returns clone notes that remember nothing.
    pub fn none() -> Self {
        Self { folder: None }
    }

    /// Returns the clone notes in a folder.
    #[cfg(test)]
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// Remembers a clone by its LFS storage, and that the clone was used now.
    pub fn remember(&self, lfs_storage: &Path) {
        let (Some(folder), Some(path)) = (&self.folder, lfs_storage.to_str()) else { return };
        if let Err(e) = metadata_cache::keep(folder, &name(path), [path.as_bytes()]) {
            tracing::warn!("other clones won't know of this one: {}: {e}", folder.display());
        }
    }

    /// Forgets a clone that is not there any more.
    pub fn forget(&self, lfs_storage: &Path) {
        if let (Some(folder), Some(path)) = (&self.folder, lfs_storage.to_str()) {
            let _ = fs::remove_file(folder.join(name(path)));
        }
    }

    /// Lists the LFS storages of the clones, the one that was used last first. They may be gone. Forgets
    /// clones that were not used for long, and those beyond [`CLONES`].
    pub fn list(&self) -> Vec<PathBuf> {
        let listed = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok());
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for file in listed.into_iter().flatten().flatten() {
            let Some(used) = file.metadata().ok().filter(fs::Metadata::is_file) else { continue };
            let Ok(used) = used.modified() else { continue };
            if used.elapsed().unwrap_or_default() > Duration::from_secs(CLONE_SECONDS) {
                let _ = fs::remove_file(file.path());
            } else if file.file_name().len() == NAME_DIGITS {
                // files with other names are being written
                files.push((used, file.path()));
            }
        }
        files.sort_by(|a, b| b.cmp(a));
        let mut clones = Vec::new();
        for (_, file) in files {
            match read(&file).filter(|_| clones.len() < CLONES) {
                Some(path) => clones.push(path),
                None => drop(fs::remove_file(file)),
            }
        }
        clones
    }
}

fn name(path: &str) -> String {
    blake3::hash(path.as_bytes()).to_hex()[..NAME_DIGITS].to_owned()
}

/// Reads the path in a file. Returns `None` if it can't be a path.
fn read(file: &Path) -> Option<PathBuf> {
    parse(regular_file::read(file, Links::Refused, CLONE_PATH_BYTES).ok()?)
}

/// Parses the bytes of a file as a path; public for fuzzing.
#[doc(hidden)]
pub fn parse(file: Vec<u8>) -> Option<PathBuf> {
    let path = PathBuf::from(String::from_utf8(file).ok()?);
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clones() -> (tempfile::TempDir, Clones) {
        let folder = tempfile::tempdir().unwrap();
        let clones = Clones::at(folder.path().join("clones"));
        (folder, clones)
    }

    fn age(clones: &Clones, path: &str, seconds: u64) {
        let file = clones.folder.as_ref().unwrap().join(name(path));
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn the_clones_used_last_are_remembered_and_no_others() {
        let (_folder, clones) = clones();
        assert!(clones.list().is_empty());
        let paths: Vec<String> = (0..CLONES + 3).map(|number| format!("/clones/{number}/lfs")).collect();
        for (number, path) in paths.iter().enumerate() {
            clones.remember(Path::new(path));
            age(&clones, path, 10 * number as u64 + 10);
        }
        let expected: Vec<PathBuf> = paths[..CLONES].iter().map(PathBuf::from).collect();
        assert_eq!(clones.list(), expected);
        assert_eq!(fs::read_dir(clones.folder.as_ref().unwrap()).unwrap().count(), CLONES);
        age(&clones, &paths[0], CLONE_SECONDS + 10);
        clones.forget(Path::new(&paths[1]));
        clones.remember(Path::new(&paths[3]));
        assert_eq!(clones.list()[..3], [&expected[3], &expected[2], &expected[4]].map(PathBuf::clone));
    }

    #[test]
    fn what_is_no_path_is_forgotten_and_what_is_being_written_is_left() {
        let (_folder, clones) = clones();
        clones.remember(Path::new("/a"));
        let folder = clones.folder.clone().unwrap();
        for (name, text) in [("0", &b"relative"[..]), ("1", b""), ("2", b"/\xff"), ("3", &[b'/'; 5000])] {
            fs::write(folder.join(name.repeat(NAME_DIGITS)), text).unwrap();
        }
        fs::write(folder.join(".tmp123"), b"/half").unwrap();
        assert_eq!(clones.list(), [PathBuf::from("/a")]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        Clones::none().remember(Path::new("/a"));
        assert!(Clones::none().list().is_empty());
    }
}
