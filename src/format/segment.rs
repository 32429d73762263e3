//! Index segments: immutable sorted tables from objects to recipes, from blocks to their sizes and
//! dependencies, and from key chunks to shards. Each commit writes one segment. Compaction merges them.

use std::ops::Range;

use super::block::Summary;
use super::container::{self, Container, Features, Section};
use super::cursor::{Cursor, Put};
use super::inline::{self, Carried, CarriedName};
use super::lookup::Head;
use super::pages::Layout;
use super::recipe::{Record, TERM_WIDTH};
use super::sparse_index::Fence;
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{ChunkId, CommitId, ContentHash, Nonce, Oid, SegmentId, ShardId};

pub(super) const MAGIC: &[u8; 8] = b"CDCindex";
pub(super) const RECORDS: Layout = Layout { kind: 1, width: RECORD_HEAD_WIDTH + TERM_WIDTH };
pub(super) const TERMS: Layout = Layout { kind: 2, width: TERM_WIDTH };
pub(super) const BLOCKS: Layout = Layout { kind: 3, width: super::block::SUMMARY_WIDTH + 8 };
pub(super) const DEPENDENCIES: Layout = Layout { kind: 4, width: 4 };
pub(super) const KEYS: Layout = Layout { kind: 5, width: 12 };
pub(super) const SHARDS: Layout = Layout { kind: 6, width: 56 };
pub(super) const REPOSITORIES: u32 = 7;
pub(super) const REPLACES: u32 = 8;
pub(super) const FENCE: u32 = 9;
pub(super) const CARRIED: u32 = 10;
pub(super) const CARRIED_BYTES: u32 = 11;
/// The number behind the last kind of section that this version knows.
pub(super) const KINDS_END: u32 = 12;
/// The bytes of a record without its first term: oid, size, commit, repository, number of terms, index of the
/// second term.
const RECORD_HEAD_WIDTH: usize = 32 + 8 + 16 + 4 + 4 + 8;
const NO_TERM: [u8; TERM_WIDTH] = [0; TERM_WIDTH];

/// A block that this commit wrote or relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Name and sizes.
    pub summary: Summary,
    /// The blocks that its delta frames depend on, directly or through others: indexes into the same table.
    pub dependencies: Vec<u32>,
}

/// A shard that this commit wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardEntry {
    /// The shard's name.
    pub id: ShardId,
    /// Bytes of the whole shard.
    pub size_bytes: u32,
    /// Bytes of the shard's recipes.
    pub recipe_bytes: u32,
    /// The number of chunks in the shard.
    pub chunk_count: u32,
}

/// A key chunk: the first eight bytes of its id, and an index into the shard table. It is a hint: only the
/// shard itself proves that it lists the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The first eight bytes of the chunk id, big-endian.
    pub prefix: u64,
    /// The shard that lists the chunk.
    pub shard: u32,
}

impl Key {
    /// Makes the key of a chunk in shard number `shard`.
    pub fn new(id: &ChunkId, shard: u32) -> Self {
        Self { prefix: id.word(), shard }
    }
}

/// The contents of a segment before it is written. Terms and dependencies are indexes into `blocks`, which
/// may have any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Records of objects.
    pub records: Vec<Record>,
    /// Blocks that the recipes name, and blocks of the commit.
    pub blocks: Vec<BlockEntry>,
    /// Shards of the commit.
    pub shards: Vec<ShardEntry>,
    /// Key chunks in the shards.
    pub keys: Vec<Key>,
    /// Names of repositories that records refer to.
    pub repositories: Vec<String>,
    /// Segments that this one has merged.
    pub replaces: Vec<SegmentId>,
    /// Files of the commit that the segment carries.
    pub carried: Vec<Carried>,
}

impl Contents {
    /// Writes the segment, its records and keys sorted. The sections that a reader needs first stand first.
    pub fn write(mut self) -> Vec<u8> {
        self.sort();
        let mut records = Vec::new();
        let mut terms = Vec::new();
        for record in &self.records {
            write_record(record, (terms.len() / TERM_WIDTH) as u64, &mut records);
            record.terms.iter().skip(1).for_each(|t| t.write(&mut terms));
        }
        let records = RECORDS.write(&records);
        let terms = TERMS.write(&terms);
        container::write(MAGIC, Features::default(), &self.sections(records, terms))
    }

    /// Makes all sections: `records` and `terms`, which are laid out already, and the other tables. The
    /// numbers in them refer to `blocks` in its present order.
    pub(super) fn sections(&self, records: Vec<u8>, terms: Vec<u8>) -> Vec<Section> {
        let hash = |number: usize| {
            let entry = RECORDS.entry_unchecked(&records, number);
            u64::from_be_bytes(*entry.first_chunk().unwrap_or(&[0; 8]))
        };
        let count = RECORDS.count(records.len()).unwrap_or_default();
        let fence = Fence::of(count, RECORDS.entries_per_page(), hash);
        let (blocks, dependencies) = self.write_blocks();
        let mut shards = Vec::new();
        let mut keys = Vec::new();
        for shard in &self.shards {
            shards.extend_from_slice(&shard.id.hash.0);
            shards.extend_from_slice(&shard.id.nonce.0);
            shards.put_u32(shard.size_bytes);
            shards.put_u32(shard.recipe_bytes);
            shards.put_u32(shard.chunk_count);
            shards.put_u32(0);
        }
        for key in &self.keys {
            keys.extend_from_slice(&key.prefix.to_be_bytes());
            keys.put_u32(key.shard);
        }
        let laid_out = |layout: Layout, bytes| Section { kind: layout.kind, bytes, paged: true };
        let paged = |layout: Layout, entries: &[u8]| laid_out(layout, layout.write(entries));
        let plain = |kind, bytes| Section { kind, bytes, paged: false };
        let mut sections = vec![
            plain(REPOSITORIES, self.write_repositories()),
            plain(REPLACES, self.write_replaces()),
            plain(FENCE, fence.write()),
        ];
        if !self.carried.is_empty() {
            sections.push(plain(CARRIED, inline::write_table(&self.carried)));
        }
        sections.extend([
            paged(SHARDS, &shards),
            paged(KEYS, &keys),
            laid_out(RECORDS, records),
            laid_out(TERMS, terms),
            paged(BLOCKS, &blocks),
            paged(DEPENDENCIES, &dependencies),
        ]);
        if !self.carried.is_empty() {
            // carried files have checksums of their own, like separate files
            sections.push(Section {
                kind: CARRIED_BYTES,
                bytes: inline::write_bytes(&self.carried),
                paged: true,
            });
        }
        sections
    }

    /// Sorts records and keys. Blocks keep their order, so that the blocks of one object stand together.
    fn sort(&mut self) {
        self.records.sort_by_key(|r| (r.oid, r.commit, r.repository));
        self.keys.sort();
    }

    fn write_blocks(&self) -> (Vec<u8>, Vec<u8>) {
        let mut blocks = Vec::new();
        let mut dependencies = Vec::new();
        for block in &self.blocks {
            block.summary.write(&mut blocks);
            blocks.put_u32((dependencies.len() / DEPENDENCIES.width) as u32);
            blocks.put_u32(block.dependencies.len() as u32);
            block.dependencies.iter().for_each(|d| dependencies.put_u32(*d));
        }
        (blocks, dependencies)
    }

    fn write_repositories(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for name in &self.repositories {
            out.put_u16(name.len() as u16);
            out.extend_from_slice(name.as_bytes());
        }
        out
    }

    fn write_replaces(&self) -> Vec<u8> {
        let ids = self.replaces.iter();
        ids.flat_map(|s| s.id.0.into_iter().chain(s.hash.0)).collect()
    }
}

/// A whole segment, its head checked.
#[derive(Debug)]
pub struct Segment<B> {
    bytes: B,
    head: Head,
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Checks header, section table and the small sections. The large sections are checked page by page when
    /// they are read.
    pub fn open(bytes: B) -> Result<Self> {
        let head = Head::parse(bytes.as_ref(), bytes.as_ref().len())?;
        Ok(Self { bytes, head })
    }

    /// Returns all bytes of the segment.
    pub fn bytes(&self) -> &B {
        &self.bytes
    }

    fn section(&self, layout: Layout) -> Result<&[u8]> {
        Ok(&self.bytes.as_ref()[self.head.container.paged_section(layout.kind)?])
    }

    /// Returns the head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the names of the repositories that records refer to.
    pub fn repositories(&self) -> &[String] {
        &self.head.repositories
    }

    /// Returns the names of the segments that this one has merged.
    pub fn replaces(&self) -> &[SegmentId] {
        self.head.replaces()
    }

    /// Returns true if this version may merge the segment: it knows every feature and section of the segment.
    pub fn can_merge(&self) -> bool {
        self.head.can_merge()
    }

    /// Returns the bytes of the whole segment.
    pub fn size_bytes(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// Returns the number of records.
    pub fn record_count(&self) -> Result<usize> {
        self.head.count(RECORDS)
    }

    /// Returns the number of blocks.
    pub fn block_count(&self) -> Result<usize> {
        self.head.count(BLOCKS)
    }

    /// Returns all records of an object, oldest commit first. Their terms refer to [`Segment::block`].
    pub fn find(&self, oid: &Oid) -> Result<Vec<Record>> {
        Ok(self.head.locate(&self.bytes.as_ref(), oid)?.0)
    }

    /// Returns all records, in the order of their oids.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Record>>> {
        let entries = RECORDS.entries(self.section(RECORDS)?);
        let terms = self.section(TERMS)?;
        let mut terms_end = 0;
        Ok(entries.map(move |entry| self.head.read_record(entry?, terms, &mut terms_end)))
    }

    /// Returns the block that a term names.
    pub fn block(&self, index: u32) -> Result<BlockEntry> {
        let entry = BLOCKS.entry(self.section(BLOCKS)?, index as usize)?;
        self.read_block(entry, &mut 0)
    }

    /// Returns all blocks, in the order in which terms refer to them.
    pub fn blocks(&self) -> Result<impl Iterator<Item = Result<BlockEntry>>> {
        let entries = BLOCKS.entries(self.section(BLOCKS)?);
        let mut dependencies_end = 0;
        Ok(entries.map(move |entry| self.read_block(entry?, &mut dependencies_end)))
    }

    /// Reads a block's entry. `dependencies_end` is the end of the dependencies of the block before. It is
    /// moved to the end of this block's.
    fn read_block(&self, entry: &[u8], dependencies_end: &mut usize) -> Result<BlockEntry> {
        let (summary, place) = read_block_row(entry, self.head.count(DEPENDENCIES)?)?;
        if place.start < *dependencies_end {
            return Err(Error::corrupt("a block's dependencies lie outside their place"));
        }
        *dependencies_end = place.end;
        let entries = DEPENDENCIES.range(self.section(DEPENDENCIES)?, place);
        Ok(BlockEntry { summary, dependencies: read_dependencies(entries, self.block_count()?)? })
    }

    /// Returns the carried files. The caller must check their bytes.
    pub fn carried(&self) -> impl Iterator<Item = (CarriedName, &[u8])> {
        let bytes = self.bytes.as_ref();
        let carried = self.head.carried().iter();
        carried.map(|(name, range)| (*name, &bytes[range.clone()]))
    }

    /// Returns all shards, in the order in which keys refer to them.
    pub fn shards(&self) -> Result<Vec<ShardEntry>> {
        self.head.shards(&self.bytes.as_ref())
    }

    /// Returns all keys, sorted.
    pub fn keys(&self) -> Result<Vec<Key>> {
        self.head.keys(&self.bytes.as_ref())
    }
}

/// Writes a record without its terms from the second on. These begin as number `second_term` of their
/// section.
pub(super) fn write_record(record: &Record, second_term: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&record.oid.0);
    out.put_u64(record.size_bytes);
    out.extend_from_slice(&record.commit.0);
    out.put_u32(record.repository);
    out.put_u32(record.terms.len() as u32);
    out.put_u64(second_term);
    match record.terms.first() {
        Some(first) => first.write(out),
        None => out.extend_from_slice(&NO_TERM),
    }
}

/// Reads header and section table of a segment of `segment_bytes` from its beginning.
pub(super) fn container(start: &[u8], segment_bytes: usize) -> Result<Container> {
    Container::parse_start(start, segment_bytes, MAGIC, "an index segment")
}

/// Reads a block's entry, and the place of its dependencies in the table of `dependencies` entries.
pub(super) fn read_block_row(entry: &[u8], dependencies: usize) -> Result<(Summary, Range<usize>)> {
    let mut cursor = Cursor::new(entry, "a block entry");
    let summary = Summary::read(&mut cursor)?;
    let start = cursor.u32()? as usize;
    let count = cursor.u32()? as usize;
    let place = start..start.saturating_add(count);
    if place.end > dependencies {
        return Err(Error::corrupt("a block's dependencies lie outside their place"));
    }
    Ok((summary, place))
}

/// Reads the numbers of the blocks that a block depends on. Each must be less than `blocks`.
pub(super) fn read_dependencies<'d>(
    entries: impl Iterator<Item = Result<&'d [u8]>>,
    blocks: usize,
) -> Result<Vec<u32>> {
    let read = |entry: Result<&[u8]>| match Cursor::new(entry?, "a dependency").u32()? {
        dependency if (dependency as usize) < blocks => Ok(dependency),
        _ => Err(Error::corrupt("a block depends on one that is not there")),
    };
    entries.map(read).collect()
}

pub(super) fn read_key(entry: &[u8]) -> Result<Key> {
    let mut cursor = Cursor::new(entry, "a key");
    Ok(Key { prefix: u64::from_be_bytes(cursor.array()?), shard: cursor.u32()? })
}

pub(super) fn read_shard(entry: &[u8]) -> Result<ShardEntry> {
    let mut cursor = Cursor::new(entry, "a shard entry");
    let id = ShardId { hash: ContentHash(cursor.array()?), nonce: Nonce(cursor.array()?) };
    let size_bytes = cursor.u32()?;
    let recipe_bytes = cursor.u32()?;
    let chunk_count = cursor.u32()?;
    if size_bytes as usize > limits::SHARD_READ_BYTES || recipe_bytes > size_bytes {
        return Err(Error::corrupt(format!("shard {id} has impossible sizes")));
    }
    Ok(ShardEntry { id, size_bytes, recipe_bytes, chunk_count })
}

/// Reads a list of names, each behind its length.
pub(crate) fn read_repositories(section: &[u8]) -> Result<Vec<String>> {
    let mut cursor = Cursor::new(section, "a list of repositories");
    let mut names = Vec::new();
    while cursor.remaining() > 0 {
        let length = usize::from(cursor.u16()?);
        let name = String::from_utf8(cursor.bytes(length)?.to_vec());
        names.push(name.map_err(|_| Error::corrupt("a repository's name is not UTF-8"))?);
    }
    Ok(names)
}

pub(super) fn read_replaces(section: &[u8]) -> Result<Vec<SegmentId>> {
    let read = |cursor: &mut Cursor<'_>| {
        Ok(SegmentId { id: CommitId(cursor.array()?), hash: ContentHash(cursor.array()?) })
    };
    super::block::read_all(section, 48, "a list of replaced segments", read)
}
