//! Shards: the lists of chunks and recipes of one commit. They are read for deduplication and to rebuild the
//! index.

use super::block::{self, CHUNK_WIDTH, Chunk, Directory, FRAME_WIDTH, FrameEntry, SUMMARY_WIDTH, Summary};
use super::container::{self, Container, Features, Section};
use super::cursor::{Cursor, Put};
use super::delta;
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{BlockId, ContentHash, Nonce, Oid};

const MAGIC: &[u8; 8] = b"CDCshard";
const SECTION_BLOCKS: u32 = 1;
const SECTION_FRAMES: u32 = 2;
const SECTION_CHUNKS: u32 = 3;
const SECTION_RECIPES: u32 = 4;
const SECTION_NEEDS: u32 = 5;
const RECIPE_LEVEL: i32 = 3;
/// The bytes of a block's name among recipes, of a recipe without repository and terms, and of a term.
const BLOCK_BYTES: usize = 40;
const RECIPE_BYTES: usize = 32 + 8 + 2 + 4;
const TERM_BYTES: usize = 20;

/// A term in a shard. The place of its frames follows from the block directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardTerm {
    /// An index into [`Recipes::blocks`].
    pub block: u32,
    /// The first chunk, counted in the block.
    pub first_chunk: u16,
    /// The number of chunks.
    pub chunk_count: u16,
    /// Bytes of content.
    pub content_bytes: u32,
    /// XXH3-64 of the content.
    pub checksum: u64,
}

/// A recipe in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecipe {
    /// The object.
    pub oid: Oid,
    /// The object's size.
    pub size_bytes: u64,
    /// The repository that pushed it.
    pub repository: String,
    /// The terms, in order.
    pub terms: Vec<ShardTerm>,
}

/// The recipes of a commit. They are compressed, because only rebuilding the index needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipes {
    /// The blocks that the terms name.
    pub blocks: Vec<BlockId>,
    /// The recipes.
    pub recipes: Vec<ShardRecipe>,
}

/// All of a shard except the recipes: the chunks of whole blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// The blocks, with their directories.
    pub blocks: Vec<(Summary, Directory)>,
}

/// Writes a shard. Returns its bytes, and the number of bytes that the recipes take.
pub fn write(blocks: &[(Summary, Directory)], recipes: &Recipes) -> Result<(Vec<u8>, usize)> {
    let (mut summaries, mut frames, mut chunks, mut needs) = <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for (summary, directory) in blocks {
        summary.write(&mut summaries);
        summaries.put_u32(directory.frames.len() as u32);
        directory.frames.iter().for_each(|f| f.write(&mut frames));
        directory.chunks.iter().for_each(|c| c.write(&mut chunks));
        if !directory.needs.is_empty() {
            delta::write_needs(&directory.needs, &mut needs);
        }
    }
    let recipes = recipes.write()?;
    let recipe_bytes = recipes.len();
    let section = |kind, bytes| Section { kind, bytes, paged: false };
    let mut sections = vec![
        section(SECTION_BLOCKS, summaries),
        section(SECTION_FRAMES, frames),
        section(SECTION_CHUNKS, chunks),
        section(SECTION_RECIPES, recipes),
    ];
    if !needs.is_empty() {
        sections.push(section(SECTION_NEEDS, needs));
    }
    Ok((container::write(MAGIC, Features::default(), &sections), recipe_bytes))
}

/// Returns true if this version may merge the shard in `bytes`: it knows every feature and section of the
/// shard.
pub fn can_merge(bytes: &[u8]) -> Result<bool> {
    let container = Container::parse(bytes, MAGIC, "a shard")?;
    Ok(container.features.read_only == 0 && container.only_has(SECTION_BLOCKS..SECTION_NEEDS + 1))
}

impl Shard {
    /// Reads the chunks of a shard, and checks that its lists agree.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let container = Container::parse(bytes, MAGIC, "a shard")?;
        let summaries = container.section(bytes, SECTION_BLOCKS)?;
        let mut frames = Cursor::new(container.section(bytes, SECTION_FRAMES)?, "a shard's frame list");
        let mut chunks = Cursor::new(container.section(bytes, SECTION_CHUNKS)?, "a shard's chunk list");
        let needs = if container.has(SECTION_NEEDS) { container.section(bytes, SECTION_NEEDS)? } else { &[] };
        let mut needs = Cursor::new(needs, "a shard's list of needs");
        let read = |cursor: &mut Cursor<'_>| {
            let summary = Summary::read(cursor)?;
            let frame_count = cursor.u32()? as usize;
            let frames = frames_of(&mut frames, frame_count)?;
            Ok((summary, frames))
        };
        let blocks = collect(summaries, read)?;
        let mut shard = Self { blocks: Vec::with_capacity(blocks.len()) };
        for (summary, frames) in blocks {
            let listed = chunks.bytes(CHUNK_WIDTH * summary.chunk_count as usize)?;
            let chunks = block::read_all(listed, CHUNK_WIDTH, "a shard's chunk list", Chunk::read)?;
            let mut directory = Directory { chunks, frames, needs: Vec::new() };
            if directory.delta_count() > 0 {
                directory.needs = delta::read_needs(&mut needs, directory.delta_count())?;
            }
            directory.check(summary.frames_bytes as usize)?;
            if directory.content_bytes() != u64::from(summary.content_bytes) {
                return Err(Error::corrupt(format!("a shard contradicts itself about block {}", summary.id)));
            }
            shard.blocks.push((summary, directory));
        }
        frames.finish()?;
        chunks.finish()?;
        needs.finish()?;
        Ok(shard)
    }
}

fn frames_of(frames: &mut Cursor<'_>, count: usize) -> Result<Vec<FrameEntry>> {
    let listed = frames.bytes(count.saturating_mul(FRAME_WIDTH))?;
    block::read_all(listed, FRAME_WIDTH, "a shard's frame list", FrameEntry::read)
}

/// Does the same as [`block::read_all`] with a `read` that may also move other cursors.
fn collect<T>(section: &[u8], mut read: impl FnMut(&mut Cursor<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut cursor = Cursor::new(section, "a shard's block list");
    let mut entries = Vec::with_capacity(section.len() / (SUMMARY_WIDTH + 4));
    while cursor.remaining() > 0 {
        entries.push(read(&mut cursor)?);
    }
    Ok(entries)
}

impl Recipes {
    /// Returns the bytes of the recipes before they are compressed.
    pub(super) fn size_bytes(&self) -> usize {
        let recipe =
            |recipe: &ShardRecipe| RECIPE_BYTES + recipe.repository.len() + TERM_BYTES * recipe.terms.len();
        8 + BLOCK_BYTES * self.blocks.len() + self.recipes.iter().map(recipe).sum::<usize>()
    }

    fn write(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        out.put_u32(self.blocks.len() as u32);
        for block in &self.blocks {
            out.extend_from_slice(&block.hash.0);
            out.extend_from_slice(&block.nonce.0);
        }
        out.put_u32(self.recipes.len() as u32);
        for recipe in &self.recipes {
            out.extend_from_slice(&recipe.oid.0);
            out.put_u64(recipe.size_bytes);
            out.put_u16(recipe.repository.len() as u16);
            out.extend_from_slice(recipe.repository.as_bytes());
            out.put_u32(recipe.terms.len() as u32);
            for term in &recipe.terms {
                out.put_u32(term.block);
                out.put_u16(term.first_chunk);
                out.put_u16(term.chunk_count);
                out.put_u32(term.content_bytes);
                out.put_u64(term.checksum);
            }
        }
        if out.len() > limits::SHARD_READ_BYTES {
            return Err(Error::internal(format!("the recipes of one shard take {} bytes", out.len())));
        }
        zstd::bulk::compress(&out, RECIPE_LEVEL)
            .map_err(|e| Error::internal(format!("a shard's recipes can't be compressed: {e}")))
    }

    /// Reads the recipes of a whole shard.
    pub fn parse(shard: &[u8]) -> Result<Self> {
        let container = Container::parse(shard, MAGIC, "a shard")?;
        let packed = container.section(shard, SECTION_RECIPES)?;
        let damaged = || Error::corrupt("a shard's recipes are damaged");
        let size = match zstd::zstd_safe::get_frame_content_size(packed) {
            Ok(Some(size)) if size <= limits::SHARD_READ_BYTES as u64 => size as usize,
            _ => return Err(damaged()),
        };
        let bytes = zstd::bulk::decompress(packed, size).map_err(|_| damaged())?;
        Self::read(&mut Cursor::new(&bytes, "a shard's recipe list"))
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let mut out = Self::default();
        for _ in 0..cursor.u32()? {
            let hash = ContentHash(cursor.array()?);
            out.blocks.push(BlockId { hash, nonce: Nonce(cursor.array()?) });
        }
        for _ in 0..cursor.u32()? {
            let oid = Oid(cursor.array()?);
            let size_bytes = cursor.u64()?;
            let length = usize::from(cursor.u16()?);
            let repository = String::from_utf8(cursor.bytes(length)?.to_vec())
                .map_err(|_| Error::corrupt("a repository's name is not UTF-8"))?;
            let mut terms = Vec::new();
            for _ in 0..cursor.u32()? {
                terms.push(read_term(cursor, out.blocks.len())?);
            }
            out.recipes.push(ShardRecipe { oid, size_bytes, repository, terms });
        }
        if cursor.remaining() > 0 {
            return Err(Error::corrupt("a shard's recipe list has bytes too many"));
        }
        Ok(out)
    }
}

fn read_term(cursor: &mut Cursor<'_>, blocks: usize) -> Result<ShardTerm> {
    let term = ShardTerm {
        block: cursor.u32()?,
        first_chunk: cursor.u16()?,
        chunk_count: cursor.u16()?,
        content_bytes: cursor.u32()?,
        checksum: cursor.u64()?,
    };
    if term.block as usize >= blocks || term.chunk_count == 0 {
        return Err(Error::corrupt("a shard has an impossible term"));
    }
    Ok(term)
}
