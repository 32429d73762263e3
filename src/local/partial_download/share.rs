//! Downloads that share their bytes on the disk with an existing file, if the file system can do that (btrfs,
//! XFS, APFS, ReFS). A change of one file doesn't change the other.

use std::fs::File;

use super::ScratchFile;

impl ScratchFile {
    /// Gives this file the content of `source` without copying it. Returns false if the file system can't do
    /// that. Then the content is undefined, but the size is unchanged.
    pub fn share(&mut self, source: &File) -> bool {
        let size_bytes = self.file.metadata().map(|file| file.len());
        let shared = self.clone_from(source).and_then(|()| self.file.metadata());
        match (size_bytes, shared) {
            (Ok(size_bytes), Ok(shared)) if shared.len() == size_bytes => true,
            (Ok(size_bytes), _) => {
                // if this fails, the later writes notice it
                let _ = self.file.set_len(size_bytes);
                false
            }
            (Err(_), _) => false,
        }
    }

    #[cfg(not(target_os = "macos"))]
    fn clone_from(&mut self, source: &File) -> std::io::Result<()> {
        reflink_copy::reflink_file(source, &self.file)
    }

    /// Clones `source` on macOS, where a clone is always a new file. The clone takes this file's place, mode
    /// and lock.
    #[cfg(target_os = "macos")]
    fn clone_from(&mut self, source: &File) -> std::io::Result<()> {
        let clone = self.path().with_extension("clone.part");
        let taken = reflink_copy::reflink_file_to_path(source, &clone).and_then(|()| {
            std::fs::set_permissions(&clone, self.file.metadata()?.permissions())?;
            let file = File::options().read(true).write(true).open(&clone)?;
            crate::local::lock::hold_new(&file)?;
            std::fs::rename(&clone, self.path())?;
            Ok(file)
        });
        match taken {
            Ok(file) => self.file = file,
            Err(e) => {
                let _ = std::fs::remove_file(&clone);
                return Err(e);
            }
        }
        Ok(())
    }
}
