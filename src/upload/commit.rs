//! The commit protocol (`docs/format.md`, "Write order").
//!
//! First the blocks and shards become durable. Then the index segment is put, and that is the commit. The
//! caller checks the blocks and records that the commit relies on afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use super::pipeline::{BlocksInFlight, ClosedBlock};
use crate::error::{Error, Result};
use crate::format::block::{Entry, Summary};
use crate::format::condemned::CondemnedRecord;
use crate::format::inline::{Carried, CarriedName};
use crate::format::limits;
use crate::format::recipe::{Record, Term};
use crate::format::segment::{BlockEntry, Contents, Key, ShardEntry};
use crate::format::shard::{self, Recipes, ShardRecipe, ShardTerm};
use crate::id::{BlockId, ChunkId, CommitId, ContentHash, Nonce, Oid, ShardId, now_milliseconds};
use crate::index::catalog::Catalog;
use crate::index::merge_policy::{self, OfCommit};
use crate::index::relied::Relied;
use crate::store::{Pending, Store};

/// Most bytes of a record in a segment, with its keys. Each of its terms, with its block, takes at most as
/// much again.
const RECORD_BYTES: usize = 320;

/// Objects that are committed together.
#[derive(Default)]
pub(super) struct Change {
    objects: Vec<ChangedObject>,
    /// The blocks that terms refer to, and the dependencies of these blocks. The new blocks come first.
    blocks: Vec<BlockEntry>,
    numbers: HashMap<BlockId, u32>,
    /// The new blocks, with their directories: no commit names them yet. They are the first of `blocks`.
    new: Vec<Entry>,
}

/// An object of a change.
struct ChangedObject {
    oid: Oid,
    size_bytes: u64,
    /// The terms, which refer to the blocks of the change.
    terms: Vec<Term>,
    /// The chunks that will lead to the new chunks of this object.
    keys: Vec<ChunkId>,
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

    /// Returns, for each object, the blocks and the record that its acknowledgement relies on after this
    /// commit.
    fn relied(&self, commit: CommitId, repository: &str) -> Vec<Relied> {
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
}

/// The shards of a commit with their blocks, in the form that the next upload needs.
pub(super) type NewShards = Vec<(ShardId, Vec<Entry>)>;

/// The result of a commit.
pub(super) struct Committed {
    /// The blocks and the record that the acknowledgement of each object relies on. The caller checks them
    /// now.
    pub relied: Vec<Relied>,
    pub shards: NewShards,
    /// The moment when the last block was durable.
    pub begun: Instant,
    /// True if all blocks and records that the commit relies on came into the store with it, in one file.
    pub is_one_file: bool,
}

/// Commits objects. When this returns, their blocks, their shards and their index segment are durable.
pub(super) fn commit<'s>(
    catalog: &'s Catalog,
    repository: &str,
    mut change: Change,
    mut in_flight: BlocksInFlight<'s>,
) -> Result<Committed> {
    let recipes = recipes(repository, &change);
    let (entries, shards, files) = write_shards(std::mem::take(&mut change.new), &recipes)?;
    let mut small = in_flight.take_small();
    // the carried files must leave room for the segment's own data
    let records = change.objects.iter().map(|object| (1 + object.terms.len()) * RECORD_BYTES);
    let blocks = change.blocks.iter().map(|block| RECORD_BYTES + 4 * block.dependencies.len());
    let said: usize = records.chain(blocks).sum();
    let carried = match in_flight.is_empty() && said <= limits::CARRIER_BYTES / 2 {
        true => carried(catalog.store.reach().carried_bytes, small.as_ref(), &shards, &files),
        false => Vec::new(),
    };
    let waits_for_round_trips = catalog.store.reach().carried_bytes > 0;
    let mut pending = Vec::new();
    if carried.is_empty() {
        small.take().into_iter().for_each(|small| in_flight.send(&catalog.store, small));
        // saves a round trip where the push waits for round trips
        if waits_for_round_trips {
            pending = put_shards(&catalog.store, &shards, &files);
        }
    }
    in_flight.settle()?;
    let begun = Instant::now();
    // On a full disk, a shard would be left behind at each attempt, if it were put before its blocks.
    if carried.is_empty() && !waits_for_round_trips {
        pending = put_shards(&catalog.store, &shards, &files);
    }
    pending.into_iter().try_for_each(Pending::wait)?;
    // if another store is mounted meanwhile, the commit would name blocks that are not there
    catalog.store.confirm()?;
    let keys = keys(&shards, &change.objects);
    let commit = CommitId::new(now_milliseconds())?;
    let relied = change.relied(commit, repository);
    let record = |object: ChangedObject| {
        let ChangedObject { oid, size_bytes, terms, .. } = object;
        let record = Record { oid, size_bytes, commit, repository: 0, terms };
        // the last check before other commits rely on it
        record.check().map(|()| record)
    };
    let count = change.objects.len();
    let relies_on_others =
        change.blocks.iter().any(|block| small.as_ref().is_none_or(|s| s.id != block.summary.id));
    let is_carried = !carried.is_empty();
    let bytes = Contents {
        records: change.objects.into_iter().map(record).collect::<Result<_>>()?,
        blocks: change.blocks,
        shards: entries,
        keys,
        repositories: vec![repository.to_owned()],
        replaces: Vec::new(),
        carried,
    }
    .write();
    if bytes.len() > limits::SEGMENT_READ_BYTES {
        return Err(Error::invalid(format!("the recipes of {count} objects are too large for one commit")));
    }
    let OfCommit { id, bytes, is_merged } =
        merge_policy::segment_of(catalog.stored(), &catalog.snapshot().index, commit, bytes)?;
    let moved = small.as_ref().map(|small| small.moved.clone()).unwrap_or_default();
    catalog.store.put_segment(&id, vec![bytes.clone()], &moved).wait()?;
    small.iter().for_each(ClosedBlock::is_sent);
    for Relied { record, .. } in &relied {
        tracing::info!("commit {commit}: object {}", record.oid);
    }
    catalog.add(id, bytes)?;
    Ok(Committed { relied, shards, begun, is_one_file: is_carried && !is_merged && !relies_on_others })
}

/// Begins to store shards.
fn put_shards<'s>(store: &'s Store, shards: &NewShards, files: &[Bytes]) -> Vec<Pending<'s, ()>> {
    shards.iter().zip(files).map(|((id, _), bytes)| store.put_shard(id, bytes.clone())).collect()
}

/// Returns the files that a small commit carries in its segment: its new block, if there is one, and its
/// shard. Returns none if they are too large.
fn carried(
    most_bytes: usize,
    small: Option<&ClosedBlock>,
    shards: &NewShards,
    files: &[Bytes],
) -> Vec<Carried> {
    let ([(shard, _)], [file]) = (&shards[..], files) else { return Vec::new() };
    if file.len() + small.map_or(0, ClosedBlock::size_bytes) > most_bytes {
        return Vec::new();
    }
    let block =
        small.map(|small| Carried { name: CarriedName::Block(small.id), pieces: small.pieces.clone() });
    let shard = Carried { name: CarriedName::Shard(*shard), pieces: vec![file.clone()] };
    block.into_iter().chain([shard]).collect()
}

/// Returns the recipes in the shard's form.
fn recipes(repository: &str, change: &Change) -> Recipes {
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
        blocks: change.blocks.iter().map(|b| b.summary.id).collect(),
        recipes: change.objects.iter().map(recipe).collect(),
    }
}

/// Divides the new blocks between shards of at most `max_chunks`. Without a new block there is still one
/// shard, because it holds the recipes.
fn divide(blocks: impl IntoIterator<Item = Entry>, max_chunks: usize) -> Vec<Vec<Entry>> {
    let mut groups = Vec::new();
    let (mut group, mut chunks) = (Vec::new(), 0);
    for new in blocks {
        let more = new.1.chunks.len();
        if chunks + more > max_chunks && !group.is_empty() {
            groups.push(std::mem::take(&mut group));
            chunks = 0;
        }
        chunks += more;
        group.push(new);
    }
    groups.push(group);
    groups
}

/// Returns the shards of the new blocks, as many as necessary, and their bytes. The first shard holds the
/// recipes.
fn write_shards(new: Vec<Entry>, recipes: &Recipes) -> Result<(Vec<ShardEntry>, NewShards, Vec<Bytes>)> {
    let groups = divide(new, limits::SHARD_CHUNKS);
    let (mut entries, mut shards, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for (number, group) in groups.into_iter().enumerate() {
        let none = Recipes::default();
        let (bytes, recipe_bytes) = shard::write(&group, if number == 0 { recipes } else { &none })?;
        let id = ShardId { hash: ContentHash::of(&bytes), nonce: Nonce::random()? };
        entries.push(ShardEntry {
            id,
            size_bytes: bytes.len() as u32,
            recipe_bytes: recipe_bytes as u32,
            chunk_count: group.iter().map(|(_, d)| d.chunks.len() as u32).sum(),
        });
        files.push(Bytes::from(bytes));
        shards.push((id, group));
    }
    Ok((entries, shards, files))
}

/// Returns the keys that lead to the shards: the key chunks of each object that has a new chunk.
///
/// A key leads to the shard that lists its chunk. If the chunk is known already, the key leads to the shard
/// where the new chunks of the object begin. So the chunks that versions share lead to the chunks that each
/// version has added.
fn keys(shards: &NewShards, objects: &[ChangedObject]) -> Vec<Key> {
    let wanted: HashSet<&ChunkId> = objects.iter().flat_map(|object| &object.keys).collect();
    let mut listed = HashMap::new();
    // one entry for each new block
    let mut shard_of = Vec::new();
    for (shard, (_, group)) in shards.iter().enumerate() {
        for (_, directory) in group {
            shard_of.push(shard as u32);
            let chunks = directory.chunks.iter().filter(|chunk| wanted.contains(&chunk.id));
            listed.extend(chunks.map(|chunk| (chunk.id, shard as u32)));
        }
    }
    let mut keys = BTreeSet::new();
    for object in objects {
        let mut in_shards = object.terms.iter().filter_map(|term| shard_of.get(term.block as usize));
        let Some(first) = in_shards.next() else { continue };
        keys.extend(object.keys.iter().map(|id| Key::new(id, *listed.get(id).unwrap_or(first))));
    }
    keys.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::block::{Builder, Chunk};
    use crate::format::frame::Encoder;
    use crate::id::ChunkId;

    /// A block of two chunks, the second of which is a key chunk.
    fn block(number: u8) -> Entry {
        let mut ids = [ChunkId([number + 1; 32]), ChunkId([number + 1; 32])];
        ids[1].0[30..].copy_from_slice(&[0, 0]);
        let chunks = ids.map(|id| Chunk { id, bytes: 1 });
        let mut builder = Builder::default();
        builder.push(Encoder::new(3).unwrap().encode(b"ab").unwrap(), &chunks).unwrap();
        let sealed = builder.finish(Nonce([number; 8]));
        (sealed.summary, sealed.directory)
    }

    #[test]
    fn blocks_are_divided_between_shards_and_keys_name_theirs() {
        let groups = divide((0..5).map(block), 4);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(divide(std::iter::empty(), 4).len(), 1, "the recipes need a shard");
        assert_eq!(divide((0..2).map(block), 1).len(), 2, "a block is never divided");
        let id = ShardId { hash: ContentHash([0; 32]), nonce: Nonce([0; 8]) };
        let shards: NewShards = groups.into_iter().map(|group| (id, group)).collect();
        let term = |block| Term {
            block,
            first_chunk: 0,
            chunk_count: 1,
            frames_offset: 0,
            frames_bytes: 1,
            skip_bytes: 0,
            content_bytes: 1,
            checksum: 0,
        };
        let object = |blocks: &[u32], keys: &[ChunkId]| {
            let terms = blocks.iter().map(|block| term(*block)).collect();
            ChangedObject { oid: Oid([0; 32]), size_bytes: 1, terms, keys: keys.to_vec() }
        };
        // one chunk stands in another commit's block, the others are new
        let (old, new) = (ChunkId([99; 32]), |n: u8| block(n).1.chunks[0].id);
        let all = [object(&[7, 3, 0], &[old, new(0), new(3)]), object(&[0], &[old]), object(&[7], &[new(2)])];
        let mut expected =
            [(old, 1), (new(0), 0), (new(3), 1), (old, 0)].map(|(id, shard)| Key::new(&id, shard));
        expected.sort();
        assert_eq!(keys(&shards, &all), expected, "nothing is new in the last one");
    }
}
