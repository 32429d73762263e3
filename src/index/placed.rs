//! A term of an object's recipe, placed in the object.

use std::ops::Range;

use super::Found;
use crate::format::recipe::Term;

/// A term, and where it begins in the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub term: Term,
    pub start: u64,
}

impl Placed {
    /// Where it ends in the object.
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.term.content_bytes)
    }

    /// Where the term's frames are, to be fetched and kept.
    pub(crate) fn without_content(&self) -> Self {
        let Self { term, start } = *self;
        Self { term: Term::of_base(term.block, term.frames_offset..term.frames_end()), start }
    }
}

/// The terms of an object's content, in their order.
pub(crate) fn terms(found: &Found) -> Vec<Placed> {
    let mut end = 0;
    let place = |term: &Term| {
        let start = end;
        end += u64::from(term.content_bytes);
        Placed { term: *term, start }
    };
    found.record.terms.iter().filter(|term| !term.is_base()).map(place).collect()
}

/// The chunks of a term, counted in the block.
pub(crate) fn chunks(term: &Term) -> Range<u32> {
    let first = u32::from(term.first_chunk);
    first..first + u32::from(term.chunk_count)
}
