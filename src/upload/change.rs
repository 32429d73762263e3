//! The change that one commit makes: objects with their recipes, and the blocks that these name.

use std::collections::{BTreeMap, HashMap};

use crate::format::block::{Entry, Summary};
use crate::format::condemned::CondemnedRecord;
use crate::format::recipe::Term;
use crate::format::segment::BlockEntry;
use crate::format::shard::{Recipes, ShardRecipe, ShardTerm};
use crate::id::{BlockId, ChunkId, CommitId, Oid};
use crate::index::relied::Relied;

/// Most bytes of a record in a segment, with its keys. Each of its terms, with its block, takes at most as
/// much again.
const RECORD_BYTES: usize = 320;

/// Objects that are committed together.
#[derive(Default)]
pub(super) struct Change {
    pub objects: Vec<ChangedObject>,
    /// The blocks that terms refer to, and the dependencies of these blocks. The new blocks come first.
    pub blocks: Vec<BlockEntry>,
    numbers: HashMap<BlockId, u32>,
    /// The new blocks, with their directories: no commit names them yet. They are the first of `blocks`.
    pub new: Vec<Entry>,
}

/// An object of a change.
pub(super) struct ChangedObject {
    pub oid: Oid,
    pub size_bytes: u64,
    /// The terms, which refer to the blocks of the change.
    pub terms: Vec<Term>,
    /// The chunks that will lead to the new chunks of this object.
    pub keys: Vec<ChunkId>,
}

impl Change {
    /// Creates a change with new blocks, and with no object that needs them yet.
    pub(super) fn new(new: Vec<Entry>) -> Self {
        let mut change = Self::default();
        new.iter().for_each(|(block, _)| {
            change.number(*block);
        });
        Self { new, ..change }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Returns the blocks that other commits name already.
    pub(super) fn old_blocks(&self) -> impl Iterator<Item = &Summary> {
        self.blocks[self.new.len()..].iter().map(|block| &block.summary)
    }

    fn number(&mut self, block: Summary) -> u32 {
        let blocks = &mut self.blocks;
        *self.numbers.entry(block.id).or_insert_with(|| {
            blocks.push(BlockEntry { summary: block, dependencies: Vec::new() });
            blocks.len() as u32 - 1
        })
    }

    /// Adds an object; its terms refer to `blocks`. The object relies on the blocks that its terms name,
    /// on their dependencies, and on the record that the commit gives it.
    pub(super) fn add(&mut self, oid: Oid, size_bytes: u64, mut terms: Vec<Term>, blocks: &[BlockEntry]) {
        let mut numbers = BTreeMap::new();
        for term in &mut terms {
            let own = term.block;
            term.block = *numbers.entry(own).or_insert_with(|| self.number(blocks[own as usize].summary));
        }
        for (own, number) in numbers {
            let depended_on = blocks[own as usize].dependencies.iter();
            let depended_on: Vec<u32> =
                depended_on.map(|block| self.number(blocks[*block as usize].summary)).collect();
            let Some(block) = self.blocks.get_mut(number as usize) else { continue };
            block.dependencies.extend(depended_on);
            block.dependencies.sort_unstable();
            block.dependencies.dedup();
        }
        self.objects.push(ChangedObject { oid, size_bytes, terms, keys: Vec::new() });
    }

    /// Sets the key chunks of the object that was added last.
    pub(super) fn lead(&mut self, keys: Vec<ChunkId>) {
        if let Some(object) = self.objects.last_mut() {
            object.keys = keys;
        }
    }

    /// Returns the most bytes that the segment's own data takes.
    pub(super) fn most_segment_bytes(&self) -> usize {
        let records = self.objects.iter().map(|object| (1 + object.terms.len()) * RECORD_BYTES);
        let blocks = self.blocks.iter().map(|block| RECORD_BYTES + 4 * block.dependencies.len());
        records.chain(blocks).sum()
    }

    /// Returns, for each object, the blocks and the record that its acknowledgement relies on after this
    /// commit.
    pub(super) fn relied(&self, commit: CommitId, repository: &str) -> Vec<Relied> {
        let relied = |object: &ChangedObject| {
            let mut numbers: Vec<u32> = object.terms.iter().map(|term| term.block).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let depended = |number: &u32| self.blocks[*number as usize].dependencies.iter().copied();
            numbers.extend(numbers.clone().iter().flat_map(depended));
            numbers.sort_unstable();
            numbers.dedup();
            let record = CondemnedRecord { oid: object.oid, commit, repository: repository.to_owned() };
            Relied { blocks: numbers.iter().map(|n| self.blocks[*n as usize].summary).collect(), record }
        };
        self.objects.iter().map(relied).collect()
    }

    /// Returns the recipes in the shard's form.
    pub(super) fn recipes(&self, repository: &str) -> Recipes {
        let term = |term: &Term| ShardTerm {
            block: term.block,
            first_chunk: term.first_chunk,
            chunk_count: term.chunk_count,
            content_bytes: term.content_bytes,
            checksum: term.checksum,
        };
        // base frames follow from the block directories
        let own = |object: &ChangedObject| object.terms.iter().filter(|t| !t.is_base()).map(term).collect();
        let recipe = |object: &ChangedObject| ShardRecipe {
            oid: object.oid,
            size_bytes: object.size_bytes,
            repository: repository.to_owned(),
            terms: own(object),
        };
        Recipes {
            blocks: self.blocks.iter().map(|b| b.summary.id).collect(),
            recipes: self.objects.iter().map(recipe).collect(),
        }
    }
}
