//! Content of test repositories, and checks: deterministic noise, file trees and sizes.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// `len` bytes that no compressor shrinks, the same for the same seed (splitmix64).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0xA076_1D64_78BD_642F);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// `data` with `inserted` put into its middle.
pub fn insert_in_middle(data: &[u8], inserted: &[u8]) -> Vec<u8> {
    let (head, tail) = data.split_at(data.len() / 2);
    [head, inserted, tail].concat()
}

/// The bytes with one bit in their middle flipped.
pub fn damaged(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    bytes
}

/// Flips one bit in the middle of a file, which may be read-only.
pub fn damage(path: &Path) {
    let bytes = damaged(&fs::read(path).unwrap());
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The files below a folder with their sizes, by relative path. Leaves out `.git`, and files that another
/// process renames or removes meanwhile.
pub fn listing(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let entry = entry.unwrap();
            if entry.file_name() == ".git" {
                continue;
            }
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata.unwrap(),
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                files.insert(entry.path().strip_prefix(root).unwrap().to_path_buf(), metadata.len());
            }
        }
    }
    files
}

/// The sum of all file lengths below a folder.
pub fn total_bytes(root: &Path) -> u64 {
    listing(root).values().sum()
}

/// Panics unless both folders hold the same files with the same bytes.
#[track_caller]
pub fn assert_same_tree(left: &Path, right: &Path) {
    let left_files = listing(left);
    let right_files = listing(right);
    assert_eq!(left_files, right_files, "{} and {}", left.display(), right.display());
    for name in left_files.keys() {
        assert_same_file(&left.join(name), &right.join(name));
    }
}

/// Panics unless both files hold the same bytes.
#[track_caller]
pub fn assert_same_file(left: &Path, right: &Path) {
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(read(left) == read(right), "{} and {} differ", left.display(), right.display());
}
