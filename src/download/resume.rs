//! What an interrupted download has left of an object: every term whose content stands at its place.

use std::sync::atomic::Ordering;

use rayon::prelude::*;

use crate::error::Result;
use crate::format::recipe::term_checksum;
use crate::index::placed::Placed;
use crate::local::partial_download::ScratchFile;
use crate::progress::Progress;
use crate::threads;

/// Those of an object's terms that have to be fetched. The recipe's checksums say it, and no list that was kept
/// beside the file: what a list claims could be missing after a power failure, and reading costs less than fetching.
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
