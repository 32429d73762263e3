//! `git lfs-cdc status`: which store each remote leads to, and whether it works.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;

use super::{Outcome, install, print, settings};
use crate::coordinator;
use crate::error::{Error, Result};
use crate::flow::health;
use crate::limit;
use crate::local::limits;
use crate::repo::{Config, Direction, Repo, git};
use crate::store::{self, Intent, SCHEME, Store, StoreUrl, UNSYNCED};

/// Show which store each remote leads to, and whether it works
///
/// Looks at everything between this repository and its store, and says how to mend what is wrong.
/// Reads only, unless --probe is given; exits with 1 if something is wrong.
#[derive(Args)]
pub(super) struct Status {
    /// Also find out what the stores guarantee: write three small objects below probes/, read, list and
    /// remove them
    #[arg(long)]
    probe: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    git: String,
    git_lfs: Option<String>,
    /// Objects that git-lfs asks for at a time.
    concurrent_transfers: u32,
    remotes: Vec<Remote>,
    /// What is wrong, and how to mend it.
    findings: Vec<String>,
}

/// One remote in one direction.
#[derive(Serialize)]
struct Remote {
    remote: String,
    direction: &'static str,
    lfs_url: Option<String>,
    /// Whether our agent moves its objects.
    agent: bool,
    /// Where the store is, if it could be opened.
    store: Option<String>,
    store_id: Option<String>,
    repository: Option<String>,
    /// Index segments in the store that no other replaces.
    segments: Option<usize>,
    /// Those that were merged into others, and not deleted.
    replaced_segments: Option<usize>,
    /// Whether requests go unsigned, as no credentials were found for a store that takes some.
    anonymous: Option<bool>,
    /// Why that is so though there may be some, and how to change it: only the repository names the endpoint.
    unsigned: Option<String>,
    /// What is worth a word, and no fault.
    notes: Vec<String>,
    /// What was found out by trying.
    probe: Option<Probe>,
    #[serde(skip)]
    opened: Option<Store>,
}

/// What a store guarantees to this user's key.
#[derive(Serialize)]
struct Probe {
    conditional_put: bool,
    overwrite: bool,
    list_after_put: bool,
    delete: bool,
    /// What could not be removed.
    left: Vec<String>,
}

impl From<store::probe::Probe> for Probe {
    fn from(found: store::probe::Probe) -> Self {
        Self {
            conditional_put: found.honours_conditions,
            overwrite: found.may_overwrite,
            list_after_put: found.lists_at_once,
            delete: found.may_delete,
            left: found.left,
        }
    }
}

impl Status {
    pub(super) fn run(self) -> Result<Outcome> {
        let repo = Repo::discover()?;
        let report = report(&repo, self.probe)?;
        if self.json {
            print::json(&report)?;
        } else {
            print(&report);
        }
        Ok(if report.findings.is_empty() { Outcome::Fine } else { Outcome::Findings })
    }
}

fn report(repo: &Repo, probe: bool) -> Result<Report> {
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        git: git(&["version"])?.trim().to_owned(),
        git_lfs: git(&["lfs", "version"]).ok().map(|v| v.trim().to_owned()),
        concurrent_transfers: transfers(&repo.config),
        remotes: Vec::new(),
        findings: Vec::new(),
    };
    if report.git_lfs.is_none() {
        report.findings.push("git-lfs is not installed; install it (Debian: apt install git-lfs)".into());
    } else if repo.config.get("filter.lfs.process").is_none() {
        report.findings.push("git-lfs is not set up; run `git lfs install`".into());
    }
    report.findings.extend(install::problem(&repo.config));
    if report.concurrent_transfers > 1
        && let Err(error) = coordinator::can_meet()
    {
        report
            .findings
            .push(error.context("the agents of a command work one by one, which is slow").to_string());
    }
    for key in repo.config.unknown_settings(settings::KNOWN) {
        report.findings.push(format!("the setting {key} is not known; is it misspelt?"));
    }
    let mut names: Vec<String> = repo.config.remotes().into_iter().map(str::to_owned).collect();
    if names.is_empty() {
        names.push("origin".into());
    }
    for name in names {
        for (direction, word) in [(Direction::Upload, "push"), (Direction::Download, "pull")] {
            let mut remote = look_at(repo, &name, direction, word, &mut report.findings);
            if let (true, Some(store)) = (probe && direction == Direction::Upload, remote.opened.take()) {
                try_out(&store, &mut remote, &mut report.findings);
            }
            report.remotes.push(remote);
        }
    }
    // both directions and several remotes may lead to the same fault
    let mut seen = std::collections::HashSet::new();
    report.findings.retain(|finding| seen.insert(finding.clone()));
    Ok(report)
}

/// What git-lfs makes of its setting.
fn transfers(config: &Config) -> u32 {
    let set = config.get(settings::TRANSFERS).and_then(|text| text.parse().ok());
    set.filter(|transfers| *transfers > 0).unwrap_or(limit::TRANSFERS_UNSET)
}

fn look_at(
    repo: &Repo,
    name: &str,
    direction: Direction,
    word: &'static str,
    findings: &mut Vec<String>,
) -> Remote {
    let mut remote = Remote {
        remote: name.to_owned(),
        direction: word,
        lfs_url: repo.config.lfs_url(name, direction),
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
        opened: None,
    };
    let Some(configured) = remote.lfs_url.clone() else {
        findings.push(format!("remote {name} has no LFS URL of ours; run `git lfs-cdc init URL`"));
        return remote;
    };
    if !configured.starts_with(SCHEME) {
        findings.push(format!("remote {name} uses {configured}, which is not a store of ours"));
        return remote;
    }
    remote.agent = install::problem(&repo.config).is_none();
    let opened = StoreUrl::parse(&configured).and_then(|url| {
        remote.repository = Some(url.repository().to_owned());
        if url.repository().is_empty() && !url.is_read_only() {
            findings.push(format!(
                "{configured} does not say whose objects these are; run `git lfs-cdc init` with it"
            ));
        }
        let sources = settings::read(repo, &url, &configured)?.sources;
        findings.extend(sources.iter().filter(|source| !source.is_dir()).map(|source| {
            format!("lfs-cdc.source names {}, which is no folder; mount it, or unset it", source.display())
        }));
        findings.extend(settings::passed_over(&repo.config, &configured));
        let chosen_by = settings::chosen_by(&repo.config, name, direction);
        let access = settings::access(&repo.config, &configured, chosen_by, Intent::Read)?;
        let store = Store::open(&url, settings::top(repo, &url)?, &access)?;
        let health = health::look(&store)?;
        Ok((store, health))
    });
    match opened {
        Ok((store, health)) => {
            remote.store = Some(store.location());
            remote.store_id = Some(store.description().id.to_string());
            remote.segments = Some(health.segments);
            remote.replaced_segments = Some(health.replaced);
            remote.anonymous = store.is_anonymous();
            remote.unsigned = store.unsigned();
            remote.notes = notes(&store);
            findings.extend(health.damage.iter().map(Error::to_string));
            remote.opened = Some(store);
        }
        Err(error) => findings.push(error.to_string()),
    }
    remote
}

/// What is worth a word, and no fault.
fn notes(store: &Store) -> Vec<String> {
    let mut notes = Vec::new();
    if store.is_unsynced() {
        notes.push(format!("the file system there can't sync: {UNSYNCED}"));
    }
    if let Ok(foreign) = store.foreign_names()
        && !foreign.is_empty()
    {
        notes.push(format!("files of other programs are passed over there: {}", foreign.join(", ")));
    }
    notes
}

/// Finds out what the store guarantees to this user's key.
fn try_out(store: &Store, remote: &mut Remote, findings: &mut Vec<String>) {
    match store.probe() {
        Ok(found) => {
            if !found.lists_at_once {
                findings.push(format!(
                    "a listing of {} does not show what was written before it; no store is safe there",
                    store.location()
                ));
            }
            if store.description().creates && !found.honours_conditions {
                findings.push(format!(
                    "{} doesn't honour conditional writes, and its store.json says that it does: nothing is lost, and each \
                     command asks once in vain; `git lfs-cdc init` with its URL corrects that",
                    store.location()
                ));
            }
            remote.probe = Some(found.into());
        }
        Err(error) => findings.push(error.to_string()),
    }
}

fn print(report: &Report) {
    let git_lfs = report.git_lfs.as_deref().unwrap_or("no git-lfs");
    print::line(format!("git-lfs-cdc {}, {}, {git_lfs}", report.version, report.git));
    for remote in &report.remotes {
        let url = remote.lfs_url.as_deref().unwrap_or("no LFS URL");
        print::line(format!("{} ({}): {url}", remote.remote, remote.direction));
        if let (Some(store), Some(segments)) = (&remote.store, remote.segments) {
            let unsigned = if remote.anonymous == Some(true) { ", without credentials" } else { "" };
            print::line(format!("  store {store}, reachable{unsigned}, {segments} index segments"));
            let replaced = remote.replaced_segments.unwrap_or_default();
            if segments >= limit::SEGMENTS_STANDING || replaced >= limit::SEGMENTS_REPLACED {
                print::line(format!("    and {replaced} that were replaced: `git lfs-cdc compact` is due"));
            }
        }
        remote.notes.iter().for_each(|note| print::line(format!("    {note}")));
        if let Some(repository) = &remote.repository {
            let agent = if remote.agent { "git-lfs-cdc" } else { "not installed" };
            print::line(format!("  repository {repository:?}, agent {agent}"));
        }
    }
    print::line(format!("git-lfs asks for {} objects at a time", report.concurrent_transfers));
    print_transfers(report.concurrent_transfers);
    for probe in report.remotes.iter().filter_map(|remote| remote.probe.as_ref()) {
        print_probe(probe);
    }
    let unsigned: BTreeSet<&String> = report.remotes.iter().filter_map(|r| r.unsigned.as_ref()).collect();
    for why in unsigned {
        print::line(format!("note: {why}"));
    }
    for finding in &report.findings {
        print::line(format!("! {finding}"));
    }
    if report.findings.is_empty() {
        print::line("all is well");
    }
}

/// How many objects at a time would be better, if that is so.
fn print_transfers(now: u32) {
    let name = settings::TRANSFERS;
    match limits::agents(limit::TRANSFERS) {
        Some((fits, limit)) if fits < now => print::line(format!(
            "  {} is low for so many; if transfers fail: `git config {name} {fits}` in this clone",
            limit.by
        )),
        fewer => {
            let most = fewer.map_or(limit::TRANSFERS, |(fits, _)| fits);
            if now < most {
                print::line(format!(
                    "  many small ones are pushed faster with `git config {name} {most}` in this clone"
                ));
            }
        }
    }
}

fn print_probe(probe: &Probe) {
    let word = |yes: bool| if yes { "yes" } else { "no" };
    print::line("  tried: written, read back by range");
    for (what, yes) in [
        ("    a taken name is not overwritten when asked not to", probe.conditional_put),
        ("    a listing shows what was written before it", probe.list_after_put),
        ("    this key may overwrite (needed for index/manifest, and for parts)", probe.overwrite),
        ("    this key may delete (not needed to push)", probe.delete),
    ] {
        print::line(format!("{what}: {}", word(yes)));
    }
    for name in &probe.left {
        print::line(format!("    could not be removed: {name}"));
    }
}
