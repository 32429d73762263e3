//! The desk of a coordinator: a queue of other agents. Each comes with one object, and waits for a thread
//! that moves it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interprocess::local_socket::traits::Listener as _;
use interprocess::local_socket::{Listener, Stream};

use super::follower;
use super::leader::{Present, Shared};
use crate::agent;
use crate::error::Result;
use crate::local::limits;
use crate::local::limits::OPEN_FILES;
use crate::progress::PROGRESS_INTERVAL_MS;
use crate::threads;

/// Files that each agent may have open. So they bound the agents for which a coordinator works at a time.
const FILES_OF_OBJECT: u64 = 4;

/// The waiting agents, and the threads that serve them. While an agent waits, there is a thread.
struct Desk {
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Most threads.
    most: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Visitor>,
    threads: usize,
}

/// An agent that has come. Its connection is closed when this is dropped.
struct Visitor {
    connection: Arc<Stream>,
    present: Present,
}

/// Serves all agents that connect, until this process ends.
pub(super) fn open(listener: Listener, shared: &Arc<Shared>) -> Result<()> {
    // each agent has a connection, and files that are read or written
    let files = limits::open_files().map_or(OPEN_FILES, |limit| limit.amount.min(OPEN_FILES));
    let most = (files / FILES_OF_OBJECT).max(1) as usize;
    let desk = Arc::new(Desk { shared: shared.clone(), state: Mutex::default(), most });
    let take_in = move || {
        loop {
            match listener.accept() {
                Ok(connection) => desk.take_in(connection),
                Err(e) => {
                    tracing::warn!("an agent of this command could not connect: {e}");
                    // for example, because too many files are open
                    std::thread::sleep(Duration::from_millis(PROGRESS_INTERVAL_MS));
                }
            }
        }
    };
    threads::spawn("desk", take_in).map_err(|refused| refused.error)
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Greets an agent, so that it waits, and makes sure that a thread serves it.
    fn take_in(self: &Arc<Self>, connection: Stream) {
        let connection = Arc::new(connection);
        let (_, mut output) = follower::halves(connection.clone());
        if agent::welcome(&mut output).is_err() {
            return;
        }
        let visitor = Visitor { present: self.shared.one_more(connection.clone()), connection };
        {
            let mut state = self.state();
            state.waiting.push_back(visitor);
            if state.threads >= self.most {
                return;
            }
            state.threads += 1;
        }
        let desk = self.clone();
        if let Err(refused) = threads::spawn("visitor", move || desk.work()) {
            let mut state = self.state();
            if state.threads > 1 {
                // another thread serves it later
                state.threads -= 1;
                return;
            }
            drop(state);
            tracing::debug!("other agents are served one after the other: {}", refused.error);
            (refused.work)();
        }
    }

    /// Serves the waiting agents, until there are none.
    fn work(&self) {
        loop {
            let mut state = self.state();
            let Some(visitor) = state.waiting.pop_front() else {
                state.threads -= 1;
                return;
            };
            drop(state);
            // a panic must not end this thread, because the next agent needs it
            if catch_unwind(AssertUnwindSafe(|| self.serve(visitor))).is_err() {
                tracing::error!("serving another agent panicked, which is a bug of git-lfs-cdc");
            }
        }
    }

    fn serve(&self, visitor: Visitor) {
        let Visitor { connection, present } = visitor;
        let (input, output) = follower::halves(connection);
        if let Err(e) = agent::run_here(input, output, self.shared.direction(), self.shared.clone()) {
            tracing::debug!("an agent of this command is gone: {e}");
        }
        drop(present);
    }
}
