//! Whole files: objects that stand as files on this machine. A download shares their bytes where the file
//! system can, copies them elsewhere, and verifies both. It needs neither the index nor a block.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::id::Oid;
use crate::local::partial_download::{Scratch, ScratchFile};
use crate::local::whole_files::Sources;
use crate::progress::Progress;
use crate::regular_file;
use crate::regular_file::{Links, READ_BYTES};

/// Returns the object from the first source that has the right content. Warns of a file that is damaged or
/// can't be read, and skips it. Fails if the object can't be written, or if the download is cancelled.
pub(super) fn find(
    sources: &Sources,
    scratch: &Scratch,
    oid: &Oid,
    size_bytes: u64,
    progress: &Progress,
) -> Result<Option<PathBuf>> {
    for source in sources.files(oid, size_bytes) {
        progress.restart();
        let mut file = scratch.create(oid, size_bytes)?;
        match take(&source, &mut file, oid, size_bytes, progress)? {
            Ok(how) => {
                tracing::debug!("object {oid}: all {size_bytes} bytes {how} from {}", source.display());
                return file.hand_over().map(Some);
            }
            Err(e) => tracing::warn!("object {oid} is not taken from {}: {e}", source.display()),
        }
    }
    Ok(None)
}

/// Gives the file the content of the source. Returns "shared" or "copied", or the reason why the source is
/// useless.
fn take(
    source: &Path,
    file: &mut ScratchFile,
    oid: &Oid,
    size_bytes: u64,
    progress: &Progress,
) -> Result<Result<&'static str>> {
    let failed = |e| Error::io("reading it", &e);
    let mut open = match regular_file::open(source, Links::Refused) {
        Ok(open) => open,
        Err(e) => return Ok(Err(failed(e))),
    };
    let shares = file.share(&open);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut done = 0;
    while done < size_bytes {
        progress.check()?;
        let part = &mut buffer[..(size_bytes - done).min(READ_BYTES as u64) as usize];
        if shares {
            // the shared bytes are the ones to verify
            file.read_at(part, done)?;
        } else {
            if let Err(e) = open.read_exact(part) {
                return Ok(Err(failed(e)));
            }
            file.write_at(part, done)?;
        }
        digest.update(&*part);
        done += part.len() as u64;
        progress.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
    if Oid(digest.finalize().into()) != *oid {
        let damaged = Error::corrupt("its content is not what its name says").remedy("remove that file");
        return Ok(Err(damaged));
    }
    Ok(Ok(if shares { "shared" } else { "copied" }))
}
