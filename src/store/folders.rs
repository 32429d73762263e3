//! The folders of a directory store. A missing folder is most often an empty one that a copy has left out.
//! Such a folder is made again. A folder is not made again if a disk should be mounted there, or if more than
//! an empty folder is lost. Otherwise a new folder would hide the loss.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path as FilePath;

use object_store::path::Path;

use super::directory::{Place, set_folder_mode};
use super::layout;
use super::local_files::read_at_most;
use crate::error::{Error, Kind, Result};
use crate::format::limits;
use crate::format::store_json::StoreDescription;

impl Place {
    /// Returns true if a folder of the store is there. A folder that is not there has no files. Fails if more
    /// than an empty folder is lost.
    pub(super) fn has_folder(&self, folder: &str) -> Result<bool> {
        let path = self.root().join(folder);
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(true),
            Ok(_) => Err(Error::corrupt(format!("the store's folder {} is no folder", path.display()))),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.check_may_be_missing(folder)?;
                Ok(false)
            }
            Err(e) => Err(Error::io(format!("the store's folder {}", path.display()), &e)),
        }
    }

    /// Makes sure that the folder of `path` is there, before a write.
    pub(super) fn provide_folder_of(&self, path: &Path) -> Result<()> {
        let folder = folder_of(path);
        let parts: Vec<_> = folder.parts().map(|part| part.as_ref().to_owned()).collect();
        if self.has_folder(folder.as_ref())? {
            return Ok(());
        }
        for depth in 1..=parts.len() {
            let folder = parts[..depth].join("/");
            if !self.has_folder(&folder)? {
                if depth > 1 {
                    self.check_is_no_mount_point(&parts[..depth - 1].join("/"))?;
                }
                self.make_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Makes sure that the folders are there that all others stand in.
    pub(super) fn provide_top_folders(&self) -> Result<()> {
        [layout::INDEX, layout::CONDEMNED, layout::BLOCKS, layout::SHARDS]
            .into_iter()
            .try_for_each(|folder| self.provide_folder_of(&Path::from(folder).join("any")))
    }

    /// Makes the missing folders that a push would make, or with `force` every missing folder.
    pub(super) fn restore_folders(&self, force: bool) -> Result<()> {
        for folder in layout::folders() {
            let path = self.root().join(&folder);
            if path.is_dir() {
                continue;
            }
            let made = match force {
                true => self.make_folder(&folder),
                false => self.provide_folder_of(&Path::from(folder.as_str()).join("any")),
            };
            match made {
                // a reader doesn't need the folders, and the next push makes them
                Err(e) if !force => {
                    tracing::warn!("{e}");
                    return Ok(());
                }
                made => made?,
            }
        }
        Ok(())
    }

    /// Makes the names in a folder of the store durable.
    pub(super) fn settle(&self, folder: &str) -> Result<()> {
        if !self.has_folder(folder)? {
            return Ok(());
        }
        let folder = self.root().join(folder);
        self.sync_folder(&folder).map_err(|e| Error::io(format!("syncing {}", folder.display()), &e))
    }

    /// Makes the names in the folder of `path` durable.
    pub(super) fn settle_folder_of(&self, path: &Path) -> Result<()> {
        self.settle(folder_of(path).as_ref())
    }

    /// Fails if a missing folder means a larger loss: a disk that isn't mounted, the whole store, or the
    /// index of blocks that are there.
    fn check_may_be_missing(&self, folder: &str) -> Result<()> {
        let path = self.root().join(folder);
        let gone = |why: &str, remedy: &str| {
            let error = format!("the store's folder {} is gone{why}", path.display());
            Err(Error::new(Kind::Unreachable, error).remedy(remedy))
        };
        if fs::symlink_metadata(&path).is_ok() {
            return gone(", a link leads nowhere", "check that its disk is mounted, and try again");
        }
        if !self.is_still_there()? {
            return gone(" with the rest of the store", "check that the store is mounted, and try again");
        }
        let holds_blocks = || holds_files(&self.root().join(layout::BLOCKS));
        if folder == layout::INDEX && holds_blocks().map_err(|e| self.unread(&e))? {
            return gone(
                ", and there are blocks",
                "restore it from a backup of the store; without one, `git lfs-cdc init URL --force` makes it again, \
                 and `git lfs push --all` from each clone brings its objects back",
            );
        }
        Ok(())
    }

    /// Returns true if `store.json` names the store that was opened.
    fn is_still_there(&self) -> Result<bool> {
        let Some(opened) = self.description() else { return Ok(true) };
        match read_at_most(&self.root().join(layout::STORE_JSON), limits::STORE_JSON_BYTES) {
            Ok(bytes) => Ok(StoreDescription::parse(&bytes)?.id == opened.id),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.unread(&e)),
        }
    }

    /// Fails if a folder has no folders in it, because a disk may have to be mounted there. The caller knows
    /// that one is missing in it.
    fn check_is_no_mount_point(&self, folder: &str) -> Result<()> {
        let path = self.root().join(folder);
        let mut entries = fs::read_dir(&path).map_err(|e| self.unread(&e))?;
        if entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir())) {
            return Ok(());
        }
        let error =
            format!("the store's folder {} is empty, as if a disk were to be mounted there", path.display());
        Err(Error::new(Kind::Unreachable, error)
            .remedy("mount it; or, if nothing belongs there, remove that empty folder, and try again"))
    }

    fn make_folder(&self, folder: &str) -> Result<()> {
        let path = self.root().join(folder);
        let make = || -> io::Result<()> {
            match fs::create_dir(&path) {
                // another process has made it
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
                made => made?,
            }
            let file_mode = self.description().and_then(|store| store.file_mode);
            set_folder_mode(&path, file_mode)?;
            // also makes all folders in it, because a folder without any looks like an empty mount point
            let below = format!("{folder}/");
            for fan in layout::folders().filter(|fan| fan.starts_with(&below)) {
                let fan = self.root().join(fan);
                match fs::create_dir(&fan) {
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                    made => made.and_then(|()| set_folder_mode(&fan, file_mode))?,
                }
            }
            self.sync_folder(&path)?;
            path.parent().map_or(Ok(()), |parent| self.sync_folder(parent))
        };
        make().map_err(|e| Error::io(format!("making the store's folder {} again", path.display()), &e))?;
        tracing::warn!("the store's folder {} was missing and is made again", path.display());
        Ok(())
    }

    fn unread(&self, error: &io::Error) -> Error {
        Error::io(format!("looking into the store {self}"), error)
    }
}

fn folder_of(path: &Path) -> Path {
    let mut parts: Vec<_> = path.parts().collect();
    parts.pop();
    parts.into_iter().collect()
}

/// Returns true if there is a file in one of the folders of a folder.
pub(super) fn holds_files(folder: &FilePath) -> io::Result<bool> {
    for fan in names(folder)? {
        let fan = folder.join(fan);
        if fan.is_dir() && !names(&fan)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the names in a folder; none if there is no such folder.
pub(super) fn names(folder: &FilePath) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
