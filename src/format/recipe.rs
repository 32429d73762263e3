//! Recipes: the lists of terms that objects are made of. A term is a run of consecutive chunks in one block.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::cursor::{Cursor, Put};
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{CommitId, Oid};

/// The bytes of a stored term.
pub(crate) const TERM_WIDTH: usize = 32;

/// A run of consecutive chunks in one block, with everything that a download needs to fetch it. A term
/// without chunks names only frames from which delta frames of other terms are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The block: an index into the block table beside the recipe.
    pub block: u32,
    /// The first chunk, counted in the block.
    pub first_chunk: u16,
    /// The number of chunks.
    pub chunk_count: u16,
    /// The offset in the block of the frames that hold the chunks.
    pub frames_offset: u32,
    /// Bytes of these frames.
    pub frames_bytes: u32,
    /// The offset of the first chunk in the content of these frames.
    pub skip_bytes: u32,
    /// Bytes of content.
    pub content_bytes: u32,
    /// XXH3-64 of the content.
    pub checksum: u64,
}

impl Term {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u32(self.block);
        out.put_u16(self.first_chunk);
        out.put_u16(self.chunk_count);
        out.put_u32(self.frames_offset);
        out.put_u32(self.frames_bytes);
        out.put_u32(self.skip_bytes);
        out.put_u32(self.content_bytes);
        out.put_u64(self.checksum);
    }

    /// Reads a term, and checks it against the number of blocks beside it and every size limit.
    pub(crate) fn read(cursor: &mut Cursor<'_>, blocks: usize) -> Result<Self> {
        let term = Self {
            block: cursor.u32()?,
            first_chunk: cursor.u16()?,
            chunk_count: cursor.u16()?,
            frames_offset: cursor.u32()?,
            frames_bytes: cursor.u32()?,
            skip_bytes: cursor.u32()?,
            content_bytes: cursor.u32()?,
            checksum: cursor.u64()?,
        };
        let chunks = usize::from(term.first_chunk) + usize::from(term.chunk_count);
        let end = u64::from(term.frames_offset) + u64::from(term.frames_bytes);
        let content = if term.is_base() {
            term == Self::of_base(term.block, term.frames_offset..end.min(u32::MAX.into()) as u32)
        } else {
            term.chunk_count > 0
                && chunks <= limits::BLOCK_CHUNKS
                && (term.skip_bytes as usize) < limits::FRAME_CONTENT_BYTES
                && term.content_bytes as usize <= limits::TERM_CONTENT_BYTES
        };
        let sound = (term.block as usize) < blocks
            && (1..=limits::TERM_FRAMES_BYTES).contains(&(term.frames_bytes as usize))
            && end <= limits::BLOCK_BYTES as u64
            && content;
        if !sound {
            return Err(Error::corrupt(format!("a recipe has an impossible term ({term:?})")));
        }
        Ok(term)
    }

    /// Makes a term without chunks: frames of a block from which delta frames of other terms are made.
    pub fn of_base(block: u32, frames: Range<u32>) -> Self {
        Self {
            block,
            first_chunk: 0,
            chunk_count: 0,
            frames_offset: frames.start,
            frames_bytes: frames.end - frames.start,
            skip_bytes: 0,
            content_bytes: 0,
            checksum: 0,
        }
    }

    /// Returns true if the term has no content of the object.
    pub fn is_base(&self) -> bool {
        self.content_bytes == 0
    }

    /// Returns the end of the frames, in bytes of the block.
    pub fn frames_end(&self) -> u32 {
        self.frames_offset + self.frames_bytes
    }
}

/// Computes the checksum that a term has for its content.
pub fn term_checksum(content: &[u8]) -> u64 {
    xxh3_64(content)
}

/// An object's recipe with its oid, size, commit and repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The object.
    pub oid: Oid,
    /// The object's size.
    pub size_bytes: u64,
    /// The commit that wrote the record. Merging keeps it.
    pub commit: CommitId,
    /// The repository that pushed it: an index into the table beside the record.
    pub repository: u32,
    /// The recipe.
    pub terms: Vec<Term>,
}

impl Record {
    /// Fails unless the terms make up exactly the object's size.
    pub(crate) fn check(&self) -> Result<()> {
        let total: u64 = self.terms.iter().map(|t| u64::from(t.content_bytes)).sum();
        if total != self.size_bytes {
            return Err(Error::corrupt(format!(
                "the recipe of {} makes {total} bytes instead of {}",
                self.oid, self.size_bytes
            )));
        }
        Ok(())
    }
}
