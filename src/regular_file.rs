//! Regular files in folders that others can write to. A FIFO, a device, a folder or a link in place of a file
//! is refused. So no reader waits for it or reads without end.

use crate::units::MIB;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// Bytes that are read from an object at a time.
pub const READ_BYTES: usize = MIB;

/// The treatment of a symbolic link in place of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// The file that the link leads to is opened.
    Followed,
    /// The link is refused.
    Refused,
}

/// Opens the regular file at `path` for reading.
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    open_with(File::options().read(true), path, links)
}

/// Opens the regular file at `path` with these options. They must not truncate, because the file is opened
/// before its type is checked.
pub fn open_with(options: &OpenOptions, path: &Path, links: Links) -> io::Result<File> {
    let file = without_waiting(options, links).open(path).map_err(|e| explain(e, path, links))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused("it is no regular file")) }
}

/// Reads the regular file at `path`. Refuses a file of more than `most_bytes`.
pub fn read(path: &Path, links: Links, most_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open(path, links)?;
    let size_bytes = file.metadata()?.len();
    if size_bytes > most_bytes {
        return Err(too_large(most_bytes));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or_default());
    // the file may grow meanwhile
    file.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        return Err(too_large(most_bytes));
    }
    Ok(bytes)
}

/// Returns these options with flags added: opening waits neither for the other end of a FIFO nor for a
/// device, and takes no terminal.
#[cfg(unix)]
pub fn without_waiting(options: &OpenOptions, links: Links) -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if links == Links::Refused {
        flags |= OFlags::NOFOLLOW;
    }
    let mut options = options.clone();
    options.custom_flags(flags.bits().cast_signed());
    options
}

/// Returns these options. On this system only opening a named pipe waits, and none stands in a folder.
#[cfg(not(unix))]
pub fn without_waiting(options: &OpenOptions, _: Links) -> OpenOptions {
    options.clone()
}

/// Names the thing at the path, where the system's own message doesn't.
fn explain(error: io::Error, path: &Path, links: Links) -> io::Error {
    let found = match links {
        Links::Followed => fs::metadata(path),
        Links::Refused => fs::symlink_metadata(path),
    };
    match found {
        Ok(found) if found.is_symlink() => refused("it is a symbolic link"),
        Ok(found) if !found.is_file() => refused("it is no regular file"),
        _ => error,
    }
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

fn too_large(most_bytes: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {most_bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &Path, links: Links) -> String {
        open(path, links).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"content").unwrap();
        for links in [Links::Followed, Links::Refused] {
            assert_eq!(read(&path, links, 7).unwrap(), b"content");
            assert_eq!(read(&path, links, 6).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let missing = read(&folder.path().join("none"), Links::Refused, 7).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        // a file with a hole has a size, and no memory is taken for it
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path, Links::Refused, 7).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let found = open(folder.path(), Links::Refused).unwrap_err();
        assert_eq!(found.kind(), io::ErrorKind::InvalidInput);
    }

    #[cfg(unix)]
    #[test]
    fn links_pipes_sockets_and_devices_are_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
        fs::write(at("file"), b"content").unwrap();
        link(&at("file"), "to-file");
        assert_eq!(read(&at("to-file"), Links::Followed, 7).unwrap(), b"content");
        assert_eq!(error(&at("to-file"), Links::Refused), "it is a symbolic link");

        link(Path::new("/dev/zero"), "to-device");
        for links in [Links::Followed, Links::Refused] {
            assert!(error(&at("to-device"), links).starts_with("it is"));
        }
        let pipe = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(pipe.success());
        link(&at("pipe"), "to-pipe");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["pipe", "to-pipe", "socket"] {
            assert!(error(&at(name), Links::Followed).starts_with("it is no regular file"), "{name}");
            let to_write = open_with(File::options().write(true), &at(name), Links::Followed).unwrap_err();
            assert!(to_write.to_string().starts_with("it is no"), "{name}: {to_write}");
        }
    }
}
