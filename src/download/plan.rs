//! The plan of a download: the ranges of blocks to fetch, and the terms that each range serves.
//! Neighbouring ranges are merged, in the order of the object. Pure: no store, no threads.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::format::block::Summary;
use crate::id::BlockId;
use crate::index::Found;
use crate::index::placed::Placed;
use crate::local::block_cache::Kept;
use crate::store::Reach;
use crate::store::io_profile::DIRECTORY_FETCH_BYTES;
use crate::units::MIB;

/// Bytes of content from which a fetch is closed, even if it spans little of the block.
pub(crate) const FETCH_CONTENT_BYTES: u64 = 32 * MIB as u64;

/// One request: a range of a block, and the terms that it serves.
pub(super) struct Fetch {
    pub block: Summary,
    pub range: Range<u32>,
    pub content_bytes: u64,
    pub terms: Vec<Placed>,
    pub origin: Origin,
}

/// The origin of a fetch's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This machine, which has kept them.
    Kept,
    /// The store, in a window that other downloads may share.
    Store,
    /// The store, in a request of its own, because the shared bytes could not be used.
    StoreAlone,
}

/// The bounds of one fetch.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub gap_bytes: u32,
    pub bytes: u32,
    pub content_bytes: u64,
}

impl Extent {
    /// Returns the bounds of a fetch from the store.
    pub(super) fn of(reach: Reach) -> Self {
        let Reach { fetch_gap_bytes, fetch_bytes, .. } = reach;
        Self { gap_bytes: fetch_gap_bytes, bytes: fetch_bytes, content_bytes: FETCH_CONTENT_BYTES }
    }

    /// Returns the bounds of a fetch from this machine. Its gap is 0, because reading a gap costs more than
    /// it saves.
    pub(super) fn of_kept() -> Self {
        let bytes = DIRECTORY_FETCH_BYTES;
        let content_bytes = FETCH_CONTENT_BYTES;
        Self { gap_bytes: 0, bytes, content_bytes }
    }
}

/// Returns the fetches of terms, from this machine and from the store. `kept` returns the ranges of a block
/// that this machine has.
pub(super) fn fetches(
    found: &Found,
    terms: Vec<Placed>,
    from_store: Extent,
    (kept, from_disk): (impl Fn(&BlockId) -> Kept, Extent),
) -> VecDeque<Fetch> {
    let mut of_blocks = HashMap::new();
    let (here, others): (Vec<_>, Vec<_>) = terms.into_iter().partition(|Placed { term, .. }| {
        let of_block = || kept(&found.blocks[term.block as usize].summary.id);
        let kept = of_blocks.entry(term.block).or_insert_with(of_block);
        kept.covers(&(term.frames_offset..term.frames_end()))
    });
    // terms without content need no fetch from this machine
    let here = here.into_iter().filter(|placed| !placed.term.is_base()).collect();
    let mut fetches = merged(found, others, from_store, Origin::Store);
    fetches.extend(merged(found, here, from_disk, Origin::Kept));
    // in the order of the object, so that progress is steady
    fetches.sort_by_key(|fetch| fetch.terms.iter().map(|placed| placed.start).min());
    fetches.into()
}

/// Orders terms by block and place, and merges those that lie close together.
fn merged(found: &Found, mut terms: Vec<Placed>, extent: Extent, origin: Origin) -> Vec<Fetch> {
    terms.sort_by_key(|Placed { term, start }| (term.block, term.frames_offset, term.skip_bytes, *start));
    let mut fetches: Vec<Fetch> = Vec::new();
    for placed in terms {
        let term = placed.term;
        let block = found.blocks[term.block as usize].summary;
        match fetches.last_mut() {
            Some(last)
                if last.block.id == block.id
                    && term.frames_offset <= last.range.end.saturating_add(extent.gap_bytes)
                    && last.range.len() < extent.bytes as usize
                    && last.content_bytes < extent.content_bytes =>
            {
                last.range.end = last.range.end.max(term.frames_end());
                last.terms.push(placed);
                last.content_bytes += u64::from(term.content_bytes);
            }
            _ => {
                let range = term.frames_offset..term.frames_end();
                let content_bytes = u64::from(term.content_bytes);
                fetches.push(Fetch { block, range, content_bytes, terms: vec![placed], origin });
            }
        }
    }
    fetches
}
