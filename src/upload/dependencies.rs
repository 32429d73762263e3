//! Dependencies of recipes: the blocks that delta frames depend on, and the frames that a download must
//! fetch for them. Pure: no store, no threads.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::format::block::Summary;
use crate::format::delta::{FrameNeeds, Needed};
use crate::format::limits;
use crate::format::recipe::Term;
use crate::format::segment::BlockEntry;
use crate::id::BlockId;

/// Blocks with numbers, each once.
#[derive(Default)]
pub(super) struct Blocks {
    entries: Vec<BlockEntry>,
    numbers: HashMap<BlockId, u32>,
}

impl Blocks {
    /// Returns the number of a block.
    pub(super) fn number(&mut self, block: &Summary) -> u32 {
        let entries = &mut self.entries;
        *self.numbers.entry(block.id).or_insert_with(|| {
            entries.push(BlockEntry { summary: *block, dependencies: Vec::new() });
            entries.len() as u32 - 1
        })
    }

    /// Notes the blocks that the delta frames of a block are made from.
    pub(super) fn depends(&mut self, block: u32, needs: &[FrameNeeds]) {
        let needed = needs.iter().flat_map(|needs| &needs.frames);
        let mut on: Vec<u32> = needed.map(|needed| self.number(&needed.block)).collect();
        on.sort_unstable();
        on.dedup();
        self.entries[block as usize].dependencies = on;
    }

    fn is_dependent(&self, block: u32) -> bool {
        !self.entries[block as usize].dependencies.is_empty()
    }

    /// Returns all blocks, in the order of their numbers.
    pub(super) fn into_entries(self) -> Vec<BlockEntry> {
        self.entries
    }
}

/// Returns the terms without content that an object's recipe needs.
///
/// They name all frames that the object's delta frames are made from, except those that a download of
/// `terms` fetches anyway. Frames in blocks that have dependencies are named too, because a download needs
/// them before it unpacks the delta frames. `needs` are those of all delta frames that `terms` lie in.
pub(super) fn base_terms<'n>(
    terms: &[Term],
    needs: impl Iterator<Item = &'n FrameNeeds>,
    blocks: &mut Blocks,
) -> Vec<Term> {
    let mut own: BTreeMap<u32, Vec<Range<u32>>> = BTreeMap::new();
    for term in terms.iter().filter(|term| !blocks.is_dependent(term.block)) {
        own.entry(term.block).or_default().push(term.frames_offset..term.frames_end());
    }
    own.values_mut().for_each(|ranges| *ranges = joined(std::mem::take(ranges), u32::MAX));
    let mut wanted: BTreeMap<u32, Vec<Range<u32>>> = BTreeMap::new();
    for Needed { block, range } in needs.flat_map(|needs| &needs.frames) {
        let number = blocks.number(block);
        let is_own = own.get(&number).is_some_and(|ranges| {
            let begun = ranges.partition_point(|own| own.start <= range.start);
            begun.checked_sub(1).is_some_and(|last| range.end <= ranges[last].end)
        });
        if !is_own {
            wanted.entry(number).or_default().push(range.clone());
        }
    }
    let of_block = |(block, ranges): (u32, Vec<Range<u32>>)| {
        let joined = joined(ranges, limits::TERM_FRAMES_BYTES as u32);
        joined.into_iter().map(move |range| Term::of_base(block, range))
    };
    wanted.into_iter().flat_map(of_block).collect()
}

/// Sorts ranges, and joins those that touch into ranges of at most `most_bytes`.
fn joined(mut ranges: Vec<Range<u32>>, most_bytes: u32) -> Vec<Range<u32>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end && range.end.max(last.end) - last.start <= most_bytes => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}
