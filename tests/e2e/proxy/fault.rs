//! Faults of requests, and rules that choose the requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::answer::Answer;
use super::request::Request;

#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is reset, and nothing was forwarded.
    ResetBefore,
    /// The connection is reset when half of the request's body has been forwarded.
    ResetInRequest,
    /// The server obeys the request, but the connection is reset instead of its answer.
    LoseAnswer,
    /// The connection is reset when half of the answer's body is there.
    ResetInAnswer,
    /// Half of the answer's body, and then a clean end of the connection.
    CloseInAnswer,
    /// Half of the answer's body with a `Content-Length` that says so: nothing looks wrong.
    ShortAnswer,
    /// One bit in the middle of the answer's body is wrong.
    FlipBit,
    /// Not forwarded; this is the answer.
    Refuse(Answer),
    /// Forwarded and done; this is the answer all the same.
    Replace(Answer),
    /// The request's body is taken at this pace.
    SlowRequest(Pace),
    /// The answer's body comes at this pace.
    SlowAnswer(Pace),
    /// The request is taken, and never answered.
    Silence,
    /// Half of the request's body is taken; then nothing happens any more.
    SilenceInRequest,
    /// Half of the answer's body comes; then nothing happens any more.
    SilenceInAnswer,
}

/// So many bytes, then so long nothing.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub bytes: usize,
    pub pause: Duration,
}

pub(super) type Matcher = Box<dyn Fn(&Request) -> bool + Send + Sync>;

pub(super) struct Rule {
    pub(super) matches: Matcher,
    pub(super) skip: usize,
    pub(super) times: usize,
    pub(super) fault: Fault,
    pub(super) hits: Hits,
}

impl Rule {
    pub(super) fn apply(&mut self, request: &Request) -> Option<Fault> {
        if self.times == 0 || !(self.matches)(request) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        self.hits.0.fetch_add(1, Ordering::SeqCst);
        Some(self.fault.clone())
    }
}

/// How often a rule was applied.
#[derive(Clone, Default)]
pub struct Hits(Arc<AtomicUsize>);

impl Hits {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
