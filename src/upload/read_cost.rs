//! What it will cost to read an object: requests, which are ranges of blocks merged over small gaps. What is known is
//! reused only while that stays cheap, however little each reuse would save.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::limit;

/// The ranges of old blocks that an object needs so far.
pub(super) struct Reading {
    /// Ranges with no more than this between them are one request.
    gap_bytes: u32,
    /// By block and start: where they end.
    ranges: HashMap<u32, BTreeMap<u32, u32>>,
    requests: u64,
    /// Of the object, so far.
    bytes: u64,
    is_guarded: bool,
}

impl Reading {
    /// Of an object that has not begun. With no guard everything is cheap: for measuring only.
    pub(super) fn new(gap_bytes: u32, is_guarded: bool) -> Self {
        Self { gap_bytes, ranges: HashMap::new(), requests: 0, bytes: 0, is_guarded }
    }

    /// Another object begins.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.gap_bytes, self.is_guarded);
    }

    /// So many more bytes of the object were passed.
    pub(super) fn pass(&mut self, bytes: u32) {
        self.bytes += u64::from(bytes);
    }

    /// Whether a range of a block takes no request more.
    pub(super) fn has_near(&self, block: u32, range: &Range<u32>) -> bool {
        let Some(ranges) = self.ranges.get(&block) else { return false };
        let until = range.end.saturating_add(self.gap_bytes);
        let before = ranges.range(..=until).next_back();
        before.is_some_and(|(_, end)| end.saturating_add(self.gap_bytes) >= range.start)
    }

    /// Whether one more request is cheap: a few are, and one for each 256 KiB of the object.
    pub(super) fn affords_request(&self) -> bool {
        !self.is_guarded || self.requests < limit::REQUESTS_OF_OBJECT + self.bytes / limit::BYTES_OF_REQUEST
    }

    /// The object needs a range of a block.
    pub(super) fn take(&mut self, block: u32, range: Range<u32>) {
        let ranges = self.ranges.entry(block).or_default();
        let Range { mut start, mut end } = range;
        self.requests += 1;
        // those that it touches are one with it
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

    /// How many requests it takes so far.
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
            reading.pass(100 * limit::KIB as u32);
        }
        let grown = 1000 * 100 / 256;
        assert!((grown..=grown + 1 + limit::REQUESTS_OF_OBJECT).contains(&taken), "{taken}");
        reading.restart();
        assert!(reading.affords_request() && !reading.has_near(0, &(0..10)));
    }
}
