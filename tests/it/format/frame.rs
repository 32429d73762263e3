//! Frames: content comes out as it went in, takes hardly more than its own size, and no other content comes
//! out.

use git_lfs_cdc::error::Kind as ErrorKind;
use git_lfs_cdc::format::frame::{Decoder, Encoded, Encoder, Frame, Kind};
use proptest::prelude::*;
use proptest::sample::Index;

use super::samples::{FLAVOURS, Flavour, any_content, content};
use super::zstd_tool::zstd;
use git_lfs_cdc::format::limits;

fn encode(content: &[u8]) -> Encoded {
    Encoder::new(3).and_then(|mut e| e.encode(content)).expect("content can be encoded")
}

fn decode(stored: &[u8]) -> git_lfs_cdc::error::Result<Vec<u8>> {
    let frame = Frame::first(stored)?;
    Ok(Decoder::new()?.decode(&frame)?.to_vec())
}

fn kind_of_error(stored: &[u8]) -> ErrorKind {
    decode(stored).expect_err("the frame can't be decoded").kind()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn content_survives(content in any_content(1..=limits::FRAME_CONTENT_BYTES), level in 1i32..6) {
        let encoded = Encoder::new(level)?.encode(&content)?;
        prop_assert!(encoded.stored.len() <= limits::FRAME_STORED_BYTES);
        prop_assert!(encoded.stored.len() <= content.len() + 200);
        let followed = [&encoded.stored[..], b"what comes next"].concat();
        let frame = Frame::first(&followed)?;
        prop_assert_eq!(frame.kind, encoded.kind);
        prop_assert_eq!(frame.stored, &encoded.stored[..]);
        prop_assert_eq!(frame.content_bytes, content.len());
        prop_assert!(decode(&followed)? == content);
    }

    #[test]
    fn a_truncated_frame_is_an_error(content in any_content(1..=20_000), at in any::<Index>()) {
        let stored = encode(&content).stored;
        let cut = &stored[..at.index(stored.len())];
        prop_assert_eq!(kind_of_error(cut), ErrorKind::Corrupt);
    }

    #[test]
    fn a_flipped_bit_never_gives_other_content(
        content in any_content(1..=20_000), at in any::<Index>(), near in any::<bool>()
    ) {
        let mut stored = encode(&content).stored;
        let bit = at.index(8 * if near { stored.len().min(40) } else { stored.len() });
        stored[bit / 8] ^= 1 << (bit % 8);
        if let Ok(decoded) = decode(&stored) {
            prop_assert!(decoded == content, "bit {bit}");
        }
    }
}

#[test]
fn one_encoder_and_one_decoder_serve_many_frames() {
    let mut encoder = Encoder::new(3).unwrap();
    let mut decoder = Decoder::new().unwrap();
    for (seed, flavour) in FLAVOURS.into_iter().cycle().enumerate().take(18) {
        for length in [1, 7, 4095, 4097, 65_536, 100_003, limits::FRAME_CONTENT_BYTES] {
            let content = content(flavour, seed as u64, length);
            let encoded = encoder.encode(&content).unwrap();
            let frame = Frame::first(&encoded.stored).unwrap();
            assert!(decoder.decode(&frame).unwrap() == content, "{flavour:?}, {length} bytes");
        }
    }
}

#[test]
fn numbers_are_grouped_and_gain_by_it() {
    for (flavour, percent) in [(Flavour::Halves, 92), (Flavour::Singles, 92), (Flavour::Doubles, 97)] {
        let content = content(flavour, 5, limits::FRAME_CONTENT_BYTES);
        let encoded = encode(&content);
        assert_eq!(encoded.kind, Kind::Grouped, "{flavour:?}");
        let plain = zstd::bulk::compress(&content, 3).unwrap().len();
        let stored = encoded.stored.len();
        assert!(stored * 100 < plain * percent, "{flavour:?}: {stored} bytes, plain {plain}");
    }
}

#[test]
fn other_content_is_plain() {
    for flavour in [Flavour::Noise, Flavour::Text, Flavour::Zeros] {
        assert_eq!(
            encode(&content(flavour, 5, limits::FRAME_CONTENT_BYTES)).kind,
            Kind::Plain,
            "{flavour:?}"
        );
    }
}

#[test]
fn noise_costs_a_few_bytes() {
    let full = encode(&content(Flavour::Noise, 9, limits::FRAME_CONTENT_BYTES));
    assert_eq!(full.stored.len(), limits::FRAME_CONTENT_BYTES + 19);
    let least = encode(&[42]);
    assert_eq!(least.stored.len(), 1 + 16);
}

#[test]
#[ignore = "needs zstd"]
fn zstd_itself_unpacks_plain_and_raw_frames() {
    for (flavour, length) in [
        (Flavour::Noise, limits::FRAME_CONTENT_BYTES),
        (Flavour::Noise, 128 * 1024),
        (Flavour::Noise, 128 * 1024 + 1),
        (Flavour::Noise, 1),
        (Flavour::Text, 50_000),
        (Flavour::Zeros, limits::FRAME_CONTENT_BYTES),
    ] {
        let content = content(flavour, 11, length);
        let unpacked = zstd(&["-dc"], &encode(&content).stored);
        assert!(unpacked == content, "{flavour:?}, {length} bytes");
    }
}

#[test]
fn a_wrong_length_of_content_is_found() {
    let raw = encode(&content(Flavour::Noise, 1, 5000)).stored;
    for claimed in [0u32, 1, 4999, 5001, 70_000, 262_144, 262_145, u32::MAX] {
        let mut lie = raw.clone();
        lie[5..9].copy_from_slice(&claimed.to_le_bytes());
        assert_eq!(kind_of_error(&lie), ErrorKind::Corrupt, "{claimed}");
    }
    let grouped = encode(&content(Flavour::Singles, 1, 20_000)).stored;
    for claimed in [0u32, 19_999, 20_001, 20_004, 262_145, u32::MAX] {
        let mut lie = grouped.clone();
        lie[12..16].copy_from_slice(&claimed.to_le_bytes());
        assert_eq!(kind_of_error(&lie), ErrorKind::Corrupt, "{claimed}");
    }
}

#[test]
fn unknown_kinds_are_too_new() {
    let grouped = encode(&content(Flavour::Singles, 1, 20_000)).stored;
    for (at, byte) in [(8, 3), (8, 255), (9, 0), (9, 3), (9, 16), (10, 1), (11, 1)] {
        let mut future = grouped.clone();
        future[at] = byte;
        assert_eq!(kind_of_error(&future), ErrorKind::TooNew, "byte {at} = {byte}");
    }
    let other_skippable = [&[0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 9], &encode(b"content").stored[..]].concat();
    assert_eq!(kind_of_error(&other_skippable), ErrorKind::Corrupt);
}
