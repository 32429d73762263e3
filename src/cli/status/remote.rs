//! A remote in one direction: its LFS URL, and the store that this URL names.

use serde::Serialize;

use super::look::{Look, Probe, Target};
use crate::cli::settings;
use crate::error::Result;
use crate::repo::{Direction, Repo, newest_lfs_url};
use crate::store::{Intent, SCHEME, StoreUrl};
use crate::text::{is_hidden, shell_word};

/// One remote in one direction, as the report shows it.
#[derive(Serialize)]
pub(super) struct Remote {
    pub remote: String,
    pub direction: &'static str,
    pub lfs_url: Option<String>,
    /// True if this program moves the remote's objects.
    pub agent: bool,
    /// The location of the store, if it could be opened.
    pub store: Option<String>,
    pub store_id: Option<String>,
    pub repository: Option<String>,
    /// The number of index segments in the store that no other segment replaces.
    pub segments: Option<usize>,
    /// The number of index segments that were merged into others and not deleted.
    pub replaced_segments: Option<usize>,
    /// True if requests go unsigned, because no credentials were found for a store that accepts some.
    pub anonymous: Option<bool>,
    /// The reason why requests go unsigned although there may be credentials, and the remedy: only the
    /// repository names the endpoint.
    pub unsigned: Option<String>,
    /// Remarks that are no problems.
    pub notes: Vec<String>,
    /// The result of the probe.
    pub probe: Option<Probe>,
}

impl Remote {
    pub(super) fn new(name: &str, direction: Direction, lfs_url: Option<String>) -> Self {
        let direction = match direction {
            Direction::Upload => "push",
            Direction::Download => "pull",
        };
        Self {
            remote: name.to_owned(),
            direction,
            lfs_url,
            agent: false,
            store: None,
            store_id: None,
            repository: None,
            segments: None,
            replaced_segments: None,
            anonymous: None,
            unsigned: None,
            notes: Vec::new(),
            probe: None,
        }
    }

    /// Takes over the results of the look at its store.
    pub(super) fn take(&mut self, look: &Look, with_probe: bool) {
        let Some(seen) = &look.seen else { return };
        self.store = Some(seen.location.clone());
        self.store_id = Some(seen.id.clone());
        self.segments = Some(seen.health.segments);
        self.replaced_segments = Some(seen.health.replaced);
        self.anonymous = seen.anonymous;
        self.unsigned = seen.unsigned.clone();
        self.notes = seen.notes.clone();
        if with_probe {
            self.probe = seen.probe.clone();
        }
    }

    /// Returns the store that this remote leads to. Adds the problems of its URL and its settings to
    /// `findings`.
    pub(super) fn target(
        &mut self,
        repo: &Repo,
        direction: Direction,
        findings: &mut Vec<String>,
    ) -> Option<Target> {
        let Some(configured) = self.lfs_url.clone() else {
            findings.push(missing_url(&self.remote));
            return None;
        };
        if !configured.starts_with(SCHEME) {
            findings.push(format!(
                "remote {} uses {configured}, which is no store of git-lfs-cdc; run `git lfs-cdc init URL`",
                self.remote
            ));
            return None;
        }
        let chosen_by = settings::chosen_by(&repo.config, &self.remote, direction);
        let target = read_target(repo, &configured, findings).and_then(|place| {
            let access = settings::hurried_access(&repo.config, &configured, chosen_by, Intent::Read)?;
            Ok(Target { place, access })
        });
        let target = match target {
            Ok(target) => target,
            Err(error) => {
                findings.push(error.to_string());
                return None;
            }
        };
        let url = &target.place;
        self.repository = Some(url.repository().to_owned());
        if url.repository().is_empty() && !url.is_read_only() {
            findings.push(format!(
                "{configured} has no name of a repository; run `git lfs-cdc init` with this URL"
            ));
        }
        Some(Target { place: target.place.place(), access: target.access })
    }
}

/// Reads the URL and the settings of a store. Adds problems that don't prevent its use to `findings`.
fn read_target(repo: &Repo, configured: &str, findings: &mut Vec<String>) -> Result<StoreUrl> {
    let url = StoreUrl::parse(configured)?;
    for source in settings::read(repo, &url, configured)?.sources {
        if !source.is_dir() {
            findings.push(format!(
                "lfs-cdc.source names {}, which is no folder; mount it, or unset the setting",
                source.display()
            ));
        }
    }
    findings.extend(settings::ignored(&repo.config, configured));
    Ok(url)
}

/// Returns the finding for a remote without an LFS URL. The remote's newest commit may have one.
fn missing_url(name: &str) -> String {
    let newest = newest_lfs_url(name).filter(|url| url.starts_with(SCHEME) && !url.contains(is_hidden));
    match newest {
        // a URL in git's own configuration is the user's choice, and its endpoint is trusted; so no command
        // is offered for a stranger's endpoint
        Some(url) if url.contains("endpoint=") => format!(
            "this commit is older than .lfsconfig, which names the store; check out the newest commit of {name} first"
        ),
        // the user pastes this URL
        Some(url) => format!(
            "this commit is older than .lfsconfig, which names the store; run `git config lfs.url {}`, and `git \
             reset --hard` for files that are missing",
            shell_word(&url)
        ),
        None => format!("remote {name} has no LFS URL of git-lfs-cdc; run `git lfs-cdc init URL`"),
    }
}
