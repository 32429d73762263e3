//! Attacks with a pushing key on other users, as described in `docs/security.md`. They are noticed, and can
//! be repaired.

use super::*;
use crate::format::block::{Chunk, Directory, Entry, FrameEntry, Summary};
use crate::format::chunking::{GEAR_16K, chunk_id};
use crate::format::merge::Merge;
use crate::format::recipe::{Record, Term};
use crate::format::segment::{BlockEntry, Contents, ShardEntry};
use crate::format::shard::{self, Recipes};
use crate::id::{Nonce, ShardId, now_milliseconds};
use crate::maintain::replaced_records;
use crate::maintain::replaced_records::REPLACED_CHECKED;

fn put(place: &Place, contents: Contents) -> SegmentId {
    let bytes = contents.write();
    let id = CommitId::new(now_milliseconds()).unwrap();
    let id = SegmentId { id, hash: ContentHash::of(&bytes) };
    place.put_segment(&id, bytes);
    id
}

/// Returns the findings of a look at the store.
fn looked(place: &Place) -> Vec<String> {
    let store = place.store();
    let cache = Cache::none();
    let stored = CachedStore { store: &store, cache: &cache };
    let mut index = Index::default();
    index.refresh(stored).unwrap();
    let found = replaced_records::look(stored, &index, &CondemnedNames::default()).unwrap();
    found.iter().map(Error::to_string).collect()
}

fn move_away(place: &Place, file: &str) {
    std::fs::remove_file(place.folder.path().join("store").join(file)).unwrap();
}

/// Returns the one segment that an error blames.
fn blamed(error: &Error) -> String {
    let text = error.to_string();
    let name =
        text.split("index/").nth(1).and_then(|rest| rest.get(..97)).unwrap_or_else(|| panic!("{text}"));
    format!("index/{name}")
}

#[test]
fn what_a_segment_hides_is_seen_and_pulled_all_the_same() {
    for carries in [false, true] {
        let place = Place::which(carries);
        let objects: Vec<Object> = (0..6).map(|n| place.object(&noise(50_000 + n, 3000))).collect();
        objects.iter().for_each(|object| object.push(&place.engine()).unwrap());
        assert_eq!(looked(&place), [""; 0]);
        let hides = put(&place, Contents { replaces: place.segments(), ..Contents::default() });
        objects.iter().for_each(|object| object.assert_pulls(&place));
        let found = looked(&place);
        assert_eq!(found.len(), REPLACED_CHECKED, "{found:?}");
        assert!(
            found.iter().all(|finding| finding.contains(&format!("is replaced by index/{hides}"))),
            "{found:?}"
        );
        let done = compaction::compact(&place.store()).unwrap();
        assert_eq!((done.findings.len(), done.deleted_segments), (6, 0), "{done:?}");
        move_away(&place, &format!("index/{hides}"));
        assert_eq!(looked(&place), [""; 0]);
        objects.iter().for_each(|object| object.assert_pulls(&place));
    }
}

/// A merged segment repeats the records, but the carried blocks would be gone with the replaced segment.
#[test]
fn what_is_merged_without_what_it_carries_is_seen_and_pulled_all_the_same() {
    let place = Place::which(true);
    let object = place.object(&noise(50_100, 3000));
    object.push(&place.engine()).unwrap();
    let carrier = place.segments()[0];
    let bytes = place.store().get_segment(&carrier, place.listed_bytes(&carrier)).wait().unwrap();
    let segment = Segment::open(bytes).unwrap();
    let mut merge = Merge::default();
    merge.add(&segment).unwrap();
    merge.replace(carrier, &segment, |_| true);
    let bytes = merge.finish().unwrap().into_bytes();
    let id = CommitId::new(now_milliseconds()).unwrap().weighing(2);
    place.put_segment(&SegmentId { id, hash: ContentHash::of(&bytes) }, bytes);
    object.assert_pulls(&place);
    let found = looked(&place);
    assert!(found.len() == 1 && found[0].contains("has no file of its own"), "{found:?}");
    // the remedy of the finding
    compaction::compact(&place.store()).unwrap();
    assert_eq!((looked(&place), place.segments().len()), (Vec::new(), 1));
    object.assert_pulls(&place);
}

/// Honest merges by pushes and compactions hide nothing.
#[test]
fn what_pushes_merge_is_said_again() {
    let place = Place::which(true);
    let engine = place.engine();
    (0..60).for_each(|n| place.object(&noise(50_200 + n, 2000)).push(&engine).unwrap());
    assert!(place.segments().len() == 60);
    assert_eq!(looked(&place), [""; 0]);
}

/// Writes a record of the object that leads to other content.
fn wrong_record(place: &Place, object: &Object, other: &Object) -> SegmentId {
    let store = place.store();
    let cache = Cache::none();
    let stored = CachedStore { store: &store, cache: &cache };
    let mut index = Index::default();
    index.refresh(stored).unwrap();
    let found = index.find(stored, &other.oid).found.remove(0);
    let terms = found.record.terms.iter().map(|term| Term { checksum: term.checksum ^ 1, ..*term }).collect();
    let record =
        Record { oid: object.oid, commit: CommitId::new(now_milliseconds()).unwrap(), terms, ..found.record };
    let (blocks, repositories) = (found.blocks, vec!["theirs".to_owned()]);
    put(place, Contents { records: vec![record], blocks, repositories, ..Contents::default() })
}

#[test]
fn a_wrong_record_is_passed_over_or_named_and_pushed_anew_when_it_is_moved_away() {
    let place = Place::new();
    let [other, object] = [50_300, 50_301].map(|seed| place.object(&noise(seed, 200_000)));
    other.push(&place.engine()).unwrap();
    object.push(&place.engine()).unwrap();
    let honest = place.newest_segment();
    let wrong = wrong_record(&place, &object, &other);
    object.assert_pulls(&place);
    move_away(&place, &honest);
    let error = object.pull(&place.engine()).unwrap_err();
    assert_eq!(blamed(&error), format!("index/{wrong}"));
    // a push believes the record, and commits one of its own
    object.push(&place.engine()).unwrap();
    for _ in 0..2 {
        let error = object.pull(&place.engine()).unwrap_err();
        move_away(&place, &blamed(&error));
    }
    object.push(&place.engine()).unwrap();
    object.assert_pulls(&place);
    other.assert_pulls(&place);
}

/// Returns an entry that claims that a block of `size_bytes` has the chunks of `content`.
fn lie(id: BlockId, size_bytes: u32, content: &[u8]) -> Entry {
    let (mut rest, mut chunks, mut frames) = (content, Vec::new(), Vec::<FrameEntry>::new());
    while let Some(length) = GEAR_16K.next_cut(rest, true) {
        let bytes = length as u32;
        chunks.push(Chunk { id: chunk_id(&rest[..length]), bytes });
        match frames.last_mut().filter(|frame| frame.content_bytes + bytes <= 256 * 1024) {
            Some(frame) => {
                frame.content_bytes += bytes;
                frame.chunk_count += 1;
            }
            None => {
                frames.push(FrameEntry { kind: 0, chunk_count: 1, stored_bytes: 0, content_bytes: bytes })
            }
        }
        rest = &rest[length..];
    }
    let frames_bytes = size_bytes - 200;
    let stored_bytes = frames_bytes / frames.len() as u32;
    frames.iter_mut().for_each(|frame| frame.stored_bytes = stored_bytes);
    frames[0].stored_bytes += frames_bytes - stored_bytes * frames.len() as u32;
    let directory = Directory { chunks, frames, needs: Vec::new() };
    (Summary { frames_bytes, ..directory.summary(id, size_bytes) }, directory)
}

#[test]
fn a_shard_that_lies_is_mended_by_moving_the_block_away_until_all_is_pushed_again() {
    let place = Place::new();
    let [other, object] = [50_400, 50_401].map(|seed| place.object(&noise(seed, 600_000)));
    other.push(&place.engine()).unwrap();
    let file = place.files("blocks").remove(0);
    let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
    let size_bytes = file.metadata().unwrap().len() as u32;
    let entry = lie(BlockId::parse(&name).unwrap(), size_bytes, &object.content);
    // if several shards name a block, the first one counts
    let honest = place.files("shards").remove(0);
    let honest = ShardId::parse(honest.file_name().unwrap().to_str().unwrap()).unwrap();
    let written = |n: u8| {
        let recipes = Recipes {
            blocks: vec![BlockId { hash: ContentHash([n; 32]), nonce: Nonce([0; 8]) }],
            recipes: vec![],
        };
        let (bytes, recipe_bytes) = shard::write(std::slice::from_ref(&entry), &recipes).unwrap();
        (ShardId { hash: ContentHash::of(&bytes), nonce: Nonce([1; 8]) }, bytes, recipe_bytes)
    };
    let (id, bytes, recipe_bytes) = (0..=255).map(written).min_by_key(|(id, ..)| *id).unwrap();
    assert!(id < honest, "try another seed");
    let listed = ShardEntry {
        id,
        size_bytes: bytes.len() as u32,
        recipe_bytes: recipe_bytes as u32,
        chunk_count: entry.0.chunk_count,
    };
    place.store().put_shard(&id, bytes.into()).wait().unwrap();
    let blocks = vec![BlockEntry { summary: entry.0, dependencies: Vec::new() }];
    put(&place, Contents { blocks, shards: vec![listed], ..Contents::default() });
    object.push(&place.engine()).unwrap();
    let error = object.pull(&place.engine()).unwrap_err().to_string();
    assert!(error.contains(&name) && error.contains("by the record in index/"), "{error}");
    let away = place.folder.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    object.push(&place.engine()).unwrap();
    object.assert_pulls(&place);
    std::fs::rename(&away, &file).unwrap();
    object.assert_pulls(&place);
    other.assert_pulls(&place);
}
