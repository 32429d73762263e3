//! Modes of new files and folders in a git directory and in its LFS storage: the modes that git-lfs itself
//! would give. On systems without modes, this module does nothing.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The bits that the owner of a file needs. Git refuses a setting without them.
const OWNERS: u32 = 0o600;

/// The modes of new files and folders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// The mode of files, independent of the umask. None if the umask decides.
    shared: Option<u32>,
}

impl Modes {
    /// Returns the modes for a value of git's `core.sharedRepository`, as git-lfs reads it.
    pub fn of(shared_repository: Option<&str>) -> Self {
        let value = shared_repository.unwrap_or("umask").to_lowercase();
        let shared = match value.as_str() {
            "group" | "true" | "1" | "on" | "yes" | "t" => Some(0o660),
            "all" | "world" | "everybody" | "2" => Some(0o664),
            "umask" | "false" | "0" => None,
            octal => i16::from_str_radix(octal, 8).ok().map(|mode| mode.cast_unsigned().into()),
        };
        Self { shared: shared.map(|mode: u32| mode & 0o666).filter(|mode| mode & OWNERS == OWNERS) }
    }

    /// Returns the mode for making a file.
    pub fn file(self) -> u32 {
        self.shared.unwrap_or(0o666)
    }

    /// Gives a new file its mode. If that fails, the file keeps the mode that it has.
    pub fn give(self, file: &File) {
        #[cfg(unix)]
        if let Some(shared) = self.shared {
            use std::os::unix::fs::PermissionsExt;
            let found = file.metadata().map(|found| found.permissions().mode() & 0o777);
            if found.is_ok_and(|found| found != shared) {
                let given = file.set_permissions(fs::Permissions::from_mode(shared));
                given.unwrap_or_else(|e| tracing::debug!("a file keeps its mode: {e}"));
            }
        }
        #[cfg(not(unix))]
        let _ = file;
    }

    /// Makes a folder and its missing parents.
    pub fn make_folders(self, path: &Path) -> io::Result<()> {
        match self.make_folder(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_folders(path.parent().ok_or(e)?)?;
                self.make_folder(path)
            }
            made => made,
        }
    }

    fn make_folder(self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Ok(()) => {
                #[cfg(unix)]
                self.give_folder(path);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Lets every user who may read a file enter a folder, as git-lfs and git do. The bit that a folder
    /// inherits from its parent (it hands on the group) stays.
    #[cfg(unix)]
    fn give_folder(self, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let Ok(found) = fs::metadata(path).map(|found| found.permissions().mode() & 0o7777) else { return };
        let file = self.shared.unwrap_or(found & 0o666);
        let wanted = found & 0o7000 | file | (file & 0o444) >> 2;
        if found != wanted {
            let given = fs::set_permissions(path, fs::Permissions::from_mode(wanted));
            given.unwrap_or_else(|e| tracing::debug!("{} keeps its mode: {e}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_read_as_git_lfs_reads_it() {
        for (value, expected) in [
            (None, None),
            (Some("umask"), None),
            (Some("False"), None),
            (Some("0"), None),
            (Some("no"), None),
            (Some(""), None),
            (Some("0700"), Some(0o600)),
            (Some("group"), Some(0o660)),
            (Some("True"), Some(0o660)),
            (Some("yes"), Some(0o660)),
            (Some("1"), Some(0o660)),
            (Some("All"), Some(0o664)),
            (Some("world"), Some(0o664)),
            (Some("everybody"), Some(0o664)),
            (Some("2"), Some(0o664)),
            (Some("0640"), Some(0o640)),
            (Some("0660"), Some(0o660)),
            (Some("0777"), Some(0o666)),
            (Some("0444"), None),
            (Some("0999"), None),
        ] {
            assert_eq!(Modes::of(value).shared, expected, "{value:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn folders_can_be_entered_by_those_who_may_read_and_keep_what_they_inherit() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2755)).unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o7777;
        let inherited = mode("") & 0o2000;
        for (value, expected) in [("group", 0o770), ("all", 0o775), ("0640", 0o750)] {
            let modes = Modes::of(Some(value));
            modes.make_folders(&folder.path().join(value).join("below")).unwrap();
            modes.make_folders(&folder.path().join(value).join("below")).unwrap();
            for name in [value.to_owned(), format!("{value}/below")] {
                assert_eq!(mode(&name), expected | inherited, "{name}");
            }
            let file = File::create(folder.path().join(value).join("file")).unwrap();
            modes.give(&file);
            assert_eq!(mode(&format!("{value}/file")), modes.file());
        }
    }
}
