//! The manifest, which tells readers that can't list which index segments there are.

use std::collections::HashSet;

use crate::error::Result;
use crate::id::SegmentId;
use crate::limit;
use crate::store::Store;

/// Writes the manifest of all segments, and returns how many they are. It is written again if others have
/// committed meanwhile, and perhaps have put theirs before ours: so whoever puts the last one has listed
/// after it, and all that was committed before is in it.
pub fn write(store: &Store) -> Result<usize> {
    write_without(store, &HashSet::new())
}

/// The same, without those that are about to be deleted, as others stand in their place.
pub(super) fn write_without(store: &Store, gone: &HashSet<SegmentId>) -> Result<usize> {
    let list = || -> Result<Vec<_>> {
        Ok(store.list_segments()?.into_iter().filter(|(id, _)| !gone.contains(id)).collect())
    };
    let mut listed = list()?;
    for _ in 0..limit::MANIFEST_ATTEMPTS {
        store.put_manifest(&listed)?;
        let now = list()?;
        if now == listed {
            break;
        }
        listed = now;
    }
    Ok(listed.len())
}
