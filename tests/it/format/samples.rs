//! Data and values that other tests use: always the same for the same seed.

use git_lfs_cdc::format::block::{Builder, Chunk, FramePlace, Sealed};
use git_lfs_cdc::format::chunking::chunk_id;
use git_lfs_cdc::format::frame::Encoder;
use git_lfs_cdc::id::{BlockId, ContentHash, Nonce};
use proptest::prelude::{Strategy, any, prop_oneof};

/// Marsaglia's xorshift64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(length).collect()
    }

    /// Close to a normal distribution around zero, as weights are.
    fn weight(&mut self) -> f64 {
        let sum: i64 = (0..6).map(|_| (self.next() >> 40) as i64 - (1 << 23)).sum();
        sum as f64 / (1u64 << 28) as f64
    }
}

/// Kinds of content that compress differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Noise,
    Text,
    Zeros,
    Halves,
    Singles,
    Doubles,
}

pub const FLAVOURS: [Flavour; 6] =
    [Flavour::Noise, Flavour::Text, Flavour::Zeros, Flavour::Halves, Flavour::Singles, Flavour::Doubles];

/// `length` bytes of this kind.
pub fn content(flavour: Flavour, seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed << 1 | 1);
    random.bytes(64);
    let numbers = length.div_ceil(2);
    let mut bytes: Vec<u8> = match flavour {
        Flavour::Noise => random.bytes(length),
        Flavour::Text => return text(&mut random, length),
        Flavour::Zeros => vec![0; length],
        // the upper half of a single: bfloat16
        Flavour::Halves => {
            (0..numbers).flat_map(|_| (random.weight() as f32).to_le_bytes()[2..].to_vec()).collect()
        }
        Flavour::Singles => {
            (0..numbers / 2 + 1).flat_map(|_| (random.weight() as f32).to_le_bytes()).collect()
        }
        Flavour::Doubles => (0..numbers / 4 + 1).flat_map(|_| random.weight().to_le_bytes()).collect(),
    };
    bytes.truncate(length);
    bytes
}

fn text(random: &mut Random, length: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["block", "chunk", "frame", "shard", "term", "recipe", "record", "segment"];
    let mut out = Vec::with_capacity(length + 16);
    while out.len() < length {
        out.extend_from_slice(WORDS[(random.next() >> 61) as usize].as_bytes());
        out.push(if random.next() >> 61 == 0 { b'\n' } else { b' ' });
    }
    out.truncate(length);
    out
}

/// Any kind of content, of a length in this range.
pub fn any_content(lengths: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u8>> {
    let low = *lengths.start();
    let high = *lengths.end();
    let short = high.min(low + 100);
    (0..FLAVOURS.len(), any::<u32>(), prop_oneof![lengths, low..=short, high..=high])
        .prop_map(|(flavour, seed, length)| content(FLAVOURS[flavour], u64::from(seed), length))
}

/// Thirty-two bytes as they come.
pub fn any_hash() -> impl Strategy<Value = ContentHash> {
    any::<[u8; 32]>().prop_map(ContentHash)
}

/// Any block's name.
pub fn any_block_id() -> impl Strategy<Value = BlockId> {
    (any_hash(), any::<[u8; 8]>()).prop_map(|(hash, nonce)| BlockId { hash, nonce: Nonce(nonce) })
}

/// Any name of a repository.
pub fn any_repository() -> impl Strategy<Value = String> {
    "[a-zé0-9/ _-]{0,40}"
}

/// The content cut into chunks of this size (for tests that don't care where).
pub fn chunks_of(content: &[u8], chunk_bytes: usize) -> Vec<Chunk> {
    content.chunks(chunk_bytes).map(|c| Chunk { id: chunk_id(c), bytes: c.len() as u32 }).collect()
}

/// A block of one frame for each content, and where the frames are.
pub fn sealed(contents: &[Vec<u8>], chunk_bytes: usize, nonce: Nonce) -> (Sealed, Vec<FramePlace>) {
    let mut encoder = Encoder::new(3).expect("level 3 exists");
    let mut builder = Builder::default();
    let mut add = |content: &Vec<u8>| {
        let frame = encoder.encode(content).expect("content can be encoded");
        builder.push(frame, &chunks_of(content, chunk_bytes)).expect("a frame can be added")
    };
    let places = contents.iter().map(&mut add).collect();
    (builder.finish(nonce), places)
}

/// All pieces of a block in one.
pub fn joined(sealed: &Sealed) -> Vec<u8> {
    sealed.pieces.iter().flat_map(|piece| piece.iter().copied()).collect()
}
