//! The objects in a folder of git-lfs: files named by their SHA-256, in folders named by its first digits.

use std::fs::{self, DirEntry, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::id::Oid;

/// Most folders of git-lfs's objects that are looked through, the last changed ones.
const OBJECT_FOLDERS: usize = 4096;

/// An object in a folder of git-lfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The object's name. Nothing proves that its content has this hash.
    pub oid: Oid,
    /// The object's size.
    pub size_bytes: u64,
    /// The object's path.
    pub path: PathBuf,
}

/// Returns the path of an object below the folder `objects`. The file need not exist.
pub fn path_in(objects: &Path, oid: &Oid) -> PathBuf {
    let name = oid.to_string();
    objects.join(&name[..2]).join(&name[2..4]).join(name)
}

/// Returns true if a file belongs to the user of this process, or if files have no owners here.
pub fn is_mine(file: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::uid(file) == rustix::process::geteuid().as_raw();
    #[cfg(not(unix))]
    {
        let _ = file;
        true
    }
}

/// Lists the newest objects of at least `at_least_bytes` below the folder `objects`, at most `count` of them.
/// If there are very many folders, it reads only those that were changed last. Folders and files that can't
/// be read are left out.
pub fn newest(objects: &Path, at_least_bytes: u64, count: usize) -> Vec<Object> {
    let firsts = folders(objects).into_iter();
    let mut seconds: Vec<(SystemTime, PathBuf)> = firsts.flat_map(|(_, first)| folders(&first)).collect();
    seconds.sort_by(|a, b| b.cmp(a));
    seconds.truncate(OBJECT_FOLDERS);
    let files = seconds.iter().flat_map(|(_, folder)| entries(folder));
    let mut found: Vec<(SystemTime, Object)> = files.filter_map(object).collect();
    found.retain(|(_, object)| object.size_bytes >= at_least_bytes);
    found.sort_by(|(a, one), (b, two)| b.cmp(a).then(one.oid.cmp(&two.oid)));
    found.truncate(count);
    found.into_iter().map(|(_, object)| object).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Lists the folders that are named by two digits of a hash, with the times of their last changes.
fn folders(parent: &Path) -> Vec<(SystemTime, PathBuf)> {
    let folder = |entry: DirEntry| {
        let is_part = entry.file_name().to_str().is_some_and(|name| name.len() == 2);
        // the metadata of the folder itself, because links are not followed
        let about = is_part.then(|| entry.metadata().ok()).flatten().filter(Metadata::is_dir)?;
        Some((about.modified().ok()?, entry.path()))
    };
    entries(parent).filter_map(folder).collect()
}

fn object(entry: DirEntry) -> Option<(SystemTime, Object)> {
    let oid = Oid::parse(entry.file_name().to_str()?).ok()?;
    let about = entry.metadata().ok().filter(Metadata::is_file)?;
    Some((about.modified().ok()?, Object { oid, size_bytes: about.len(), path: entry.path() }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_objects_are_listed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let put = |number: u8, bytes: usize| {
            let path = path_in(folder.path(), &Oid([number; 32]));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, vec![0; bytes]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + u64::from(number)))
                .unwrap();
            path
        };
        let paths: Vec<PathBuf> = (0..5).map(|number| put(number, 100 * usize::from(number))).collect();
        fs::write(folder.path().join("01/01/other"), vec![0; 1000]).unwrap();
        fs::write(folder.path().join("01/file"), vec![0; 1000]).unwrap();
        #[cfg(unix)]
        {
            let name = path_in(folder.path(), &Oid([9; 32]));
            fs::create_dir_all(name.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&paths[4], name).unwrap();
            std::os::unix::fs::symlink(folder.path().join("04"), folder.path().join("aa")).unwrap();
        }
        let numbers = |at_least, count| {
            let listed = newest(folder.path(), at_least, count).into_iter();
            listed.map(|object| object.oid.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(numbers(0, 100), [4, 3, 2, 1, 0]);
        assert_eq!(numbers(200, 100), [4, 3, 2]);
        assert_eq!(numbers(0, 2), [4, 3]);
        assert_eq!(newest(folder.path(), 400, 1)[0].path, paths[4]);
        assert!(newest(&folder.path().join("none"), 0, 1).is_empty());
    }
}
