//! Whole files on this machine, by their SHA-256: in the sources that the user names, and in other clones.
//! They are only read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::clones::Clones;
use super::lfs_objects;
use crate::id::Oid;
use crate::threads;

/// Most folders of one source: as many repositories of a Hugging Face cache.
const SOURCE_FOLDERS: usize = 1000;
/// Time in which a source has to answer, or it is skipped. Its file server may be gone.
const SOURCES_MS: u64 = 5000;

/// The layout of the files in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// All files side by side, each named by its SHA-256.
    Flat,
    /// The layout of git-lfs: `ab/cd/abcd…`.
    Objects,
}

/// One folder of files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Folder {
    path: PathBuf,
    layout: Layout,
    /// True if the user has named the folder. Then files of other users are welcome.
    is_named: bool,
}

/// All folders from which files may be taken. Nothing in them is ever changed. Nothing in them is trusted.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    folders: Vec<Folder>,
    clones: Vec<PathBuf>,
}

impl Sources {
    /// Opens the sources that the user has `named`, and the other clones. `own` is the LFS storage of this
    /// clone, which is left out. A place that can't be read, or doesn't answer in time, is left out too. A
    /// warning names a source that can't be read. Clones that are gone are forgotten.
    ///
    /// A thread of its own looks at the places. It may outlive this call.
    pub fn open(named: &[PathBuf], clones: &Clones, own: &Path) -> Self {
        let (sent, received) = mpsc::channel();
        let named = named.to_vec();
        let clones = clones.clone();
        let own = own.to_owned();
        // a thread, because a file server that is gone would block this one
        let look = move || {
            for place in &named {
                let _ = sent.send((folders_of(place), None));
            }
            for storage in clones.list().into_iter().filter(|storage| !is_same(storage, &own)) {
                let objects = storage.join("objects");
                match fs::metadata(&objects) {
                    Ok(about) if about.is_dir() => {
                        let folder = Folder { path: objects, layout: Layout::Objects, is_named: false };
                        let _ = sent.send((vec![folder], Some(storage)));
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => clones.forget(&storage),
                    _ => {}
                }
            }
        };
        if let Err(refused) = threads::spawn("sources", look) {
            (refused.work)();
        }
        let mut sources = Self::default();
        loop {
            match received.recv_timeout(Duration::from_millis(SOURCES_MS)) {
                Ok((folders, clone)) => {
                    sources.folders.extend(folders);
                    sources.clones.extend(clone);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return sources,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    tracing::warn!("not all places that may have objects answer: done without the others");
                    return sources;
                }
            }
        }
    }

    /// Returns the LFS storages of other clones.
    pub fn clones(&self) -> &[PathBuf] {
        &self.clones
    }

    /// Returns the files with the name and the size of an object.
    pub fn files(&self, oid: &Oid, size_bytes: u64) -> impl Iterator<Item = PathBuf> {
        let fits = move |folder: &Folder, path: &Path| {
            // the metadata of the file itself, because links are not followed
            let about = fs::symlink_metadata(path).ok();
            about.is_some_and(|about| {
                about.is_file()
                    && about.len() == size_bytes
                    && (folder.is_named || lfs_objects::is_mine(&about))
            })
        };
        let name = oid.to_string();
        self.folders.iter().filter_map(move |folder| {
            let path = match folder.layout {
                Layout::Flat => folder.path.join(&name),
                Layout::Objects => lfs_objects::path_in(&folder.path, oid),
            };
            fits(folder, &path).then_some(path)
        })
    }
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Returns the folders of a place. The place may be a folder of files, a folder of git-lfs's objects, a
/// clone, or a cache of Hugging Face's. Such a cache has a folder for each repository, and in it a folder for
/// the files (`blobs`).
fn folders_of(place: &Path) -> Vec<Folder> {
    let parts = match fs::read_dir(place) {
        Ok(parts) => parts,
        Err(e) => {
            tracing::warn!("the source {} is not used: {e}", place.display());
            return Vec::new();
        }
    };
    let folder = |path: PathBuf, layout| Folder { path, layout, is_named: true };
    let mut folders = vec![folder(place.to_owned(), Layout::Flat), folder(place.to_owned(), Layout::Objects)];
    for objects in ["objects", "lfs/objects", ".git/lfs/objects"] {
        folders.push(folder(place.join(objects), Layout::Objects));
    }
    let of_hub = fs::read_dir(place.join("hub")).into_iter().flatten();
    let repositories = parts.chain(of_hub).flatten().filter(|part| {
        let name = part.file_name();
        let is_repository =
            |name: &str| ["models--", "datasets--", "spaces--"].iter().any(|k| name.starts_with(k));
        name.to_str().is_some_and(is_repository)
    });
    let blobs = repositories.map(|repository| repository.path()).chain([place.to_owned()]);
    folders.extend(blobs.map(|repository| folder(repository.join("blobs"), Layout::Flat)));
    folders.retain(|folder| folder.path.is_dir());
    if folders.len() > SOURCE_FOLDERS {
        tracing::warn!(
            "the source {} has more than {} folders: the others are not used",
            place.display(),
            SOURCE_FOLDERS
        );
        folders.truncate(SOURCE_FOLDERS);
    }
    tracing::debug!("source {}: {} folders", place.display(), folders.len());
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: Oid = Oid([0xab; 32]);

    fn put(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"content").unwrap();
    }

    fn found(named: &[PathBuf], clones: &Clones) -> Vec<PathBuf> {
        Sources::open(named, clones, Path::new("/own/lfs")).files(&OID, 7).collect()
    }

    #[test]
    fn a_file_is_found_in_every_layout_and_only_with_its_size() {
        let name = OID.to_string();
        let fanned = format!("ab/ab/{name}");
        for (place, file) in [
            ("", name.clone()),
            ("", fanned.clone()),
            ("", format!("objects/{fanned}")),
            ("", format!("lfs/objects/{fanned}")),
            ("", format!(".git/lfs/objects/{fanned}")),
            ("", format!("models--org--name/blobs/{name}")),
            ("", format!("hub/datasets--name/blobs/{name}")),
            ("models--name", format!("models--name/blobs/{name}")),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(&file);
            put(&path);
            let place = folder.path().join(place);
            assert_eq!(found(std::slice::from_ref(&place), &Clones::none()), [path], "{file}");
            let sources = Sources::open(&[place], &Clones::none(), Path::new("/own/lfs"));
            assert_eq!(sources.files(&OID, 8).count(), 0);
            assert_eq!(sources.files(&Oid([1; 32]), 7).count(), 0);
        }
    }

    #[test]
    fn what_is_missing_or_no_folder_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (file, right) = (folder.path().join("file"), folder.path().join("right"));
        put(&file);
        put(&right.join(OID.to_string()));
        let named = [file, folder.path().join("none"), right.clone()];
        assert_eq!(found(&named, &Clones::none()), [right.join(OID.to_string())]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, place) = (folder.path().join("target"), folder.path().join("place"));
        put(&target);
        fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(&target, place.join(OID.to_string())).unwrap();
        assert!(found(&[place], &Clones::none()).is_empty());
    }

    #[test]
    fn other_clones_are_sources_and_those_that_are_gone_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let clones = Clones::at(folder.path().join("clones"));
        let storages = ["one/lfs", "own/lfs", "gone/lfs"].map(|name| folder.path().join(name));
        for storage in &storages[..2] {
            put(&lfs_objects::path_in(&storage.join("objects"), &OID));
        }
        storages.iter().for_each(|storage| clones.remember(storage));
        let sources = Sources::open(&[], &clones, &storages[1]);
        let files: Vec<PathBuf> = sources.files(&OID, 7).collect();
        assert_eq!(files, [lfs_objects::path_in(&storages[0].join("objects"), &OID)]);
        assert_eq!(sources.clones(), &storages[..1]);
        let remembered = clones.list();
        assert!(remembered.len() == 2 && !remembered.contains(&storages[2]), "{remembered:?}");
    }
}
