//! Cuts of content, and ids of the chunks.

use git_lfs_cdc::format::chunking::{GEAR_16K, Suite, chunk_id};
use proptest::collection::vec;
use proptest::prelude::*;

use super::samples::{Flavour, any_content, content};

/// The lengths of all chunks of `data`.
fn lengths(suite: &Suite, mut data: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some(length) = suite.next_cut(data, true) {
        lengths.push(length);
        data = &data[length..];
    }
    lengths
}

/// The same, from reads of the given sizes (over and over) into a buffer that grows and shrinks.
fn lengths_by_reads(suite: &Suite, data: &[u8], reads: &[usize]) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut buffer = Vec::new();
    let mut rest = data;
    for read in reads.iter().cycle() {
        let (arrived, behind) = rest.split_at((*read).min(rest.len()));
        buffer.extend_from_slice(arrived);
        rest = behind;
        while let Some(length) = suite.next_cut(&buffer, rest.is_empty()) {
            lengths.push(length);
            buffer.drain(..length);
        }
        if rest.is_empty() {
            break;
        }
    }
    assert!(buffer.is_empty());
    lengths
}

/// The ends of all chunks.
fn ends(data: &[u8]) -> Vec<usize> {
    let lengths = lengths(&GEAR_16K, data);
    lengths.iter().scan(0, |end, length| Some(std::mem::replace(end, *end + length) + length)).collect()
}

fn any_suite() -> impl Strategy<Value = Suite> {
    let suite = |(min_bits, target, max, normalisation)| Suite {
        name: "any",
        min_bytes: 1usize << min_bits,
        target_bytes: 1usize << (min_bits + target),
        max_bytes: 1usize << (min_bits + target + max),
        normalisation,
    };
    prop_oneof![Just(GEAR_16K), (6u32..12, 1u32..4, 1u32..4, 0u32..4).prop_map(suite)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_cover_the_data_and_keep_their_limits(
        suite in any_suite(), data in any_content(0..=600 * 1024)
    ) {
        let lengths = lengths(&suite, &data);
        prop_assert_eq!(lengths.iter().sum::<usize>(), data.len());
        if let Some((last, others)) = lengths.split_last() {
            prop_assert!((1..=suite.max_bytes).contains(last));
            prop_assert!(others.iter().all(|l| (suite.min_bytes..=suite.max_bytes).contains(l)));
        }
    }

    #[test]
    fn reads_make_no_difference(
        suite in any_suite(), data in any_content(0..=400 * 1024), reads in vec(1usize..200_000, 1..8)
    ) {
        prop_assert_eq!(lengths_by_reads(&suite, &data, &reads), lengths(&suite, &data));
    }
}

#[test]
fn one_byte_at_a_time_makes_no_difference() {
    let data = content(Flavour::Noise, 3, 150_000);
    assert_eq!(lengths_by_reads(&GEAR_16K, &data, &[1]), lengths(&GEAR_16K, &data));
}

#[test]
fn no_data_has_no_chunk_and_the_last_chunk_waits_for_no_data() {
    assert_eq!(GEAR_16K.next_cut(&[], true), None);
    assert_eq!(GEAR_16K.next_cut(&[], false), None);
    assert_eq!(GEAR_16K.next_cut(&[7; 64 * 1024 - 1], false), None);
    assert_eq!(GEAR_16K.next_cut(&[7; 64 * 1024], false), Some(64 * 1024));
    assert_eq!(GEAR_16K.next_cut(&[7], true), Some(1));
}

#[test]
fn cuts_come_back_in_step_after_an_edit() {
    const AFTER_BYTES: usize = 256 * 1024;
    for seed in 0..16 {
        let before = content(Flavour::Noise, seed, 1 << 20);
        let edit = before.len() / 2 + seed as usize * 1000;
        let mut changed = before.clone();
        changed[edit] ^= 1;
        let mut longer = before.clone();
        longer.insert(edit, 7);
        for (after, shift) in [(changed, 0), (longer, 1)] {
            let old = ends(&before);
            let new = ends(&after);
            let ahead = |ends: &[usize]| ends.iter().copied().filter(|e| *e <= edit).collect::<Vec<_>>();
            assert_eq!(ahead(&old), ahead(&new), "seed {seed}: cuts before the edit moved");
            let behind = |ends: &[usize], shift: usize| -> Vec<usize> {
                ends.iter().map(|e| e - shift.min(*e)).filter(|e| *e > edit + AFTER_BYTES).collect()
            };
            assert!(!behind(&old, 0).is_empty());
            assert_eq!(behind(&old, 0), behind(&new, shift), "seed {seed}: cuts after the edit moved");
        }
    }
}

/// The same cuts by the definition of the Gear hash, a byte at a time.
fn lengths_by_a_plain_loop(suite: &Suite, data: &[u8]) -> Vec<usize> {
    let target_bits = suite.target_bytes.ilog2();
    let mut lengths = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let mut hash = 0u64;
        let mut length = suite.min_bytes - 64;
        while start + length < data.len() && length < suite.max_bytes {
            let byte = usize::from(data[start + length]);
            hash = (hash << 1).wrapping_add(gearhash::DEFAULT_TABLE[byte]);
            length += 1;
            let harder = length <= suite.target_bytes;
            let bits =
                if harder { target_bits + suite.normalisation } else { target_bits - suite.normalisation };
            if length > suite.min_bytes && hash.leading_zeros() >= bits {
                break;
            }
        }
        lengths.push(length.min(data.len() - start));
        start += length;
    }
    lengths
}

#[test]
fn a_plain_loop_cuts_the_same() {
    let data = [content(Flavour::Noise, 5, 1 << 20), content(Flavour::Text, 5, 300_000)].concat();
    let small = Suite { min_bytes: 128, target_bytes: 512, max_bytes: 4096, ..GEAR_16K };
    for suite in [GEAR_16K, small] {
        assert_eq!(lengths(&suite, &data), lengths_by_a_plain_loop(&suite, &data));
    }
}

/// Any other crate, table or parameter would cut a store's objects elsewhere, and find no chunk again.
#[test]
fn the_cuts_of_known_data_never_change() {
    let noise = content(Flavour::Noise, 20_261_121, 3 << 20);
    let data = [noise, content(Flavour::Text, 1, 1 << 20), vec![0; 300_000]].concat();
    let ends = ends(&data);
    let mut listed = blake3::Hasher::new();
    let mut start = 0;
    for end in &ends {
        listed.update(&(*end as u64).to_le_bytes());
        listed.update(&chunk_id(&data[start..*end]).0);
        start = *end;
    }
    assert_eq!(ends.len(), 227);
    assert_eq!(ends[..6], [17997, 35840, 60700, 80954, 101591, 118654]);
    assert_eq!(
        listed.finalize().to_hex().as_str(),
        "1782e43909cd25be212fa630022e5995995f4c377ce4c0e0468a80e88a1fb983"
    );
}

#[test]
fn the_id_of_known_bytes_never_changes() {
    let id = "5e394857e53fb1dd63f636211b2fd59950825632df4d0ff3456d9d4d1cb581a4";
    assert_eq!(chunk_id(b"git-lfs-cdc").to_string(), id);
    assert_ne!(chunk_id(b"").0, *blake3::hash(b"").as_bytes());
}

#[test]
fn only_known_suites_are_used() {
    assert_eq!(Suite::by_name("gear-16k-n2").ok(), Some(GEAR_16K));
    let error = Suite::by_name("gear-1m").expect_err("there is no such suite");
    assert_eq!(error.kind(), git_lfs_cdc::error::Kind::TooNew);
}
