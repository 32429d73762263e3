//! `git lfs-cdc init URL`: the command that sets up a repository with a store.

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

/// Set up this repository with a store, and create the store if there is none
///
/// Creates the store, or joins the one that is there. Writes the store's URL to .lfsconfig, which you commit.
/// Also writes it to this clone's configuration, so that commits older than .lfsconfig work. Sets
/// lfs.concurrenttransfers to 100 in this clone, unless you have set it.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc init /mnt/nas/lfs-store\n  \
                        git lfs-cdc init --shared /srv/lfs-store      share it with a group of users\n  \
                        git lfs-cdc init 's3://team-lfs/game?region=eu-central-1'\n  \
                        git lfs-cdc init 's3://lfs/game?endpoint=https://minio.example.com'\n  \
                        git lfs-cdc init ../store                     a path relative to the work tree's top")]
pub(super) struct Init {
    /// The store: a directory (a path, or file:///path), a bucket (s3://bucket/prefix?region=R&endpoint=URL,
    /// gs://bucket/prefix, az://container/prefix?account=NAME), or a web server (https://host/path, to pull
    /// only)
    url: String,
    /// Also let web servers publish the store: write index/manifest, which pushes then keep up to date
    #[arg(long)]
    http: bool,
    /// Let other users write to a new store, as `git init --shared` does: group, all, or a mode such as 0660
    #[arg(long, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "group")]
    shared: Option<String>,
    /// The name of this repository in the store, which other repositories may share [default: made from the
    /// folder's name]
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Create the store even in a folder with other files, in the work tree, or over the blocks of a store
    /// that has lost its store.json
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<Outcome> {
        let repo = Repo::discover()?;
        let url = self.named(&repo)?;
        self.create_or_join(&repo, &url)?;
        let text = url.to_string();
        let old = repo.config.lfs_url("origin", Direction::Download).filter(|old| *old != text);
        configure(&repo, &text, old.as_deref())?;
        if url.is_read_only() {
            print::line(
                "note: this store can only be read; to push, set lfs.pushurl to the URL of its bucket or directory",
            );
        }
        trust_endpoint(&repo, &url);
        set_transfers(&repo)?;
        if let Some(mut hook) = PrePush::look(&repo)? {
            hook.install_if_missing();
            if let Some(problem) = hook.problem(&repo) {
                print::line(format!("note: {problem}"));
            }
        }
        print_next(&repo, old.as_deref());
        Ok(Outcome::Fine)
    }

    /// Creates or joins the store, writes its manifest if the user wants that, and reports both.
    fn create_or_join(&self, repo: &Repo, url: &StoreUrl) -> Result<()> {
        let top = settings::top(repo, url)?;
        if let Some(place) = url.directory(top) {
            self.check_place(&place, repo)?;
        }
        if let Some(file) = repo.work_tree.as_ref().map(|top| top.join(".lfsconfig")).filter(|f| f.exists()) {
            // git may be unable to read this file; then the command fails before it creates a store
            git(&["config", "--file", &file.to_string_lossy(), "--list"])?;
        }
        let sharing = self.shared.as_deref().map(Sharing::parse).transpose()?;
        let access = settings::hurried_access(&repo.config, &url.to_string(), ChosenBy::User, Intent::Write)?;
        let creation = Creation { sharing, force: self.force };
        let (store, is_new) =
            print::while_waiting(url.shown(), || Store::create_or_join(url, top, &access, creation))?;
        let done = if is_new { "created" } else { "joined" };
        print::line(format!("{done} the store {} (id {})", store.location(), store.description().id));
        if store.is_unsynced() {
            print::line(format!("note: the file system of the store can't sync: {UNSYNCED}"));
        }
        if !is_new && sharing.is_some_and(|s| store.description().file_mode != Some(s.file_mode())) {
            print::line("note: --shared has an effect only on a new store; this one keeps its modes");
        }
        if self.http && !url.is_read_only() {
            manifest::write(&store)?;
            print::line(
                "wrote index/manifest: web servers can publish the store, and pushes keep this file up to date",
            );
        }
        Ok(())
    }

    /// Refuses a store inside the work tree, because git would commit it.
    fn check_place(&self, place: &Path, repo: &Repo) -> Result<()> {
        let resolved = resolve(place);
        let within = |folder: &Path| resolved.starts_with(resolve(folder));
        let in_work_tree = repo.work_tree.iter().any(|top| within(top) || within(repo.base()));
        if self.force || !in_work_tree || within(&repo.git_dir) {
            return Ok(());
        }
        Err(Error::invalid(format!("{} lies inside the work tree", place.display()))
            .remedy(
                "name a folder outside of it, or a bucket by its URL (s3://…, gs://…, az://…); to use this folder, \
                 add --force",
            ))
    }

    /// Returns the URL with a repository's name. It is the name that the user has given, else the name that
    /// this repository already has in this store, else a readable and unique name.
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

/// Writes the LFS URL `text` to this clone's configuration, and to `.lfsconfig` if there is a work tree.
fn configure(repo: &Repo, text: &str, old: Option<&str>) -> Result<()> {
    if let Some(old) = old {
        print::line(format!("the LFS URL was {old}"));
    }
    git(&["config", "--local", "--replace-all", "lfs.url", text])?;
    if let Some(top) = &repo.work_tree {
        let file = top.join(".lfsconfig");
        git(&["config", "--file", &file.to_string_lossy(), "--replace-all", "lfs.url", text])?;
    }
    print::line(format!("the LFS URL is  {text}"));
    Ok(())
}

/// Adds the endpoint that the user has typed to the trusted ones. Then requests to it are signed in the
/// user's other clones too, where only `.lfsconfig` names it.
fn trust_endpoint(repo: &Repo, url: &StoreUrl) {
    let Some(origin) = url.foreign_endpoint() else { return };
    if settings::trusted_endpoints(&repo.config).contains(&origin) {
        return;
    }
    print::line(match git(&["config", "--global", "--add", "lfs-cdc.trustedEndpoint", &origin]) {
        Ok(_) => format!(
            "requests to {origin} are signed in all your clones, because it is now in lfs-cdc.trustedEndpoint"
        ),
        // this clone doesn't need the setting
        Err(error) => format!("note: {origin} could not be added to your lfs-cdc.trustedEndpoint: {error}"),
    });
}

/// Sets the number of objects that git-lfs asks for at a time, unless the user has set it. The agents share
/// one engine and each commit, so the best number is the size of git-lfs's batch. It is set in this clone
/// only, because elsewhere it counts for other servers too.
fn set_transfers(repo: &Repo) -> Result<()> {
    if let Some(set) = repo.config.get(settings::TRANSFERS) {
        print::line(format!("{} stays {set}", settings::TRANSFERS));
        return Ok(());
    }
    let fewer = limits::agents(config::TRANSFERS);
    let transfers = fewer.as_ref().map_or(config::TRANSFERS, |(fits, _)| *fits).to_string();
    git(&["config", "--local", settings::TRANSFERS, &transfers])?;
    let reason = match fewer {
        Some((_, limit)) => format!("not {}, because {} is low", config::TRANSFERS, limit.by),
        None => "many small objects are pushed by few requests".to_owned(),
    };
    print::line(format!("{} is {transfers} in this clone: {reason}", settings::TRANSFERS));
    Ok(())
}

/// Returns the path without `..`, and without links as far as it exists.
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
    print::line("to copy the LFS objects that the repository already has from the old server to this store:");
    // the user pastes this URL, and a stranger may have written it
    let old = old.filter(|old| !old.contains(text::is_hidden)).unwrap_or("OLD_LFS_URL");
    let remote = text::shell_word(remote);
    let setting = format!("lfs.url={old}");
    let setting = text::shell_word(&setting);
    print::line(format!("  git -c {setting} lfs fetch --all {remote}   (if this clone lacks some)"));
    print::line(format!("  git lfs push --all {remote}"));
}
