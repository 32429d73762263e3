//! The commit protocol (`docs/format.md`, "Write order").
//!
//! First the blocks and shards become durable. Then the index segment is put, and that is the commit. The
//! caller checks the blocks and records that the commit relies on afterwards.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;

use super::block_writer::{BlocksInFlight, ClosedBlock};
use super::change::{Change, ChangedObject};
use crate::error::{Error, Result};
use crate::format::block::Entry;
use crate::format::inline::{Carried, CarriedName};
use crate::format::limits;
use crate::format::recipe::Record;
use crate::format::segment::{Contents, Key, ShardEntry};
use crate::format::shard::{self, Recipes};
use crate::id::{ChunkId, CommitId, ContentHash, Nonce, ShardId, now_milliseconds};
use crate::index::catalog::Catalog;
use crate::index::merge_policy::{self, OfCommit};
use crate::index::relied::Relied;
use crate::store::{Pending, Store};

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
    in_flight: BlocksInFlight<'s>,
) -> Result<Committed> {
    let new_blocks = std::mem::take(&mut change.new);
    let shards = WrittenShards::of(new_blocks, &change.recipes(repository))?;
    let stored = store_files(catalog, &change, &shards, in_flight)?;
    // if another store is mounted meanwhile, the commit would name blocks that are not there
    catalog.store.confirm()?;
    let commit = CommitId::new(now_milliseconds())?;
    let relied = change.relied(commit, repository);
    let own_block = stored.inline_block.as_ref().map(|block| block.id);
    let relies_on_others = change.blocks.iter().any(|block| own_block != Some(block.summary.id));
    let is_inline = !stored.inline.is_empty();
    let WrittenShards { entries, shards, .. } = shards;
    let bytes = segment_bytes(commit, repository, change, entries, &shards, stored.inline)?;
    let snapshot = catalog.snapshot();
    let OfCommit { id, bytes, is_merged } =
        merge_policy::segment_of(catalog.stored(), &snapshot.index, commit, bytes)?;
    let moved = stored.inline_block.as_ref().map(|block| block.moved.clone()).unwrap_or_default();
    catalog.store.put_segment(&id, vec![bytes.clone()], &moved).wait()?;
    stored.inline_block.iter().for_each(ClosedBlock::is_sent);
    for Relied { record, .. } in &relied {
        tracing::info!("commit {commit}: object {}", record.oid);
    }
    catalog.add(id, bytes)?;
    let is_one_file = is_inline && !is_merged && !relies_on_others;
    Ok(Committed { relied, shards, begun: stored.begun, is_one_file })
}

/// The files of a commit: durable, or to stand inside its segment.
struct StoredFiles {
    /// The files that the segment carries. Empty if all files are durable.
    inline: Vec<Carried>,
    /// The block among them.
    inline_block: Option<ClosedBlock>,
    /// The moment when the last block was durable.
    begun: Instant,
}

/// Makes blocks and shards durable, unless the segment can carry them.
fn store_files<'s>(
    catalog: &'s Catalog,
    change: &Change,
    shards: &WrittenShards,
    mut in_flight: BlocksInFlight<'s>,
) -> Result<StoredFiles> {
    let store = &catalog.store;
    let most_bytes = store.reach().carried_bytes;
    let mut small = in_flight.take_small();
    let mut inline = Vec::new();
    // the inline files must leave room for the segment's own data
    if in_flight.is_empty() && change.most_segment_bytes() <= limits::CARRIER_BYTES / 2 {
        inline = carried(most_bytes, small.as_ref(), shards);
    }
    let waits_for_round_trips = most_bytes > 0;
    let mut pending = Vec::new();
    if inline.is_empty() {
        if let Some(small) = small.take() {
            in_flight.send(store, small);
        }
        // saves a round trip where the push waits for round trips
        if waits_for_round_trips {
            pending = shards.put(store);
        }
    }
    in_flight.settle()?;
    let begun = Instant::now();
    // On a full disk, a shard would be left behind at each attempt, if it were put before its blocks.
    if inline.is_empty() && !waits_for_round_trips {
        pending = shards.put(store);
    }
    pending.into_iter().try_for_each(Pending::wait)?;
    Ok(StoredFiles { inline, inline_block: small, begun })
}

/// Returns the bytes of the commit's own segment.
fn segment_bytes(
    commit: CommitId,
    repository: &str,
    change: Change,
    shard_entries: Vec<ShardEntry>,
    shards: &NewShards,
    carried: Vec<Carried>,
) -> Result<Vec<u8>> {
    let record = |object: ChangedObject| {
        let ChangedObject { oid, size_bytes, terms, .. } = object;
        let record = Record { oid, size_bytes, commit, repository: 0, terms };
        // the last check before other commits rely on it
        record.check().map(|()| record)
    };
    let count = change.objects.len();
    let keys = keys(shards, &change.objects);
    let bytes = Contents {
        records: change.objects.into_iter().map(record).collect::<Result<_>>()?,
        blocks: change.blocks,
        shards: shard_entries,
        keys,
        repositories: vec![repository.to_owned()],
        replaces: Vec::new(),
        carried,
    }
    .write();
    if bytes.len() > limits::SEGMENT_READ_BYTES {
        return Err(Error::invalid(format!("the recipes of {count} objects are too large for one commit")));
    }
    Ok(bytes)
}

/// Returns the files that a small commit carries in its segment: its new block, if there is one, and its
/// shard. Returns none if they are too large.
fn carried(most_bytes: usize, small: Option<&ClosedBlock>, shards: &WrittenShards) -> Vec<Carried> {
    let [(shard, _)] = &shards.shards[..] else { return Vec::new() };
    let [file] = &shards.files[..] else { return Vec::new() };
    if file.len() + small.map_or(0, ClosedBlock::size_bytes) > most_bytes {
        return Vec::new();
    }
    let block =
        small.map(|small| Carried { name: CarriedName::Block(small.id), pieces: small.pieces.clone() });
    let shard = Carried { name: CarriedName::Shard(*shard), pieces: vec![file.clone()] };
    block.into_iter().chain([shard]).collect()
}

/// Divides the new blocks between shards of at most `max_chunks`. Without a new block there is still one
/// shard, because it holds the recipes.
fn divide(blocks: impl IntoIterator<Item = Entry>, max_chunks: usize) -> Vec<Vec<Entry>> {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    let mut chunks = 0;
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

/// The shards of a commit. The three lists have the same order.
struct WrittenShards {
    entries: Vec<ShardEntry>,
    shards: NewShards,
    files: Vec<Bytes>,
}

impl WrittenShards {
    /// Writes the shards of the new blocks, as many as necessary. The first shard holds the recipes.
    fn of(new: Vec<Entry>, recipes: &Recipes) -> Result<Self> {
        let mut written = Self { entries: Vec::new(), shards: Vec::new(), files: Vec::new() };
        let none = Recipes::default();
        for (number, group) in divide(new, limits::SHARD_CHUNKS).into_iter().enumerate() {
            let (bytes, recipe_bytes) = shard::write(&group, if number == 0 { recipes } else { &none })?;
            let id = ShardId { hash: ContentHash::of(&bytes), nonce: Nonce::random()? };
            written.entries.push(ShardEntry {
                id,
                size_bytes: bytes.len() as u32,
                recipe_bytes: recipe_bytes as u32,
                chunk_count: group.iter().map(|(_, d)| d.chunks.len() as u32).sum(),
            });
            written.files.push(Bytes::from(bytes));
            written.shards.push((id, group));
        }
        Ok(written)
    }

    /// Begins to store the shards.
    fn put<'s>(&self, store: &'s Store) -> Vec<Pending<'s, ()>> {
        let put = |((id, _), bytes): (&(ShardId, Vec<Entry>), &Bytes)| store.put_shard(id, bytes.clone());
        self.shards.iter().zip(&self.files).map(put).collect()
    }
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
    use crate::format::recipe::Term;
    use crate::id::Oid;

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
