//! The manifest: the names and sizes of a store's index segments, for readers that can't list. No other file
//! is rewritten. It is only a hint.

use super::block::read_all;
use super::container::{self, Container, Features, Section};
use super::cursor::Put;
use crate::error::Result;
use crate::id::{CommitId, ContentHash, SegmentId};

const MAGIC: &[u8; 8] = b"CDCmanif";
const SECTION_SEGMENTS: u32 = 1;
const SEGMENT_WIDTH: usize = 56;

/// Writes the manifest of these segments and their sizes.
pub fn write(segments: &[(SegmentId, u64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(segments.len() * SEGMENT_WIDTH);
    for (segment, size_bytes) in segments {
        bytes.extend_from_slice(&segment.id.0);
        bytes.extend_from_slice(&segment.hash.0);
        bytes.put_u64(*size_bytes);
    }
    let section = Section { kind: SECTION_SEGMENTS, bytes, paged: false };
    container::write(MAGIC, Features::default(), &[section])
}

/// Reads a manifest: the segments and their sizes.
pub fn parse(bytes: &[u8]) -> Result<Vec<(SegmentId, u64)>> {
    let container = Container::parse(bytes, MAGIC, "the manifest")?;
    let section = container.section(bytes, SECTION_SEGMENTS)?;
    read_all(section, SEGMENT_WIDTH, "the manifest's list of segments", |c| {
        let segment = SegmentId { id: CommitId(c.array()?), hash: ContentHash(c.array()?) };
        Ok((segment, c.u64()?))
    })
}
