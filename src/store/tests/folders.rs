//! A directory store that other programs touch: missing folders, foreign files, and modes.

use std::fs;
use std::path::{Path as FilePath, PathBuf};

use bytes::Bytes;

use super::super::*;
use crate::id::{CommitId, ContentHash, Nonce};
use crate::store::listing::FOREIGN_NAMES;

struct Scene {
    _folder: tempfile::TempDir,
    root: PathBuf,
    url: StoreUrl,
}

impl Scene {
    fn new(sharing: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let url = StoreUrl::parse(root.to_str().unwrap()).unwrap();
        let scene = Self { _folder: folder, root, url };
        let sharing = sharing.map(|text| Sharing::parse(text).unwrap());
        assert!(scene.init(Creation { sharing, force: false }).unwrap().1);
        scene
    }

    fn init(&self, creation: Creation) -> Result<(Store, bool)> {
        Store::create_or_join(&self.url, FilePath::new("/"), &Access::default(), creation)
    }

    fn open(&self) -> Store {
        Store::open(&self.url, FilePath::new("/"), &Access::default()).unwrap()
    }

    fn remove(&self, folder: &str) {
        fs::remove_dir_all(self.root.join(folder)).unwrap();
    }

    /// Removes the empty folders, like a copy that leaves them out.
    fn remove_empty_folders(&self) {
        for folder in layout::folders().collect::<Vec<_>>().into_iter().rev() {
            // folders that aren't empty stay
            let _ = fs::remove_dir(self.root.join(folder));
        }
    }

    fn write(&self, name: &str) {
        fs::write(self.root.join(name), b"x").unwrap();
    }
}

fn put_block(store: &Store, content: &[u8]) -> Result<BlockId> {
    let id = BlockId { hash: ContentHash::of(content), nonce: Nonce::random()? };
    store.put_block(&id, vec![Bytes::copy_from_slice(content)], &Moved::default()).wait()?;
    Ok(id)
}

fn put_segment(store: &Store, content: &[u8]) -> Result<()> {
    let id = SegmentId { id: CommitId::new(1)?, hash: ContentHash::of(content) };
    store.put_segment(&id, vec![Bytes::copy_from_slice(content)], &Moved::default()).wait()
}

fn push(store: &Store, content: &[u8]) -> Result<()> {
    store.prepare_writing()?;
    put_block(store, content)?;
    put_segment(store, content)?;
    store.list_condemned().map(drop)
}

#[test]
fn folders_that_a_copy_has_left_out_are_made_again() {
    let scene = Scene::new(Some("group"));
    scene.remove_empty_folders();
    assert!(!scene.root.join("index").exists(), "nothing was in it");
    let store = scene.open();
    assert!(store.list_segments().unwrap().is_empty() && store.list_condemned().unwrap().is_empty());
    push(&store, b"first").unwrap();
    scene.remove_empty_folders();
    for number in 0..20u8 {
        push(&scene.open(), &[number]).unwrap();
    }
    assert_eq!(scene.open().list_segments().unwrap().len(), 21);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(scene.root.join("blocks")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o2770, "as `init` makes them");
    }
    scene.init(Creation::default()).unwrap();
    assert!(layout::folders().all(|folder| scene.root.join(folder).is_dir()), "`init` makes the others");
}

#[test]
fn what_would_hide_a_loss_is_not_made_again() {
    let scene = Scene::new(None);
    push(&scene.open(), b"first").unwrap();
    let refused = |what: &str, done: Result<()>, words: &str| {
        let error = done.expect_err(what);
        assert_eq!(error.kind(), Kind::Unreachable, "{what}: {error}");
        assert!(error.to_string().contains(words), "{what}: {error}");
    };
    // a disk that was mounted at one of the store's folders
    let blocks = scene.root.join("blocks");
    fs::rename(&blocks, scene.root.join("away")).unwrap();
    fs::create_dir(&blocks).unwrap();
    refused("an empty folder", push(&scene.open(), b"second"), "a disk were to be mounted");
    scene.init(Creation::default()).unwrap();
    refused("after joining", push(&scene.open(), b"second"), "a disk were to be mounted");
    fs::remove_dir_all(&blocks).unwrap();
    fs::rename(scene.root.join("away"), &blocks).unwrap();
    // the whole index is gone, but not the blocks
    let opened = scene.open();
    fs::rename(scene.root.join("index"), scene.root.join("away")).unwrap();
    refused("a push", put_segment(&opened, b"second"), "from a backup");
    refused("a reader", opened.list_segments().map(drop), "from a backup");
    fs::rename(scene.root.join("away"), scene.root.join("index")).unwrap();
    // the whole store is gone while it is open
    fs::rename(&scene.root, scene.root.with_extension("away")).unwrap();
    fs::create_dir(&scene.root).unwrap();
    refused("nothing", put_segment(&opened, b"second"), "mounted");
    assert_eq!(fs::read_dir(&scene.root).unwrap().count(), 0, "nothing was made");
    fs::remove_dir(&scene.root).unwrap();
    fs::rename(scene.root.with_extension("away"), &scene.root).unwrap();
    push(&opened, b"second").unwrap();
    // a user knows that these files are lost, and says so
    scene.remove("index");
    assert!(opened.list_segments().is_err());
    scene.init(Creation { force: true, sharing: None }).unwrap();
    push(&scene.open(), b"third").unwrap();
}

#[test]
fn files_of_other_programs_are_passed_over_and_named() {
    let scene = Scene::new(None);
    let store = scene.open();
    push(&store, b"first").unwrap();
    assert!(store.foreign_names().unwrap().is_empty());
    let id = "0".repeat(32) + "-" + &"1".repeat(64);
    let names = ["Thumbs.db", "desktop.ini", "name~", "v", "v2", "vx-1", "manifest (conflicted copy)"];
    for folder in ["index", "condemned"] {
        for name in names.map(str::to_owned).into_iter().chain([".DS_Store".into(), format!("{id} (1)")]) {
            scene.write(&format!("{folder}/{name}"));
        }
        fs::create_dir(scene.root.join(folder).join("folder")).unwrap();
    }
    assert_eq!(store.list_segments().unwrap().len(), 1);
    assert!(store.list_condemned().unwrap().is_empty());
    push(&store, b"second").unwrap();
    let foreign = store.foreign_names().unwrap();
    assert_eq!(foreign.len(), FOREIGN_NAMES, "{foreign:?}");
    assert!(foreign.iter().all(|name| !name.contains(".DS_Store")), "{foreign:?}");
    // but a newer version's condemnations stop a push
    for name in ["v2-x", "v10-anything at all"] {
        scene.write(&format!("condemned/{name}"));
        assert_eq!(push(&store, b"third").unwrap_err().kind(), Kind::TooNew, "{name}");
        fs::remove_file(scene.root.join("condemned").join(name)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn files_have_the_mode_of_the_store_and_the_process_keeps_its_umask() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new(Some("0640"));
    let own = |name: &str| {
        let path = scene.root.with_extension(name);
        fs::write(&path, b"").unwrap();
        path
    };
    let before = own("before");
    let store = scene.open();
    store.prepare_writing().unwrap();
    let id = put_block(&store, b"block").unwrap();
    store.put_manifest(&[]).unwrap();
    let mode = |path: &FilePath| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for name in ["store.json", "index/manifest", layout::block(&id).as_ref()] {
        assert_eq!(mode(&scene.root.join(name)), 0o640, "{name}");
    }
    assert_eq!(mode(&own("after")), mode(&before), "the user's own files");
    let names: Vec<_> =
        fs::read_dir(scene.root.join("index")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["manifest"], "nothing unfinished is left");
}

#[test]
fn a_mode_that_init_does_not_give_is_refused() {
    let scene = Scene::new(Some("all"));
    let path = scene.root.join("store.json");
    let sound = fs::read_to_string(&path).unwrap();
    for mode in ["0777", "0000", "4660", "2660", "0060", "0200", "755"] {
        fs::write(&path, sound.replace("0664", mode)).unwrap();
        let error = Store::open(&scene.url, FilePath::new("/"), &Access::default()).err().expect(mode);
        assert_eq!(error.kind(), Kind::Corrupt, "{mode}: {error}");
    }
}
