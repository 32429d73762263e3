//! `git lfs-cdc init URL`: a store for this repository's LFS objects.

use std::path::{Component, Path, PathBuf};

use clap::Args;

use super::hook::PrePush;
use super::{Outcome, install, print, settings};
use crate::config;
use crate::error::{Error, Result};
use crate::format::limits::REPOSITORY_NAME_BYTES;
use crate::id::Nonce;
use crate::index::manifest;
use crate::local::limits;
use crate::repo::{Direction, Repo, git};
use crate::store::{ChosenBy, Creation, Intent, Sharing, Store, StoreUrl, UNSYNCED};
use crate::text;

/// Keep this repository's LFS objects in a store, which is created if there is none
///
/// Creates the store, or joins it if it is there, and writes its URL to .lfsconfig, which you commit,
/// and to this clone's configuration, so that commits older than .lfsconfig work too. Has git-lfs ask for 100
/// objects at a time in this clone, unless lfs.concurrenttransfers is set.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc init /mnt/nas/lfs-store\n  \
                        git lfs-cdc init --shared /srv/lfs-store      a group of users shares it\n  \
                        git lfs-cdc init 's3://team-lfs/game?region=eu-central-1'\n  \
                        git lfs-cdc init 's3://lfs/game?endpoint=https://minio.example.com'\n  \
                        git lfs-cdc init ../store                     taken from the top of the work tree")]
pub(super) struct Init {
    /// A directory (a path, or file:///path), a bucket (s3://bucket/prefix?region=R&endpoint=URL,
    /// gs://bucket/prefix, az://container/prefix?account=NAME), or, to pull only, https://host/path
    url: String,
    /// Let it be read over HTTP as well: write index/manifest, which pushes then keep up to date
    #[arg(long)]
    http: bool,
    /// Let a group, or all, use the store, as `git init --shared` does: group, all, or a mode like 0660
    #[arg(long, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "group")]
    shared: Option<String>,
    /// Whose objects these are, if not a name made from the folder's; repositories may share a store
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Create the store even in a folder that holds other things, in the work tree, or over the blocks of
    /// a store that has lost its store.json
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<Outcome> {
        let repo = Repo::discover()?;
        let url = self.named(&repo)?;
        let top = settings::top(&repo, &url)?;
        if let Some(place) = url.directory(top) {
            self.check_place(&place, &repo)?;
        }
        if let Some(file) = repo.work_tree.as_ref().map(|top| top.join(".lfsconfig")).filter(|f| f.exists()) {
            // a file that git can't read is better found before there is a store
            git(&["config", "--file", &file.to_string_lossy(), "--list"])?;
        }
        let sharing = self.shared.as_deref().map(Sharing::parse).transpose()?;
        let text = url.to_string();
        let access = settings::hurried_access(&repo.config, &text, ChosenBy::User, Intent::Write)?;
        let creation = Creation { sharing, force: self.force };
        let (store, created) =
            print::while_waiting(url.shown(), || Store::create_or_join(&url, top, &access, creation))?;
        print::line(format!(
            "{} the store {} (id {})",
            if created { "created" } else { "joined" },
            store.location(),
            store.description().id
        ));
        if store.is_unsynced() {
            print::line(format!("note: the file system there can't sync: {UNSYNCED}"));
        }
        if !created && sharing.is_some_and(|s| store.description().file_mode != Some(s.file_mode())) {
            print::line("note: --shared counts when a store is created; this one stays as it was");
        }
        if self.http && !url.is_read_only() {
            manifest::write(&store)?;
            print::line(
                "wrote index/manifest, which pushes keep up to date: the store can be read over HTTP",
            );
        }
        let old = repo.config.lfs_url("origin", Direction::Download).filter(|old| *old != text);
        if let Some(old) = &old {
            print::line(format!("the LFS URL was {old}"));
        }
        git(&["config", "--local", "--replace-all", "lfs.url", &text])?;
        if let Some(top) = &repo.work_tree {
            let file = top.join(".lfsconfig");
            git(&["config", "--file", &file.to_string_lossy(), "--replace-all", "lfs.url", &text])?;
        }
        print::line(format!("the LFS URL is  {text}"));
        if url.is_read_only() {
            print::line(
                "note: it can only be read; to push, set lfs.pushurl to the URL of its bucket or directory",
            );
        }
        trust_endpoint(&repo, &url);
        set_transfers(&repo)?;
        if let Some(mut hook) = PrePush::look(&repo)? {
            hook.install_if_missing();
            hook.problem(&repo).into_iter().for_each(|problem| print::line(format!("note: {problem}")));
        }
        print_next(&repo, old.as_deref());
        Ok(Outcome::Fine)
    }

    /// A store inside the work tree would be committed with it.
    fn check_place(&self, place: &Path, repo: &Repo) -> Result<()> {
        let resolved = resolve(place);
        let within = |folder: &Path| resolved.starts_with(resolve(folder));
        let in_work_tree = repo.work_tree.iter().any(|top| within(top) || within(repo.base()));
        if self.force || !in_work_tree || within(&repo.git_dir) {
            return Ok(());
        }
        Err(Error::invalid(format!("{} lies inside the work tree", place.display()))
            .remedy(
                "name a folder outside of it, or a bucket by its URL (s3://…, gs://…, az://…); if this folder is meant, \
                 add --force",
            ))
    }

    /// The URL with a repository's name: the one given, else the one this repository has in this store
    /// already, else a readable one that nobody else has.
    fn named(&self, repo: &Repo) -> Result<StoreUrl> {
        let url = StoreUrl::parse(&self.url)?;
        if let Some(name) = &self.repository {
            return url.with_repository(name);
        }
        if !url.repository().is_empty() {
            return Ok(url);
        }
        let configured = repo.config.lfs_url("origin", Direction::Upload);
        if let Some(old) = configured.and_then(|text| StoreUrl::parse(&text).ok())
            && old.is_same_place(&url, repo.base())
            && !old.repository().is_empty()
        {
            return url.with_repository(old.repository());
        }
        let folder = repo.base().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let readable: String = folder
            .trim_end_matches(".git")
            .chars()
            .map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .take(REPOSITORY_NAME_BYTES / 8)
            .collect();
        let nonce = Nonce::random()?.to_string();
        url.with_repository(&format!("{readable}-{}", &nonce[..6]))
    }
}

/// Has requests to the endpoint that was typed signed in other clones of this user too, where only `.lfsconfig` names it.
fn trust_endpoint(repo: &Repo, url: &StoreUrl) {
    let Some(origin) = url.foreign_endpoint() else { return };
    if settings::trusted_endpoints(&repo.config).contains(&origin) {
        return;
    }
    print::line(match git(&["config", "--global", "--add", "lfs-cdc.trustedEndpoint", &origin]) {
        Ok(_) => format!(
            "requests to {origin} are signed in all of your clones: it is now in lfs-cdc.trustedEndpoint"
        ),
        // this clone doesn't need it
        Err(error) => format!("note: {origin} could not be added to your lfs-cdc.trustedEndpoint: {error}"),
    });
}

/// Has git-lfs ask for as many objects at a time as it hands out in one go, unless the user has set something:
/// they share one engine here, and each commit. In this clone only, as elsewhere it counts for other servers too.
fn set_transfers(repo: &Repo) -> Result<()> {
    match repo.config.get(settings::TRANSFERS) {
        Some(set) => print::line(format!("{} is {set}, as it was", settings::TRANSFERS)),
        None => {
            let fewer = limits::agents(config::TRANSFERS);
            let transfers = fewer.as_ref().map_or(config::TRANSFERS, |(fits, _)| *fits).to_string();
            git(&["config", "--local", settings::TRANSFERS, &transfers])?;
            let why = match fewer {
                Some((_, limit)) => format!("not {}, because {} is low", config::TRANSFERS, limit.by),
                None => "many small objects are pushed by few requests".to_owned(),
            };
            print::line(format!("{} is {transfers} in this clone: {why}", settings::TRANSFERS));
        }
    }
    Ok(())
}

/// A path without links and `..`, as far as it is there.
fn resolve(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            part => resolved.push(part),
        }
        if let Ok(real) = resolved.canonicalize() {
            resolved = real;
        }
    }
    resolved
}

fn print_next(repo: &Repo, old: Option<&str>) {
    let remotes = repo.config.remotes();
    let first = remotes.iter().next().copied().unwrap_or("origin");
    let remote = if remotes.contains("origin") { "origin" } else { first };
    if let Some(problem) = install::problem(&repo.config) {
        print::line(format!("note: {problem}"));
    }
    print::line("next:");
    if repo.work_tree.is_some() {
        print::line("  git add .lfsconfig && git commit -m 'Keep LFS objects in a git-lfs-cdc store'");
    }
    print::line(
        "to bring over the LFS objects that the repository has already, from where they were before:",
    );
    // it is pasted, and may come from whoever wrote the repository
    let old = old.filter(|old| !old.contains(text::is_hidden)).unwrap_or("OLD_LFS_URL");
    let (setting, remote) = (format!("lfs.url={old}"), text::shell_word(remote));
    let setting = text::shell_word(&setting);
    print::line(format!("  git -c {setting} lfs fetch --all {remote}   (if this clone lacks some)"));
    print::line(format!("  git lfs push --all {remote}"));
}
