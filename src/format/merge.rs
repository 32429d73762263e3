//! Merging: several index segments become one that says all that they say.

use std::collections::HashMap;
use std::hash::Hash;

use super::recipe::Record;
use super::segment::{BlockEntry, Contents, Key, Segment, ShardEntry};
use crate::error::{Error, Result};
use crate::id::{BlockId, SegmentId, ShardId};

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
    /// The entry's number; it is added if it is new.
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

/// What several segments say together.
#[derive(Default)]
pub struct Merge {
    blocks: Numbered<BlockId, BlockEntry>,
    shards: Numbered<ShardId, ShardEntry>,
    repositories: Numbered<String, String>,
    records: Vec<Record>,
    keys: Vec<Key>,
    replaces: Vec<SegmentId>,
}

impl Merge {
    /// Adds all that a segment says. Fails with [`Kind::Corrupt`](crate::error::Kind::Corrupt) if it is damaged, or says another thing of
    /// a block than one before; then nothing of it was added. The caller has asked [`Segment::can_merge`].
    pub fn add<B: AsRef<[u8]>>(&mut self, segment: &Segment<B>) -> Result<()> {
        let blocks: Vec<BlockEntry> = segment.blocks()?.collect::<Result<_>>()?;
        let records: Vec<Record> = segment.records()?.collect::<Result<_>>()?;
        let (shards, keys) = (segment.shards()?, segment.keys()?);
        let disagrees = |entry: &&BlockEntry| {
            self.blocks.get(&entry.summary.id).is_some_and(|known| known.summary != entry.summary)
        };
        if let Some(entry) = blocks.iter().find(disagrees) {
            return Err(Error::corrupt(format!("two segments disagree on block {}", entry.summary.id)));
        }
        // nothing fails from here on
        let blocks = self.add_blocks(&blocks);
        let name = |name: &String| self.repositories.number(name.clone(), name);
        let names: Vec<u32> = segment.repositories().iter().map(name).collect();
        self.records.extend(records.into_iter().map(|mut record| {
            record.terms.iter_mut().for_each(|term| term.block = blocks[term.block as usize]);
            record.repository = names[record.repository as usize];
            record
        }));
        let shards: Vec<u32> = shards.iter().map(|shard| self.shards.number(shard.id, shard)).collect();
        // a key is a hint; one that leads nowhere is left out
        let key = |key: Key| Some(Key { shard: *shards.get(key.shard as usize)?, ..key });
        self.keys.extend(keys.into_iter().filter_map(key));
        Ok(())
    }

    /// The numbers that a segment's blocks have now.
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

    /// Notes that a segment was added, and need not be read any more; nor what that has replaced.
    pub fn replace<B: AsRef<[u8]>>(&mut self, id: SegmentId, segment: &Segment<B>) {
        self.replaces.push(id);
        self.replaces.extend_from_slice(segment.replaces());
    }

    /// Every distinct record, block, shard, key and name, once.
    pub fn finish(mut self) -> Contents {
        self.records.sort_by_key(|record| (record.oid, record.commit, record.repository));
        let mut records: Vec<Record> = Vec::with_capacity(self.records.len());
        for record in self.records {
            // two of one name that differ are both kept: whichever is right, nothing is lost
            let key = |r: &Record| (r.oid, r.commit, r.repository);
            let is_there = records.iter().rev().take_while(|r| key(r) == key(&record)).any(|r| *r == record);
            if !is_there {
                records.push(record);
            }
        }
        self.keys.sort_unstable();
        self.keys.dedup();
        self.replaces.sort_unstable();
        self.replaces.dedup();
        Contents {
            records,
            blocks: self.blocks.entries,
            shards: self.shards.entries,
            keys: self.keys,
            repositories: self.repositories.entries,
            replaces: self.replaces,
        }
    }
}
