//! Scans for secrets where none belongs: in outputs, in logs and other files, and in command lines.
//!
//! Every command of a machine is scanned, and every sandbox at its end.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Larger files are not scanned, apart from logs.
const SMALL_BYTES: u64 = 1 << 20;

/// The secrets that may not be seen anywhere.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Vec<String>>);

impl Secrets {
    /// Those of the servers that the tests talk to.
    pub fn in_use() -> Secrets {
        let variables = [
            "GIT_LFS_CDC_TEST_S3_KEYS",
            "GIT_LFS_CDC_TEST_S3_PULL_KEYS",
            "GIT_LFS_CDC_TEST_S3_PUSH_KEYS",
            "GIT_LFS_CDC_TEST_S3_PUBLIC_KEYS",
            "GIT_LFS_CDC_TEST_AZURE_KEY",
        ];
        let values = variables.iter().filter_map(|name| std::env::var(name).ok());
        // a key's id is no secret
        let secrets = values.map(|value| value.rsplit(':').next().unwrap().to_owned());
        secrets.fold(Secrets::default(), |all, secret| all.and(&secret))
    }

    /// These and one more, as it is and as it stands in URLs.
    pub fn and(&self, secret: &str) -> Secrets {
        assert!(secret.len() >= 8, "so little may stand somewhere by chance");
        let mut all = self.0.to_vec();
        all.extend([secret.to_owned(), utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()]);
        all.dedup();
        Secrets(Arc::new(all))
    }

    pub fn stand_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret))
    }

    /// The name of a process that shows a secret to everybody in the list of processes.
    pub fn in_command_lines(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let shows = |process: &Process| {
            let line = fs::read(process.folder().join("cmdline")).unwrap_or_default();
            self.stand_in(&String::from_utf8_lossy(&line))
        };
        let found = processes().find(|process| !strangers().contains(process) && shows(process))?;
        Some(fs::read_to_string(found.folder().join("comm")).unwrap_or_default().trim().to_owned())
    }

    /// A file below a folder with a secret in it. Objects and blocks are content: they are left out.
    pub fn in_files(&self, root: &Path) -> Option<PathBuf> {
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let name = entry.file_name();
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() && name != "objects" && name != "blocks" {
                    folders.push(path);
                } else if metadata.is_file() && (metadata.len() <= SMALL_BYTES || is_log(&path)) {
                    let content = fs::read(&path).unwrap_or_default();
                    if self.stand_in(&String::from_utf8_lossy(&content)) {
                        return Some(path);
                    }
                }
            }
        }
        None
    }
}

/// A process, told by its inode from a later one with the same number.
#[derive(PartialEq, Eq, Hash)]
pub struct Process {
    number: u32,
    inode: u64,
}

impl Process {
    fn folder(&self) -> PathBuf {
        Path::new("/proc").join(self.number.to_string())
    }
}

/// Every process, where there is /proc. They come and go while it is read.
fn processes() -> impl Iterator<Item = Process> {
    let process = |entry: DirEntry| {
        Some(Process { number: entry.file_name().to_str()?.parse().ok()?, inode: entry.ino() })
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(process)
}

/// The processes that ran before these tests started any. There are many: reading their command lines five
/// times for each command costs more than the rest of a look, by a factor of four.
pub fn strangers() -> &'static HashSet<Process> {
    static STRANGERS: OnceLock<HashSet<Process>> = OnceLock::new();
    STRANGERS.get_or_init(|| processes().collect())
}

fn is_log(path: &Path) -> bool {
    let folder = path.parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder == "cdc" || folder == "logs")
}
