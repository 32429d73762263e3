//! The container that shards, index segments, block directories and condemned lists share. It has a header
//! with magic, version and feature words, and a table of sections.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::cursor::{Cursor, Put};
use crate::error::{Error, Result};
use crate::format::limits;

/// The version that this program writes. It is also the newest version that it reads.
pub const VERSION: u16 = 1;
const HEADER_BYTES: usize = 40;
const ENTRY_BYTES: usize = 32;
const FLAG_PAGED: u32 = 1;

/// Three words of feature bits, like those of ext4. This version defines no bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Bits that a reader may ignore if it doesn't know them.
    pub ignorable: u32,
    /// Bits for merging and collecting. A file with an unknown bit here may be read, but not merged or
    /// collected.
    pub read_only: u32,
    /// Bits for reading. A reader must refuse a file with an unknown bit here.
    pub incompatible: u32,
}

impl Features {
    /// Fails if this version must not read the file.
    pub(crate) fn check(&self, what: &str) -> Result<()> {
        if self.incompatible != 0 {
            return Err(Error::too_new(what));
        }
        Ok(())
    }
}

/// One section, before it is written.
pub(crate) struct Section {
    pub kind: u32,
    pub bytes: Vec<u8>,
    /// True if the section has its own checksums, page by page.
    pub paged: bool,
}

/// Writes a container.
pub(crate) fn write(magic: &[u8; 8], features: Features, sections: &[Section]) -> Vec<u8> {
    let mut out = head(magic, features, sections);
    out.reserve_exact(sections.iter().map(|s| s.bytes.len()).sum());
    for section in sections {
        out.extend_from_slice(&section.bytes);
    }
    out
}

/// Writes the head of a container, which stands before the bytes of the sections: header and section table.
pub(crate) fn head(magic: &[u8; 8], features: Features, sections: &[Section]) -> Vec<u8> {
    debug_assert!(sections.len() <= limits::SECTIONS);
    let mut offset = HEADER_BYTES + ENTRY_BYTES * sections.len();
    let total = offset + sections.iter().map(|s| s.bytes.len()).sum::<usize>();
    let mut out = Vec::with_capacity(offset);
    out.extend_from_slice(magic);
    out.put_u16(VERSION);
    out.put_u16(sections.len() as u16);
    out.put_u32(features.ignorable);
    out.put_u32(features.read_only);
    out.put_u32(features.incompatible);
    out.put_u64(total as u64);
    let mut table = Vec::with_capacity(ENTRY_BYTES * sections.len());
    for section in sections {
        table.put_u32(section.kind);
        table.put_u32(if section.paged { FLAG_PAGED } else { 0 });
        table.put_u64(offset as u64);
        table.put_u64(section.bytes.len() as u64);
        table.put_u64(if section.paged { 0 } else { xxh3_64(&section.bytes) });
        offset += section.bytes.len();
    }
    out.put_u64(checksum(&out, &table));
    out.extend_from_slice(&table);
    out
}

/// Computes the checksum of the header before the checksum's place, and of the section table.
fn checksum(header: &[u8], table: &[u8]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(header);
    hasher.update(table);
    hasher.digest()
}

/// The checked header and section table of a container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    what: &'static str,
    pub features: Features,
    sections: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    kind: u32,
    paged: bool,
    range: Range<usize>,
    checksum: u64,
}

impl Container {
    /// Checks header and section table of `bytes`, the whole file. `what` is its name in errors.
    pub(crate) fn parse(bytes: &[u8], magic: &[u8; 8], what: &'static str) -> Result<Self> {
        Self::parse_start(bytes, bytes.len(), magic, what)
    }

    /// Does the same as [`Container::parse`] with the beginning of a file of `file_bytes`. Fails if the
    /// beginning doesn't hold the header and the section table.
    pub(crate) fn parse_start(
        bytes: &[u8],
        file_bytes: usize,
        magic: &[u8; 8],
        what: &'static str,
    ) -> Result<Self> {
        let mut header = Cursor::new(bytes, what);
        if header.bytes(8)? != magic {
            return Err(Error::corrupt(format!("{what} does not begin as one")));
        }
        if header.u16()? > VERSION {
            return Err(Error::too_new(what));
        }
        let count = header.u16()? as usize;
        let features =
            Features { ignorable: header.u32()?, read_only: header.u32()?, incompatible: header.u32()? };
        let total = header.u64()?;
        let expected = header.u64()?;
        if count > limits::SECTIONS {
            return Err(Error::corrupt(format!("{what} claims {count} sections")));
        }
        let table = header.bytes(ENTRY_BYTES * count)?;
        if checksum(&bytes[..32], table) != expected {
            return Err(Error::corrupt(format!("the header of {what} fails its checksum")));
        }
        features.check(what)?;
        if total != file_bytes as u64 {
            return Err(Error::corrupt(format!("{what} is {file_bytes} bytes long instead of {total}")));
        }
        let sections = parse_table(table, count, file_bytes, what)?;
        Ok(Self { what, features, sections })
    }

    /// Returns the bytes of a section with one checksum, and verifies it. Fails if the section is missing.
    /// `bytes` is the file, or a beginning that holds the section.
    pub(crate) fn section<'a>(&self, bytes: &'a [u8], kind: u32) -> Result<&'a [u8]> {
        let entry = self.entry(kind, false)?;
        let section = bytes.get(entry.range.clone()).unwrap_or_default();
        if entry.checksum != xxh3_64(section) {
            return Err(Error::corrupt(format!("section {kind} of {} fails its checksum", self.what)));
        }
        Ok(section)
    }

    /// Returns the place in the file of a paged section. Fails if the section is missing.
    pub(crate) fn paged_section(&self, kind: u32) -> Result<Range<usize>> {
        Ok(self.entry(kind, true)?.range.clone())
    }

    /// Returns the end in the file of the last section that has one checksum.
    pub(crate) fn plain_end(&self) -> usize {
        let plain = self.sections.iter().filter(|s| !s.paged);
        plain.map(|s| s.range.end).max().unwrap_or_default()
    }

    /// Returns true if there is a section of this kind.
    pub(crate) fn has(&self, kind: u32) -> bool {
        self.sections.iter().any(|s| s.kind == kind)
    }

    fn entry(&self, kind: u32, paged: bool) -> Result<&Entry> {
        let entry = self.sections.iter().find(|s| s.kind == kind && s.paged == paged);
        entry.ok_or_else(|| Error::corrupt(format!("{} has no section {kind}", self.what)))
    }

    /// Returns true if every section is of a kind in `known`.
    pub(crate) fn only_has(&self, known: Range<u32>) -> bool {
        self.sections.iter().all(|s| known.contains(&s.kind))
    }
}

fn parse_table(table: &[u8], count: usize, total: usize, what: &'static str) -> Result<Vec<Entry>> {
    let mut cursor = Cursor::new(table, what);
    let mut sections = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = cursor.u32()?;
        let flags = cursor.u32()?;
        let offset = cursor.u64()?;
        let length = cursor.u64()?;
        let checksum = cursor.u64()?;
        let end = offset.checked_add(length).filter(|end| *end <= total as u64);
        let end = end.ok_or_else(|| Error::corrupt(format!("a section of {what} lies outside it")))?;
        if sections.iter().any(|s: &Entry| s.kind == kind) {
            return Err(Error::corrupt(format!("{what} has two sections of kind {kind}")));
        }
        let range = offset as usize..end as usize;
        sections.push(Entry { kind, paged: flags & FLAG_PAGED != 0, range, checksum });
    }
    Ok(sections)
}
