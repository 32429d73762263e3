//! The reading cost of an object: the requests that a download of the object takes. A request is a range of
//! a block; ranges with small gaps are merged. Known chunks are reused only while this cost stays low, even
//! if each reuse saves little.

use crate::units::KIB;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Requests that reading an object may take in any case, if known chunks are reused.
const REQUESTS_OF_OBJECT: u64 = 8;
/// Bytes of an object for each further request. Six such requests at a time, at 40 ms each, still move some
/// 300 Mbit/s.
const BYTES_OF_REQUEST: u64 = 256 * KIB as u64;

/// The ranges of old blocks that an object needs so far.
pub(super) struct Reading {
    /// The largest gap between two ranges that one request covers.
    gap_bytes: u32,
    /// The end of each range, by block and start.
    ranges: HashMap<u32, BTreeMap<u32, u32>>,
    requests: u64,
    /// The bytes of the object so far.
    bytes: u64,
    is_guarded: bool,
}

impl Reading {
    /// Creates the cost of an object that has not begun. Without the guard every request is cheap, for
    /// measurements only.
    pub(super) fn new(gap_bytes: u32, is_guarded: bool) -> Self {
        Self { gap_bytes, ranges: HashMap::new(), requests: 0, bytes: 0, is_guarded }
    }

    /// Begins another object.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.gap_bytes, self.is_guarded);
    }

    /// Notes that more bytes of the object have passed.
    pub(super) fn pass(&mut self, bytes: u32) {
        self.bytes += u64::from(bytes);
    }

    /// Returns true if a range of a block takes no further request.
    pub(super) fn has_near(&self, block: u32, range: &Range<u32>) -> bool {
        let Some(ranges) = self.ranges.get(&block) else { return false };
        let until = range.end.saturating_add(self.gap_bytes);
        let before = ranges.range(..=until).next_back();
        before.is_some_and(|(_, end)| end.saturating_add(self.gap_bytes) >= range.start)
    }

    /// Returns true if one more request is cheap: an object has a few, and one for each 256 KiB.
    pub(super) fn affords_request(&self) -> bool {
        !self.is_guarded || self.requests < REQUESTS_OF_OBJECT + self.bytes / BYTES_OF_REQUEST
    }

    /// Notes that the object needs a range of a block.
    pub(super) fn take(&mut self, block: u32, range: Range<u32>) {
        let ranges = self.ranges.entry(block).or_default();
        let Range { mut start, mut end } = range;
        self.requests += 1;
        // joins the ranges within the gap
        while let Some((first, last)) = ranges.range(..=end.saturating_add(self.gap_bytes)).next_back() {
            if last.saturating_add(self.gap_bytes) < start {
                break;
            }
            (start, end) = (start.min(*first), end.max(*last));
            let first = *first;
            ranges.remove(&first);
            self.requests -= 1;
        }
        ranges.insert(start, end);
    }

    /// Returns the number of requests so far.
    #[cfg(test)]
    fn requests(&self) -> u64 {
        self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_with_small_gaps_are_one_request() {
        let mut reading = Reading::new(10, true);
        for start in (0..1000).step_by(20) {
            assert!(start == 0 || reading.has_near(1, &(start..start + 10)));
            reading.take(1, start..start + 10);
        }
        assert_eq!(reading.requests(), 1);
        reading.take(2, 0..10);
        assert_eq!(reading.requests(), 2, "another block");
        assert!(!reading.has_near(2, &(21..22)) && reading.has_near(2, &(20..22)));
        reading.take(2, 40..50);
        assert_eq!(reading.requests(), 3);
        assert!(reading.has_near(2, &(20..30)));
        reading.take(2, 20..30);
        assert_eq!(reading.requests(), 2, "it joins the two beside it");
        reading.take(2, 22..25);
        reading.take(2, 0..60);
        assert_eq!(reading.requests(), 2);
    }

    #[test]
    fn an_object_has_some_requests_and_more_as_it_grows() {
        let mut reading = Reading::new(10, true);
        let mut taken = 0;
        for number in 0..1000 {
            if reading.affords_request() {
                reading.take(number, 0..10);
                taken += 1;
            }
            reading.pass(100 * KIB as u32);
        }
        let grown = 1000 * 100 / 256;
        assert!((grown..=grown + 1 + REQUESTS_OF_OBJECT).contains(&taken), "{taken}");
        reading.restart();
        assert!(reading.affords_request() && !reading.has_near(0, &(0..10)));
    }
}
