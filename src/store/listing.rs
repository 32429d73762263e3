//! The listing of the index segments and condemned lists that stand in a store.

use futures::{TryStreamExt, join};
use object_store::list::{PaginatedListOptions, PaginatedListResult};
use object_store::path::Path;

use super::files::{Files, Size};
use super::retry::Retry;
use super::{FirstLook, Place, layout, network};
use crate::error::{Error, Kind, Result};
use crate::format::{limits, manifest};
use crate::id::{CondemnedId, SegmentId};

/// Most names in one folder of the index: a hundred commits a day for five years, with no replaced segment
/// deleted. A push lists them all, twice. They take some 50 MB of memory. `compact` is due from
/// 1,000 replaced segments on.
pub(crate) const LIST_NAMES: usize = 200_000;
/// Most pages of the listing of one folder. A page has up to 1,000 names, and may have fewer.
const LIST_PAGES: usize = 1_000;
/// Most names of other programs' files that are shown.
pub(crate) const FOREIGN_NAMES: usize = 3;

/// Lists index segments and condemned lists at the same time.
pub(super) async fn look(files: &Files) -> FirstLook {
    let (segments, condemned) = join!(list_segments(files), list_condemned(files));
    FirstLook { segments, condemned }
}

/// Lists the index segments with their sizes, in the order of their ids. Behind a web server, these are the
/// segments that the manifest names.
pub(super) async fn list_segments(files: &Files) -> Result<Vec<(SegmentId, u64)>> {
    if files.place.is_read_only() {
        return read_manifest(files).await;
    }
    let mut segments = Vec::new();
    files
        .list(layout::INDEX, |name, size_bytes| {
            // other names belong to other programs or to a newer version; the latter sets a feature bit where
            // that matters
            if let Ok(id) = SegmentId::parse(name) {
                segments.push((id, size_bytes));
            }
        })
        .await?;
    segments.sort();
    segments.dedup();
    Ok(segments)
}

pub(super) async fn read_manifest(files: &Files) -> Result<Vec<(SegmentId, u64)>> {
    let path = layout::manifest();
    let bytes =
        files.get(&path, Size::AtMost(limits::MANIFEST_READ_BYTES as u64)).await.map_err(|e| {
            match e.kind() {
        Kind::NotFound => Error::not_found(format!("the store {} has no {path}", files.place)).remedy(
            "without it a store can't be read over HTTP; write it with `git lfs-cdc manifest BUCKET_URL`",
        ),
        _ => e,
    }
        })?;
    let mut segments = manifest::parse(&bytes)
        .map_err(|e| e.context(&path).remedy("write it again with `git lfs-cdc manifest BUCKET_URL`"))?;
    segments.sort();
    Ok(segments)
}

/// Lists the condemned lists. Fails with [`Kind::TooNew`] if a newer version has given a name there to
/// another kind of condemnation.
pub(super) async fn list_condemned(files: &Files) -> Result<Vec<(CondemnedId, u64)>> {
    if files.place.is_read_only() {
        // no push is acknowledged there, and readers only prefer data that isn't condemned
        return Ok(Vec::new());
    }
    let (mut lists, mut newer) = (Vec::new(), None);
    files
        .list(layout::CONDEMNED, |name, size_bytes| match CondemnedId::parse(name) {
            Ok(id) => lists.push((id, size_bytes)),
            Err(_) if layout::is_newer_condemnation(name) => newer = Some(name.to_owned()),
            Err(_) => {}
        })
        .await?;
    if let Some(name) = newer {
        return Err(Error::too_new(format!("{}/{name}", layout::CONDEMNED)));
    }
    lists.sort();
    lists.dedup();
    Ok(lists)
}

/// Returns names that other programs have left among index segments and condemned lists. Readers ignore them.
/// Hidden files of file systems and tools are left out.
pub(super) async fn foreign_names(files: &Files) -> Result<Vec<String>> {
    let mut foreign = Vec::new();
    if files.place.is_read_only() {
        return Ok(foreign);
    }
    for (folder, is_ours) in [
        (
            layout::INDEX,
            (|name| SegmentId::parse(name).is_ok() || layout::is_manifest(name)) as fn(&str) -> bool,
        ),
        (layout::CONDEMNED, |name| CondemnedId::parse(name).is_ok() || layout::is_newer_condemnation(name)),
    ] {
        files
            .list(folder, |name, _| {
                if !is_ours(name) && !name.starts_with('.') && foreign.len() < FOREIGN_NAMES {
                    foreign.push(format!("{folder}/{name}"));
                }
            })
            .await?;
    }
    Ok(foreign)
}

/// Returns the error for a listing that doesn't end. A service may send one by mistake or on purpose.
pub(super) fn endless(folder: &str) -> Error {
    Error::corrupt(format!("the listing of {folder}/ doesn't end after {} names", LIST_NAMES))
        .remedy("check that this is the store that is meant; `git lfs-cdc compact` removes what was replaced")
}

impl Files {
    /// Gives `take` each name right in a folder, with its size, in no order. Names that are written after the
    /// call may be missing. The object that some tools store in a bucket to mark the folder itself is left
    /// out.
    pub(super) async fn list(&self, folder: &str, mut take: impl FnMut(&str, u64)) -> Result<()> {
        if !self.place.has_folder(folder)? {
            return Ok(());
        }
        let name = folder;
        let folder = Path::from(folder);
        let listed = self.each(Some(&folder), |file, size_bytes| {
            let mut parts = file.prefix_match(&folder).into_iter().flatten();
            if let (Some(name), None) = (parts.next(), parts.next()) {
                take(name.as_ref(), size_bytes);
            }
        });
        match listed.await {
            // the folder has vanished meanwhile, and perhaps more than the folder
            Err(e) if e.kind() == Kind::NotFound && !self.place.has_folder(name)? => Ok(()),
            listed => listed,
        }
    }

    /// Returns the size of all files together.
    pub(super) async fn total_bytes(&self) -> Result<u64> {
        let mut sum = 0u64;
        self.each(None, |_, size_bytes| sum = sum.saturating_add(size_bytes)).await?;
        Ok(sum)
    }

    /// Gives `take` each file right in a folder with its size. Without a folder, gives each file of the
    /// store.
    async fn each(&self, folder: Option<&Path>, mut take: impl FnMut(&Path, u64)) -> Result<()> {
        if let Place::Network(network) = &self.place
            && let Some(pages) = &network.parts
        {
            return self.each_by_pages(network, pages.as_ref(), folder, take).await;
        }
        let doing = folder.map_or("listing everything".to_owned(), |folder| format!("listing {folder}"));
        let mut retry = Retry::new(&self.place, doing);
        loop {
            let listed = match folder {
                Some(folder) => {
                    self.objects.list_with_delimiter(Some(folder)).await.map(|listed| listed.objects)
                }
                None => self.objects.list(None).try_collect().await,
            };
            match listed {
                Ok(listed) => {
                    listed.iter().for_each(|file| take(&file.location, file.size));
                    return Ok(());
                }
                Err(error) => retry.again(error).await?,
            }
        }
    }

    /// Does the same for a service that lists page by page. Each page is tried again by itself, and is held
    /// no longer than needed.
    async fn each_by_pages(
        &self,
        network: &network::Place,
        service: &dyn network::Service,
        folder: Option<&Path>,
        mut take: impl FnMut(&Path, u64),
    ) -> Result<()> {
        let name = folder.map_or(String::new(), ToString::to_string);
        let below: Path = network.prefix.parts().chain(folder.into_iter().flat_map(Path::parts)).collect();
        let prefix = Some(format!("{below}/")).filter(|_| !below.as_ref().is_empty());
        let (mut token, mut names, mut pages) = (None, 0, 0);
        loop {
            let page = self.page(service, &name, prefix.as_deref(), folder.is_some(), &token).await?;
            (names, pages) = (names + page.result.objects.len(), pages + 1);
            for file in page.result.objects {
                let own: Option<Path> = file.location.prefix_match(&network.prefix).map(Iterator::collect);
                // some tools mark the folder itself by an object
                if let Some(own) = own.filter(|_| file.location != below) {
                    take(&own, file.size);
                }
            }
            match page.page_token {
                None => return Ok(()),
                // the service would send the same page for ever
                again if again == token => return Err(endless(&name)),
                _ if folder.is_some() && (names > LIST_NAMES || pages > LIST_PAGES) => {
                    return Err(endless(&name));
                }
                next => token = next,
            }
        }
    }

    async fn page(
        &self,
        service: &dyn network::Service,
        name: &str,
        prefix: Option<&str>,
        is_flat: bool,
        token: &Option<String>,
    ) -> Result<PaginatedListResult> {
        let mut retry = Retry::new(&self.place, format!("listing {name}"));
        loop {
            let options = PaginatedListOptions {
                delimiter: is_flat.then_some("/".into()),
                page_token: token.clone(),
                ..PaginatedListOptions::default()
            };
            match service.list_paginated(prefix, options).await {
                Ok(page) => return Ok(page),
                Err(error) => retry.again(error).await?,
            }
        }
    }
}
