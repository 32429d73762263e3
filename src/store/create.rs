//! The creation of a store. Only this module writes `store.json`, and it writes one where there is none. It
//! overwrites one only to say that the service refuses conditional writes.

use std::path::{Path as FilePath, PathBuf};

use object_store::path::Path;
use object_store::{PutMode, PutPayload};

use super::files::{Conditions, Files, is_taken};
use super::network::may_refuse_conditions;
use super::retry::Retry;
use super::{
    Access, OwnRuntime, Place, Sharing, Store, StoreUrl, directory, directory_files, find, layout, probe,
    read_description, runtime,
};
use crate::error::{Kind, Result};
use crate::format::store_json::StoreDescription;
use crate::store::files::FREE_NAMES_CALLED_TAKEN;

/// The options of a new store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Creation {
    /// The access of users other than the owner; for directories.
    pub sharing: Option<Sharing>,
    /// Allows a new store in a folder that holds other things, or blocks without a `store.json`. In a store
    /// that is there, makes every missing folder again.
    pub force: bool,
}

impl Store {
    /// Opens the store that `url` names, or creates it if there is none. The bool is true if this call
    /// created the store. Two processes that create one at once end up with the same store.
    pub fn create_or_join(
        url: &StoreUrl,
        top: &FilePath,
        access: &Access,
        creation: Creation,
    ) -> Result<(Self, bool)> {
        match Self::open(url, top, access) {
            Err(error) if error.kind() == Kind::NotFound && !url.is_read_only() => {}
            opened => {
                let mut store = opened?;
                store.correct_conditions();
                if let Place::Directory(place) = &store.files.place {
                    place.restore_folders(creation.force)?;
                }
                return Ok((store, false));
            }
        }
        match url.directory(top) {
            Some(path) => Self::create_directory(path, creation),
            None => {
                let runtime = runtime()?;
                let files = find(url, top, access, &runtime)?;
                let probe = runtime.block_on(probe::run(&files))?;
                for left in &probe.left {
                    tracing::warn!("{left} could not be removed; it does no harm");
                }
                let creates = probe.honours_conditions;
                let mine = StoreDescription { creates, ..StoreDescription::new(None)? };
                let conditions = Conditions::new(creates);
                Self::create(Files { conditions, ..files }, runtime, &mine)
            }
        }
    }

    fn create_directory(path: PathBuf, creation: Creation) -> Result<(Self, bool)> {
        let Creation { sharing, force } = creation;
        let mine = StoreDescription::new(sharing.map(Sharing::file_mode))?;
        // only the store itself is shared, not the folders above it
        directory::create_parents(&path)?;
        let place = directory::Place::create(path, sharing, force)?;
        // from here on, files get the mode of the new store
        place.is_described(&mine);
        // hard links honour the condition; `put_description` handles file systems without them
        let files = Files { conditions: Conditions::new(true), ..directory_files(place)? };
        Self::create(files, runtime()?, &mine)
    }

    /// Writes `store.json` where there is none, and reads it back. Two processes that do this at once read
    /// the same file.
    pub(super) fn create(files: Files, runtime: OwnRuntime, mine: &StoreDescription) -> Result<(Self, bool)> {
        runtime.block_on(put_description(&files, mine))?;
        let store = Self::with(files, runtime)?;
        let created = store.description.id == mine.id;
        Ok((store, created))
    }

    /// Corrects `store.json` if the store was copied to a service that refuses conditional writes. Nothing
    /// else in the file ever changes, and no transfer changes it. If the correction fails, pushes work
    /// without conditions.
    fn correct_conditions(&mut self) {
        if !self.description.creates || self.is_read_only() || self.is_directory() {
            return;
        }
        match self.runtime.block_on(correct_conditions(&self.files, &self.description)) {
            Ok(true) => {
                self.description.creates = false;
                self.files.conditions = Conditions::new(false);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::info!("whether the service still honours conditions was not found out: {error}")
            }
        }
    }
}

/// Corrects `store.json` if the service refuses conditions. Returns true if the file was corrected.
async fn correct_conditions(files: &Files, description: &StoreDescription) -> Result<bool> {
    if !probe::refuses_conditions(files).await? {
        return Ok(false);
    }
    // another process may have put another store there meanwhile
    let found = read_description(files).await?;
    if found != *description {
        return Ok(false);
    }
    let mine = StoreDescription { creates: false, ..found };
    files.rewrite(&Path::from(layout::STORE_JSON), mine.write()?.into()).await?;
    tracing::warn!("{} refuses conditional writes now; store.json says so", files.place);
    Ok(true)
}

async fn put_description(files: &Files, description: &StoreDescription) -> Result<()> {
    let path = Path::from(layout::STORE_JSON);
    let bytes = PutPayload::from(description.write()?);
    let mut retry = Retry::new(&files.place, format!("writing {path}"));
    let mut mode = files.conditions.mode();
    let mut untrue = 0;
    if mode == PutMode::Overwrite && files.size(&path).await?.is_some() {
        return Ok(());
    }
    loop {
        let options = files.options(mode.clone());
        let Err(error) = files.objects.put_opts(&path, bytes.clone(), options).await else { return Ok(()) };
        // another process's file is as good as ours; but a name that is called taken may be free
        if files.size(&path).await?.is_some() {
            return Ok(());
        }
        let is_without_links = matches!(&files.place, Place::Directory(_));
        untrue += usize::from(is_taken(&error));
        let is_refused = may_refuse_conditions(&error) || untrue == FREE_NAMES_CALLED_TAKEN;
        if mode == PutMode::Create && (is_without_links || is_refused) {
            // some file systems have no hard links; reading back decides between two processes that write at
            // once
            mode = PutMode::Overwrite;
            continue;
        }
        retry.again(error).await?;
    }
}
