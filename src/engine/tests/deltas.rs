//! Delta frames: content that is almost equal to older content takes little space, and comes back
//! unchanged.

use object_store::memory::InMemory;

use super::downloads::{Bucket, counting, put};
use super::*;
use crate::config::DeltaRule;
use crate::format::block::Directory;
use crate::format::delta::FrameNeeds;
use crate::format::limits;
use crate::index::reachable::referenced_blocks;
use crate::local::block_cache::Ranges;
use crate::local::lfs_objects;
use crate::maintain::stats::stats;

impl Place {
    /// Puts an object where git-lfs keeps it, in the clone that the engines of this place work for.
    fn kept(&self, content: &[u8]) -> Object {
        let object = self.object(content);
        let path = lfs_objects::path_in(&self.folder.path().join("lfs/objects"), &object.oid);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::rename(&object.path, &path).unwrap();
        Object { path, ..object }
    }

    /// Returns the directories of all blocks that stand in files of their own.
    fn directories(&self) -> Vec<Directory> {
        let read = |file| Directory::parse(&std::fs::read(file).unwrap()).unwrap();
        self.files("blocks").into_iter().map(read).collect()
    }

    fn deltas(&self) -> usize {
        self.directories().iter().map(Directory::delta_count).sum()
    }

    fn stored_bytes(&self) -> u64 {
        self.store().stored_bytes().unwrap()
    }

    /// Removes the clone's objects, so that later transfers can't use them.
    fn forget_clone(&self) {
        let _ = std::fs::remove_dir_all(self.folder.path().join("lfs"));
    }

    /// Pulls objects into an empty clone, each with an engine that knows nothing.
    #[track_caller]
    fn assert_cold_pulls(&self, objects: &[Object]) {
        for object in objects {
            self.forget_clone();
            object.assert_pulls(self);
        }
    }
}

/// Puts a line into the content in `edits` places. The seed decides the places.
fn edited(content: &[u8], edits: usize, seed: u64) -> Vec<u8> {
    let mut places: Vec<usize> = noise(seed, 8 * edits)
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()) as usize % content.len())
        .collect();
    places.sort_unstable();
    let mut edited = Vec::new();
    let mut from = 0;
    for (number, place) in places.into_iter().enumerate() {
        edited.extend_from_slice(&content[from..place]);
        edited.extend_from_slice(format!("line {number} of {seed}\n").as_bytes());
        from = place;
    }
    edited.extend_from_slice(&content[from..]);
    edited
}

/// Returns a content and its editions, each made from the one before.
fn editions(seed: u64, bytes: usize, edits: usize, count: u64) -> Vec<Vec<u8>> {
    let mut contents = vec![noise(seed, bytes)];
    for edition in 1..count {
        contents.push(edited(contents.last().unwrap(), edits, 1000 * seed + edition));
    }
    contents
}

/// Pushes contents one after the other, each by an engine of its own. All stay in the clone.
fn pushed(place: &Place, contents: &[Vec<u8>]) -> Vec<Object> {
    let push = |content: &Vec<u8>| {
        let object = place.kept(content);
        object.push(&place.engine()).unwrap();
        object
    };
    contents.iter().map(push).collect()
}

#[test]
fn small_edits_take_bytes_and_come_back_as_they_were() {
    for carries in [false, true] {
        let place = Place::which(carries);
        let mut objects = Vec::new();
        for content in editions(300, 6_000_000, 40, 6) {
            let before = place.stored_bytes();
            objects.extend(pushed(&place, &[content]));
            let added = place.stored_bytes() - before;
            assert!(objects.len() == 1 || added < 60_000, "{added} bytes for 40 lines");
        }
        let all = stats(&place.store()).unwrap();
        assert!(all.delta_frames >= Some(5) && all.delta_blocks >= 5, "{all:?}");
        assert!(all.delta_stored_bytes < Some(60_000), "{all:?}");
        assert!(all.delta_content_bytes > Some(3_000_000) && all.delta_depth >= Some(2), "{all:?}");
        place.assert_cold_pulls(&objects);
    }
}

/// The editions need not be there when the engine begins, because it knows the objects that it has pushed
/// itself.
#[test]
fn editions_that_are_pushed_together_are_patches_too() {
    let (place, contents) = (Place::new(), editions(310, 3_000_000, 20, 4));
    let engine = place.engine();
    let objects: Vec<Object> = contents.iter().map(|content| place.object(content)).collect();
    objects.iter().for_each(|object| object.push(&engine).unwrap());
    assert!(place.deltas() >= 3, "{} deltas", place.deltas());
    place.assert_cold_pulls(&objects);
}

#[test]
fn it_can_be_switched_off() {
    let place = Place::new();
    for content in editions(320, 3_000_000, 20, 3) {
        let mut parts = place.parts();
        parts.settings.delta = None;
        place.kept(&content).push(&parts.build()).unwrap();
    }
    assert_eq!(place.deltas(), 0);
    let all = stats(&place.store()).unwrap();
    assert_eq!((all.delta_blocks, all.delta_frames, all.delta_depth), (0, Some(0), Some(0)));
}

/// The bases of an edition are read from this machine, and their content is always verified.
#[test]
fn a_local_object_that_is_damaged_gone_or_cut_short_is_no_base() {
    let contents = editions(330, 3_000_000, 20, 2);
    let damages: [&dyn Fn(&Path); 3] = [
        &|path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes.iter_mut().step_by(1000).for_each(|byte| *byte ^= 1);
            std::fs::write(path, bytes).unwrap();
        },
        &|path| std::fs::remove_file(path).unwrap(),
        &|path| std::fs::File::options().write(true).open(path).unwrap().set_len(1_000_000).unwrap(),
    ];
    for damage in damages {
        let place = Place::new();
        let mut objects = pushed(&place, &contents[..1]);
        damage(&objects[0].path);
        objects.extend(pushed(&place, &contents[1..]));
        assert_eq!(place.deltas(), 0);
        place.assert_cold_pulls(&objects);
    }
}

/// Many edits of the same place unpack only a bounded number of frames.
#[test]
fn no_more_deltas_follow_on_each_other_than_may() {
    let (place, mut objects) = (Place::new(), Vec::new());
    let base = noise(340, 400_000);
    for edition in 0..24u64 {
        let line = format!("edition {edition}\n");
        let content = [&base[..200_000], line.repeat(edition as usize).as_bytes(), &base[200_000..]].concat();
        objects.extend(pushed(&place, &[content]));
    }
    let needs: Vec<FrameNeeds> = place.directories().into_iter().flat_map(|d| d.needs).collect();
    let deepest = needs.iter().map(|needs| needs.depth).max();
    assert_eq!(deepest, Some(limits::DELTA_DEPTH), "{} deltas", needs.len());
    assert!(needs.len() >= 16 && needs.iter().all(|n| n.frames.len() <= limits::DELTA_FRAMES));
    place.assert_cold_pulls(&objects);
}

/// Returns two editions that share only the first part. The rest of the first edition is needed for deltas
/// alone.
fn mostly_edited() -> [Vec<u8>; 2] {
    let same = noise(350, 600_000);
    let rest = noise(351, 1_500_000);
    let changed = rest.chunks(6000).flat_map(|part| [part, b"and a line\n"].concat()).collect::<Vec<u8>>();
    [[&same[..], &rest].concat(), [&same[..], &changed].concat()]
}

#[test]
fn a_base_that_is_missing_or_damaged_names_itself() {
    let contents = mostly_edited();
    for is_gone in [false, true] {
        let place = Place::new();
        let first = pushed(&place, &contents[..1]);
        let base = place.files("blocks").pop().unwrap();
        let second = pushed(&place, &contents[1..]);
        assert!(place.deltas() >= 3, "{} deltas", place.deltas());
        place.assert_cold_pulls(&second);
        let mut bytes = std::fs::read(&base).unwrap();
        if is_gone {
            std::fs::remove_file(&base).unwrap();
        } else {
            // in the part that only deltas need
            bytes[1_400_000] ^= 1;
            std::fs::write(&base, bytes).unwrap();
        }
        place.forget_clone();
        let error = second[0].pull(&place.engine()).unwrap_err();
        let name = base.file_stem().unwrap().to_str().unwrap();
        let kinds = if is_gone { [Kind::NotFound, Kind::NotFound] } else { [Kind::Corrupt, Kind::Corrupt] };
        assert!(kinds.contains(&error.kind()) && error.to_string().contains(name), "{error}");
        // a clone that has the first edition needs no base from the store
        place.kept(&first[0].content);
        if !is_gone {
            second[0].assert_pulls(&place);
        }
    }
}

/// A base may be condemned until the check. Then the object is written again, without deltas.
#[test]
fn a_base_condemned_between_commit_and_check_is_done_without() {
    let contents = mostly_edited();
    let place = Arc::new(Place::new());
    let first = pushed(&place, &contents[..1]);
    let segment = place.newest_segment();
    let (old, _) = place.referenced(&segment);
    let second = place.kept(&contents[1]);
    let (there, blocks, done) = (place.clone(), old.clone(), AtomicUsize::new(0));
    let collect = move |when, call: &Call| {
        if let (When::After, Call::Put(path)) = (when, call)
            && path.starts_with("index/")
            && done.fetch_add(1, Ordering::SeqCst) == 0
        {
            aside(|| {
                there.condemn(&Condemned { blocks: blocks.clone(), records: Vec::new() });
                let gone = there
                    .files("blocks")
                    .into_iter()
                    .filter(|file| blocks.iter().any(|b| file.to_str().unwrap().contains(&b.to_string())));
                gone.for_each(|file| std::fs::remove_file(file).unwrap());
                std::fs::remove_file(there.folder.path().join("store").join(&segment)).unwrap();
            });
        }
        true
    };
    second.push(&place.watched(Arc::new(collect))).unwrap();
    let (referenced, _) = place.referenced(&place.newest_segment());
    assert!(referenced.iter().all(|block| !old.contains(block)), "a condemned block is named");
    place.assert_cold_pulls(&[second]);
    drop(first);
}

/// Every call of a push with deltas fails once, before it was done and after.
#[test]
fn a_store_that_fails_at_any_call_loses_nothing_acknowledged() {
    let contents = editions(360, 600_000, 6, 3);
    for carries in [false, true] {
        let mut failures = 0;
        for when in [When::Before, When::After] {
            for fail_at in 0.. {
                let place = Place::which(carries);
                let mut objects = pushed(&place, &contents[..2]);
                let third = place.kept(&contents[2]);
                let (calls, failed) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
                let told = failed.clone();
                let engine = place.watched(Arc::new(move |now, _| {
                    let fails = now == when && calls.fetch_add(1, Ordering::SeqCst) == fail_at;
                    told.fetch_add(usize::from(fails), Ordering::SeqCst);
                    !fails
                }));
                let acknowledged = third.push(&engine).is_ok();
                objects.push(third);
                let there = if acknowledged { 3 } else { 2 };
                objects[..there].iter().for_each(|object| object.assert_pulls(&place));
                if failed.load(Ordering::SeqCst) == 0 {
                    break;
                }
                failures += 1;
                objects[2].push(&place.engine()).unwrap();
                objects[2].assert_pulls(&place);
            }
        }
        assert!(failures >= 10, "only {failures} calls were failed");
    }
}

/// The referenced blocks are the blocks that recipes name and those that their deltas depend on. Merging
/// keeps that.
#[test]
fn what_patches_are_made_from_is_referred_to() {
    let place = Place::new();
    let contents = mostly_edited();
    pushed(&place, &contents[..1]);
    let (first, _) = place.referenced(&place.newest_segment());
    let segment = place.folder.path().join("store").join(place.newest_segment());
    pushed(&place, &contents[1..]);
    let all = referenced_blocks(&place.store()).unwrap();
    assert_eq!(all.len(), place.files("blocks").len());
    // by the second edition alone
    std::fs::remove_file(segment).unwrap();
    let by_second = referenced_blocks(&place.store()).unwrap();
    assert_eq!(by_second, all);
    assert!(first.iter().all(|block| by_second.contains(block)));
    compaction::compact(&place.store()).unwrap();
    assert_eq!(referenced_blocks(&place.store()).unwrap(), all);
}

impl Bucket {
    /// Creates a bucket with editions that were pushed from one clone, one after the other.
    fn of_editions(delta: Option<DeltaRule>, contents: &[Vec<u8>]) -> Self {
        let (place, backend) = (Place::new(), Arc::new(InMemory::new()));
        let push = |content: &Vec<u8>| {
            let object = place.kept(content);
            let mut parts = place.parts_of(Store::on(backend.clone()).unwrap(), "mine");
            parts.settings.delta = delta;
            object.push(&parts.build()).unwrap();
            object
        };
        let objects = contents.iter().map(push).collect();
        place.forget_clone();
        Self { place, backend, objects }
    }

    /// Pulls an edition by an engine that knows nothing. Returns the number of block reads.
    fn gets(&self, number: usize, kept: Option<&Path>) -> usize {
        let (watch, gets) = counting("blocks/");
        let mut engine = self.engine(watch);
        if let Some(kept) = kept {
            engine.downloader.fetching.ranges = Ranges::at(kept, "store", 1 << 30);
        }
        assert!(self.objects[number].pull(&engine).unwrap() == self.objects[number].content);
        gets.load(Ordering::SeqCst)
    }
}

/// Over a network the bases come with ranges that are read anyway, with or without kept ranges.
#[test]
fn bases_take_no_reads_of_their_own() {
    let contents = editions(370, 8_000_000, 60, 4);
    let [with, without] =
        [Some(DeltaRule::default()), None].map(|delta| Bucket::of_editions(delta, &contents));
    let plain = without.gets(3, None);
    let kept = tempfile::tempdir().unwrap();
    for kept in [None, Some(kept.path())] {
        with.place.forget_clone();
        let gets = with.gets(3, kept);
        assert!(gets <= plain + 3, "{gets} reads instead of {plain}");
    }
    // a clone that has the edition before reads the deltas and nothing else
    for (has, most) in [(2, 2), (1, 6)] {
        with.place.forget_clone();
        with.place.kept(&with.objects[has].content);
        let gets = with.gets(3, None);
        assert!(gets <= most, "{gets} reads by who has edition {has}");
    }
}

/// A push has several new blocks, and the first depends on old ones. The blocks keep their numbers.
#[test]
fn a_push_of_patches_and_several_blocks_comes_back() {
    let first = noise(380, 8_000_000);
    let second = [edited(&first, 60, 381), noise(382, 9_000_000)].concat();
    let third = [edited(&second, 80, 383), noise(384, 9_000_000)].concat();
    let bucket = Bucket::of_editions(Some(DeltaRule::default()), &[first, second, third]);
    for number in [2, 1, 0] {
        bucket.place.forget_clone();
        bucket.gets(number, None);
    }
}

/// A base that came damaged, ahead of the deltas, is read once more. A base that is damaged in the store
/// fails soon, even with many deltas above it.
#[test]
fn a_damaged_base_is_read_again_once() {
    let [first, _] = mostly_edited();
    let mut contents = vec![first];
    for edition in 1..8 {
        let (same, rest) = contents[edition - 1].split_at(600_000);
        let line = format!("and line {edition}\n");
        let changed = rest.chunks(6000).flat_map(|part| [part, line.as_bytes()].concat());
        contents.push(same.iter().copied().chain(changed).collect());
    }
    let bucket = Bucket::of_editions(Some(DeltaRule::default()), &contents);
    let base = bucket.blocks().into_iter().max_by_key(|block| bucket.get(block).len()).unwrap();
    let right = bucket.get(&base);
    let mut damaged = right.clone();
    damaged[1_400_000] ^= 1;

    put(&bucket.backend, &base, damaged.clone());
    let (backend, block, gets) = (bucket.backend.clone(), base.clone(), AtomicUsize::new(0));
    let engine = bucket.engine(Arc::new(move |when, call| {
        let is_of_base =
            matches!(call, Call::Get(path) if block.as_ref().contains(path) || path.contains(block.as_ref()));
        if when == When::Before && is_of_base && gets.fetch_add(1, Ordering::SeqCst) == 1 {
            aside(|| put(&backend, &block, right.clone()));
        }
        true
    }));
    assert!(bucket.objects[7].pull(&engine).unwrap() == bucket.objects[7].content);

    bucket.place.forget_clone();
    put(&bucket.backend, &base, damaged);
    let (watch, gets) = counting("blocks/");
    let error = bucket.objects[7].pull(&bucket.engine(watch)).unwrap_err();
    let (name, gets) = (base.filename().unwrap().trim_end_matches(".zst"), gets.load(Ordering::SeqCst));
    assert!(error.kind() == Kind::Corrupt && error.to_string().contains(name), "{error}");
    assert!(gets <= 40, "{gets} reads");
}
