//! Paged sections: tables of fixed-width entries in pages. Each page has a checksum. So a few entries can be
//! read and trusted without the rest.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::cursor::Put;
use crate::error::{Error, Result};
use crate::format::limits::PAGE_BYTES;

const CHECKSUM_BYTES: usize = 8;

/// The layout of one section's entries in pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The section's kind, which is a part of every page's checksum.
    pub kind: u32,
    /// Bytes of one entry.
    pub width: usize,
}

impl Layout {
    pub(crate) const fn entries_per_page(self) -> usize {
        (PAGE_BYTES - CHECKSUM_BYTES) / self.width
    }

    const fn page_bytes(self) -> usize {
        self.entries_per_page() * self.width + CHECKSUM_BYTES
    }

    /// Computes a page's checksum. It depends on the page's place, so a misplaced page fails.
    fn checksum(self, page: usize, entries: &[u8]) -> u64 {
        xxh3_64_with_seed(entries, u64::from(self.kind) << 32 | page as u64)
    }

    /// Lays out `entries`, which must be in order and of the right width.
    pub(crate) fn write(self, entries: &[u8]) -> Vec<u8> {
        debug_assert!(entries.len().is_multiple_of(self.width));
        let mut out = Vec::with_capacity(entries.len() + entries.len() / 256 + PAGE_BYTES);
        for (page, part) in entries.chunks(self.entries_per_page() * self.width).enumerate() {
            out.extend_from_slice(part);
            out.put_u64(self.checksum(page, part));
        }
        out
    }

    /// Begins a section. Its entries come one after the other.
    pub(crate) fn begin(self) -> Pages {
        Pages { layout: self, out: Vec::new(), page: 0, start: 0 }
    }

    /// Returns the number of entries in a section of `length` bytes.
    pub(crate) fn count(self, length: usize) -> Result<usize> {
        let full = length / self.page_bytes();
        let rest = length % self.page_bytes();
        if rest == 0 {
            return Ok(full * self.entries_per_page());
        }
        match rest.checked_sub(CHECKSUM_BYTES) {
            Some(bytes) if bytes > 0 && bytes % self.width == 0 => {
                Ok(full * self.entries_per_page() + bytes / self.width)
            }
            _ => Err(Error::corrupt(format!("section {} of an index segment has a torn page", self.kind))),
        }
    }

    /// Returns the bytes of entry `index` of `section`. Checks its page.
    pub(crate) fn entry(self, section: &[u8], index: usize) -> Result<&[u8]> {
        self.range(section, index..index.saturating_add(1)).next().unwrap_or_else(|| {
            Err(Error::corrupt(format!("section {} of an index segment has no entry {index}", self.kind)))
        })
    }

    /// Returns the bytes of entry `index` of a section that was just laid out. The entry must exist.
    pub(crate) fn entry_unchecked(self, section: &[u8], index: usize) -> &[u8] {
        let page = index / self.entries_per_page() * self.page_bytes();
        let start = page + index % self.entries_per_page() * self.width;
        &section[start..start + self.width]
    }

    /// Returns all entries in order. Checks every page once.
    pub(crate) fn entries(self, section: &[u8]) -> impl Iterator<Item = Result<&[u8]>> {
        self.pages(section, 0, 0..section.len().div_ceil(self.page_bytes()), 0..usize::MAX)
    }

    /// Returns the entries of `range`, which must exist. Checks every page once.
    pub(crate) fn range(self, section: &[u8], range: Range<usize>) -> impl Iterator<Item = Result<&[u8]>> {
        self.pages(section, 0, self.pages_of(&range), range)
    }

    /// Returns the place of the pages that hold the entries of `range`, in a section of `section_bytes`.
    pub(crate) fn span(self, section_bytes: usize, range: &Range<usize>) -> Range<usize> {
        let pages = self.pages_of(range);
        let [start, end] = [pages.start, pages.end].map(|p| p.saturating_mul(self.page_bytes()));
        start.min(section_bytes)..end.min(section_bytes)
    }

    /// Does the same as [`Layout::range`] with the bytes of the range's [`Layout::span`].
    pub(crate) fn spanned(self, span: &[u8], range: Range<usize>) -> impl Iterator<Item = Result<&[u8]>> {
        let pages = self.pages_of(&range);
        self.pages(span, pages.start, pages, range)
    }

    /// Returns the number of entries in all pages up to the page of entry `index`.
    pub(crate) fn page_end(self, index: usize) -> usize {
        (index / self.entries_per_page() + 1) * self.entries_per_page()
    }

    fn pages_of(self, range: &Range<usize>) -> Range<usize> {
        if range.is_empty() {
            0..0
        } else {
            range.start / self.entries_per_page()..range.end.div_ceil(self.entries_per_page())
        }
    }

    /// Checks page `page` and returns its entries. `bytes` begins with page `first`.
    fn page(self, bytes: &[u8], first: usize, page: usize) -> Result<&[u8]> {
        let start = (page - first).saturating_mul(self.page_bytes()).min(bytes.len());
        let end = start.saturating_add(self.page_bytes()).min(bytes.len());
        let split = bytes[start..end].split_last_chunk::<CHECKSUM_BYTES>();
        match split {
            Some((entries, sum)) if self.checksum(page, entries) == u64::from_le_bytes(*sum) => Ok(entries),
            _ => Err(Error::corrupt(format!(
                "page {page} of section {} of an index segment fails its checksum",
                self.kind
            ))),
        }
    }

    /// Returns the entries of `pages` that lie in `range`, and an error for each page that fails. `bytes`
    /// begins with page `first`.
    fn pages(
        self,
        bytes: &[u8],
        first: usize,
        pages: Range<usize>,
        range: Range<usize>,
    ) -> impl Iterator<Item = Result<&[u8]>> {
        pages.flat_map(move |page| {
            let (entries, failed) = match self.page(bytes, first, page) {
                Ok(entries) => (entries, None),
                Err(error) => (&[][..], Some(Err(error))),
            };
            let before = page * self.entries_per_page();
            let skipped = range.start.saturating_sub(before);
            let end = range.end.saturating_sub(before);
            let wanted = entries.chunks_exact(self.width).take(end).skip(skipped);
            wanted.map(Ok).chain(failed)
        })
    }
}

/// A section that is being written, entry by entry.
pub(crate) struct Pages {
    layout: Layout,
    out: Vec<u8>,
    /// The number of the open page. `start` is its beginning in `out`.
    page: usize,
    start: usize,
}

impl Pages {
    /// Appends the entry that `write` writes. The entry must have the right width.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out);
        debug_assert!((self.out.len() - self.start).is_multiple_of(self.layout.width));
        if self.out.len() - self.start == self.layout.entries_per_page() * self.layout.width {
            self.close_page();
        }
    }

    fn close_page(&mut self) {
        let sum = self.layout.checksum(self.page, &self.out[self.start..]);
        self.out.put_u64(sum);
        self.page += 1;
        self.start = self.out.len();
    }

    /// Returns the bytes of the section.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.out.len() > self.start {
            self.close_page();
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_the_same_whether_its_entries_come_together_or_one_by_one() {
        let layout = Layout { kind: 7, width: 12 };
        for count in [0, 1, 339, 340, 341, 680, 1000] {
            let entries: Vec<u8> = (0..count * 12).map(|i| (i % 251) as u8).collect();
            let mut pages = layout.begin();
            entries.chunks(12).for_each(|entry| pages.push(|out| out.extend_from_slice(entry)));
            assert!(pages.finish() == layout.write(&entries), "{count} entries");
        }
    }
}
