//! Untrusted bytes: no input makes a parser panic or take much memory. The functions in `targets.rs` also are
//! fuzz targets. Here each runs on a bounded number of arbitrary bytes and of damaged files. `PROPTEST_CASES`
//! raises the number.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use super::allocations::peak_of;
use super::samples::{FLAVOURS, content, sealed};
use super::{golden, golden_values, targets};

const CASES: u32 = 2048;

/// One thing done to a file. Places in the first bytes, where headers are, come as often as others.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Place, u8),
    Number(Place, u32),
    Remove(Place, usize),
    Copy(Place, Place, usize),
    Truncate(Place),
    Append(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Anywhere(Index),
    Beginning(Index),
    End(Index),
}

impl Place {
    fn within(self, length: usize) -> usize {
        let near = length.min(400);
        match self {
            Self::Anywhere(index) => index.index(length),
            Self::Beginning(index) => index.index(near),
            Self::End(index) => length - 1 - index.index(near),
        }
    }
}

fn any_place() -> impl Strategy<Value = Place> {
    let index = || any::<Index>();
    prop_oneof![
        index().prop_map(Place::Anywhere),
        index().prop_map(Place::Beginning),
        index().prop_map(Place::End)
    ]
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let limits = proptest::sample::select(vec![
        0u32,
        1,
        2,
        0x7FFF_FFFF,
        0x8000_0000,
        u32::MAX,
        16_384,
        16_385,
        262_144,
        262_145,
        8 << 20,
        (64 << 20) + 1,
    ]);
    prop_oneof![
        4 => (any_place(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (any_place(), prop_oneof![limits, 0u32..300]).prop_map(|(at, n)| Damage::Number(at, n)),
        1 => (any_place(), 1usize..200).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (any_place(), any_place(), 1usize..200).prop_map(|(a, b, length)| Damage::Copy(a, b, length)),
        1 => any_place().prop_map(Damage::Truncate),
        1 => vec(any::<u8>(), 1..100).prop_map(Damage::Append),
    ]
}

fn damage(bytes: &mut Vec<u8>, damage: &Damage) {
    let length = bytes.len();
    if let Damage::Append(more) = damage {
        bytes.extend_from_slice(more);
    }
    if length == 0 {
        return;
    }
    match damage {
        Damage::Flip(at, bit) => bytes[at.within(length)] ^= 1 << bit,
        Damage::Number(at, number) => {
            // most fields stand at a multiple of four
            let at = at.within(length) / 4 * 4;
            let number = &number.to_le_bytes()[..4.min(length - at)];
            bytes[at..at + number.len()].copy_from_slice(number);
        }
        Damage::Remove(at, count) => {
            let at = at.within(length);
            bytes.drain(at..(at + count).min(length));
        }
        Damage::Copy(from, to, count) => {
            let from = from.within(length);
            let piece = bytes[from..(from + count).min(length)].to_vec();
            let to = to.within(length);
            bytes.splice(to..to, piece);
        }
        Damage::Truncate(at) => bytes.truncate(at.within(length)),
        Damage::Append(_) => {}
    }
}

/// Runs a target on arbitrary bytes and on damaged `files`. It may take a fixed amount of memory, and a
/// multiple of its input.
fn attack(target: fn(&[u8]), files: Vec<Vec<u8>>, fixed_bytes: usize) {
    let bounded = |bytes: &[u8]| {
        let peak = peak_of(|| target(bytes));
        assert!(peak <= fixed_bytes + 32 * bytes.len(), "{} bytes took {peak}", bytes.len());
    };
    files.iter().for_each(|file| bounded(file));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { CASES };
    let mut runner = TestRunner::new(ProptestConfig { cases, ..config });
    let arbitrary = vec(any::<u8>(), 0..2000);
    let run = |bytes: Vec<u8>| {
        bounded(&bytes);
        Ok(())
    };
    runner.run(&arbitrary, run).unwrap_or_else(|e| panic!("arbitrary bytes: {e}"));
    let damages = (proptest::sample::select(files), vec(any_damage(), 1..4));
    let run = |(mut bytes, damages): (Vec<u8>, Vec<Damage>)| {
        damages.iter().for_each(|d| damage(&mut bytes, d));
        bounded(&bytes);
        Ok(())
    };
    runner.run(&damages, run).unwrap_or_else(|e| panic!("a damaged file: {e}"));
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

#[test]
fn chunking() {
    attack(targets::chunking, vec![vec![0; 200 * KIB], content(FLAVOURS[0], 1, 200 * KIB)], 64 * KIB);
}

#[test]
fn frame() {
    let frames =
        FLAVOURS.map(|f| sealed(&[content(f, 1, 6000)], 1000, golden_values::NONCE).0.pieces[0].to_vec());
    // a delta too, for which a base of up to 1 MiB is made up
    let frames = frames.into_iter().chain([golden::delta_frame()]).collect();
    attack(targets::frame, frames, 3 * MIB);
}

#[test]
fn block() {
    let files = ["block-v1.zst", "block-v1-delta.zst"].map(golden::read);
    attack(targets::block, files.to_vec(), 3 * MIB);
}

#[test]
fn shard() {
    // the recipes may claim to unpack to 64 MiB
    let files = ["shard-v1.bin", "shard-v1-delta.bin"].map(golden::read);
    attack(targets::shard, files.to_vec(), 65 * MIB);
}

#[test]
fn recipes() {
    attack(targets::recipes, vec![golden::recipes_unpacked()], MIB);
}

#[test]
fn segment() {
    let files = ["segment-v1.bin", "segment-v1-delta.bin"].map(golden::read);
    attack(targets::segment, files.to_vec(), MIB);
}

#[test]
fn head() {
    let files = ["segment-v1.bin", "segment-v1-delta.bin", "segment-v1-carrying.bin"].map(golden::read);
    attack(targets::head, files.to_vec(), 3 * MIB);
}

#[test]
fn merge_shards() {
    let files = ["shard-v1.bin", "shard-v1-delta.bin"].map(golden::read);
    attack(targets::merge_shards, files.to_vec(), 65 * MIB);
}

#[test]
fn delta() {
    let with_base = [golden::delta_frame(), golden_values::bases().content].concat();
    attack(targets::delta, vec![with_base], 3 * MIB);
}

#[test]
fn request() {
    let lines = [
        r#"{"event":"init","operation":"upload","remote":"origin","concurrent":true,"concurrenttransfers":8}"#,
        r#"{"event":"upload","oid":"aa","size":18446744073709551615,"path":"/a","action":null}"#,
        r#"{"event":"terminate"}"#,
    ];
    attack(targets::request, lines.map(|line| line.as_bytes().to_vec()).to_vec(), 64 * KIB);
}

#[test]
fn reply() {
    let oid = "07".repeat(32);
    let lines = [
        format!("{{}}\n{{\"event\":\"progress\",\"oid\":\"{oid}\",\"bytesSoFar\":9,\"bytesSinceLast\":9}}\n"),
        format!("{{}}\n{{\"event\":\"complete\",\"oid\":\"{oid}\",\"path\":\"/a\"}}\n"),
        format!(
            "{{}}\n{{\"event\":\"complete\",\"oid\":\"{oid}\",\"error\":{{\"code\":5,\"message\":\"it; try\"}}}}\n"
        ),
    ];
    attack(targets::reply, lines.map(String::into_bytes).to_vec(), 64 * KIB);
}

#[test]
fn refusal() {
    let bodies = [
        "67\n<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>a</Message></Error>",
        "6718446744073709551615\n{\"error\":{\"status\":\"a\",\"message\":\"b\"}}",
        "67Fri, 31 Dec 9999 23:59:59 GMT\n<html>",
    ];
    attack(targets::refusal, bodies.map(|body| body.as_bytes().to_vec()).to_vec(), 64 * KIB);
}

#[test]
fn condemned() {
    attack(targets::condemned, vec![golden::read("condemned-v1.bin")], 64 * KIB);
}

#[test]
fn manifest() {
    attack(targets::manifest, vec![golden::read("manifest-v1.bin")], 64 * KIB);
}

#[test]
fn url() {
    let urls = [
        "cdc::s3://team/a%20b?region=eu-1&endpoint=https://h:1/x&pathStyle=true&repository=caf%C3%A9",
        "cdc::az://team/x?account=acme1",
        "gs://team/models",
        "cdc::https://host/path?repository=a",
        "file:///srv/a%3Fb",
    ];
    attack(targets::url, urls.map(|url| url.as_bytes().to_vec()).to_vec(), 64 * KIB);
}

#[test]
fn journal() {
    // a block's name, its length, that of its frames, of their content, and how many chunks there are
    let lengths = [1000_u32, 900, 2000, 3].map(u32::to_le_bytes).concat();
    attack(targets::journal, vec![[vec![7; 40], lengths].concat()], 64 * KIB);
}

#[test]
fn clone() {
    attack(targets::clone, vec![b"/home/user/work/.git/lfs".to_vec(), b"\\\\host\\share".to_vec()], 64 * KIB);
}

#[test]
fn range() {
    let names = ["0-65536", "4294967294-4294967295", "7-7.ab12.part"];
    attack(targets::range, names.map(|name| name.as_bytes().to_vec()).to_vec(), 64 * KIB);
}

#[test]
fn store_json() {
    let files = ["store-v1.json", "store-v1-bucket.json"].map(golden::read);
    attack(targets::store_json, files.to_vec(), 64 * KIB);
}
