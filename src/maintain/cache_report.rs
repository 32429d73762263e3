//! The objects that the kept ranges of this machine belong to, as far as the index copies on this machine
//! name them.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::error::Result;
use crate::format::segment::Segment;
use crate::id::{BlockId, Oid, SegmentId};
use crate::local::block_cache::Kept;
use crate::local::cache_admin::KeptStore;
use crate::local::metadata_cache::{self, Cache};

/// An object with kept ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptObject {
    /// Its SHA-256.
    #[serde(serialize_with = "as_text")]
    pub oid: Oid,
    /// Its size.
    pub size_bytes: u64,
    /// Bytes of its terms in blocks. A frame counts for each term that has content in it.
    pub needed_bytes: u64,
    /// Bytes of these that are kept.
    pub kept_bytes: u64,
}

fn as_text<S: Serializer>(oid: &Oid, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(oid)
}

/// Returns the objects of a store with kept ranges, those with the most kept bytes first. Reads only the
/// index copies on this machine, so it misses objects that only other segments name.
pub fn kept_objects(store: &KeptStore) -> Vec<KeptObject> {
    let blocks = store.blocks.keys().filter_map(|name| BlockId::parse(name).ok());
    let ranges: HashMap<BlockId, Kept> =
        blocks.map(|block| (block, Kept::in_store(&store.folder, &block))).collect();
    let mut objects = HashMap::new();
    let cache = Cache::at(Some(store.folder.clone()));
    for name in cache.names(metadata_cache::Kept::Index) {
        let Ok(id) = SegmentId::parse(&name) else { continue };
        let Some(bytes) = cache.find(metadata_cache::Kept::Index, &name, &id.hash) else { continue };
        let segment = Segment::open(bytes).and_then(|segment| add_objects(&segment, &ranges, &mut objects));
        if let Err(e) = segment {
            tracing::warn!("the copy of index/{name} is not looked at: {e}");
        }
    }
    let mut objects: Vec<KeptObject> = objects.into_values().collect();
    objects.sort_by_key(|object| (std::cmp::Reverse(object.kept_bytes), object.oid));
    objects
}

/// Adds the objects of a segment. Of several records of an object, the one with the most kept bytes counts.
fn add_objects(
    segment: &Segment<bytes::Bytes>,
    ranges: &HashMap<BlockId, Kept>,
    objects: &mut HashMap<Oid, KeptObject>,
) -> Result<()> {
    let kept: Vec<Option<&Kept>> =
        segment.blocks()?.map(|block| Ok(ranges.get(&block?.summary.id))).collect::<Result<_>>()?;
    if kept.iter().all(Option::is_none) {
        return Ok(());
    }
    for record in segment.records()? {
        let record = record?;
        let mut needed_bytes = 0;
        let mut kept_bytes = 0;
        for term in &record.terms {
            needed_bytes += u64::from(term.frames_bytes);
            let range = term.frames_offset..term.frames_end();
            kept_bytes += kept[term.block as usize].map_or(0, |kept| u64::from(kept.covered_bytes(&range)));
        }
        if kept_bytes > objects.get(&record.oid).map_or(0, |object| object.kept_bytes) {
            let oid = record.oid;
            let size_bytes = record.size_bytes;
            objects.insert(oid, KeptObject { oid, size_bytes, needed_bytes, kept_bytes });
        }
    }
    Ok(())
}
