//! `git lfs-cdc stats`: the command that measures a store.

use std::fmt::Display;

use clap::Args;

use super::{Outcome, named, print};
use crate::error::Result;
use crate::maintain::stats::{self, Stats as Stored};
use crate::store::Intent;

/// Show the size of a store, and the savings by deduplication
///
/// Counts the objects, chunks and bytes of the whole store, for all repositories that share it. `logical` is
/// the size that plain LFS would need, and `stored` is the size in the store.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  git lfs-cdc stats                              this repository's store\n  \
                        git lfs-cdc stats --json /mnt/nas/lfs-store    another store"
)]
pub(super) struct Stats {
    /// The URL of the store [default: the store of this repository]
    url: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(super) fn run(self) -> Result<Outcome> {
        let (store, stats) = named::look(self.url.as_deref(), Intent::Read, stats::stats)?;
        if self.json {
            print::json(&stats)?;
            return Ok(Outcome::Fine);
        }
        print(&store.location(), &stats);
        Ok(Outcome::Fine)
    }
}

fn print(location: &str, stats: &Stored) {
    print::line(format!("store     {location}"));
    print_count("objects", stats.objects);
    let logical = print::bytes(stats.logical_bytes);
    print::line(format!("logical   {logical:>10}  as plain LFS would store them"));
    print_share("unique", stats.unique_bytes, stats.logical_bytes);
    print_share("stored", stats.stored_bytes, stats.logical_bytes);
    print_count("chunks", stats.chunks);
    print_count("blocks", stats.blocks);
    print_count("shards", stats.shards);
    print_count("segments", stats.segments);
    if stats.replaced_segments > 0 {
        print::line(format!(
            "replaced  {:>10}  segments that were merged; `git lfs-cdc compact` deletes them",
            stats.replaced_segments
        ));
    }
    if stats.delta_blocks > 0 {
        print_deltas(stats);
    }
    print::line(format!(
        "metadata  {} bytes per chunk, {} bytes per term",
        stats.metadata_bytes_per_chunk, stats.metadata_bytes_per_term
    ));
}

fn print_count(name: &str, count: impl Display) {
    print::line(format!("{name:<10}{count:>10}"));
}

fn print_share(name: &str, bytes: u64, logical_bytes: u64) {
    let size = print::bytes(bytes);
    if logical_bytes == 0 {
        print::line(format!("{name:<10}{size:>10}"));
        return;
    }
    let percent = bytes as f64 / logical_bytes as f64 * 100.0;
    print::line(format!("{name:<10}{size:>10}  {percent:5.1} % of logical"));
}

fn print_deltas(stats: &Stored) {
    print::line(match stats {
        Stored {
            delta_frames: Some(frames),
            delta_content_bytes: Some(content),
            delta_stored_bytes: Some(stored),
            delta_depth: Some(depth),
            ..
        } => format!(
            "deltas    {frames:>10}  frames of {}, stored in {}; chains of at most {depth}",
            print::bytes(*content),
            print::bytes(*stored)
        ),
        _ => format!(
            "deltas    in {} blocks; the store is too large to count their frames",
            stats.delta_blocks
        ),
    });
}
