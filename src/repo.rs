//! The repository and its configuration. This module asks git itself, because nothing else knows `git -c`,
//! includes, work trees and extensions as git does.

mod main_work_tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::modes::Modes;

/// Time in which a program has to answer with its version.
const VERSION_SECONDS: u64 = 5;

/// The direction in which objects go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the store.
    Upload,
    /// From the store.
    Download,
}

/// Git's configuration. Keys are written as git prints them, and later entries win.
#[derive(Clone, Debug, Default)]
pub struct Config {
    entries: Vec<(String, String)>,
    /// The number of entries from `.lfsconfig`. They come first.
    committed: usize,
}

/// A repository: the places of its parts, and its configuration.
#[derive(Clone, Debug)]
pub struct Repo {
    /// The folder for relative store paths: the top of the main work tree, or a bare repository itself. None
    /// if nothing says where the main work tree is.
    pub top: Option<PathBuf>,
    /// The git directory that all work trees share.
    pub git_dir: PathBuf,
    /// The folder in which git-lfs keeps `objects/` and `tmp/`.
    pub lfs_storage: PathBuf,
    /// The top of the work tree that git works in, if there is one.
    pub work_tree: Option<PathBuf>,
    /// The modes of new files in the git directory.
    pub modes: Modes,
    /// Git's configuration. Below it come the entries that `.lfsconfig` may set.
    pub config: Config,
}

/// Runs git and returns its output, or fails with its complaint.
pub fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").args(arguments).output();
    let output = output.map_err(|e| Error::io("running git", &e).remedy("install git"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(complaint(arguments, &output))
}

/// Asks git a question that it can't answer outside of a repository.
fn ask(arguments: &[&str]) -> Result<String> {
    // its message is searched below, so it must be the English one
    let output = Command::new("git").args(arguments).env("LC_ALL", "C").output();
    let output = output.map_err(|e| Error::io("running git", &e).remedy("install git"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    if !String::from_utf8_lossy(&output.stderr).contains("not a git repository") {
        return Err(complaint(arguments, &output));
    }
    Err(match std::env::var_os("GIT_DIR") {
        Some(named) => {
            let named = PathBuf::from(named);
            Error::invalid(format!("GIT_DIR is {}, which is no git repository", named.display()))
                .remedy("correct it, or unset it")
        }
        None => Error::invalid("no git repository is here")
            .remedy("change to the folder of one, or make one with `git init`"),
    })
}

/// Returns the first line that a program prints for `--version`. Fails if it can't be run, or doesn't end
/// soon.
pub fn version_of(program: &str) -> Result<String> {
    let failed = |e| Error::io(format!("running {program}"), &e);
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let deadline = Instant::now() + Duration::from_secs(VERSION_SECONDS);
    while child.try_wait().map_err(failed)?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::busy(format!("{program} --version doesn't end")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().map_err(failed)?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

fn complaint(arguments: &[&str], output: &Output) -> Error {
    // git-lfs prints complaints to stdout
    let words = if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr };
    let words = String::from_utf8_lossy(words);
    Error::invalid(format!("git {}: {}", arguments.join(" "), words.trim()))
}

/// Reads one value of git's configuration, from the file that `scope` names (`--global`, for example), or
/// from all files as git does. Returns `None` if it isn't set.
pub fn config_value(scope: Option<&str>, key: &str) -> Result<Option<String>> {
    let arguments: Vec<&str> = ["config"].into_iter().chain(scope).chain(["--get-all", key]).collect();
    let output = Command::new("git").args(&arguments).output();
    let output = output.map_err(|e| Error::io("running git", &e).remedy("install git"))?;
    match output.status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())),
        Some(1) => Ok(None),
        _ => Err(complaint(&arguments, &output)),
    }
}

impl Repo {
    /// Finds the repository of the current directory, or of `GIT_DIR`.
    pub fn discover() -> Result<Self> {
        let asked = ask(&["rev-parse", "--absolute-git-dir", "--git-common-dir", "--is-bare-repository"])?;
        if asked.contains(char::REPLACEMENT_CHARACTER) {
            return Err(Error::invalid("the repository's path is not UTF-8, which git-lfs can't pass on")
                .remedy("move it to a path that is"));
        }
        let mut lines = asked.lines();
        let mut line = || lines.next().unwrap_or_default().to_owned();
        let own_dir = PathBuf::from(line());
        let common_dir = PathBuf::from(line());
        let bare = line() == "true";
        let failed = |e| Error::io(format!("opening {}", common_dir.display()), &e);
        let git_dir = std::path::absolute(&common_dir).map_err(failed)?;
        let work_tree = if bare { None } else { work_tree() };
        let mut config = Config::here()?;
        let modes = Modes::of(config.get("core.sharedrepository"));
        let main_config = if is_same(&own_dir, &git_dir) { None } else { Config::of_main(&git_dir) };
        let shared = main_config.as_ref().unwrap_or(&config);
        let top = main_work_tree::find(&git_dir, shared, work_tree.as_deref(), modes);
        config.add_below(lfsconfig(work_tree.as_deref()));
        let storage = config.get("lfs.storage").filter(|storage| !storage.is_empty());
        let lfs_storage = git_dir.join(storage.unwrap_or("lfs"));
        Ok(Self { top, git_dir, lfs_storage, work_tree, modes, config })
    }

    /// Returns the folder for relative paths that are no stores.
    pub fn base(&self) -> &Path {
        self.top.as_ref().unwrap_or(&self.git_dir)
    }
}

/// Returns the top of the work tree that git works in. Inside a git directory there is none, and git and
/// git-lfs work without it.
fn work_tree() -> Option<PathBuf> {
    let top = git(&["rev-parse", "--show-toplevel"]).ok()?;
    Some(PathBuf::from(top.trim_end_matches('\n')))
}

/// Reads the LFS URL that `.lfsconfig` has on a remote's main branch, as far as this clone knows it. The
/// commit that is checked out may be older than that file.
pub fn newest_lfs_url(remote: &str) -> Option<String> {
    let blob = format!("refs/remotes/{remote}/HEAD:.lfsconfig");
    let config = Config::read(&["config", "-z", "--list", "--blob", &blob]).ok()?;
    config.get("lfs.url").map(str::to_owned)
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Returns true if git reads this value as true.
fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1")
}

/// Reads `.lfsconfig` from the work tree, else from git's index, else from HEAD, as git-lfs does. Keeps only
/// the keys that git-lfs allows there.
fn lfsconfig(work_tree: Option<&Path>) -> Config {
    let file = work_tree.map(|top| top.join(".lfsconfig")).filter(|file| file.exists());
    let read = match file.as_deref().and_then(Path::to_str) {
        Some(file) => Config::read(&["config", "-z", "--list", "--file", file]),
        None => Config::read(&["config", "-z", "--list", "--blob", ":.lfsconfig"])
            .or_else(|_| Config::read(&["config", "-z", "--list", "--blob", "HEAD:.lfsconfig"])),
    };
    let allowed = |key: &str| {
        matches!(key, "lfs.url" | "lfs.pushurl") || key.starts_with("remote.") && key.ends_with(".lfsurl")
    };
    let mut config = read.unwrap_or_default();
    config.entries.retain(|(key, _)| allowed(key));
    config
}

impl Config {
    /// Makes a configuration with these entries.
    #[cfg(test)]
    pub(crate) fn of(entries: &[(&str, &str)]) -> Self {
        let entries = entries.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        Self { entries: entries.collect(), committed: 0 }
    }

    /// Reads git's configuration in the current directory, which may be outside of any repository.
    pub fn here() -> Result<Self> {
        Self::read(&["config", "-z", "--list"])
    }

    /// Reads the configuration of the main work tree, by the git directory that all work trees share.
    fn of_main(git_dir: &Path) -> Option<Self> {
        Self::read(&["--git-dir", git_dir.to_str()?, "config", "-z", "--list"]).ok()
    }

    fn read(arguments: &[&str]) -> Result<Self> {
        let listed = git(arguments)?;
        let entries = listed.split_terminator('\0').map(|entry| match entry.split_once('\n') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            // a key without `=` means true
            None => (entry.to_owned(), "true".to_owned()),
        });
        Ok(Self { entries: entries.collect(), committed: 0 })
    }

    fn add_below(&mut self, lower: Self) {
        self.committed += lower.entries.len();
        self.entries.splice(0..0, lower.entries);
    }

    /// Returns the value of a key. Its section and name are in lower case.
    pub fn get(&self, key: &str) -> Option<&str> {
        Some(self.entries[self.position(key)?].1.as_str())
    }

    /// Returns the place of the entry that counts for a key.
    fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().rposition(|(k, _)| k == key)
    }

    /// Returns the names of all remotes.
    pub fn remotes(&self) -> BTreeSet<&str> {
        let name = |key: &'_ str| -> Option<(usize, usize)> {
            let rest = key.strip_prefix("remote.")?;
            let name = rest.strip_suffix(".url").or_else(|| rest.strip_suffix(".pushurl"))?;
            Some(("remote.".len(), name.len()))
        };
        let keys = self.entries.iter().map(|(key, _)| key.as_str());
        keys.filter_map(|key| name(key).map(|(start, length)| &key[start..start + length])).collect()
    }

    /// Returns the LFS URL of a remote, in git-lfs's order. Returns `None` if only the remote's own URL is
    /// configured. Then git-lfs derives a server's address from that.
    pub fn lfs_url(&self, remote: &str, direction: Direction) -> Option<String> {
        let (_, url) = &self.entries[self.lfs_url_position(remote, direction)?];
        Some(self.aliased(url, direction == Direction::Upload))
    }

    /// Returns true if that URL comes from `.lfsconfig`, so from the authors of the repository, and not from
    /// git's configuration.
    pub fn is_lfs_url_committed(&self, remote: &str, direction: Direction) -> bool {
        self.lfs_url_position(remote, direction).is_some_and(|position| position < self.committed)
    }

    fn lfs_url_position(&self, remote: &str, direction: Direction) -> Option<usize> {
        let upload = direction == Direction::Upload;
        let of_remote = |remote: &str| {
            let push = upload.then(|| self.position(&format!("remote.{remote}.lfspushurl"))).flatten();
            push.or_else(|| self.position(&format!("remote.{remote}.lfsurl")))
        };
        upload
            .then(|| self.position("lfs.pushurl"))
            .flatten()
            .or_else(|| self.position("lfs.url"))
            .or_else(|| of_remote(remote))
            .or_else(|| {
                if self.get(&format!("remote.{remote}.url")).is_none() { of_remote("origin") } else { None }
            })
    }

    /// Applies `url.<base>.insteadOf` and `pushInsteadOf`, the longest match first, as git does.
    fn aliased(&self, url: &str, upload: bool) -> String {
        let replaced = |suffix: &str| {
            let aliases = self.entries.iter().filter_map(|(key, prefix)| {
                let base = key.strip_prefix("url.")?.strip_suffix(suffix)?;
                Some((prefix, format!("{base}{}", url.strip_prefix(prefix.as_str())?)))
            });
            aliases.max_by_key(|(prefix, _)| prefix.len()).map(|(_, url)| url)
        };
        let push = upload.then(|| replaced(".pushinsteadof")).flatten();
        push.or_else(|| replaced(".insteadof")).unwrap_or_else(|| url.to_owned())
    }

    /// Returns one of our settings: `lfs-cdc.<store URL>.<name>` if it is set, with or without the URL's
    /// query. Otherwise `lfs-cdc.<name>`.
    pub fn setting(&self, name: &str, store_url: &str) -> Option<&str> {
        let place = store_url.split_once('?').map_or(store_url, |(place, _)| place);
        let specific = |url: &str| self.get(&format!("lfs-cdc.{url}.{name}"));
        specific(store_url).or_else(|| specific(place)).or_else(|| self.get(&format!("lfs-cdc.{name}")))
    }

    /// Returns every value of one of our settings that may have several, in the order of the configuration.
    /// These are the values for the store and the general ones. An empty value removes those before it, as in
    /// git.
    pub fn settings(&self, name: &str, store_url: &str) -> Vec<&str> {
        let place = store_url.split_once('?').map_or(store_url, |(place, _)| place);
        let keys = [
            format!("lfs-cdc.{name}"),
            format!("lfs-cdc.{place}.{name}"),
            format!("lfs-cdc.{store_url}.{name}"),
        ];
        let set = self.entries.iter().filter(|(key, _)| keys.contains(key)).map(|(_, value)| value.as_str());
        let mut values = Vec::new();
        for value in set {
            match value.trim() {
                "" => values.clear(),
                value => values.push(value),
            }
        }
        values
    }

    /// Returns a setting of ours for single stores: each URL for which it is set, and the value. The last
    /// matching entry wins.
    pub fn settings_by_store(&self, name: &str) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        let suffix = format!(".{name}");
        self.entries.iter().filter_map(move |(key, value)| {
            let url = key.strip_prefix("lfs-cdc.")?.strip_suffix(&suffix)?;
            Some((url, value.as_str()))
        })
    }

    /// Returns our keys that this version doesn't know. Most likely they are misspelt.
    pub fn unknown_settings(&self, known: &[&str]) -> Vec<&str> {
        let keys = self.entries.iter().map(|(key, _)| key.as_str());
        let ours = keys.filter(|key| key.starts_with("lfs-cdc."));
        ours.filter(|key| key.rsplit_once('.').is_none_or(|(_, name)| !known.contains(&name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lfs_url_is_found_in_git_lfs_order() {
        let mut all = vec![("remote.origin.url", "git@host:a"), ("remote.fork.url", "git@host:b")];
        let url = |all: &[_], remote, direction| Config::of(all).lfs_url(remote, direction);
        use Direction::{Download, Upload};
        assert_eq!(url(&all, "origin", Upload), None);
        all.push(("remote.origin.lfsurl", "cdc::origin"));
        assert_eq!(url(&all, "origin", Upload).as_deref(), Some("cdc::origin"));
        assert_eq!(url(&all, "fork", Upload), None, "a remote with a URL of its own has its own server");
        assert_eq!(url(&all, "https://host/b", Upload).as_deref(), Some("cdc::origin"));
        all.push(("remote.origin.lfspushurl", "cdc::push"));
        assert_eq!(url(&all, "origin", Upload).as_deref(), Some("cdc::push"));
        assert_eq!(url(&all, "origin", Download).as_deref(), Some("cdc::origin"));
        all.push(("lfs.url", "cdc::all"));
        assert_eq!(url(&all, "fork", Upload).as_deref(), Some("cdc::all"));
        all.push(("lfs.pushurl", "cdc::allpush"));
        assert_eq!(url(&all, "fork", Upload).as_deref(), Some("cdc::allpush"));
        assert_eq!(url(&all, "fork", Download).as_deref(), Some("cdc::all"));
        all.push(("url.cdc::/mnt/.insteadof", "cdc::a"));
        assert_eq!(url(&all, "fork", Download).as_deref(), Some("cdc::/mnt/ll"));
    }

    #[test]
    fn settings_of_a_store_beat_general_ones_and_unknown_ones_are_named() {
        let config = Config::of(&[
            ("lfs-cdc.compressionlevel", "5"),
            ("lfs-cdc.cdc::/srv/x.y.compressionlevel", "7"),
            ("lfs-cdc.compresionlevel", "9"),
        ]);
        assert_eq!(config.setting("compressionlevel", "cdc::/srv/x.y"), Some("7"));
        assert_eq!(config.setting("compressionlevel", "cdc::/srv/x.y?repository=a"), Some("7"));
        assert_eq!(config.setting("compressionlevel", "cdc::/srv/z"), Some("5"));
        assert_eq!(config.unknown_settings(&["compressionlevel"]), ["lfs-cdc.compresionlevel"]);
    }

    #[test]
    fn a_setting_may_have_several_values_and_an_empty_one_takes_them_back() {
        let mut all = vec![
            ("lfs-cdc.source", "/a"),
            ("lfs-cdc.cdc::/srv/x.source", " /b "),
            ("lfs-cdc.cdc::/y.source", "/c"),
        ];
        let values = |all: &[_]| Config::of(all).settings("source", "cdc::/srv/x?repository=a").join(" ");
        assert_eq!(values(&all), "/a /b");
        all.extend([
            ("lfs-cdc.source", ""),
            ("lfs-cdc.cdc::/srv/x?repository=a.source", "/d"),
            ("lfs-cdc.source", "/e"),
        ]);
        assert_eq!(values(&all), "/d /e");
    }
}
