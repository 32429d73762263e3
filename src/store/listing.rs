//! Which index segments and condemned lists stand in a store.

use futures::join;
use object_store::path::Path;

use super::files::Files;
use super::{FirstLook, layout};
use crate::error::{Error, Kind, Result};
use crate::format::manifest;
use crate::id::{CondemnedId, SegmentId};
use crate::limit;

/// Known names with their sizes, and unknown names.
type Listing<T> = (Vec<(T, u64)>, Vec<String>);

/// Both at the same time.
pub(super) async fn look(files: &Files) -> FirstLook {
    let (segments, condemned) = join!(list_segments(files), list_condemned(files));
    FirstLook { segments, condemned }
}

/// The index segments and their sizes, in the order of their ids. Behind a web server: those that the manifest names.
pub(super) async fn list_segments(files: &Files) -> Result<Vec<(SegmentId, u64)>> {
    if files.place.is_read_only() {
        return read_manifest(files).await;
    }
    // other names are a newer version's; where that matters, it says so by a feature bit
    Ok(list(files, layout::INDEX, SegmentId::parse).await?.0)
}

pub(super) async fn read_manifest(files: &Files) -> Result<Vec<(SegmentId, u64)>> {
    let path = layout::manifest();
    let bytes = files.get(&path, limit::MANIFEST_READ_BYTES).await.map_err(|e| match e.kind() {
        Kind::NotFound => Error::not_found(format!("the store {} has no {path}", files.place)).remedy(
            "without it a store can't be read over HTTP; write it with `git lfs-cdc manifest BUCKET_URL`",
        ),
        _ => e,
    })?;
    let mut segments = manifest::parse(&bytes)
        .map_err(|e| e.context(&path).remedy("write it again with `git lfs-cdc manifest BUCKET_URL`"))?;
    segments.sort();
    Ok(segments)
}

/// The condemned lists. A name that this version doesn't know may be a kind of condemnation that it doesn't know:
/// [`Kind::TooNew`].
pub(super) async fn list_condemned(files: &Files) -> Result<Vec<(CondemnedId, u64)>> {
    if files.place.is_read_only() {
        // nothing is acknowledged there, and readers only prefer what isn't condemned
        return Ok(Vec::new());
    }
    let (names, unknown) = list(files, layout::CONDEMNED, CondemnedId::parse).await?;
    match unknown.first() {
        Some(name) => Err(Error::too_new(format!("{}/{name}", layout::CONDEMNED))),
        None => Ok(names),
    }
}

/// The names below a folder that `parse` knows, with their sizes and in order, and those that it
/// doesn't know. Hidden files, as file systems and tools leave them, are passed over.
async fn list<T: Ord>(files: &Files, folder: &str, parse: fn(&str) -> Result<T>) -> Result<Listing<T>> {
    files.place.check_folder_of(&Path::from(folder).join("any"))?;
    let (mut names, mut unknown) = (Vec::new(), Vec::new());
    for (name, size_bytes) in files.list(folder).await? {
        match parse(&name) {
            Ok(id) => names.push((id, size_bytes)),
            Err(_) if name.is_empty() || name.starts_with('.') => {}
            Err(_) => unknown.push(name),
        }
    }
    names.sort();
    Ok((names, unknown))
}
