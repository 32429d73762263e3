//! The commit protocol (`docs/format.md`, "Write order"): blocks are durable, then shards, then the
//! index segment is put, and that is the commit. What it relies on is checked after it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::condemned::CondemnedNames;
use super::index::{Found, Index};
use super::pack::Packed;
use crate::error::{Error, Result};
use crate::format::block::{Directory, Summary};
use crate::format::chunking;
use crate::format::condemned::CondemnedRecord;
use crate::format::recipe::{Record, Term};
use crate::format::segment::{BlockEntry, Contents, Key, ShardEntry};
use crate::format::shard::{self, Recipes, ShardRecipe, ShardTerm};
use crate::id::{CommitId, ContentHash, Nonce, Oid, SegmentId, ShardId};
use crate::limit;
use crate::store::Store;

/// What an acknowledgement stands on: none of it may be condemned when it is given.
pub(super) struct Relied {
    pub blocks: Vec<Summary>,
    pub record: CondemnedRecord,
}

impl Relied {
    pub(super) fn on(found: &Found) -> Self {
        Self {
            blocks: found.blocks.clone(),
            record: CondemnedRecord {
                oid: found.record.oid,
                commit: found.record.commit,
                repository: found.repository.clone(),
            },
        }
    }

    pub(super) fn is_condemned(&self, condemned: &CondemnedNames) -> bool {
        condemned.has_record(&self.record) || self.blocks.iter().any(|b| condemned.has_block(&b.id))
    }
}

/// An object that is to be committed.
pub(super) struct Change {
    oid: Oid,
    size_bytes: u64,
    terms: Vec<Term>,
    /// What terms refer to, then what those blocks depend on.
    blocks: Vec<Summary>,
    named: usize,
    /// The directories of the first blocks: those that are new.
    directories: Vec<Directory>,
}

impl Change {
    /// An object that was packed.
    pub(super) fn packed(packed: Packed) -> Self {
        Self {
            oid: packed.object.oid,
            size_bytes: packed.object.size_bytes,
            terms: packed.terms,
            named: packed.blocks.len(),
            blocks: packed.blocks,
            directories: packed.directories,
        }
    }

    /// A fresh record for an object that the store has already: no data.
    pub(super) fn renewed(found: &Found) -> Self {
        Self {
            oid: found.record.oid,
            size_bytes: found.record.size_bytes,
            terms: found.record.terms.clone(),
            blocks: found.blocks.clone(),
            named: found.named,
            directories: Vec::new(),
        }
    }
}

/// The shards of a commit and their blocks, as the next upload wants them.
pub(super) type NewShards = Vec<(ShardId, Vec<(Summary, Directory)>)>;

/// Commits one object. When this returns, its shards and its index segment are durable; its blocks
/// were before. What must hold for an acknowledgement is returned, and is to be checked now.
pub(super) fn commit(
    store: &Store,
    index: &mut Index,
    repository: &str,
    change: Change,
) -> Result<(Relied, NewShards)> {
    let recipes = recipes(repository, &change);
    let (entries, shards) = put_shards(store, &change.blocks, change.directories, &recipes)?;
    let keys = keys(&shards, &change.terms, change.size_bytes);
    let commit = CommitId::new(now_milliseconds())?;
    let blocks = change.blocks.clone();
    let dependencies: Vec<u32> = (change.named as u32..change.blocks.len() as u32).collect();
    let entry = |(number, summary): (usize, Summary)| BlockEntry {
        summary,
        // which block depends on which is not known here: all on all is true of the whole object
        dependencies: if number < change.named { dependencies.clone() } else { Vec::new() },
    };
    let record =
        Record { oid: change.oid, size_bytes: change.size_bytes, commit, repository: 0, terms: change.terms };
    // the last look before others rely on it
    record.check()?;
    let bytes = Contents {
        records: vec![record],
        blocks: change.blocks.into_iter().enumerate().map(entry).collect(),
        shards: entries,
        keys,
        repositories: vec![repository.to_owned()],
        replaces: Vec::new(),
    }
    .write();
    if bytes.len() > limit::SEGMENT_READ_BYTES {
        return Err(Error::invalid(format!(
            "the recipe of object {} is too large for one commit",
            change.oid
        )));
    }
    let id = SegmentId { id: commit, hash: ContentHash::of(&bytes) };
    store.put_segment(&id, bytes.clone())?;
    tracing::info!("commit {commit}: object {}, {} bytes", change.oid, change.size_bytes);
    index.add(id, bytes)?;
    let record = CondemnedRecord { oid: change.oid, commit, repository: repository.to_owned() };
    Ok((Relied { blocks, record }, shards))
}

/// The time by this machine's clock, in milliseconds since 1970.
pub(super) fn now_milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// The recipe as the shard keeps it.
fn recipes(repository: &str, change: &Change) -> Recipes {
    let term = |term: &Term| ShardTerm {
        block: term.block,
        first_chunk: term.first_chunk,
        chunk_count: term.chunk_count,
        content_bytes: term.content_bytes,
        checksum: term.checksum,
    };
    let recipe = ShardRecipe {
        oid: change.oid,
        size_bytes: change.size_bytes,
        repository: repository.to_owned(),
        terms: change.terms.iter().map(term).collect(),
    };
    Recipes { blocks: change.blocks.iter().map(|b| b.id).collect(), recipes: vec![recipe] }
}

/// Divides the new blocks between shards of at most `max_chunks`. There is one even for no block: it holds
/// the recipes.
fn divide(
    blocks: impl Iterator<Item = (Summary, Directory)>,
    max_chunks: usize,
) -> Vec<Vec<(Summary, Directory)>> {
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

/// Writes the shards of the new blocks, as many as it takes; the first one holds the recipes. When this
/// returns, they are durable.
fn put_shards(
    store: &Store,
    blocks: &[Summary],
    directories: Vec<Directory>,
    recipes: &Recipes,
) -> Result<(Vec<ShardEntry>, NewShards)> {
    let groups = divide(blocks.iter().copied().zip(directories), limit::SHARD_CHUNKS);
    let (mut entries, mut shards, mut pending) = (Vec::new(), Vec::new(), Vec::new());
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
        pending.push(store.put_shard(&id, bytes));
        shards.push((id, group));
    }
    pending.into_iter().try_for_each(crate::store::Pending::wait)?;
    Ok((entries, shards))
}

/// The key chunks of the new blocks, and the first chunk of a large object if that is new.
fn keys(shards: &NewShards, terms: &[Term], size_bytes: u64) -> Vec<Key> {
    let first = terms.first().filter(|_| size_bytes >= limit::KEY_FILE_BYTES);
    let first = first.map(|term| (term.block as usize, usize::from(term.first_chunk)));
    let mut keys = Vec::new();
    let mut block = 0;
    for (shard, (_, group)) in shards.iter().enumerate() {
        for (_, directory) in group {
            for (number, chunk) in directory.chunks.iter().enumerate() {
                if chunking::is_key(&chunk.id) || first == Some((block, number)) {
                    keys.push(Key::new(&chunk.id, shard as u32));
                }
            }
            block += 1;
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::block::{Builder, Chunk};
    use crate::format::frame::Encoder;
    use crate::id::ChunkId;

    /// A block of two chunks, the second of which is a key chunk.
    fn block(number: u8) -> (Summary, Directory) {
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
        let expected = |chunks: &[(u8, usize, u32)]| -> Vec<Key> {
            let key = |(number, chunk, shard): &(u8, usize, u32)| {
                Key::new(&block(*number).1.chunks[*chunk].id, *shard)
            };
            chunks.iter().map(key).collect()
        };
        let all = [(0, 1, 0), (1, 1, 0), (2, 1, 1), (3, 1, 1), (4, 1, 2)];
        assert_eq!(keys(&shards, &[], 0), expected(&all));
        let first = Term {
            block: 3,
            first_chunk: 0,
            chunk_count: 1,
            frames_offset: 0,
            frames_bytes: 1,
            skip_bytes: 0,
            content_bytes: 1,
            checksum: 0,
        };
        let large = [(0, 1, 0), (1, 1, 0), (2, 1, 1), (3, 0, 1), (3, 1, 1), (4, 1, 2)];
        assert_eq!(keys(&shards, &[first], limit::KEY_FILE_BYTES), expected(&large));
        assert_eq!(keys(&shards, &[first], limit::KEY_FILE_BYTES - 1), expected(&all));
    }
}
