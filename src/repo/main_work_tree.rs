//! The top of a repository's main work tree. Relative paths of stores begin there in every work tree, hook
//! and folder of the repository, so that all lead to one place.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Config, is_same, is_true};
use crate::modes::Modes;
use crate::regular_file::{self, Links};

/// The file in the git directory that names the main work tree. Git itself has no such note.
const NOTE: &str = "lfs/cdc/main-work-tree";
/// Most bytes of the note, and of a `.git` file.
const NOTE_BYTES: u64 = 16 * 1024;

/// Finds the top for the shared git directory `git_dir` with this configuration. `current` is the top of the
/// work tree that git works in now. That is the main one, a linked one, or any folder that the user has
/// named. Returns None if nothing says where the main one is.
pub(super) fn find(git_dir: &Path, config: &Config, current: Option<&Path>, modes: Modes) -> Option<PathBuf> {
    let found = configured(git_dir, config).or_else(|| {
        let main = current.filter(|current| leads_to(current, git_dir));
        if let Some(main) = main {
            note(git_dir, main, modes);
        }
        main.map(Path::to_owned).or_else(|| noted(git_dir)).or_else(|| around(git_dir, config))
    })?;
    match current {
        Some(current) if is_same(current, &found) => Some(current.to_owned()),
        _ => Some(real(found)),
    }
}

/// Returns the top that the configuration names. A bare repository is its own top.
fn configured(git_dir: &Path, config: &Config) -> Option<PathBuf> {
    match config.get("core.worktree") {
        Some(top) => Some(git_dir.join(top)),
        None => config.get("core.bare").is_some_and(is_true).then(|| git_dir.to_owned()),
    }
}

/// Returns the folder around a git directory with the name `.git`. A directory with another name counts as
/// bare if the configuration says nothing about work trees, as in git.
fn around(git_dir: &Path, config: &Config) -> Option<PathBuf> {
    if git_dir.file_name().is_some_and(|name| name == ".git") {
        return git_dir.parent().map(Path::to_owned);
    }
    config.get("core.bare").is_none().then(|| git_dir.to_owned())
}

/// Returns true if `.git` in this folder is that git directory, or a file that names it.
fn leads_to(top: &Path, git_dir: &Path) -> bool {
    let link = top.join(".git");
    if is_same(&link, git_dir) {
        return true;
    }
    let named = regular_file::read(&link, Links::Followed, NOTE_BYTES).ok();
    let named = named.and_then(|bytes| String::from_utf8(bytes).ok());
    let named = named.as_deref().and_then(|text| text.strip_prefix("gitdir: "));
    named.is_some_and(|path| is_same(&top.join(path.trim_end_matches(['\r', '\n'])), git_dir))
}

/// Returns the folder that the note names, if it is still the main work tree.
fn noted(git_dir: &Path) -> Option<PathBuf> {
    let bytes = regular_file::read(&git_dir.join(NOTE), Links::Refused, NOTE_BYTES).ok()?;
    let top = PathBuf::from(String::from_utf8(bytes).ok()?);
    (top.is_absolute() && leads_to(&top, git_dir)).then_some(top)
}

/// Notes the place of the main work tree, unless the git directory stands in it. Linked work trees have no
/// other way to find it.
fn note(git_dir: &Path, top: &Path, modes: Modes) {
    let Some(text) = top.to_str() else { return };
    if git_dir.parent().is_some_and(|parent| is_same(parent, top)) || noted(git_dir).as_deref() == Some(top) {
        return;
    }
    if let Err(e) = write(&git_dir.join(NOTE), text, modes) {
        tracing::debug!("the main work tree is not noted in {}: {e}", git_dir.display());
    }
}

/// Writes a new file and renames it, so that no reader sees half a file.
fn write(path: &Path, text: &str, modes: Modes) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    modes.make_folders(folder)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(modes.file()));
    }
    let mut file = builder.tempfile_in(folder)?;
    modes.give(file.as_file());
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// Returns the path without links and `..`, as git shows it.
#[cfg(unix)]
fn real(path: PathBuf) -> PathBuf {
    fs::canonicalize(&path).unwrap_or(path)
}

/// Returns the path unchanged. On this system the path without links has a form that other programs don't
/// accept.
#[cfg(not(unix))]
fn real(path: PathBuf) -> PathBuf {
    path
}
