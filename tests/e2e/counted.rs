//! A repository with its store in a bucket, behind a proxy that counts bytes.

use crate::process::say;
use crate::proxy::{Exchange, Proxy, Thing, summary};
use crate::repo::Repo;
use crate::reuse::keeps_no_blocks;
use crate::s3::{self, REGION};
use crate::sandbox::Sandbox;
use crate::scan::Secrets;

/// The repository, and the proxy before its store.
pub struct Counted {
    pub sandbox: Sandbox,
    proxy: Proxy,
    pub work: Repo,
}

/// Bytes that passed the proxy in the bodies of requests and answers.
pub struct Moved {
    pub bytes: u64,
    /// Bytes of blocks among them.
    pub block_bytes: u64,
}

impl Counted {
    /// Needs the S3 server.
    #[track_caller]
    pub fn new() -> Counted {
        let sandbox = Sandbox::in_s3(Secrets::in_use());
        let proxy = Proxy::start(&s3::server());
        sandbox.trust(&proxy.url());
        let url = format!("{}?region={REGION}&endpoint={}", sandbox.store().location(), proxy.url());
        keeps_no_blocks(&sandbox.machine, &sandbox);
        let work = sandbox.repository_without_store("counted");
        work.init(&url);
        work.commit("set up");
        work.push();
        Counted { sandbox, proxy, work }
    }

    /// Counts the bytes that `commands` move, and prints them.
    pub fn moved_by(&self, what: &str, commands: impl FnOnce()) -> Moved {
        self.proxy.take_record();
        commands();
        let record = self.proxy.take_record();
        let bytes = record.iter().map(both_ways).sum();
        let block_bytes = record.iter().filter(|e| e.is("GET", Thing::Block)).map(both_ways).sum();
        say(&format!("{what}: {bytes} bytes, {block_bytes} of blocks; {}", summary(&record)));
        Moved { bytes, block_bytes }
    }
}

fn both_ways(exchange: &Exchange) -> u64 {
    exchange.received_bytes + exchange.sent_bytes
}
