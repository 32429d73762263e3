//! `git lfs-cdc compact`: few index segments in place of many.

use std::cell::Cell;
use std::time::{Duration, Instant};

use clap::Args;

use super::{Outcome, named, print};
use crate::error::Result;
use crate::maintain::compact::{self, Compaction};

/// Merge a store's index, and delete what was replaced by merging
///
/// Merges the index of a store: its segments become few, and small shards become large ones, so that pushes and
/// pulls have less to read. Pushes merge small segments themselves, but delete nothing; this deletes what was replaced,
/// if the key may. No object is touched. Pushes and pulls may go on meanwhile, it may be stopped at any time, and
/// running it again does what is left.
///
/// Run it now and then, as from a weekly job, by a key that may delete; or when `status` says that it is due.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  git lfs-cdc compact\n  git lfs-cdc compact --json s3://bucket/prefix\n\n\
                        Exit codes: 0 done (also if the key may not delete), 1 something was found that has to be mended, 2 it failed."
)]
pub(super) struct Compact {
    /// The store, if not the one of this repository
    url: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Compact {
    pub(super) fn run(self) -> Result<Outcome> {
        let store = named::open_for_long_work(self.url.as_deref())?;
        let last = Cell::new(None::<Instant>);
        let watch = |step: String| {
            if last.get().is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
                last.set(Some(Instant::now()));
                print::progress(step);
            }
        };
        let done = compact::compact(&store, &watch)?;
        match self.json {
            true => print::json(&done)?,
            false => print(&store.location(), &done),
        }
        Ok(if done.findings.is_empty() { Outcome::Fine } else { Outcome::Findings })
    }
}

fn print(location: &str, done: &Compaction) {
    print::line(format!("store     {location}"));
    let bytes = [done.bytes_before, done.bytes_after].map(print::bytes);
    for (what, before, after, more) in [
        ("segments", done.segments_before, done.segments_after, format!("  {} → {}", bytes[0], bytes[1])),
        ("shards", done.shards_before, done.shards_after, String::new()),
    ] {
        print::line(format!("{what:<10}{before} → {after}{more}"));
    }
    let left = done.replaced - done.deleted_segments;
    if done.replaced == 0 {
        print::line("deleted   nothing: no segment is replaced");
    } else {
        print::line(format!(
            "deleted   {} segments, {}, and {} shards",
            done.deleted_segments,
            print::bytes(done.deleted_bytes),
            done.deleted_shards
        ));
    }
    if done.may_delete == Some(false) {
        print::line(format!(
            "{left} segments are replaced, but this key may not delete them; run it once more with one that may"
        ));
    }
    done.findings.iter().for_each(|finding| print::line(format!("! {finding}")));
}
