//! The names of files and folders in a store. No other module knows these names.

use object_store::path::Path;

use crate::id::{BlockId, CondemnedId, Nonce, SegmentId, ShardId};

/// The file that describes the store.
pub(super) const STORE_JSON: &str = "store.json";
/// The folder of index segments.
pub(super) const INDEX: &str = "index";
/// The manifest in the folder of index segments. It names them for readers that can't list.
const MANIFEST: &str = "manifest";
/// The folder of the objects that `probe` writes.
pub(super) const PROBES: &str = "probes";
/// The folder of condemned lists.
pub(super) const CONDEMNED: &str = "condemned";
/// The folder of blocks. They stand in 256 folders, by the first byte of their hashes.
pub(super) const BLOCKS: &str = "blocks";
/// The folder of shards. They stand in 256 folders too.
pub(super) const SHARDS: &str = "shards";

pub(super) fn block(id: &BlockId) -> Path {
    Path::from(format!("{BLOCKS}/{:02x}/{id}.zst", id.hash.0[0]))
}

pub(super) fn shard(id: &ShardId) -> Path {
    Path::from(format!("{SHARDS}/{:02x}/{id}", id.hash.0[0]))
}

pub(super) fn segment(id: &SegmentId) -> Path {
    Path::from(format!("{INDEX}/{id}"))
}

pub(super) fn manifest() -> Path {
    Path::from(format!("{INDEX}/{MANIFEST}"))
}

pub(super) fn probe(nonce: &Nonce, number: usize) -> Path {
    Path::from(format!("{PROBES}/{nonce}-{number}"))
}

pub(super) fn condemned(id: &CondemnedId) -> Path {
    Path::from(format!("{CONDEMNED}/{id}"))
}

/// Returns true if a name in the folder of index segments is the manifest's.
pub(super) fn is_manifest(name: &str) -> bool {
    name == MANIFEST
}

/// Returns true if a name in the folder of condemned lists is a kind of condemnation that this version
/// doesn't know. The form is `v`, decimal digits, a hyphen, and any text. All other unknown names there are
/// no condemnations.
pub(super) fn is_newer_condemnation(name: &str) -> bool {
    let version = name.strip_prefix('v').and_then(|rest| rest.split_once('-')).map(|(version, _)| version);
    version.is_some_and(|version| !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns the folders of a new store, parents first.
pub(super) fn folders() -> impl Iterator<Item = String> {
    let fans = [BLOCKS, SHARDS].into_iter().flat_map(|top| {
        std::iter::once(top.to_owned()).chain((0..=255u8).map(move |b| format!("{top}/{b:02x}")))
    });
    [INDEX, CONDEMNED].into_iter().map(str::to_owned).chain(fans)
}
