//! `git lfs-cdc status`: which store each remote leads to, and whether it works.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;

use super::hook::PrePush;
use super::{Outcome, install, print, settings};
use crate::config;
use crate::coordinator;
use crate::error::{Error, Result};
use crate::index::merge_policy::SEGMENTS_STANDING;
use crate::local::limits;
use crate::maintain::check::{self, Health};
use crate::maintain::compact::removal::SEGMENTS_REPLACED;
use crate::repo::{Config, Direction, Repo, git, newest_lfs_url};
use crate::store::{self, Access, Intent, SCHEME, Store, StoreUrl, UNSYNCED};
use crate::text::{is_hidden, shell_word};
use crate::threads;

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
}

/// What a store guarantees to this user's key.
#[derive(Clone, Serialize)]
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
    let installed = install::problem(&repo.config);
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        git: git(&["version"])?.trim().to_owned(),
        git_lfs: git(&["lfs", "version"]).ok().map(|v| v.trim().to_owned()),
        concurrent_transfers: transfers(&repo.config),
        remotes: Vec::new(),
        findings: Vec::new(),
    };
    report.findings.extend(match &report.git_lfs {
        None => Some("git-lfs is not installed; install it (Debian: apt install git-lfs)".into()),
        Some(_) if repo.config.get("filter.lfs.process").is_none() => {
            Some("git-lfs is not set up; run `git lfs install`".into())
        }
        Some(version) => install::git_lfs_problem(version),
    });
    report.findings.extend(installed.clone());
    report.findings.extend(PrePush::look(repo)?.and_then(|hook| hook.problem(repo)));
    if report.concurrent_transfers > 1
        && let Err(error) = coordinator::can_meet()
    {
        let error = error.context("the agents of a command work one by one, which is slow");
        report.findings.push(error.to_string());
    }
    for key in repo.config.unknown_settings(settings::KNOWN) {
        report.findings.push(format!("the setting {key} is not known; is it misspelt?"));
    }
    let mut names: Vec<String> = repo.config.remotes().into_iter().map(str::to_owned).collect();
    if names.is_empty() {
        names.push("origin".into());
    }
    let ways = [(Direction::Upload, "push"), (Direction::Download, "pull")];
    let mut stores = Vec::new();
    for (name, (direction, word)) in names.iter().flat_map(|name| ways.map(|way| (name, way))) {
        let lfs_url = repo.config.lfs_url(name, direction);
        let mut remote = Remote::new(name, word, lfs_url);
        let target = target(repo, &mut remote, direction, &mut report.findings);
        remote.agent = target.is_some() && installed.is_none();
        let asked = probe && direction == Direction::Upload;
        stores.push(target.map(|target| Asked { target, probe: asked }));
        report.remotes.push(remote);
    }
    let looks = Look::at_all(repo, stores.iter().flatten());
    for (remote, asked) in report.remotes.iter_mut().zip(&stores) {
        let look = asked.as_ref().and_then(|asked| looks.iter().find(|look| look.target == asked.target));
        if let Some(look) = look {
            remote.take(look, asked.as_ref().is_some_and(|asked| asked.probe));
        }
    }
    report.findings.extend(looks.into_iter().flat_map(|look| look.findings));
    // both directions and several remotes may lead to the same fault
    let mut seen = std::collections::HashSet::new();
    report.findings.retain(|finding| seen.insert(finding.clone()));
    Ok(report)
}

/// What git-lfs makes of its setting.
fn transfers(config: &Config) -> u32 {
    let set = config.get(settings::TRANSFERS).and_then(|text| text.parse().ok());
    set.filter(|transfers| *transfers > 0).unwrap_or(config::TRANSFERS_UNSET)
}

impl Remote {
    fn new(name: &str, direction: &'static str, lfs_url: Option<String>) -> Self {
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

    /// Takes what the look at its store has shown.
    fn take(&mut self, look: &Look, probed: bool) {
        let Some(seen) = &look.seen else { return };
        self.store = Some(seen.location.clone());
        self.store_id = Some(seen.id.clone());
        self.segments = Some(seen.health.segments);
        self.replaced_segments = Some(seen.health.replaced);
        self.anonymous = seen.anonymous;
        self.unsigned = seen.unsigned.clone();
        self.notes = seen.notes.clone();
        self.probe = seen.probe.clone().filter(|_| probed);
    }
}

/// A store as a remote's URL and the settings for it name it.
#[derive(Clone, PartialEq)]
struct Target {
    place: StoreUrl,
    access: Access,
}

/// A store that is to be looked at.
struct Asked {
    target: Target,
    /// Whether it is also to be tried.
    probe: bool,
}

/// The store that a remote leads to, if its URL says so; what is wrong with URL and settings is found.
fn target(
    repo: &Repo,
    remote: &mut Remote,
    direction: Direction,
    findings: &mut Vec<String>,
) -> Option<Target> {
    let name = &remote.remote;
    let Some(configured) = remote.lfs_url.clone() else {
        let newest = newest_lfs_url(name).filter(|url| url.starts_with(SCHEME) && !url.contains(is_hidden));
        findings.push(match newest {
            // what stands in git's own configuration is the user's choice, and an endpoint there is trusted
            Some(url) if url.contains("endpoint=") => format!(
                "this commit is older than .lfsconfig, which names the store; check out the newest commit of {name} first"
            ),
            // it is pasted
            Some(url) => format!(
                "this commit is older than .lfsconfig, which names the store; run `git config lfs.url {}`, and `git \
                 reset --hard` for files that are missing",
                shell_word(&url)
            ),
            None => format!("remote {name} has no LFS URL of ours; run `git lfs-cdc init URL`"),
        });
        return None;
    };
    if !configured.starts_with(SCHEME) {
        findings.push(format!("remote {name} uses {configured}, which is not a store of ours"));
        return None;
    }
    let read = |findings: &mut Vec<String>| -> Result<(StoreUrl, Access)> {
        let url = StoreUrl::parse(&configured)?;
        let sources = settings::read(repo, &url, &configured)?.sources;
        findings.extend(sources.iter().filter(|source| !source.is_dir()).map(|source| {
            format!("lfs-cdc.source names {}, which is no folder; mount it, or unset it", source.display())
        }));
        findings.extend(settings::ignored(&repo.config, &configured));
        let chosen_by = settings::chosen_by(&repo.config, name, direction);
        let access = settings::hurried_access(&repo.config, &configured, chosen_by, Intent::Read)?;
        Ok((url, access))
    };
    let (url, access) = match read(findings) {
        Ok(read) => read,
        Err(error) => {
            findings.push(error.to_string());
            return None;
        }
    };
    remote.repository = Some(url.repository().to_owned());
    if url.repository().is_empty() && !url.is_read_only() {
        findings.push(format!(
            "{configured} does not say whose objects these are; run `git lfs-cdc init` with it"
        ));
    }
    Some(Target { place: url.place(), access })
}

/// What a store has shown: each is looked at once, whatever the number of remotes that lead there.
struct Look {
    target: Target,
    seen: Option<Seen>,
    findings: Vec<String>,
}

/// A store that could be opened.
struct Seen {
    location: String,
    id: String,
    anonymous: Option<bool>,
    unsigned: Option<String>,
    notes: Vec<String>,
    health: Health,
    probe: Option<Probe>,
}

impl Look {
    /// Looks at all of them at the same time: one that doesn't answer costs no more than its own time.
    fn at_all<'a>(repo: &Repo, asked: impl Iterator<Item = &'a Asked>) -> Vec<Self> {
        let mut distinct: Vec<Asked> = Vec::new();
        for Asked { target, probe } in asked {
            match distinct.iter_mut().find(|known| known.target == *target) {
                Some(known) => known.probe |= probe,
                None => distinct.push(Asked { target: target.clone(), probe: *probe }),
            }
        }
        let places: Vec<String> = distinct.iter().map(|asked| asked.target.place.shown()).collect();
        let look = |asked: &Asked| Self::at(repo, asked);
        print::while_waiting(places.join(", "), || {
            std::thread::scope(|scope| {
                let begun: Vec<_> = distinct
                    .iter()
                    .map(|asked| (asked, threads::spawn_scoped(scope, "look", move || look(asked))))
                    .collect();
                let finished = begun.into_iter().map(|(asked, thread)| match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|_| Self::failed(asked)),
                    // too few threads are allowed
                    Err(_) => look(asked),
                });
                finished.collect()
            })
        })
    }

    fn at(repo: &Repo, asked: &Asked) -> Self {
        let mut findings = Vec::new();
        let Target { place, access } = &asked.target;
        let opened = settings::top(repo, place).and_then(|top| Store::open(place, top, access));
        let seen = opened.and_then(|store| {
            let health = check::look(&store)?;
            findings.extend(health.damage.iter().map(Error::to_string));
            let probe = if asked.probe { try_out(&store, &mut findings) } else { None };
            Ok(Seen {
                location: store.location(),
                id: store.description().id.to_string(),
                anonymous: store.is_anonymous(),
                unsigned: store.unsigned(),
                notes: notes(&store),
                health,
                probe,
            })
        });
        let seen = seen.map_err(|error| findings.push(error.to_string())).ok();
        Self { target: asked.target.clone(), seen, findings }
    }

    fn failed(asked: &Asked) -> Self {
        let finding = Error::internal(format!("looking at {} failed", asked.target.place.shown()));
        Self { target: asked.target.clone(), seen: None, findings: vec![finding.to_string()] }
    }
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
fn try_out(store: &Store, findings: &mut Vec<String>) -> Option<Probe> {
    let found = match store.probe() {
        Ok(found) => found,
        Err(error) => {
            findings.push(error.to_string());
            return None;
        }
    };
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
    Some(found.into())
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
            if segments >= SEGMENTS_STANDING || replaced >= SEGMENTS_REPLACED {
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
    match limits::agents(config::TRANSFERS) {
        Some((fits, limit)) if fits < now => print::line(format!(
            "  {} is low for so many; if transfers fail: `git config {name} {fits}` in this clone",
            limit.by
        )),
        fewer => {
            let most = fewer.map_or(config::TRANSFERS, |(fits, _)| fits);
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
