//! The manifest, which tells readers that can't list which index segments there are.

use crate::error::Result;
use crate::limit;
use crate::store::Store;

/// Writes the manifest of all segments, and returns how many they are. It is written again if others have
/// committed meanwhile, and perhaps have put theirs before ours: so whoever puts the last one has listed
/// after it, and all that was committed before is in it.
pub fn write(store: &Store) -> Result<usize> {
    let mut listed = store.list_segments()?;
    for _ in 0..limit::MANIFEST_ATTEMPTS {
        store.put_manifest(&listed)?;
        let now = store.list_segments()?;
        if now == listed {
            break;
        }
        listed = now;
    }
    Ok(listed.len())
}
