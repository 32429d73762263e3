//! Resumption of an interrupted download: finding the terms that already stand in the file.

use std::sync::atomic::Ordering;

use rayon::prelude::*;

use crate::error::Result;
use crate::format::recipe::term_checksum;
use crate::index::placed::Placed;
use crate::local::partial_download::ScratchFile;
use crate::progress::Progress;
use crate::threads;

/// Returns the terms of an object that must still be fetched.
///
/// The recipe's checksums decide, not a list beside the file. After a power failure, content on such a list
/// could be missing. Reading costs less than fetching.
pub(super) fn missing(terms: Vec<Placed>, file: &ScratchFile, progress: &Progress) -> Result<Vec<Placed>> {
    if !file.has_content() {
        return Ok(terms);
    }
    let count = terms.len();
    let is_missing = |content: &mut Vec<u8>, placed: Placed| -> Result<Option<Placed>> {
        let Placed { term, start } = placed;
        progress.check()?;
        content.resize(term.content_bytes as usize, 0);
        file.read_at(content, start)?;
        if term_checksum(content) != term.checksum {
            return Ok(Some(placed));
        }
        progress.bytes.fetch_add(u64::from(term.content_bytes), Ordering::Relaxed);
        Ok(None)
    };
    let missing: Vec<Placed> = threads::cores()?.install(|| {
        let missing = terms.into_par_iter().map_init(Vec::new, is_missing);
        missing.filter_map(Result::transpose).collect::<Result<_>>()
    })?;
    tracing::info!("{} of {count} terms are there from an earlier download", count - missing.len());
    Ok(missing)
}
