//! The pre-push hook of a repository. It tells git-lfs about a push. If another program has put its own hook
//! there, a push leaves the objects behind, and neither git nor git-lfs reports it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::repo::{Repo, git};
use crate::text::shell_word;
use crate::units::MIB;

/// Most bytes of a git hook. A larger file was not written by hand.
const HOOK_BYTES: u64 = MIB as u64;

/// The pre-push hook of a repository, as it was found.
pub(super) struct PrePush {
    path: PathBuf,
    /// True if git's configuration names the folder of hooks.
    is_elsewhere: bool,
    found: Found,
}

enum Found {
    Missing,
    /// Git ignores the file.
    NotExecutable,
    /// The hook runs git-lfs, or a program that does.
    RunsGitLfs,
    /// No file of the hook names git-lfs. This is the file that should.
    Foreign(PathBuf),
}

impl PrePush {
    /// Looks at the hook. Returns None in a bare repository, because nobody commits there.
    pub(super) fn look(repo: &Repo) -> Result<Option<Self>> {
        let Some(top) = &repo.work_tree else { return Ok(None) };
        let named = git(&["rev-parse", "--git-path", "hooks/pre-push"])?;
        let is_elsewhere = repo.config.get("core.hookspath").is_some();
        // a configured folder is relative to the top of the work tree, and git's own answer to the current
        // folder
        let path = if is_elsewhere { top.join(named.trim_end()) } else { PathBuf::from(named.trim_end()) };
        let found = examine(&path);
        Ok(Some(Self { path, is_elsewhere, found }))
    }

    /// Lets git-lfs install its hook if there is none.
    pub(super) fn install_if_missing(&mut self) {
        if matches!(self.found, Found::Missing) && git(&["lfs", "update"]).is_ok() {
            self.found = examine(&self.path);
        }
    }

    /// Returns the problem with the hook and its remedy, in one line. A missing hook is normal until git-lfs
    /// has stored a first object, because git-lfs installs the hook then.
    pub(super) fn problem(&self, repo: &Repo) -> Option<String> {
        match &self.found {
            Found::RunsGitLfs => None,
            Found::Missing if !self.is_elsewhere && !has_objects(&repo.lfs_storage) => None,
            Found::Missing => Some(format!(
                "there is no pre-push hook {}, so pushes leave LFS objects behind; run `git lfs update`",
                self.path.display()
            )),
            Found::NotExecutable => Some(format!(
                "the pre-push hook is not executable, so pushes leave LFS objects behind; run `chmod +x {}`",
                shell_word(&self.path.to_string_lossy())
            )),
            Found::Foreign(path) => Some(format!(
                "the pre-push hook does not run git-lfs, so pushes leave LFS objects behind; add the line `git lfs \
                 pre-push \"$@\"` to {}, before any line that reads standard input",
                path.display()
            )),
        }
    }
}

fn examine(path: &Path) -> Found {
    let Ok(metadata) = fs::metadata(path) else { return Found::Missing };
    if !is_executable(&metadata) {
        return Found::NotExecutable;
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut files = vec![path.to_owned(), path.with_extension("legacy")];
    files.extend(
        fs::read_dir(path.with_extension("d")).into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    // husky's own file runs the user's file in the folder above
    let users = folder.parent().map(|above| above.join("pre-push")).filter(|_| folder.ends_with("_"));
    files.extend(users.clone());
    if files.iter().any(|file| runs_git_lfs(file)) {
        return Found::RunsGitLfs;
    }
    Found::Foreign(users.unwrap_or_else(|| path.to_owned()))
}

/// Returns true if a line of the file, except comments, names git-lfs's command or lefthook. lefthook runs
/// git-lfs by itself.
fn runs_git_lfs(file: &Path) -> bool {
    if !fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= HOOK_BYTES) {
        return false;
    }
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.any(|line| line.contains("lfs") && line.contains("push") || line.contains("lefthook"))
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    true
}

/// Returns true if git-lfs has stored an object in this clone.
fn has_objects(lfs_storage: &Path) -> bool {
    fs::read_dir(lfs_storage.join("objects")).is_ok_and(|mut entries| entries.next().is_some())
}
