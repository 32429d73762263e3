//! The reading cost: known chunks are reused only while the object stays cheap to read.

use super::*;
use crate::units::{KIB, MIB};

/// Returns the number of blocks that hold the newest commit's objects.
fn blocks(place: &Place) -> usize {
    place.referenced(&place.newest_segment()).0.len()
}

fn stored(place: &Place) -> u64 {
    place.files("blocks").iter().map(|f| f.metadata().unwrap().len()).sum()
}

/// Makes `count` commits of 300 KiB each, all in blocks of their own.
fn commits(place: &Place, count: u64) -> Vec<Vec<u8>> {
    let contents: Vec<Vec<u8>> = (0..count).map(|n| noise(700 + n, 300 * KIB)).collect();
    let engine = place.engine();
    contents.iter().for_each(|content| place.object(content).push(&engine).unwrap());
    contents
}

#[test]
fn an_object_is_not_put_together_from_scraps_of_many_blocks() {
    let place = Place::new();
    let scraps: Vec<u8> = commits(&place, 60).iter().flat_map(|c| &c[50 * KIB..110 * KIB]).copied().collect();
    let object = place.object(&scraps);
    object.push(&place.engine()).unwrap();
    // 3.5 MiB: eight requests and four for each MiB, and its own block
    let in_blocks = blocks(&place);
    assert!((16..=24).contains(&in_blocks), "{in_blocks} blocks");
    object.assert_pulls(&place);
    // a version shares chunks with the object, not with the scraps
    let before = stored(&place);
    let version = place.object(&[scraps, noise(799, 20 * KIB)].concat());
    version.push(&place.engine()).unwrap();
    let added = stored(&place) - before;
    assert!(added < 200 * KIB as u64, "{added} bytes");
    version.assert_pulls(&place);
}

#[test]
fn holes_between_what_is_reused_cost_nothing() {
    let place = Place::new();
    let whole = noise(690, 8 * MIB);
    place.object(&whole).push(&place.engine()).unwrap();
    // 80 reused runs, all in one block
    let mut edited = whole;
    for at in (0..edited.len()).step_by(100 * KIB) {
        edited[at..at + 8].copy_from_slice(b"changed!");
    }
    let before = stored(&place);
    let object = place.object(&edited);
    object.push(&place.engine()).unwrap();
    let added = stored(&place) - before;
    assert!(added < 4 * MIB as u64, "{added} bytes");
    assert_eq!(blocks(&place), 2);
    object.assert_pulls(&place);
}
