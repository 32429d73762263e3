//! Containers taken apart and put together with other contents, by the byte table in
//! `docs/format.md` and not by the crate's code.

use xxhash_rust::xxh3::xxh3_64;

const HEADER_BYTES: usize = 40;
const ENTRY_BYTES: usize = 32;

/// A section: kind, flags, bytes.
pub type Section = (u32, u32, Vec<u8>);

/// A container in its parts; every part may be changed.
#[derive(Clone, Debug)]
pub struct Forge {
    pub magic: [u8; 8],
    pub version: u16,
    /// Ignorable, read-only, incompatible.
    pub features: [u32; 3],
    pub sections: Vec<Section>,
}

impl Forge {
    pub fn open(bytes: &[u8]) -> Self {
        let count = usize::from(number::<2>(bytes, 10) as u16);
        let entries = (0..count).map(|i| HEADER_BYTES + ENTRY_BYTES * i);
        let section = |at: usize| {
            let start = number::<8>(bytes, at + 8) as usize;
            let length = number::<8>(bytes, at + 16) as usize;
            let body = bytes[start..start + length].to_vec();
            (number::<4>(bytes, at) as u32, number::<4>(bytes, at + 4) as u32, body)
        };
        Self {
            magic: bytes[..8].try_into().expect("eight bytes"),
            version: number::<2>(bytes, 8) as u16,
            features: [12, 16, 20].map(|at| number::<4>(bytes, at) as u32),
            sections: entries.map(section).collect(),
        }
    }

    /// The bytes of the section of this kind, which must be there.
    pub fn section(&mut self, kind: u32) -> &mut Vec<u8> {
        &mut self.sections.iter_mut().find(|s| s.0 == kind).expect("the section is there").2
    }

    pub fn close(&self) -> Vec<u8> {
        let mut start = HEADER_BYTES + ENTRY_BYTES * self.sections.len();
        let mut table = Vec::new();
        let mut bodies = Vec::new();
        for (kind, flags, body) in &self.sections {
            table.extend_from_slice(&kind.to_le_bytes());
            table.extend_from_slice(&flags.to_le_bytes());
            table.extend_from_slice(&(start as u64).to_le_bytes());
            table.extend_from_slice(&(body.len() as u64).to_le_bytes());
            let sum = if flags & 1 == 0 { xxh3_64(body) } else { 0 };
            table.extend_from_slice(&sum.to_le_bytes());
            bodies.extend_from_slice(body);
            start += body.len();
        }
        let mut out = self.magic.to_vec();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.sections.len() as u16).to_le_bytes());
        self.features.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        out.extend_from_slice(&(start as u64).to_le_bytes());
        let sum = xxh3_64(&[&out[..], &table[..]].concat());
        out.extend_from_slice(&sum.to_le_bytes());
        [out, table, bodies].concat()
    }

    /// As a newer version would write it.
    pub fn newer(mut self) -> Vec<u8> {
        self.version += 1;
        self.close()
    }

    /// With a bit of a feature word that this version doesn't know.
    pub fn with_feature(mut self, word: usize, bit: u32) -> Vec<u8> {
        self.features[word] |= 1 << bit;
        self.close()
    }

    /// With one more section of this kind.
    pub fn with_section(mut self, kind: u32) -> Vec<u8> {
        self.sections.push((kind, 0, b"from the future".to_vec()));
        self.close()
    }
}

/// The little-endian number of `N` bytes that stands at `at`.
pub fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide)
}
