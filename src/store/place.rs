//! The place of a store: a directory, or a service on the network.

use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::path::Path;
use tokio::runtime::Handle;

use super::files::{Conditions, Files};
use super::options::Access;
use super::{StoreUrl, directory, network};
use crate::error::{Error, Result};

/// The place of a store: a directory, or a service on a network.
#[derive(Clone)]
pub(super) enum Place {
    Directory(directory::Place),
    Network(Arc<network::Place>),
}

impl Place {
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Network(place) if place.is_read_only())
    }

    /// Makes sure that the folder of `path` is there. Services have no folders.
    pub(super) fn provide_folder_of(&self, path: &Path) -> Result<()> {
        match self {
            Self::Directory(place) => place.provide_folder_of(path),
            Self::Network(_) => Ok(()),
        }
    }

    /// Returns true if a folder is there. Fails if more than an empty folder is lost.
    pub(super) fn has_folder(&self, folder: &str) -> Result<bool> {
        match self {
            Self::Directory(place) => place.has_folder(folder),
            Self::Network(_) => Ok(true),
        }
    }

    /// Explains a final error to the user.
    pub(super) fn explain(&self, doing: &str, error: object_store::Error) -> Error {
        match self {
            Self::Directory(place) => place.explain(doing, error),
            Self::Network(place) => place.explain(doing, &error).0,
        }
    }

    pub(super) fn no_store(&self) -> Error {
        match self {
            Self::Directory(place) => place.no_store(),
            Self::Network(place) => place.no_store(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(place) => place.fmt(f),
            Self::Network(place) => f.write_str(&place.location),
        }
    }
}

/// Finds the place that `url` names. A directory must exist; a service isn't asked yet.
pub(super) fn find(url: &StoreUrl, top: &FilePath, access: &Access, runtime: &Handle) -> Result<Files> {
    match url.directory(top) {
        Some(path) => directory_files(directory::Place::find(path)?),
        None => {
            let (objects, place) = network::open(url, access, runtime)?;
            Ok(Files { objects, place: Place::Network(Arc::new(place)), conditions: Conditions::new(false) })
        }
    }
}

/// Returns the files of a directory store. They are written without conditions: names are unique, and plain
/// puts are renames, so nothing is overwritten.
pub(super) fn directory_files(place: directory::Place) -> Result<Files> {
    let objects = place.backend()?;
    Ok(Files { objects, place: Place::Directory(place), conditions: Conditions::new(false) })
}
