//! `git lfs-cdc compact`: the command that merges a store's index.

use std::cell::Cell;
use std::time::{Duration, Instant};

use clap::Args;

use super::{Outcome, named, print};
use crate::error::Result;
use crate::maintain::compact::{self, Compaction};

/// Merge a store's index, and delete the files that the merge replaces
///
/// Merges many index segments into few, and small shards into large ones, so that pushes and pulls read less.
/// Pushes merge small segments themselves, but delete nothing. This command deletes the replaced files, if
/// the key may delete. It deletes no object.
///
/// Pushes and pulls may go on meanwhile. You may stop it at any time; the next run continues.
///
/// Run it once a week with a key that may delete, or when `git lfs-cdc status` says that it is due.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  git lfs-cdc compact                              this repository's store\n  \
                  git lfs-cdc compact --json s3://bucket/prefix    another store\n\n\
                  Exit codes: 0 done (also if the key may not delete), 1 a problem was found that you have to \
                  repair, 2 the command failed."
)]
pub(super) struct Compact {
    /// The URL of the store [default: the store of this repository]
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
        if self.json {
            print::json(&done)?;
        } else {
            print(&store.location(), &done);
        }
        Ok(if done.findings.is_empty() { Outcome::Fine } else { Outcome::Findings })
    }
}

fn print(location: &str, done: &Compaction) {
    print::line(format!("store     {location}"));
    let before = print::bytes(done.bytes_before);
    let after = print::bytes(done.bytes_after);
    print::line(format!("segments  {} → {}  {before} → {after}", done.segments_before, done.segments_after));
    print::line(format!("shards    {} → {}", done.shards_before, done.shards_after));
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
            "{left} segments are replaced, but this key may not delete them; run this again with a key that may"
        ));
    }
    done.findings.iter().for_each(|finding| print::line(format!("! {finding}")));
}
