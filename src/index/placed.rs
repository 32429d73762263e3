//! A term of an object's recipe, with its place in the object.

use std::ops::Range;

use super::Found;
use crate::format::recipe::Term;

/// A term, and its start in the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub term: Term,
    pub start: u64,
}

impl Placed {
    /// Returns its end in the object.
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.term.content_bytes)
    }

    /// Returns the place of the term's frames, for fetching and keeping them.
    pub(crate) fn without_content(&self) -> Self {
        let Self { term, start } = *self;
        Self { term: Term::of_base(term.block, term.frames_offset..term.frames_end()), start }
    }
}

/// Returns the terms of an object's content, in order.
pub(crate) fn terms(found: &Found) -> Vec<Placed> {
    let mut end = 0;
    let place = |term: &Term| {
        let start = end;
        end += u64::from(term.content_bytes);
        Placed { term: *term, start }
    };
    found.record.terms.iter().filter(|term| !term.is_base()).map(place).collect()
}

/// Returns the range of a term's chunks, counted in the block.
pub(crate) fn chunks(term: &Term) -> Range<u32> {
    let first = u32::from(term.first_chunk);
    first..first + u32::from(term.chunk_count)
}
