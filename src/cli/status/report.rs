//! The report of `git lfs-cdc status`, for programs and for people.

use std::collections::BTreeSet;

use serde::Serialize;

use super::look::Probe;
use super::remote::Remote;
use crate::cli::{print, settings};
use crate::config;
use crate::index::merge_policy::SEGMENTS_STANDING;
use crate::local::limits;
use crate::maintain::compact::removal::SEGMENTS_REPLACED;

/// Everything that `status` has found out.
#[derive(Serialize)]
pub(super) struct Report {
    pub version: &'static str,
    pub git: String,
    pub git_lfs: Option<String>,
    /// The number of objects that git-lfs asks for at a time.
    pub concurrent_transfers: u32,
    pub remotes: Vec<Remote>,
    /// The problems, each with its remedy.
    pub findings: Vec<String>,
}

impl Report {
    /// Prints the report for people.
    pub(super) fn print(&self) {
        let git_lfs = self.git_lfs.as_deref().unwrap_or("no git-lfs");
        print::line(format!("git-lfs-cdc {}, {}, {git_lfs}", self.version, self.git));
        self.remotes.iter().for_each(print_remote);
        print::line(format!("git-lfs asks for {} objects at a time", self.concurrent_transfers));
        print_transfers(self.concurrent_transfers);
        for probe in self.remotes.iter().filter_map(|remote| remote.probe.as_ref()) {
            print_probe(probe);
        }
        let unsigned: BTreeSet<&String> = self.remotes.iter().filter_map(|r| r.unsigned.as_ref()).collect();
        for reason in unsigned {
            print::line(format!("note: {reason}"));
        }
        for finding in &self.findings {
            print::line(format!("! {finding}"));
        }
        if self.findings.is_empty() {
            print::line("all is well");
        }
    }
}

fn print_remote(remote: &Remote) {
    let url = remote.lfs_url.as_deref().unwrap_or("no LFS URL");
    print::line(format!("{} ({}): {url}", remote.remote, remote.direction));
    if let Some(store) = &remote.store
        && let Some(segments) = remote.segments
    {
        let unsigned = if remote.anonymous == Some(true) { ", without credentials" } else { "" };
        print::line(format!("  store {store}, reachable{unsigned}, {segments} index segments"));
        let replaced = remote.replaced_segments.unwrap_or_default();
        if segments >= SEGMENTS_STANDING || replaced >= SEGMENTS_REPLACED {
            print::line(format!(
                "    and {replaced} replaced ones: a compaction is due, run `git lfs-cdc compact`"
            ));
        }
    }
    for note in &remote.notes {
        print::line(format!("    {note}"));
    }
    if let Some(repository) = &remote.repository {
        let agent = if remote.agent { "git-lfs-cdc" } else { "not installed" };
        print::line(format!("  repository {repository:?}, agent {agent}"));
    }
}

/// Prints advice if another number of objects at a time would be better than `now`.
fn print_transfers(now: u32) {
    let name = settings::TRANSFERS;
    let limited = limits::agents(config::TRANSFERS);
    if let Some((fits, limit)) = &limited
        && *fits < now
    {
        print::line(format!(
            "  {} is low for that number; if transfers fail, run `git config {name} {fits}` in this clone",
            limit.by
        ));
        return;
    }
    let most = limited.map_or(config::TRANSFERS, |(fits, _)| fits);
    if now < most {
        print::line(format!(
            "  to push many small objects faster, run `git config {name} {most}` in this clone"
        ));
    }
}

fn print_probe(probe: &Probe) {
    print::line("  probe: wrote objects, and read parts of them");
    print_guarantee("a conditional write does not overwrite an existing object", probe.conditional_put);
    print_guarantee("a listing shows all objects that were written before it", probe.list_after_put);
    print_guarantee(
        "this key may overwrite (needed for index/manifest and for uploads in parts)",
        probe.overwrite,
    );
    print_guarantee("this key may delete (not needed to push)", probe.delete);
    for name in &probe.left {
        print::line(format!("    could not be removed: {name}"));
    }
}

fn print_guarantee(guarantee: &str, holds: bool) {
    let answer = if holds { "yes" } else { "no" };
    print::line(format!("    {guarantee}: {answer}"));
}
