//! Files of a corpus, a folder with one folder for each version: `v1`, `v2` and so on. Also the cost to read
//! them from a store.
#![allow(dead_code, reason = "no bench uses all of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use git_lfs_cdc::format::segment::Segment;
use git_lfs_cdc::id::Oid;
use git_lfs_cdc::store::Store;
use git_lfs_cdc::store::io_profile::{NETWORK_FETCH_BYTES, NETWORK_FETCH_GAP_BYTES};

/// All files below a folder, in order.
pub fn files_under(directory: &Path) -> Vec<PathBuf> {
    let list = |directory: &Path| -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = list(directory).expect("a folder of the corpus can be listed");
    paths.sort();
    let expand = |path: PathBuf| if path.is_dir() { files_under(&path) } else { vec![path] };
    paths.into_iter().flat_map(expand).collect()
}

/// The folders v1, v2, … of a corpus, in order.
pub fn versions_of(corpus: &Path) -> Vec<PathBuf> {
    let numbered = (1..).map(|n| corpus.join(format!("v{n}")));
    numbered.take_while(|path| path.is_dir()).collect()
}

/// The cost to download objects, one by one, over a network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reads {
    pub terms: usize,
    pub requests: u64,
    /// Of blocks.
    pub bytes: u64,
    /// Bytes of the objects.
    pub content: u64,
}

/// Returns the cost of a download of these objects, with nothing on this machine.
pub fn reads(store: &Store, oids: &[Oid]) -> Reads {
    let mut all = Reads::default();
    for oid in oids {
        let record = store.list_segments().expect("a list").into_iter().rev().find_map(|(id, size_bytes)| {
            let bytes = store.get_segment(&id, size_bytes).wait().expect("a segment");
            let segment = Segment::open(bytes).expect("a segment");
            segment.find(oid).expect("readable pages").pop()
        });
        let record = record.expect("its record");
        // ranges of each block by their starts
        let mut blocks: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
        for term in &record.terms {
            let end = blocks.entry(term.block).or_default().entry(term.frames_offset).or_default();
            *end = term.frames_end().max(*end);
        }
        for ranges in blocks.into_values() {
            let mut open: Option<(u32, u32)> = None;
            for (start, end) in ranges {
                match &mut open {
                    Some((first, last))
                        if start <= last.saturating_add(NETWORK_FETCH_GAP_BYTES)
                            && end - *first <= NETWORK_FETCH_BYTES =>
                    {
                        *last = end.max(*last);
                    }
                    _ => {
                        all.bytes += open.map_or(0, |(first, last)| u64::from(last - first));
                        all.requests += 1;
                        open = Some((start, end));
                    }
                }
            }
            all.bytes += open.map_or(0, |(first, last)| u64::from(last - first));
        }
        all.terms += record.terms.len();
        all.content += record.size_bytes;
    }
    all
}
