//! The files of a corpus: a folder with one folder for each version, `v1`, `v2` and so on.

use std::path::{Path, PathBuf};
use std::{fs, io};

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
