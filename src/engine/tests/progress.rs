//! The progress of an object at each step of its push, which `git lfs` shows.

use super::*;

/// Pushes an object, and returns the bytes done before each PUT, with the folder that the PUT goes to.
fn followed(place: &Place, object: &Object) -> Vec<(String, u64)> {
    let progress: Arc<Progress> = Arc::default();
    let seen: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
    let (told, watched) = (seen.clone(), progress.clone());
    let engine = place.watched(Arc::new(move |when, call| {
        if let (When::Before, Call::Put(path)) = (when, call) {
            let folder = path.split('/').next().unwrap().to_owned();
            told.lock().unwrap().push((folder, watched.done()));
        }
        true
    }));
    engine.upload(&object.oid, object.content.len() as u64, &object.path, &progress).unwrap();
    assert_eq!(progress.done(), object.content.len() as u64, "all of it is counted when it is stored");
    seen.lock().unwrap().clone()
}

#[test]
fn what_is_known_counts_when_it_is_looked_up_and_what_is_novel_when_it_is_stored() {
    let place = Place::new();
    let (known, novel) = (noise(300, 3_000_000), noise(301, 1_000_000));
    let object = place.object(&[known.clone(), novel.clone()].concat());
    // one part is known from a commit, another from a push that was not committed
    place.object(&known[..1_500_000]).push(&place.engine()).unwrap();
    let cut_off =
        place.watched(Arc::new(|_, call| !matches!(call, Call::Put(path) if path.starts_with("index/"))));
    place.object(&known).push(&cut_off).unwrap_err();
    for (folder, done) in followed(&place, &object) {
        let (least, most) = match folder.as_str() {
            // without the chunks at the seams
            "blocks" => (2_800_000, 3_000_000),
            // its shard goes with the block
            "shards" => (2_800_000, 4_000_000),
            _ => (4_000_000, 4_000_000),
        };
        assert!((least..=most).contains(&done), "{done} bytes before {folder}/");
    }
}

#[test]
fn an_object_that_is_there_is_not_read_again() {
    let place = Place::new();
    let object = place.object(&noise(302, 1_000_000));
    object.push(&place.engine()).unwrap();
    std::fs::remove_file(&object.path).unwrap();
    object.push(&place.engine()).unwrap();
}
