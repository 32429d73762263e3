//! What an interrupted download has left of an object: every term whose content stands at its place.

use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::Progress;
use crate::error::Result;
use crate::format::recipe::{Term, term_checksum};
use crate::local::scratch::ScratchFile;

/// Which of the terms need not be fetched. The recipe's checksums say it, and no list that was kept beside the
/// file: what a list claims could be missing after a power failure, and reading costs less than fetching.
pub(super) fn present(terms: &[Term], file: &ScratchFile, progress: &Progress) -> Result<Vec<bool>> {
    if !file.has_content() {
        return Ok(vec![false; terms.len()]);
    }
    let begins = terms.iter().scan(0, |end, term| {
        let begin = *end;
        *end += u64::from(term.content_bytes);
        Some(begin)
    });
    let places: Vec<(&Term, u64)> = terms.iter().zip(begins).collect();
    let is_present = |content: &mut Vec<u8>, (term, begin): (&Term, u64)| {
        progress.check()?;
        content.resize(term.content_bytes as usize, 0);
        file.read_at(content, begin)?;
        let is_present = term_checksum(content) == term.checksum;
        if is_present {
            progress.bytes.fetch_add(u64::from(term.content_bytes), Ordering::Relaxed);
        }
        Ok(is_present)
    };
    let present: Vec<bool> =
        places.into_par_iter().map_init(Vec::new, is_present).collect::<Result<Vec<bool>>>()?;
    let count = present.iter().filter(|is_present| **is_present).count();
    tracing::info!("{count} of {} terms are there from an earlier download", terms.len());
    Ok(present)
}
