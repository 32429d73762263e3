//! `git lfs-cdc stats`: what a store holds.

use clap::Args;

use super::{Outcome, named, print};
use crate::error::Result;
use crate::maintain::stats::{self, Stats as Stored};
use crate::store::Intent;

/// Show what a store holds and how much deduplication saved
///
/// Counts objects, chunks and bytes in a store: the whole store, of all repositories that share it.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc stats\n  git lfs-cdc stats --json /mnt/nas/lfs-store")]
pub(super) struct Stats {
    /// The store, if not the one of this repository
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
        let percent = |part: u64, whole: u64| match whole {
            0 => String::new(),
            _ => format!("  {:5.1} % of logical", part as f64 / whole as f64 * 100.0),
        };
        print::line(format!("store     {}", store.location()));
        print::line(format!("objects   {:>10}", stats.objects));
        print::line(format!(
            "logical   {:>10}  as plain LFS would store them",
            print::bytes(stats.logical_bytes)
        ));
        for (name, bytes) in [("unique", stats.unique_bytes), ("stored", stats.stored_bytes)] {
            let share = percent(bytes, stats.logical_bytes);
            print::line(format!("{name:<10}{:>10}{share}", print::bytes(bytes)));
        }
        for (name, count) in [
            ("chunks", stats.chunks),
            ("blocks", stats.blocks),
            ("shards", stats.shards),
            ("segments", stats.segments),
        ] {
            print::line(format!("{name:<10}{count:>10}"));
        }
        if stats.replaced_segments > 0 {
            print::line(format!(
                "replaced  {:>10}  segments that were merged; `git lfs-cdc compact` deletes them",
                stats.replaced_segments
            ));
        }
        if stats.delta_blocks > 0 {
            print::line(match stats {
                Stored {
                    delta_frames: Some(frames),
                    delta_content_bytes: Some(content),
                    delta_stored_bytes: Some(stored),
                    delta_depth: Some(depth),
                    ..
                } => format!(
                    "patches   {frames:>10}  frames of {}, stored in {}; at most {depth} follow on each other",
                    print::bytes(content),
                    print::bytes(stored)
                ),
                _ => format!("patches   in {} blocks; of so large a store not counted", stats.delta_blocks),
            });
        }
        print::line(format!(
            "metadata  {} bytes a chunk, {} bytes a term",
            stats.metadata_bytes_per_chunk, stats.metadata_bytes_per_term
        ));
        Ok(Outcome::Fine)
    }
}
