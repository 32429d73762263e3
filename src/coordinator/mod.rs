//! The coordinator: the one agent of a git-lfs command that has the engine and works for all of them.
//!
//! git-lfs starts several agents, each with one object at a time. The agents of one command find each other
//! ([`command_id`], [`rendezvous`]). One is the coordinator. It takes the others in ([`desk`]) and opens the
//! engine ([`leader`]). The others send it their requests over a local socket, and pass its answers on
//! ([`follower`]), in git-lfs's own protocol. A [`Member`] is a [`Transfer`] like the engine itself, so an
//! agent also works without all this.

mod command_id;
mod desk;
mod follower;
mod leader;
mod rendezvous;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use interprocess::local_socket::Listener;

use self::command_id::Command;
use self::follower::Relay;
use self::leader::Shared;
pub use self::leader::{Open, Opened};
use self::rendezvous::{LeaderLock, Meeting, Outcome};
use crate::agent::{Answer, Init, Object};
use crate::engine::Transfer;
use crate::error::{Error, Result};
use crate::id::Oid;
use crate::local::partial_download::Finished;
use crate::progress::Progress;
use crate::repo::Direction;

/// Most coordinators that an agent looks for and loses, for one object.
const ELECTIONS: usize = 10;
/// Time for which a coordinator without objects waits for those of the other agents.
const LAST_OBJECTS_MS: u64 = 10_000;

/// Fails if agents that this user's commands start here can't meet. The error names the reason.
pub fn can_meet() -> Result<()> {
    let meeting = Meeting::of(&Command::of_this_process(Direction::Upload, "status"))?;
    if let Some((lock, _)) = meeting.lead()? {
        lock.release();
    }
    Ok(())
}

/// An agent as a member of its command. One member prepares everything. The others join when they are asked
/// for an object.
pub struct Member {
    init: Init,
    open: Open,
    role: Mutex<Option<Role>>,
    has_left: AtomicBool,
    /// The last download that was handed to git-lfs.
    handed_over: Mutex<Option<Finished>>,
}

/// The part of a member in its command.
#[derive(Clone)]
enum Role {
    /// The member has the engine. It also holds the leader lock if others may come.
    Serves(Arc<Shared>, Option<Arc<LeaderLock>>),
    /// The member hands its objects to the coordinator.
    Relays(Arc<Relay>),
}

impl Member {
    /// Makes a member of the command that has started this process, for the objects of one session. `open` is
    /// called if this member needs an engine.
    pub fn new(init: Init, open: Open) -> Self {
        Self {
            init,
            open,
            role: Mutex::default(),
            has_left: AtomicBool::new(false),
            handed_over: Mutex::default(),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Role>> {
        self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the role, and finds one if there is none yet.
    fn role(&self) -> Role {
        self.locked().get_or_insert_with(|| self.join()).clone()
    }

    /// Returns the meeting place of this command. Fails if this member has left.
    fn meeting(&self) -> Result<Meeting> {
        if !self.is_wanted() {
            return Err(Error::busy("the session is over"));
        }
        Meeting::of(&Command::of_this_process(self.init.direction, &self.init.remote))
    }

    fn is_wanted(&self) -> bool {
        !self.has_left.load(Ordering::Relaxed)
    }

    fn join(&self) -> Role {
        // a member that is alone works too, only with more requests and memory
        self.try_join().unwrap_or_else(|e| {
            Role::Serves(Arc::new(Shared::new(&self.init, self.open.clone(), Some(e))), None)
        })
    }

    fn try_join(&self) -> Result<Role> {
        let meeting = self.meeting()?;
        match meeting.join(|| self.is_wanted())? {
            Outcome::Leads(lock, listener) => self.serves(lock, listener),
            Outcome::Follows(first) => Ok(Role::Relays(Arc::new(Relay::new(meeting, first)))),
        }
    }

    fn serves(&self, lock: LeaderLock, listener: Listener) -> Result<Role> {
        let shared = Arc::new(Shared::new(&self.init, self.open.clone(), None));
        desk::open(listener, &shared).inspect_err(|_| lock.release())?;
        Ok(Role::Serves(shared, Some(Arc::new(lock))))
    }

    /// Moves `object` here if this process has the engine. Otherwise the coordinator moves it. If the
    /// coordinator dies, another member takes its place, perhaps this one.
    fn carry_out(&self, object: Object<'_>, progress: &Arc<Progress>) -> Result<Option<PathBuf>> {
        for _ in 0..ELECTIONS {
            progress.check()?;
            let relay = match self.role() {
                Role::Serves(shared, _) => return move_here(&shared, object, progress),
                Role::Relays(relay) => relay,
            };
            if let Answer::Final(answer) = relay.ask(object, progress) {
                return answer;
            }
            self.forget(&relay);
        }
        let times = ELECTIONS;
        Err(Error::busy(format!("the agent that worked for all of this command was lost {times} times"))
            .remedy("check whether something kills it, such as a lack of memory, and try again"))
    }

    /// Takes the last download back, if git-lfs has not renamed it, and notes the next one. When git-lfs asks
    /// for the next object, or ends, it has renamed the last one.
    fn hand_over(&self, next: Option<PathBuf>) {
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        *handed_over = next.map(Finished::at);
    }

    fn forget(&self, lost: &Arc<Relay>) {
        let mut role = self.locked();
        if matches!(&*role, Some(Role::Relays(relay)) if Arc::ptr_eq(relay, lost)) {
            *role = None;
        }
    }
}

/// Moves `object` with the engine of this process. Returns the finished file of a download.
fn move_here(shared: &Shared, object: Object<'_>, progress: &Arc<Progress>) -> Result<Option<PathBuf>> {
    match object.path {
        Some(path) => shared.upload(object.oid, object.size_bytes, path, progress).map(|()| None),
        None => shared.download(object.oid, object.size_bytes, progress).map(Some),
    }
}

impl Transfer for Member {
    /// Takes the leader lock if it is free, and prepares the engine then. git-lfs starts all its agents, even
    /// for few objects. So only the first one takes the lock, and the others do nothing yet.
    fn prepare(&self) {
        let mut role = self.locked();
        if role.is_none()
            && let Ok(Some((lock, listener))) = self.meeting().and_then(|meeting| meeting.lead())
            && let Ok(serves) = self.serves(lock, listener)
        {
            *role = Some(serves);
        }
        let here = role.clone();
        drop(role);
        if let Some(Role::Serves(shared, _)) = here {
            shared.prepare();
        }
    }

    fn upload(&self, oid: &Oid, size_bytes: u64, path: &Path, progress: &Arc<Progress>) -> Result<()> {
        let object = Object { oid, size_bytes, path: Some(path) };
        self.carry_out(object, progress).map(drop)
    }

    fn download(&self, oid: &Oid, size_bytes: u64, progress: &Arc<Progress>) -> Result<PathBuf> {
        self.hand_over(None);
        let object = Object { oid, size_bytes, path: None };
        let path = self.carry_out(object, progress)?;
        self.hand_over(path.clone());
        path.ok_or_else(|| Error::internal("a download came without a file"))
    }

    /// Waits for the other agents, because their objects need this process.
    fn finish(&self) {
        let role = self.locked().clone();
        if let Some(Role::Serves(shared, _)) = role {
            shared.wait_for_others(Duration::from_millis(LAST_OBJECTS_MS));
            shared.finish();
        }
    }

    fn log(&self) -> Option<PathBuf> {
        let role = match self.role.try_lock() {
            Ok(role) => role,
            Err(TryLockError::Poisoned(role)) => role.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        match &*role {
            Some(Role::Serves(shared, _)) => shared.log(),
            _ => None,
        }
    }

    fn leave(&self) {
        self.hand_over(None);
        // a thread that is joining just now stops soon after this
        self.has_left.store(true, Ordering::Relaxed);
        let role = self.locked().take();
        if let Some(Role::Serves(shared, Some(lock))) = role {
            lock.release();
            shared.part();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_has_left_takes_no_lock() {
        let open = || Opened { engine: Err(Error::busy("as the test wants it")), log: None };
        let init = Init { direction: Direction::Upload, remote: "of this test".to_owned(), transfers: 1 };
        let member = Member::new(init, Arc::new(open));
        member.leave();
        member.prepare();
        assert!(matches!(member.role(), Role::Serves(_, None)));
    }
}
