//! The fence of a table sorted by hashes: evenly spaced entries of the table, as posts. Hashes are uniform.
//! So between two posts the place of an entry can be computed to within a few pages, even in a large table.

use std::ops::Range;

use super::cursor::{Cursor, Put};
use crate::error::{Error, Result};

/// Most posts in the fence of a table. With 10 million entries, some 50 KB are read to find one.
const FENCE_POSTS: usize = 1024;

/// The first bytes of every `step`th entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fence {
    step: usize,
    /// The first eight bytes of the entries 0, `step`, 2 `step`, and so on, big-endian.
    posts: Vec<u64>,
}

/// A part of the table, and the hashes between which it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub entries: Range<usize>,
    hashes: (u64, u64),
}

impl Fence {
    /// Makes the fence of a table of `count` entries, `per_page` to a page. Posts stand where pages begin.
    pub(crate) fn of(count: usize, per_page: usize, hash: impl Fn(usize) -> u64) -> Self {
        let step = count.div_ceil(per_page).div_ceil(FENCE_POSTS).max(1) * per_page;
        Self { step, posts: (0..count).step_by(step).map(hash).collect() }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + 8 * self.posts.len());
        out.put_u32(self.step as u32);
        self.posts.iter().for_each(|post| out.extend_from_slice(&post.to_be_bytes()));
        out
    }

    pub(crate) fn read(section: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(section, "a fence");
        let step = cursor.u32()? as usize;
        let mut posts = Vec::with_capacity(cursor.remaining() / 8);
        while cursor.remaining() > 0 {
            posts.push(u64::from_be_bytes(cursor.array()?));
        }
        if step == 0 || !posts.is_sorted() {
            return Err(Error::corrupt("a fence of an index segment is out of order"));
        }
        Ok(Self { step, posts })
    }

    /// Returns the part of a table of `count` entries that holds all entries beginning with `hash`.
    pub(crate) fn stretch(&self, count: usize, hash: u64) -> Stretch {
        let before = self.posts.partition_point(|post| *post < hash);
        let behind = self.posts.partition_point(|post| *post <= hash);
        let start = before.saturating_sub(1).saturating_mul(self.step).min(count);
        let end = if behind < self.posts.len() { behind.saturating_mul(self.step).min(count) } else { count };
        let low = before.checked_sub(1).map_or(0, |post| self.posts[post]);
        let high = self.posts.get(behind).copied().unwrap_or(u64::MAX);
        Stretch { entries: start.min(end)..end, hashes: (low, high) }
    }
}

impl Stretch {
    /// Guesses the place of an entry that begins with `hash`, to within four standard deviations. The number
    /// of uniform hashes below a value is binomially distributed.
    pub(crate) fn guess(&self, hash: u64) -> Range<usize> {
        let (low, high) = self.hashes;
        let part = hash.saturating_sub(low) as f64 / (high.saturating_sub(low)).max(1) as f64;
        let count = self.entries.len() as f64;
        let start = self.entries.start as f64;
        let middle = start + count * part.min(1.0);
        let spread = 2.0 * count.sqrt() + 1.0;
        let at = |place: f64| (place.max(0.0) as usize).clamp(self.entries.start, self.entries.end);
        at(middle - spread)..at(middle + spread + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes hashes for a table: uniform, and some several times.
    fn hashes(count: usize) -> Vec<u64> {
        let hash = |n: usize| {
            let of = blake3::hash(&(n - n % 3).to_le_bytes());
            u64::from_be_bytes(of.as_bytes()[..8].try_into().unwrap())
        };
        let mut hashes: Vec<u64> = (0..count).map(hash).collect();
        hashes.sort_unstable();
        hashes
    }

    #[test]
    fn an_entry_lies_in_its_stretch_and_mostly_where_it_is_guessed() {
        for count in [0, 1, 2, 39, 40, 1000, 200_000] {
            let table = hashes(count);
            let fence = Fence::of(count, 39, |n| table[n]);
            let read = Fence::read(&fence.write()).unwrap();
            assert_eq!(read, fence);
            assert!(read.posts.len() <= FENCE_POSTS);
            let (mut right, mut tried) = (0, 0);
            for hash in table.iter().step_by(1 + count / 500).copied() {
                let all = table.partition_point(|h| *h < hash)..table.partition_point(|h| *h <= hash);
                let stretch = fence.stretch(count, hash);
                assert!(stretch.entries.start <= all.start && all.end <= stretch.entries.end);
                let guess = stretch.guess(hash);
                right += usize::from(guess.start <= all.start && all.end <= guess.end);
                tried += 1;
            }
            assert!(right * 100 >= tried * 98, "{right} of {tried}");
            for absent in [0, u64::MAX] {
                let stretch = fence.stretch(count, absent);
                assert!(stretch.entries.end <= count && stretch.guess(absent).end <= count);
            }
        }
    }

    #[test]
    fn a_hostile_fence_is_refused_or_harmless() {
        assert!(Fence::read(&[0; 4]).is_err());
        assert!(Fence::read(&[1, 0, 0, 0, 9]).is_err());
        let backwards = [&[1, 0, 0, 0][..], &2u64.to_be_bytes(), &1u64.to_be_bytes()].concat();
        assert!(Fence::read(&backwards).is_err());
        let lies = [&[0xFF; 4][..], &[0; 8], &[1; 8], &[0xFF; 8]].concat();
        let stretch = Fence::read(&lies).unwrap().stretch(10, u64::MAX);
        assert!(stretch.entries.end <= 10 && stretch.guess(5).end <= 10);
    }
}
