//! A store that is a directory: opening and creating it, who may read its files, and what its
//! errors mean.

use std::error::Error as _;
use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use super::layout;
use crate::error::{Error, Kind, Result};

/// Who but the owner may use a directory store, as git's `core.sharedRepository` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing(u32);

impl Sharing {
    /// Reads `group`, `all` or an octal file mode that lets the owner read and write.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "group" => return Ok(Self(0o660)),
            "all" => return Ok(Self(0o664)),
            _ => {}
        }
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode & !0o666 == 0 && mode & 0o600 == 0o600 => Ok(Self(mode)),
            _ => Err(Error::invalid(format!("{text:?} does not say who shares the store"))
                .remedy("take group, all, or an octal file mode such as 0660")),
        }
    }

    /// The mode of files.
    pub fn file_mode(self) -> u32 {
        self.0
    }

    /// The mode of folders; what is created in one belongs to its group (set-group-id).
    fn folder_mode(self) -> u32 {
        with_entry(self.0) | 0o2000
    }
}

/// Whoever may read may enter.
fn with_entry(file_mode: u32) -> u32 {
    file_mode | (file_mode & 0o444) >> 2
}

/// From now on this process creates files with exactly this mode, and folders that whoever may read
/// them may enter. The umask is the only way that
/// leaves no moment in which a file stands there unreadable.
pub(super) fn set_umask_for(file_mode: u32) -> Umask {
    #[cfg(unix)]
    return Umask(rustix::process::umask(rustix::fs::Mode::from_raw_mode(
        (!with_entry(file_mode) & 0o777) as _,
    )));
    #[cfg(not(unix))]
    Umask(file_mode)
}

/// The umask that was.
pub(super) struct Umask(#[cfg(unix)] rustix::fs::Mode, #[cfg(not(unix))] u32);

impl Umask {
    /// Sets it again.
    pub(super) fn restore(self) {
        #[cfg(unix)]
        rustix::process::umask(self.0);
    }
}

/// The root of a directory store.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<PathBuf>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Place {
    /// A directory that is there.
    pub(super) fn find(path: PathBuf) -> Result<Self> {
        match path.canonicalize() {
            Ok(path) if path.is_dir() => Ok(Self(Arc::new(path))),
            Ok(path) => Err(Error::invalid(format!("{} is not a directory", path.display()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Self(Arc::new(path)).no_store()),
            Err(e) => Err(Error::io(format!("opening the store {}", path.display()), &e)),
        }
    }

    /// Makes the root and every folder of a new store. A folder that holds anything else is most likely
    /// not meant, and blocks without a `store.json` even less: then only with `force`.
    pub(super) fn create(path: PathBuf, sharing: Option<Sharing>, force: bool) -> Result<Self> {
        let failed = |e: &io::Error| Error::io(format!("creating the store {}", path.display()), e);
        if !force {
            check_room(&path).map_err(|e| failed(&e))??;
        }
        fs::create_dir_all(&path).map_err(|e| failed(&e))?;
        set_folder_mode(&path, sharing).map_err(|e| failed(&e))?;
        for folder in layout::folders() {
            let folder = path.join(folder);
            match fs::create_dir(&folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&e)),
                Err(_) => {}
                Ok(()) => set_folder_mode(&folder, sharing).map_err(|e| failed(&e))?,
            }
        }
        if let Some(parent) = path.parent() {
            sync(parent).map_err(|e| failed(&e))?;
        }
        for folder in [path.as_path(), &path.join(layout::BLOCKS), &path.join(layout::SHARDS)] {
            sync(folder).map_err(|e| failed(&e))?;
        }
        Self::find(path)
    }

    pub(super) fn backend(&self) -> Result<Arc<dyn ObjectStore>> {
        let backend = LocalFileSystem::new_with_prefix(self.0.as_path());
        Ok(Arc::new(backend.map_err(|e| self.explain("opening", e))?.with_fsync(true)))
    }

    /// Fails if the folder of `path` is gone: `object_store` would make it anew, on whatever file
    /// system is there then.
    pub(super) fn check_folder_of(&self, path: &Path) -> Result<()> {
        let full = self.0.join(path.as_ref());
        let folder = full.parent().unwrap_or(&full);
        match fs::metadata(folder) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(Error::corrupt(format!("the store's folder {} is no folder", folder.display()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::new(Kind::Unreachable, format!("the store's folder {} is gone", folder.display()))
                    .remedy("check that the store is mounted, and try again"))
            }
            Err(e) => Err(Error::io(format!("the store's folder {}", folder.display()), &e)),
        }
    }

    /// Makes the names in a folder of the store durable.
    pub(super) fn settle(&self, folder: &str) -> Result<()> {
        self.check_folder_of(&Path::from(folder).join("any"))?;
        let folder = self.0.join(folder);
        sync(&folder).map_err(|e| Error::io(format!("syncing {}", folder.display()), &e))
    }

    /// Makes the names in the folder of `path` durable.
    pub(super) fn settle_folder_of(&self, path: &Path) -> Result<()> {
        let parts: Vec<_> = path.parts().collect();
        let folder: Path = parts.into_iter().rev().skip(1).rev().collect();
        self.settle(folder.as_ref())
    }

    /// There is no store at the place.
    pub(super) fn no_store(&self) -> Error {
        let place = self.0.display();
        let error = match self.0.exists() {
            true => Error::not_found(format!("there is no store at {place}: the folder has no store.json")),
            false => Error::not_found(format!("there is no store at {place}: there is no such folder")),
        };
        error.remedy("check that it is mounted and spelt right; `git lfs-cdc init URL` creates a new store")
    }

    /// An error of `object_store`, with its cause in the operating system's words.
    pub(super) fn explain(&self, doing: impl fmt::Display, error: object_store::Error) -> Error {
        let doing = format!("{doing} in the store {self}");
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return Error::io(doing, io);
            }
            cause = inner.source();
        }
        let kind = match error {
            object_store::Error::NotFound { .. } => Kind::NotFound,
            object_store::Error::AlreadyExists { .. } => Kind::Exists,
            object_store::Error::PermissionDenied { .. } => Kind::Denied,
            _ => Kind::Unreachable,
        };
        Error::new(kind, format!("{doing}: {error}"))
    }
}

/// Replaces what `buffer` holds by a range of a file.
pub(super) fn read_range(mut file: fs::File, range: Range<u64>, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    buffer.resize((range.end - range.start) as usize, 0);
    file.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// Makes the folders above a new store, each durable.
pub(super) fn create_parents(path: &FilePath) -> Result<()> {
    let missing: Vec<_> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        let create = || {
            fs::create_dir_all(folder)?;
            folder.parent().map_or(Ok(()), sync)
        };
        create().map_err(|e| Error::io(format!("creating {}", folder.display()), &e))?;
    }
    Ok(())
}

/// Fails if anything but an empty store's folders stands at `path`, or if that can't be seen.
fn check_room(path: &FilePath) -> io::Result<Result<()>> {
    let names = |path: &FilePath| -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let blocks = path.join(layout::BLOCKS);
    for fan in names(&blocks)? {
        if !names(&blocks.join(fan))?.is_empty() {
            let error = format!("{} holds blocks but no store.json", path.display());
            return Ok(Err(Error::new(Kind::Exists, error).remedy(
                "restore store.json; if you are sure that a new store may begin there, add --force",
            )));
        }
    }
    // a `store.json` that somebody is just writing is called `store.json#1` for a moment
    let ours = |name: &String| {
        layout::folders().any(|folder| folder == *name)
            || name.starts_with(layout::STORE_JSON)
            || name == "lost+found"
    };
    Ok(match names(path)?.iter().find(|name| !ours(name)) {
        Some(name) => {
            let error = Error::new(Kind::Exists, format!("{} holds other things ({name})", path.display()));
            Err(error.remedy("name an empty or a new folder; if this one is meant, add --force"))
        }
        None => Ok(()),
    })
}

/// Only the owner may set it, and a joining user need not.
fn set_folder_mode(folder: &FilePath, sharing: Option<Sharing>) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(sharing) = sharing {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(sharing.folder_mode()))?;
    }
    #[cfg(not(unix))]
    let _ = (folder, sharing);
    Ok(())
}

/// Makes the names in a folder durable.
fn sync(folder: &FilePath) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
