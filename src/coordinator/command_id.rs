//! The identity of the git-lfs command that this process works for. All its agents, and no others, compute
//! the same name.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::rendezvous::PROTOCOL;
use crate::repo::Direction;

/// The names of git-lfs's process.
const GIT_LFS: &[&str] = &["git-lfs", "git-lfs.exe"];
/// The shells that may stand between git-lfs and its agents.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "busybox", "ksh", "mksh", "zsh", "sh.exe", "bash.exe"];
/// Most ancestors that are looked at.
const GENERATIONS: usize = 8;

/// A git-lfs command, in one direction, with a name that its agents share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    direction: Direction,
    name: String,
}

impl Command {
    /// Identifies the command that has started this process. Agents that agree in all these inputs have the
    /// same store and the same rights. All agents of git-lfs get the same inputs, and those of another
    /// program might not.
    pub(super) fn of_this_process(direction: Direction, remote: &str) -> Self {
        let (process, started) = git_lfs();
        let mut named = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            named.update(&(part.len() as u64).to_le_bytes());
            named.update(part);
        };
        add(env!("CARGO_PKG_VERSION").as_bytes());
        add(&PROTOCOL.to_le_bytes());
        add(&process.to_le_bytes());
        add(&started.to_le_bytes());
        // containers number their processes separately, and may share a folder; the link exists only on Linux
        let counted_in = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        add(counted_in.as_os_str().as_encoded_bytes());
        add(format!("{direction:?}").as_bytes());
        add(remote.as_bytes());
        add(std::env::current_dir().unwrap_or_default().as_os_str().as_encoded_bytes());
        let mut variables: Vec<_> = std::env::vars_os().collect();
        variables.sort();
        for (name, value) in variables {
            add(name.as_encoded_bytes());
            add(value.as_encoded_bytes());
        }
        Self { direction, name: named.finalize().to_hex().as_str()[..32].to_owned() }
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Returns the name: 32 hexadecimal digits.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Returns the git-lfs process that this one descends from, or else the nearest ancestor that is no shell.
/// Returns its number and the time of its start, because numbers are used again.
fn git_lfs() -> (u32, u64) {
    // a value of this process alone, if nothing can be found out about other processes
    let alone = (std::process::id(), 0);
    let Ok(mut system) = System::new() else { return alone };
    let mut nearest = None;
    let mut process = Pid::from_u32(std::process::id());
    for generation in 0..=GENERATIONS {
        let only = [process];
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&only),
            false,
            ProcessRefreshKind::nothing(),
        );
        let Some(found) = system.process(process) else { break };
        let is_self = generation == 0;
        let name = found.name().to_string_lossy().into_owned();
        if !is_self && GIT_LFS.contains(&name.as_str()) {
            return (process.as_u32(), found.start_time());
        }
        if !is_self && nearest.is_none() && !SHELLS.contains(&name.as_str()) {
            nearest = Some((process.as_u32(), found.start_time()));
        }
        match found.parent() {
            Some(parent) => process = parent,
            None => break,
        }
    }
    nearest.unwrap_or(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_of_one_command_agree_and_those_of_others_do_not() {
        let command = |direction, remote| Command::of_this_process(direction, remote);
        let pushes = command(Direction::Upload, "origin");
        assert_eq!(pushes, command(Direction::Upload, "origin"));
        assert_ne!(pushes, command(Direction::Download, "origin"));
        assert_ne!(pushes, command(Direction::Upload, "other"));
        assert_eq!(pushes.name().len(), 32);
    }

    #[test]
    fn the_process_is_an_ancestor_and_has_a_start() {
        let (process, started) = git_lfs();
        assert_ne!(process, std::process::id());
        assert!(started > 0);
    }
}
