//! The directory store: opening and creating it, access to its files, their durability, and the meaning of
//! its errors.

use std::error::Error as _;
use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use object_store::ObjectStore;

use super::folders::{holds_files, names};
use super::layout;
use super::local_files::LocalFiles;
use crate::error::{Error, Kind, Result};
use crate::format::store_json::{self, StoreDescription};

/// The consequence for the user if folders or files can't be synced.
pub const UNSYNCED: &str = "after a power failure there, the last pushes may be lost";

/// The access of users other than the owner to a directory store, like git's `core.sharedRepository`.
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
            Ok(mode) if store_json::is_file_mode(mode) => Ok(Self(mode)),
            _ => Err(Error::invalid(format!("{text:?} does not say who shares the store"))
                .remedy("take group, all, or an octal file mode such as 0660")),
        }
    }

    /// Returns the mode of files.
    pub fn file_mode(self) -> u32 {
        self.0
    }
}

/// Returns the mode of folders. Users that may read may also enter. New entries belong to the folder's group
/// (set-group-id).
fn folder_mode(file_mode: u32) -> u32 {
    file_mode | (file_mode & 0o444) >> 2 | 0o2000
}

/// The root of a directory store. Cheap to copy; threads share it.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Root>);

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// The contents of `store.json` when the store was opened.
    description: RwLock<Option<StoreDescription>>,
    /// True if the file system has refused to sync a folder or a file, because it doesn't support that.
    is_unsynced: AtomicBool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.path.display().fmt(f)
    }
}

impl Place {
    fn at(path: PathBuf) -> Self {
        Self(Arc::new(Root { path, description: RwLock::default(), is_unsynced: AtomicBool::new(false) }))
    }

    /// Finds a directory that is there.
    pub(super) fn find(path: PathBuf) -> Result<Self> {
        match path.canonicalize() {
            Ok(path) if path.is_dir() => Ok(Self::at(path)),
            Ok(path) => Err(Error::invalid(format!("{} is not a directory", path.display()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Self::at(path).no_store()),
            Err(e) => Err(Error::io(format!("opening the store {}", path.display()), &e)),
        }
    }

    /// Makes the root and every folder of a new store. Without `force`, fails if the folder holds anything
    /// else, because it is most likely not meant. Blocks without a `store.json` are an even stronger sign.
    pub(super) fn create(path: PathBuf, sharing: Option<Sharing>, force: bool) -> Result<Self> {
        let failed = |e: &io::Error| Error::io(format!("creating the store {}", path.display()), e);
        if !force {
            check_room(&path).map_err(|e| failed(&e))??;
        }
        fs::create_dir_all(&path).map_err(|e| failed(&e))?;
        let place = Self::find(path.clone())?;
        let file_mode = sharing.map(Sharing::file_mode);
        set_folder_mode(&path, file_mode).map_err(|e| failed(&e))?;
        for folder in layout::folders() {
            let folder = path.join(folder);
            match fs::create_dir(&folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&e)),
                Err(_) => {}
                Ok(()) => set_folder_mode(&folder, file_mode).map_err(|e| failed(&e))?,
            }
        }
        if let Some(parent) = path.parent() {
            place.sync_folder(parent).map_err(|e| failed(&e))?;
        }
        for folder in [path.as_path(), &path.join(layout::BLOCKS), &path.join(layout::SHARDS)] {
            place.sync_folder(folder).map_err(|e| failed(&e))?;
        }
        Ok(place)
    }

    pub(super) fn root(&self) -> &FilePath {
        &self.0.path
    }

    pub(super) fn backend(&self) -> Result<Arc<dyn ObjectStore>> {
        Ok(Arc::new(LocalFiles::new(self.clone()).map_err(|e| self.explain("opening", e))?))
    }

    /// Notes the description of the store that was opened.
    pub(super) fn is_described(&self, description: &StoreDescription) {
        *self.0.description.write().unwrap_or_else(PoisonError::into_inner) = Some(description.clone());
    }

    /// The contents of `store.json` when the store was opened.
    pub(super) fn description(&self) -> Option<StoreDescription> {
        self.0.description.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns true if the file system has refused to sync. Before the first sync, this is false.
    pub(super) fn is_unsynced(&self) -> bool {
        self.0.is_unsynced.load(Ordering::Relaxed)
    }

    /// Gives a file the mode of a shared store, if the store is shared. The umask of the process stays as it
    /// is.
    pub(super) fn give_mode(&self, file: &FilePath) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(mode) = self.description().and_then(|store| store.file_mode) {
            use std::os::unix::fs::PermissionsExt;
            let given = fs::set_permissions(file, fs::Permissions::from_mode(mode));
            // some shares have one mode for all files
            let is_fixed = given.as_ref().is_err_and(|e| {
                matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
            });
            return if is_fixed { Ok(()) } else { given };
        }
        let _ = file;
        Ok(())
    }

    /// Makes the content of a file durable, as far as the file system can.
    pub(super) fn sync_file(&self, file: &fs::File) -> io::Result<()> {
        self.unless_unable(file.sync_all())
    }

    /// Makes the names in a folder durable, as far as the file system can.
    pub(super) fn sync_folder(&self, folder: &FilePath) -> io::Result<()> {
        #[cfg(unix)]
        return self.unless_unable(fs::File::open(folder).and_then(|folder| folder.sync_all()));
        #[cfg(not(unix))]
        let _ = folder;
        #[cfg(not(unix))]
        Ok(())
    }

    /// Accepts a sync that the file system doesn't support, and warns once. Examples are old mounts of
    /// Windows shares, and VirtualBox's folders.
    fn unless_unable(&self, synced: io::Result<()>) -> io::Result<()> {
        match synced {
            Err(e) if cannot_sync(&e) => {
                if !self.0.is_unsynced.swap(true, Ordering::Relaxed) {
                    tracing::warn!("the file system of {self} can't sync ({e}): {UNSYNCED}");
                }
                Ok(())
            }
            synced => synced,
        }
    }

    /// Returns the error that there is no store at the place.
    pub(super) fn no_store(&self) -> Error {
        let place = self.0.path.display();
        let error = match self.0.path.exists() {
            true => Error::not_found(format!("there is no store at {place}: the folder has no store.json")),
            false => Error::not_found(format!("there is no store at {place}: there is no such folder")),
        };
        error.remedy("check that it is mounted and spelt right; `git lfs-cdc init URL` creates a new store")
    }

    /// Explains an error of `object_store`, with its cause in the operating system's words.
    pub(super) fn explain(&self, doing: impl fmt::Display, error: object_store::Error) -> Error {
        let doing = format!("{doing} in the store {self}");
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(ours) = inner.downcast_ref::<Error>() {
                return ours.clone().context(doing);
            }
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

/// Replaces the contents of `buffer` by a range of a file.
pub(super) fn read_range(mut file: fs::File, range: Range<u64>, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    buffer.resize((range.end - range.start) as usize, 0);
    file.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// Makes the folders above a new store, and makes each durable.
pub(super) fn create_parents(path: &FilePath) -> Result<()> {
    let missing: Vec<_> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        let create = || {
            fs::create_dir_all(folder)?;
            folder.parent().map_or(Ok(()), |parent| Place::at(parent.to_owned()).sync_folder(parent))
        };
        create().map_err(|e| Error::io(format!("creating {}", folder.display()), &e))?;
    }
    Ok(())
}

/// Fails if `path` holds anything but an empty store's folders, or if it can't be read.
fn check_room(path: &FilePath) -> io::Result<Result<()>> {
    if holds_files(&path.join(layout::BLOCKS))? {
        let error = format!("{} holds blocks but no store.json", path.display());
        return Ok(Err(Error::new(Kind::Exists, error)
            .remedy("restore store.json; if you are sure that a new store may begin there, add --force")));
    }
    // while another process writes `store.json`, its name has a few more characters for a moment
    let ours = |name: &String| {
        layout::folders().any(|folder| folder == *name)
            || name.trim_start_matches('.').starts_with(layout::STORE_JSON)
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

/// Sets the mode of a folder in a shared store. Only the owner may set it, and a joining user need not.
pub(super) fn set_folder_mode(folder: &FilePath, file_mode: Option<u32>) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(mode) = file_mode {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(folder_mode(mode)))?;
    }
    #[cfg(not(unix))]
    let _ = (folder, file_mode);
    Ok(())
}

/// Returns true if the file system doesn't support this sync at all.
fn cannot_sync(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let unable = [
            Errno::INVAL,
            Errno::OPNOTSUPP,
            Errno::NOTSUP,
            Errno::NOSYS,
            Errno::BADF,
            Errno::ISDIR,
            Errno::ACCESS,
            Errno::PERM,
        ];
        error.raw_os_error().is_some_and(|code| unable.iter().any(|errno| errno.raw_os_error() == code))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::Unsupported
    }
}
