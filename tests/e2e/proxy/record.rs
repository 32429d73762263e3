//! The record that the proxy keeps of each request, and the questions that tests ask about it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::fault::Fault;
use super::request::{Request, Thing};

#[derive(Clone)]
pub struct Exchange {
    pub request: Request,
    pub arrived: Instant,
    /// Bytes of the body that came from the client.
    pub sent_bytes: u64,
    /// Bytes of the body that went to the client.
    pub received_bytes: u64,
    /// The status of the upstream's answer.
    pub upstream_status: Option<u16>,
    /// The status that the client got.
    pub status: Option<u16>,
    /// The fault that the request met.
    pub fault: Option<String>,
}

impl Exchange {
    pub(super) fn new(request: Request, fault: Option<&Fault>) -> Exchange {
        Exchange {
            request,
            arrived: Instant::now(),
            sent_bytes: 0,
            received_bytes: 0,
            upstream_status: None,
            status: None,
            fault: fault.map(|fault| format!("{fault:?}")),
        }
    }

    pub fn is(&self, verb: &str, thing: Thing) -> bool {
        self.request.verb == verb && self.request.thing == thing
    }

    /// Returns true if the upstream stored a whole object under this name.
    pub fn stored(&self) -> bool {
        let part = ["partNumber=", "comp=block"].iter().any(|word| self.request.query.contains(word));
        self.request.verb == "PUT" && !part && self.upstream_status.is_some_and(|s| (200..300).contains(&s))
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { verb, path, query, .. } = &self.request;
        write!(f, "{verb} {path}?{query} -> ")?;
        match (self.status, &self.fault) {
            (Some(status), None) => write!(f, "{status}"),
            (status, fault) => write!(f, "{status:?} ({fault:?})"),
        }
    }
}

/// How often each thing was asked for.
fn counts(record: &[Exchange]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for exchange in record {
        let name = format!("{} {:?}", exchange.request.verb, exchange.request.thing);
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// One line for people.
pub fn summary(record: &[Exchange]) -> String {
    let counts: Vec<_> = counts(record).into_iter().map(|(name, count)| format!("{count} {name}")).collect();
    format!("{} requests ({})", record.len(), counts.join(", "))
}

/// Paths that were stored more than once.
pub fn overwritten(record: &[Exchange]) -> Vec<String> {
    let mut times = BTreeMap::<&str, usize>::new();
    for exchange in record.iter().filter(|exchange| exchange.stored()) {
        *times.entry(&exchange.request.path).or_default() += 1;
    }
    times.into_iter().filter(|(_, times)| *times > 1).map(|(path, _)| path.to_owned()).collect()
}
