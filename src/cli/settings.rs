//! What can be set in git's configuration, below `lfs-cdc.`.

use crate::error::{Error, Result};
use crate::flow::Settings;
use crate::repo::Repo;
use crate::store::StoreUrl;

const COMPRESSION_LEVEL: &str = "compressionlevel";
/// All of them, in lower case as git prints them.
pub(super) const KNOWN: &[&str] = &[COMPRESSION_LEVEL];
const DEFAULT_COMPRESSION_LEVEL: i32 = 3;

/// The settings for the store that `configured`, the URL as it is configured, names.
pub(super) fn read(repo: &Repo, url: &StoreUrl, configured: &str) -> Result<Settings> {
    let level = match repo.config.setting(COMPRESSION_LEVEL, configured) {
        None => DEFAULT_COMPRESSION_LEVEL,
        Some(text) => text.trim().parse().ok().filter(|level| (1..=22).contains(level)).ok_or_else(|| {
            Error::invalid(format!("lfs-cdc.compressionLevel is {text:?}"))
                .remedy("set it to a number from 1 to 22, or unset it for 3")
        })?,
    };
    Ok(Settings {
        repository: url.repository().to_owned(),
        compression_level: level,
        lfs_storage: repo.lfs_storage.clone(),
    })
}
