//! The merging of index segments: one segment gets everything that several say. Records are read and written
//! one after the other. So only the smaller tables stand in memory, beside the merged segment.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

use bytes::Bytes;

use super::container::{self, Features};
use super::pages::Pages;
use super::recipe::Record;
use super::segment::{self, BlockEntry, Contents, Key, Segment, ShardEntry};
use crate::error::{Error, Result};
use crate::id::{BlockId, ContentHash, Oid, SegmentId, ShardId};

/// A table that is being merged: each entry once, with its number in the merged table.
struct Numbered<K, V> {
    entries: Vec<V>,
    numbers: HashMap<K, u32>,
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), numbers: HashMap::new() }
    }
}

impl<K: Eq + Hash, V: Clone> Numbered<K, V> {
    /// Returns the entry's number. A new entry is added.
    fn number(&mut self, key: K, entry: &V) -> u32 {
        let entries = &mut self.entries;
        *self.numbers.entry(key).or_insert_with(|| {
            entries.push(entry.clone());
            entries.len() as u32 - 1
        })
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.numbers.get(key).map(|number| &self.entries[*number as usize])
    }
}

/// The contents of several segments together.
#[derive(Default)]
pub struct Merge<'s> {
    sources: Vec<Source<'s>>,
    blocks: Numbered<BlockId, BlockEntry>,
    shards: Numbered<ShardId, ShardEntry>,
    repositories: Numbered<String, String>,
    keys: Vec<Key>,
    replaces: Vec<SegmentId>,
    moved: HashMap<ShardId, Option<ShardEntry>>,
}

/// The records of one segment, and the numbers of its blocks and repositories in the merged segment.
struct Source<'s> {
    records: Box<dyn Iterator<Item = Result<Record>> + 's>,
    blocks: Vec<u32>,
    repositories: Vec<u32>,
}

impl<'s> Merge<'s> {
    /// Begins a merge for which shards were merged too. `moved` names for each replaced shard the merged one
    /// that has all its chunks, or `None` if the shard is gone.
    pub fn with_shards(moved: HashMap<ShardId, Option<ShardEntry>>) -> Self {
        Self { moved, ..Self::default() }
    }

    /// Adds the contents of a segment. Fails with [`Kind::Corrupt`](crate::error::Kind::Corrupt) if the
    /// segment is damaged, or contradicts an earlier one about a block. Then nothing was added. The caller
    /// must have checked [`Segment::can_merge`].
    pub fn add<B: AsRef<[u8]>>(&mut self, segment: &'s Segment<B>) -> Result<()> {
        let blocks: Vec<BlockEntry> = segment.blocks()?.collect::<Result<_>>()?;
        segment.records()?.try_for_each(|record| record.map(drop))?;
        let shards = segment.shards()?;
        let keys = segment.keys()?;
        let disagrees = |entry: &&BlockEntry| {
            self.blocks.get(&entry.summary.id).is_some_and(|known| known.summary != entry.summary)
        };
        if let Some(entry) = blocks.iter().find(disagrees) {
            return Err(Error::corrupt(format!("two segments disagree on block {}", entry.summary.id)));
        }
        let records = Box::new(segment.records()?);
        // nothing fails from here on
        let blocks = self.add_blocks(&blocks);
        let name = |name: &String| self.repositories.number(name.clone(), name);
        let repositories = segment.repositories().iter().map(name).collect();
        self.sources.push(Source { records, blocks, repositories });
        let number = |shard: &ShardEntry| match self.moved.get(&shard.id) {
            Some(to) => to.as_ref().map(|to| self.shards.number(to.id, to)),
            None => Some(self.shards.number(shard.id, shard)),
        };
        let shards: Vec<Option<u32>> = shards.iter().map(number).collect();
        // a key is a hint, so a key without a shard is left out
        let key = |key: Key| Some(Key { shard: (*shards.get(key.shard as usize)?)?, ..key });
        self.keys.extend(keys.into_iter().filter_map(key));
        Ok(())
    }

    /// Adds a segment's blocks. Returns their numbers in the merged table.
    fn add_blocks(&mut self, blocks: &[BlockEntry]) -> Vec<u32> {
        let alone = |entry: &BlockEntry| BlockEntry { summary: entry.summary, dependencies: Vec::new() };
        let number = |entry: &BlockEntry| self.blocks.number(entry.summary.id, &alone(entry));
        let numbers: Vec<u32> = blocks.iter().map(number).collect();
        for (entry, number) in blocks.iter().zip(&numbers) {
            let dependencies = &mut self.blocks.entries[*number as usize].dependencies;
            dependencies.extend(entry.dependencies.iter().map(|d| numbers[*d as usize]));
            dependencies.sort_unstable();
            dependencies.dedup();
        }
        numbers
    }

    /// Notes that the merged segment replaces this one, and also those segments replaced by this one that
    /// still stand (`stands`).
    pub fn replace<B: AsRef<[u8]>>(
        &mut self,
        id: SegmentId,
        segment: &Segment<B>,
        stands: impl Fn(&SegmentId) -> bool,
    ) {
        self.replaces.push(id);
        self.replaces.extend(segment.replaces().iter().filter(|id| stands(id)));
    }

    /// Writes the merged segment: every distinct record, block, shard, key and name once. Fails if a segment
    /// has changed since it was added.
    pub fn finish(mut self) -> Result<Merged> {
        let mut writer = Writer::new(self.blocks.entries.len());
        let mut heads = Heads::new(self.sources)?;
        while let Some(mut records) = heads.next_object()? {
            records.sort_by_key(|record| (record.commit, record.repository));
            let key = |r: &Record| (r.commit, r.repository);
            for (number, record) in records.iter().enumerate() {
                // records with the same name and different contents are both kept, so nothing is lost if one
                // is wrong
                let mut named_so = records[..number].iter().rev().take_while(|r| key(r) == key(record));
                if !named_so.any(|r| r == record) {
                    writer.push(record.clone());
                }
            }
        }
        let (records, terms, blocks) = writer.finish(self.blocks.entries);
        self.keys.sort_unstable();
        self.keys.dedup();
        self.replaces.sort_unstable();
        self.replaces.dedup();
        let tables = Contents {
            records: Vec::new(),
            blocks,
            shards: self.shards.entries,
            keys: self.keys,
            repositories: self.repositories.entries,
            replaces: self.replaces,
            // the carried files of the merged segments stand in files of their own by now
            carried: Vec::new(),
        };
        let sections = tables.sections(records, terms);
        let mut pieces = vec![Bytes::from(container::head(segment::MAGIC, Features::default(), &sections))];
        pieces.extend(sections.into_iter().map(|section| Bytes::from(section.bytes)));
        Ok(Merged { pieces })
    }
}

/// The next record of each source, in a queue sorted by object.
struct Heads<'s> {
    sources: Vec<Source<'s>>,
    next: Vec<Option<Record>>,
    queue: BinaryHeap<Reverse<(Oid, usize)>>,
}

impl<'s> Heads<'s> {
    fn new(sources: Vec<Source<'s>>) -> Result<Self> {
        let next = sources.iter().map(|_| None).collect();
        let mut heads = Self { sources, next, queue: BinaryHeap::new() };
        (0..heads.sources.len()).try_for_each(|source| heads.advance(source))?;
        Ok(heads)
    }

    /// Reads the next record of a source, and gives it the numbers of the merged segment.
    fn advance(&mut self, number: usize) -> Result<()> {
        let source = &mut self.sources[number];
        let Some(record) = source.records.next() else { return Ok(()) };
        let mut record = record?;
        record.terms.iter_mut().for_each(|term| term.block = source.blocks[term.block as usize]);
        record.repository = source.repositories[record.repository as usize];
        self.queue.push(Reverse((record.oid, number)));
        self.next[number] = Some(record);
        Ok(())
    }

    /// Returns all records of the next object.
    fn next_object(&mut self) -> Result<Option<Vec<Record>>> {
        let Some(Reverse((oid, _))) = self.queue.peek().copied() else { return Ok(None) };
        let mut records = Vec::new();
        while let Some(Reverse((next, number))) = self.queue.peek().copied()
            && next == oid
        {
            self.queue.pop();
            records.extend(self.next[number].take());
            self.advance(number)?;
        }
        Ok(Some(records))
    }
}

/// The two large sections while they are written, and the blocks in the order of their first use.
struct Writer {
    records: Pages,
    terms: Pages,
    term_count: u64,
    /// The place of each block in `order`, if it has one already.
    places: Vec<Option<u32>>,
    order: Vec<u32>,
}

impl Writer {
    fn new(blocks: usize) -> Self {
        let records = segment::RECORDS.begin();
        let terms = segment::TERMS.begin();
        Self { records, terms, term_count: 0, places: vec![None; blocks], order: Vec::new() }
    }

    fn place(&mut self, block: u32) -> u32 {
        let order = &mut self.order;
        *self.places[block as usize].get_or_insert_with(|| {
            order.push(block);
            order.len() as u32 - 1
        })
    }

    fn push(&mut self, mut record: Record) {
        for term in &mut record.terms {
            term.block = self.place(term.block);
        }
        self.records.push(|out| segment::write_record(&record, self.term_count, out));
        for term in record.terms.iter().skip(1) {
            self.terms.push(|out| term.write(out));
            self.term_count += 1;
        }
    }

    /// Returns both sections, and the blocks in the order in which terms refer to them.
    fn finish(mut self, blocks: Vec<BlockEntry>) -> (Vec<u8>, Vec<u8>, Vec<BlockEntry>) {
        (0..blocks.len() as u32).for_each(|block| {
            self.place(block);
        });
        let placed = |block: &u32| {
            let BlockEntry { summary, dependencies } = &blocks[*block as usize];
            let dependencies = dependencies.iter().filter_map(|block| self.places[*block as usize]);
            BlockEntry { summary: *summary, dependencies: dependencies.collect() }
        };
        let blocks = self.order.iter().map(placed).collect();
        (self.records.finish(), self.terms.finish(), blocks)
    }
}

/// A merged segment, in pieces, so that a large one is never copied.
pub struct Merged {
    pieces: Vec<Bytes>,
}

impl Merged {
    /// Returns the bytes of the whole segment.
    pub fn size_bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Computes the hash of the whole segment.
    pub fn hash(&self) -> ContentHash {
        let mut hasher = blake3::Hasher::new();
        for piece in &self.pieces {
            hasher.update(piece);
        }
        ContentHash(*hasher.finalize().as_bytes())
    }

    /// Returns the pieces, in order.
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }

    /// Returns the whole segment in one piece.
    pub fn into_bytes(self) -> Vec<u8> {
        self.pieces.concat()
    }
}
