//! Typed identifiers of objects, chunks, blocks, shards, commits and stores.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// Decodes exactly `N` bytes of lower-case hexadecimal.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut bytes = [0u8; N];
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// Declares a fixed-size identifier that prints and parses as lower-case hexadecimal.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Parses lower-case hexadecimal of exactly the right length.
            pub fn parse(text: &str) -> Result<Self> {
                from_hex(text).map(Self).ok_or_else(|| {
                    Error::invalid(format!(
                        "{text:?} is not {} ({} lower-case hexadecimal digits)", $what, 2 * $len
                    ))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

hex_id!(
    /// The SHA-256 of an LFS object, as in its pointer file.
    Oid, 32, "an object id"
);
hex_id!(
    /// The BLAKE3 of a chunk, in `derive_key` mode (see [`crate::format::chunking::chunk_id`]).
    ChunkId, 32, "a chunk id"
);
hex_id!(
    /// The plain BLAKE3 of a stored file's bytes.
    ContentHash, 32, "a BLAKE3 hash"
);
hex_id!(
    /// Eight random bytes in a name, so that the same content stored again gets another name.
    Nonce, 8, "a nonce"
);
hex_id!(
    /// The name of a store, for ever. It is chosen at random when the store is created.
    StoreId, 16, "a store id"
);
hex_id!(
    /// A time-ordered id: 48 bits of milliseconds since 1970, 32 bits of weight, then 48 random bits,
    /// big-endian. So ids sort by their times, as bytes and as text.
    CommitId, 16, "a commit id"
);

impl ChunkId {
    /// Returns eight bytes of the id for hash tables. They need no hash, because the id is uniform already.
    pub fn word(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(word)
    }
}

impl ContentHash {
    /// Returns the hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Fills an array from the system's random source.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::internal(format!("the system's random source failed: {e}")))?;
    Ok(bytes)
}

impl Nonce {
    /// Makes a new random nonce.
    pub fn random() -> Result<Self> {
        Ok(Self(random()?))
    }
}

impl StoreId {
    /// Makes a new random store id.
    pub fn random() -> Result<Self> {
        Ok(Self(random()?))
    }
}

impl CommitId {
    /// The latest time that an id can have.
    pub const LAST_MILLISECONDS: u64 = (1 << 48) - 1;

    /// Makes a new id of weight 1 for the time `milliseconds` since 1970.
    pub fn new(milliseconds: u64) -> Result<Self> {
        let mut bytes = [0u8; 16];
        bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
        bytes[10..].copy_from_slice(&random::<6>()?);
        Ok(Self(bytes).weighing(1))
    }

    /// Returns the same id with another weight.
    pub fn weighing(mut self, weight: u32) -> Self {
        self.0[6..10].copy_from_slice(&weight.to_be_bytes());
        self
    }

    /// Returns the weight of an index segment: 1 if it replaces no other. Otherwise it is more than the
    /// weights of all replaced segments together. It is a hint for the order of reading.
    pub fn weight(&self) -> u32 {
        let mut bytes = [0u8; 4];
        bytes.copy_from_slice(&self.0[6..10]);
        u32::from_be_bytes(bytes)
    }

    /// Returns true if a segment with this id may replace one with the id `other`. It must sort after the
    /// other, and weigh more. Weights end at [`u32::MAX`], so a segment of that weight may replace any before
    /// it.
    pub fn may_replace(&self, other: &Self) -> bool {
        self > other && (self.weight() > other.weight() || self.weight() == u32::MAX)
    }

    /// Returns the time in the id: milliseconds since 1970.
    pub fn milliseconds(&self) -> u64 {
        let mut bytes = [0u8; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        u64::from_be_bytes(bytes)
    }
}

/// Declares a name made of two ids, written `<first>-<second>`.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $first:ident: $First:ty, $second:ident: $Second:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// The first part of the name. Names sort by it.
            pub $first: $First,
            /// The last part of the name.
            pub $second: $Second,
        }

        impl $name {
            /// Parses both parts, with a hyphen between them.
            pub fn parse(text: &str) -> Result<Self> {
                let (first, second) = text
                    .split_once('-')
                    .ok_or_else(|| Error::invalid(format!("{text:?} is not {}", $what)))?;
                Ok(Self { $first: <$First>::parse(first)?, $second: <$Second>::parse(second)? })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}-{}", self.$first, self.$second)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

name!(
    /// The name of a block, for ever. The nonce makes it unique even for equal bytes.
    BlockId, "a block name", hash: ContentHash, nonce: Nonce
);
name!(
    /// The name of a shard, for ever. The nonce makes it unique even for equal bytes.
    ShardId, "a shard name", hash: ContentHash, nonce: Nonce
);
name!(
    /// The name of an index segment. The id of a commit's own segment is the commit's id.
    SegmentId, "an index segment's name", id: CommitId, hash: ContentHash
);
name!(
    /// The name of a condemned list.
    CondemnedId, "a condemned list's name", id: CommitId, hash: ContentHash
);

/// Returns the time by this machine's clock, in milliseconds since 1970.
pub(crate) fn now_milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
