//! Sparse deduplication: pushes to a store with too many chunks to know all. Key chunks lead to the right
//! shards.

use super::*;
use crate::config;
use crate::config::MEMORY_BYTES_PER_CHUNK;
use crate::units::MIB;

impl Place {
    /// Returns an engine without any copies, for which all shards are too many to read.
    fn sparse(&self, store: Store, memory_bytes: u64) -> Engine {
        let mut parts = self.parts_of(store, "mine");
        parts.settings.shard_cache_bytes = 0;
        parts.settings.memory_bytes = memory_bytes;
        parts.build()
    }

    fn stored(&self) -> u64 {
        self.files("blocks").iter().map(|f| f.metadata().unwrap().len()).sum()
    }

    /// Pushes content, and returns the bytes that this adds to the blocks.
    fn adds(&self, content: &[u8]) -> usize {
        let before = self.stored();
        let object = self.object(content);
        object.push(&self.sparse(self.store(), config::MEMORY_BYTES)).unwrap();
        object.assert_pulls(self);
        (self.stored() - before) as usize
    }
}

#[test]
fn what_versions_have_in_common_leads_to_what_each_has_added() {
    let place = Place::new();
    let mut content = noise(500, 48 * MIB);
    place.adds(&content);
    // The first chunk is another one. So a key chunk in the middle leads to the shard, and the chunks
    // before it are found too.
    content.splice(100..100, noise(501, 1000));
    let added = place.adds(&content);
    assert!(added < MIB, "{added} bytes");
    // each edit is so small that it has no key chunk, and the next version has it too
    for version in 0..6 {
        let at = (5 + 7 * version) * MIB;
        content[at..at + MIB].copy_from_slice(&noise(510 + version as u64, MIB));
        let added = place.adds(&content);
        assert!(added < MIB + MIB / 2, "{added} bytes by version {version}");
    }
}

#[test]
fn objects_of_a_group_are_scouted_like_a_single_one() {
    let place = Place::new();
    let parts: Vec<Vec<u8>> = (0..20).map(|n| noise(520 + n, MIB + 1000)).collect();
    place.adds(&parts.concat());
    let before = place.stored();
    let engine = place.sparse(place.store(), config::MEMORY_BYTES);
    // each object begins elsewhere, and only the first has a key chunk
    let objects: Vec<Object> = parts.iter().map(|part| place.object(&part[..])).collect();
    engine.set_askers(objects.len());
    std::thread::scope(|scope| {
        objects.iter().for_each(|object| drop(scope.spawn(|| object.push(&engine).unwrap())));
    });
    let added = place.stored() - before;
    assert!(added < 8 * MIB as u64, "{added} bytes of 20 MiB");
    objects.iter().for_each(|object| object.assert_pulls(&place));
}

#[test]
fn only_shards_are_read_that_key_chunks_lead_to() {
    let place = Place::new();
    let others: Vec<Object> = (0..20).map(|n| place.object(&noise(550 + n, MIB))).collect();
    let engine = place.engine();
    others.iter().for_each(|object| object.push(&engine).unwrap());
    let wanted = &others[7];
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let watch: Watch = Arc::new(move |when, call| {
        if when == When::Before && matches!(call, Call::Get(path) if path.starts_with("shards/")) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        true
    });
    let engine = place.sparse(place.store().watched(watch), config::MEMORY_BYTES);
    let before = place.stored();
    let longer = place.object(&[wanted.content.clone(), noise(580, 10_000)].concat());
    longer.push(&engine).unwrap();
    assert!(place.stored() - before < 100_000);
    let read = read.load(Ordering::SeqCst);
    assert!((1..=3).contains(&read), "{read} shards");
}

#[test]
fn no_more_is_learned_than_there_is_memory_for() {
    let place = Place::new();
    let content = noise(590, 8 * MIB);
    place.adds(&content);
    let engine = place.sparse(place.store(), 100 * MEMORY_BYTES_PER_CHUNK);
    let longer = place.object(&[content, noise(591, 10_000)].concat());
    longer.push(&engine).unwrap();
    assert!(engine.uploader.state().learned.known.chunks() > 100, "its own are known");
    longer.assert_pulls(&place);
    // and the next object begins without known chunks
    let other = place.object(&noise(592, 5 * MIB));
    other.push(&engine).unwrap();
    let known = engine.uploader.state().learned.known.chunks();
    assert!(known < 500, "{known} chunks");
}

#[test]
fn a_shard_that_is_gone_or_damaged_is_done_without() {
    for damage in
        [|file: &PathBuf| std::fs::remove_file(file), |file: &PathBuf| std::fs::write(file, b"not a shard")]
    {
        let place = Place::new();
        let content = noise(600, 4 * MIB);
        place.adds(&content);
        place.files("shards").iter().for_each(|file| damage(file).unwrap());
        assert!(place.adds(&[content, noise(601, 10_000)].concat()) > 4 * MIB);
    }
}
