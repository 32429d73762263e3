//! Large segments that are read in part, in the store. Lookups take ranges of them, until a copy pays.

use super::*;
use crate::format::block::Summary;
use crate::format::recipe::{Record, Term};
use crate::format::segment::{BlockEntry, Contents, ShardEntry};
use crate::id::{Nonce, ShardId};
use crate::index::segment::WHOLE_SEGMENT_BYTES;

/// The ranges of segments that were requested.
type Asked = Arc<Mutex<Vec<String>>>;

fn asked_for(place: &Place) -> (Asked, Store) {
    let asked = Asked::default();
    let told = asked.clone();
    let store = place.store().watched(Arc::new(move |when, call| {
        if when == When::Before
            && let Call::Get(path) = call
            && path.starts_with("index/")
        {
            told.lock().unwrap().push(path.clone());
        }
        true
    }));
    (asked, store)
}

fn oid(number: u32) -> Oid {
    Oid(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// Returns a segment of `objects` objects, like a merge of many commits.
fn large(objects: u32) -> Vec<u8> {
    large_in(objects, ContentHash([1; 32]))
}

/// Returns such a segment with blocks of this hash.
fn large_in(objects: u32, hash: ContentHash) -> Vec<u8> {
    let mut contents = Contents { repositories: vec!["mine".into()], ..Contents::default() };
    for number in 0..objects {
        let id = BlockId { hash, nonce: Nonce(u64::from(number).to_le_bytes()) };
        let summary = Summary { id, size_bytes: 1000, frames_bytes: 900, content_bytes: 700, chunk_count: 1 };
        contents.blocks.push(BlockEntry { summary, dependencies: vec![] });
        let term = Term {
            block: number,
            first_chunk: 0,
            chunk_count: 1,
            frames_offset: 0,
            frames_bytes: 900,
            skip_bytes: 0,
            content_bytes: 700,
            checksum: 1,
        };
        let commit = CommitId::new(u64::from(number) + 1).unwrap();
        let oid = oid(number);
        contents.records.push(Record { oid, size_bytes: 700, commit, repository: 0, terms: vec![term] });
    }
    let id = ShardId { hash: ContentHash([2; 32]), nonce: Nonce([2; 8]) };
    contents.shards.push(ShardEntry { id, size_bytes: 100, recipe_bytes: 10, chunk_count: 1 });
    contents.write()
}

/// Returns a store with one large segment of `objects` objects.
fn place_with(objects: u32) -> (Place, SegmentId, u64) {
    let place = Place::new();
    let bytes = large(objects);
    let id = SegmentId { id: CommitId::new(9_000_000).unwrap(), hash: ContentHash::of(&bytes) };
    let size_bytes = bytes.len() as u64;
    place.put_segment(&id, bytes);
    (place, id, size_bytes)
}

fn refreshed(stored: CachedStore<'_>) -> Index {
    let mut index = Index::default();
    index.refresh(stored).unwrap();
    index
}

#[track_caller]
fn assert_finds(index: &Index, stored: CachedStore<'_>, number: u32) {
    let Lookup { found, damaged } = index.find(stored, &oid(number));
    assert!(damaged.is_none() && found.len() == 1, "{damaged:?}");
    assert_eq!(found[0].blocks[0].summary.id.nonce, Nonce(u64::from(number).to_le_bytes()));
    assert_eq!(found[0].repository, "mine");
}

#[test]
fn one_object_of_a_large_segment_takes_four_requests_and_many_take_a_copy() {
    let (place, id, size_bytes) = place_with(50_000);
    assert!(size_bytes > 8 << 20);
    let (asked, store) = asked_for(&place);
    let cache = Cache::at(Some(place.folder.path().join("cache")));
    let stored = CachedStore { store: &store, cache: &cache };
    let copy = place.folder.path().join("cache/index").join(id.to_string());
    let index = refreshed(stored);
    assert_eq!(asked.lock().unwrap().len(), 1, "its head");
    assert_finds(&index, stored, 4711);
    let absent = index.find(stored, &Oid([0xAB; 32]));
    assert!(absent.found.is_empty() && absent.damaged.is_none());
    assert_eq!(index.shards(stored).unwrap().len(), 1);
    let read = asked.lock().unwrap().len();
    assert!(read <= 7 && !copy.exists(), "{read} requests");

    (0..1000).for_each(|number| assert_finds(&index, stored, number * 50));
    let read = asked.lock().unwrap().len();
    // the parts cost no more than a copy, with the cost of each request
    let most = size_bytes / u64::from(store.reach().fetch_gap_bytes) + 10;
    assert!((read as u64) < most, "{read} requests");
    assert_eq!(copy.metadata().unwrap().len(), size_bytes);

    // the next process has the copy
    let (asked, store) = asked_for(&place);
    let stored = CachedStore { store: &store, cache: &cache };
    let index = refreshed(stored);
    assert_finds(&index, stored, 49_999);
    assert_eq!(index.segments().next().unwrap().whole(stored).unwrap().record_count().unwrap(), 50_000);
    assert_eq!(*asked.lock().unwrap(), [""; 0]);

    // until no list names it any more
    std::fs::remove_file(&place.files("index")[0]).unwrap();
    refreshed(stored);
    assert!(!copy.exists());
}

#[test]
fn a_damaged_copy_is_done_without() {
    let (place, id, size_bytes) = place_with(3_000);
    let store = place.store();
    let cache = Cache::at(Some(place.folder.path().join("cache")));
    let stored = CachedStore { store: &store, cache: &cache };
    let copy = place.folder.path().join("cache/index").join(id.to_string());
    let keep = |bytes: &[u8]| {
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::write(&copy, bytes).unwrap();
    };
    let sound = std::fs::read(&place.files("index")[0]).unwrap();
    let mut in_pages = sound.clone();
    in_pages[size_bytes as usize / 10..].fill(0x55);
    let mut in_head = sound.clone();
    in_head[50] ^= 1;
    for damaged in [&in_pages[..], &in_head, &sound[1..], &[]] {
        keep(damaged);
        let index = refreshed(stored);
        assert_finds(&index, stored, 17);
        keep(damaged);
        let index = refreshed(stored);
        assert_eq!(index.segments().next().unwrap().whole(stored).unwrap().record_count().unwrap(), 3_000);
    }
}

#[test]
fn where_nothing_is_kept_a_copy_stands_in_memory() {
    let (place, _, _) = place_with(3_000);
    let (asked, store) = asked_for(&place);
    let cache = Cache::none();
    let stored = CachedStore { store: &store, cache: &cache };
    let index = refreshed(stored);
    (0..100).for_each(|number| assert_finds(&index, stored, number));
    let read = asked.lock().unwrap().len();
    assert!(read < 20, "{read} requests");
}

#[test]
fn a_damaged_page_in_the_store_is_an_error_of_what_it_hides() {
    let (place, _, size_bytes) = place_with(50_000);
    let file = &place.files("index")[0];
    let mut bytes = std::fs::read(file).unwrap();
    bytes[size_bytes as usize / 4..][..1000].fill(0x55);
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
    let store = place.store();
    let cache = Cache::none();
    let stored = CachedStore { store: &store, cache: &cache };
    let index = refreshed(stored);
    let (mut found, mut damaged) = (0, 0);
    // too few lookups to pay for a copy, which would be refused as a whole
    for number in 0..20 {
        let lookup = index.find(stored, &oid(number * 1000));
        found += lookup.found.len();
        damaged += usize::from(lookup.damaged.is_some_and(|e| e.kind() == Kind::Corrupt));
    }
    assert_eq!(found + damaged, 20);
    assert!(found > 15);
}

/// All pages of the forged copy have the right checksums, because a forger can make them.
#[test]
fn a_forged_copy_of_a_large_segment_is_not_believed() {
    let (place, id, size_bytes) = place_with(20_000);
    assert!(size_bytes > WHOLE_SEGMENT_BYTES);
    let folder = place.folder.path().join("cache");
    let forged = large_in(20_000, ContentHash([2; 32]));
    assert_eq!(forged.len() as u64, size_bytes);
    std::fs::create_dir_all(folder.join("index")).unwrap();
    std::fs::write(folder.join("index").join(id.to_string()), forged).unwrap();
    let store = place.store();
    let cache = Cache::at(Some(folder.clone()));
    let stored = CachedStore { store: &store, cache: &cache };
    let index = refreshed(stored);
    let found = index.find(stored, &oid(7)).found.remove(0);
    assert_eq!(found.blocks[0].summary.id.hash, ContentHash([1; 32]));
    assert!(!folder.join("index").join(id.to_string()).exists(), "it is removed");
}

/// A reader has seen a segment that is then merged into another and deleted.
#[test]
fn an_object_is_found_though_its_segment_was_merged_and_deleted_meanwhile() {
    let place = Place::new();
    let object = place.object(&noise(7, 300_000));
    object.push(&place.engine()).unwrap();
    let own = place.segments()[0];
    let own = place.store().get_segment(&own, place.listed_bytes(&own)).wait().unwrap();
    let own = Segment::open(own).unwrap();
    let others = Segment::open(large(3_000)).unwrap();
    let put = |milliseconds, replaced: Option<SegmentId>| {
        let mut merge = crate::format::merge::Merge::default();
        merge.add(&own).unwrap();
        merge.add(&others).unwrap();
        replaced.into_iter().for_each(|id| merge.replace(id, &own, |_| true));
        let bytes = merge.finish().unwrap().into_bytes();
        let id = SegmentId { id: CommitId::new(milliseconds).unwrap(), hash: ContentHash::of(&bytes) };
        place.put_segment(&id, bytes);
        id
    };
    let first = put(CommitId::LAST_MILLISECONDS - 10, None);
    std::fs::remove_file(&place.files("index")[0]).unwrap();
    let engine = place.engine();
    engine.prepare(Direction::Download);
    assert!(engine.downloader.snapshot().index.segments().any(|s| s.id == first));
    let second = put(CommitId::LAST_MILLISECONDS - 5, Some(first));
    std::fs::remove_file(place.folder.path().join("store/index").join(first.to_string())).unwrap();
    assert!(object.pull(&engine).unwrap() == object.content);
    assert!(engine.downloader.snapshot().index.segments().any(|s| s.id == second));
}
