//! Typed identifiers: what names an object, a chunk, a block, a shard, a commit and a store.

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
    /// Names a store for ever; chosen at random when the store is created.
    StoreId, 16, "a store id"
);
hex_id!(
    /// A time-ordered id: 48 bits of milliseconds since 1970, 32 bits of weight, then 48 random bits, big-endian, so
    /// that the order of ids (as bytes or as text) is the order of their times.
    CommitId, 16, "a commit id"
);

impl ChunkId {
    /// Eight bytes of the id, for hash tables: it is uniform already.
    pub fn word(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(word)
    }
}

impl ContentHash {
    /// The hash of `bytes`.
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
    /// A fresh random nonce.
    pub fn random() -> Result<Self> {
        Ok(Self(random()?))
    }
}

impl StoreId {
    /// A fresh random store id.
    pub fn random() -> Result<Self> {
        Ok(Self(random()?))
    }
}

impl CommitId {
    /// The last time that an id can have.
    pub const LAST_MILLISECONDS: u64 = (1 << 48) - 1;

    /// A fresh id for the time `milliseconds` since 1970, of weight 1.
    pub fn new(milliseconds: u64) -> Result<Self> {
        let mut bytes = [0u8; 16];
        bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
        bytes[10..].copy_from_slice(&random::<6>()?);
        Ok(Self(bytes).weighing(1))
    }

    /// The same id with another weight.
    pub fn weighing(mut self, weight: u32) -> Self {
        self.0[6..10].copy_from_slice(&weight.to_be_bytes());
        self
    }

    /// The weight of an index segment: 1 if it replaces none, else more than all together that it replaces. A hint for
    /// the order of reading.
    pub fn weight(&self) -> u32 {
        let mut bytes = [0u8; 4];
        bytes.copy_from_slice(&self.0[6..10]);
        u32::from_be_bytes(bytes)
    }

    /// Whether a segment with this id may replace one with the id `other`: it sorts after that, and weighs more.
    /// Weights end at [`u32::MAX`], so what weighs that much may replace anything before it.
    pub fn may_replace(&self, other: &Self) -> bool {
        self > other && (self.weight() > other.weight() || self.weight() == u32::MAX)
    }

    /// The time in the id: milliseconds since 1970.
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
            /// What the name begins with, and is sorted by.
            pub $first: $First,
            /// What the name ends with.
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
    /// Names a block for ever; the nonce makes it unique even for equal bytes.
    BlockId, "a block name", hash: ContentHash, nonce: Nonce
);
name!(
    /// Names a shard for ever; the nonce makes it unique even for equal bytes.
    ShardId, "a shard name", hash: ContentHash, nonce: Nonce
);
name!(
    /// Names an index segment; a fresh segment's id is its commit's.
    SegmentId, "an index segment's name", id: CommitId, hash: ContentHash
);
name!(
    /// Names a condemned list.
    CondemnedId, "a condemned list's name", id: CommitId, hash: ContentHash
);

/// The time by this machine's clock, in milliseconds since 1970.
pub(crate) fn now_milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
