//! `git lfs-cdc status`: the command that checks a repository, its remotes and their stores.

mod look;
mod remote;
mod report;

use std::collections::HashSet;

use clap::Args;

use self::look::{Asked, Look};
use self::remote::Remote;
use self::report::Report;
use super::hook::PrePush;
use super::{Outcome, install, print, settings};
use crate::config;
use crate::coordinator;
use crate::error::Result;
use crate::repo::{Config, Direction, Repo, git};

/// Show which store each remote leads to, and check whether it works
///
/// Checks git-lfs, the hook and the settings of this repository, and the store of each remote for pushes and
/// pulls. A line that begins with `!` names a problem and its remedy. Without --probe, it only reads.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc status           check everything\n  \
                        git lfs-cdc status --probe   also find out what your key may do\n  \
                        git lfs-cdc status --json    print the report for a program\n\n\
                        Exit codes: 0 all is well, 1 a check found a problem, 2 the command failed.")]
pub(super) struct Status {
    /// Also find out how the stores treat your key: write three small objects below probes/, read and list
    /// them, and remove them if the key may delete
    #[arg(long)]
    probe: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<Outcome> {
        let repo = Repo::discover()?;
        let report = check(&repo, self.probe)?;
        if self.json {
            print::json(&report)?;
        } else {
            report.print();
        }
        Ok(if report.findings.is_empty() { Outcome::Fine } else { Outcome::Findings })
    }
}

/// Checks everything. Tries the stores of pushes too if `with_probe`.
fn check(repo: &Repo, with_probe: bool) -> Result<Report> {
    let installed = install::problem(&repo.config);
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        git: git(&["version"])?.trim().to_owned(),
        git_lfs: git(&["lfs", "version"]).ok().map(|v| v.trim().to_owned()),
        concurrent_transfers: transfers(&repo.config),
        remotes: Vec::new(),
        findings: Vec::new(),
    };
    report.findings.extend(git_lfs_problem(repo, report.git_lfs.as_deref()));
    report.findings.extend(installed.clone());
    report.findings.extend(PrePush::look(repo)?.and_then(|hook| hook.problem(repo)));
    if report.concurrent_transfers > 1
        && let Err(error) = coordinator::can_meet()
    {
        let error = error.context("the agents of a command can't share one engine, so transfers are slow");
        report.findings.push(error.to_string());
    }
    for key in repo.config.unknown_settings(settings::KNOWN) {
        report.findings.push(format!("the setting {key} is unknown; check its spelling"));
    }
    check_remotes(repo, &mut report, installed.is_none(), with_probe);
    // both directions and several remotes may have the same problem
    let mut seen = HashSet::new();
    report.findings.retain(|finding| seen.insert(finding.clone()));
    Ok(report)
}

/// Returns the problem with git-lfs itself, by the version that it reports.
fn git_lfs_problem(repo: &Repo, version: Option<&str>) -> Option<String> {
    let Some(version) = version else {
        return Some("git-lfs is not installed; install it (Debian: apt install git-lfs)".to_owned());
    };
    if repo.config.get("filter.lfs.process").is_none() {
        return Some("git-lfs is not set up; run `git lfs install`".to_owned());
    }
    install::git_lfs_problem(version)
}

/// Adds each remote in both directions to the report, with the problems of its store. `is_installed` is true
/// if git-lfs runs this program.
fn check_remotes(repo: &Repo, report: &mut Report, is_installed: bool, with_probe: bool) {
    let mut names: Vec<String> = repo.config.remotes().into_iter().map(str::to_owned).collect();
    if names.is_empty() {
        names.push("origin".to_owned());
    }
    let mut asked = Vec::new();
    for name in &names {
        for direction in [Direction::Upload, Direction::Download] {
            let mut remote = Remote::new(name, direction, repo.config.lfs_url(name, direction));
            let target = remote.target(repo, direction, &mut report.findings);
            remote.agent = target.is_some() && is_installed;
            let probe = with_probe && direction == Direction::Upload;
            asked.push(target.map(|target| Asked { target, probe }));
            report.remotes.push(remote);
        }
    }
    let looks = Look::at_all(repo, asked.iter().flatten());
    for (remote, asked) in report.remotes.iter_mut().zip(&asked) {
        let Some(asked) = asked else { continue };
        if let Some(look) = looks.iter().find(|look| look.target == asked.target) {
            remote.take(look, asked.probe);
        }
    }
    report.findings.extend(looks.into_iter().flat_map(|look| look.findings));
}

/// Returns the number of objects that git-lfs asks for at a time.
fn transfers(config: &Config) -> u32 {
    let set = config.get(settings::TRANSFERS).and_then(|text| text.parse().ok());
    set.filter(|transfers| *transfers > 0).unwrap_or(config::TRANSFERS_UNSET)
}
