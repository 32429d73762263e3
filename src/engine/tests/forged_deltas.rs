//! Forged delta frames: each gives one clear error, soon, and never content.

use super::*;
use crate::format::block::{Builder, Chunk, Summary};
use crate::format::chunking::chunk_id;
use crate::format::delta::{Bases, FrameNeeds, Needed};
use crate::format::frame::{Encoded, Encoder, Kind as FrameKind};
use crate::format::recipe::{Record, Term, term_checksum};
use crate::format::segment::{BlockEntry, Contents};
use crate::id::Nonce;
use crate::index::reachable::referenced_blocks;

/// A forged store, built block by block. Names of blocks are not checked when parts of them are read.
struct Forged {
    place: Place,
    blocks: Vec<BlockEntry>,
}

fn name(number: u32) -> BlockId {
    BlockId { hash: ContentHash([7; 32]), nonce: Nonce(u64::from(number).to_le_bytes()) }
}

fn plain(content: &[u8]) -> Encoded {
    Encoder::new(3).unwrap().encode(content).unwrap()
}

/// Returns a delta to frames of forged blocks that claim to have these contents.
fn patch(content: &[u8], depth: u8, bases: &[(u32, u32, u32, &[u8])]) -> Encoded {
    let mut made = Bases { needs: FrameNeeds { depth, frames: Vec::new() }, ..Bases::default() };
    for (block, offset, bytes, base) in bases {
        made.blocks.push(name(*block));
        made.terms.push(Term {
            block: made.blocks.len() as u32 - 1,
            first_chunk: 0,
            chunk_count: 1,
            frames_offset: *offset,
            frames_bytes: *bytes,
            skip_bytes: 0,
            content_bytes: base.len() as u32,
            checksum: term_checksum(base),
        });
        made.content.extend_from_slice(base);
    }
    let summary =
        Summary { id: name(0), size_bytes: 1 << 25, frames_bytes: 1 << 24, content_bytes: 1, chunk_count: 1 };
    made.needs.frames.push(Needed { block: summary.into(), range: 0..1 });
    let encoded = Encoder::new(3).unwrap().encode_over(content, made, 0).unwrap();
    assert_eq!(encoded.kind, FrameKind::Delta);
    encoded
}

impl Forged {
    fn new() -> Self {
        Self { place: Place::new(), blocks: Vec::new() }
    }

    /// Stores a block of these frames as the next one. Returns the place of each frame.
    fn block(&mut self, frames: Vec<(Encoded, &[u8])>) -> Vec<(u32, u32)> {
        let mut builder = Builder::default();
        let mut places = Vec::new();
        for (frame, content) in frames {
            let chunk = Chunk { id: chunk_id(content), bytes: content.len() as u32 };
            let place = builder.push(frame, &[chunk]).unwrap();
            places.push((place.offset, place.bytes));
        }
        let sealed = builder.finish(Nonce([0; 8]));
        let id = name(self.blocks.len() as u32);
        self.place.store().put_block(&id, sealed.pieces, &Moved::default()).wait().unwrap();
        let summary = Summary { id, ..sealed.summary };
        self.blocks.push(BlockEntry { summary, dependencies: Vec::new() });
        places
    }

    /// Pulls the frame at `place` of a block; the recipe claims that its content is `content`.
    fn pull(mut self, block: u32, place: (u32, u32), content: &[u8]) -> Result<Vec<u8>> {
        let object = self.place.object(content);
        let all: Vec<u32> = (0..self.blocks.len() as u32).collect();
        self.blocks.iter_mut().for_each(|block| block.dependencies = all.clone());
        let term = Term {
            block,
            first_chunk: 0,
            chunk_count: 1,
            frames_offset: place.0,
            frames_bytes: place.1,
            skip_bytes: 0,
            content_bytes: content.len() as u32,
            checksum: term_checksum(content),
        };
        let commit = CommitId::new(1).unwrap();
        let record = Record {
            oid: object.oid,
            size_bytes: content.len() as u64,
            commit,
            repository: 0,
            terms: vec![term],
        };
        let contents = Contents {
            records: vec![record],
            blocks: self.blocks,
            repositories: vec!["theirs".into()],
            ..Contents::default()
        };
        let bytes = contents.write();
        self.place.put_segment(&SegmentId { id: commit, hash: ContentHash::of(&bytes) }, bytes);
        let pulled = object.pull(&self.place.engine());
        // the blocks that a block depends on are kept, even if no recipe names them
        let referenced = referenced_blocks(&self.place.store()).unwrap();
        assert_eq!(referenced, all.into_iter().map(name).collect());
        pulled
    }
}

#[test]
fn frames_that_are_made_from_each_other_are_corrupt() {
    let one = noise(380, 50_000);
    // its length does not depend on the bases
    let bytes = patch(&one, 8, &[(1, 0, 1000, &one)]).stored.len() as u32;
    for depth in [8, 1] {
        let mut forged = Forged::new();
        let first = forged.block(vec![(patch(&one, depth, &[(1, 0, bytes, &one)]), &one[..])])[0];
        forged.block(vec![(patch(&one, 8, &[(0, 0, first.1, &one)]), &one[..])]);
        let error = forged.pull(0, first, &one).unwrap_err();
        assert!(error.kind() == Kind::Corrupt && error.to_string().contains("without end"), "{error}");
    }
    // a delta to itself, and to a missing frame
    let mut forged = Forged::new();
    let first = forged.block(vec![(patch(&one, 8, &[(0, 0, bytes, &one)]), &one[..])])[0];
    let error = forged.pull(0, first, &one).unwrap_err();
    assert!(error.to_string().contains("without end"), "{error}");
    let mut forged = Forged::new();
    let first = forged.block(vec![(patch(&one, 8, &[(5, 0, bytes, &one)]), &one[..])])[0];
    let error = forged.pull(0, first, &one).unwrap_err();
    assert!(error.kind() == Kind::NotFound && error.to_string().contains(&name(5).to_string()), "{error}");
}

/// Each frame of a level is made from all frames of the next one, so the number of ways down is huge.
#[test]
fn no_forged_frame_takes_for_ever() {
    let parts: Vec<Vec<u8>> = (0..40).map(|seed| noise(400 + seed, 8000)).collect();
    for (width, is_right) in [(40, false), (15, true)] {
        let parts = &parts[..width];
        let mut forged = Forged::new();
        let plains = parts.iter().map(|part| (plain(part), &part[..])).collect();
        let mut below = forged.block(plains);
        for level in 1..=8u8 {
            let bases: Vec<(u32, u32, u32, &[u8])> = below
                .iter()
                .zip(parts)
                .map(|((offset, bytes), part)| (u32::from(level) - 1, *offset, *bytes, &part[..]))
                .collect();
            let frames = parts.iter().map(|part| (patch(part, level, &bases), &part[..])).collect();
            below = forged.block(frames);
        }
        match forged.pull(8, below[0], &parts[0]) {
            Ok(content) => assert!(is_right && content == parts[0]),
            Err(error) => {
                assert!(!is_right && error.kind() == Kind::Corrupt, "{error}");
                assert!(error.to_string().contains("too many"), "{error}");
            }
        }
    }
}

#[test]
fn bases_that_lie_are_corrupt() {
    let (content, base) = (noise(390, 50_000), noise(391, 50_000));
    let mixed = [&content[..20_000], &base[..30_000]].concat();
    for lie in 0..3 {
        let mut forged = Forged::new();
        let (offset, bytes) = forged.block(vec![(plain(&base), &base[..])])[0];
        // other content, more frames than there are, a frame that begins elsewhere
        let told = if lie == 0 { &content[..] } else { &base[..] };
        let place = match lie {
            1 => (0, offset, bytes + 100_000, told),
            2 => (0, offset + 10, bytes - 10, told),
            _ => (0, offset, bytes, told),
        };
        let first = forged.block(vec![(patch(&mixed, 1, &[place]), &mixed[..])])[0];
        let error = forged.pull(1, first, &mixed).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{lie}: {error}");
        assert!(error.to_string().contains(&name(0).to_string()), "{lie}: {error}");
    }
}
