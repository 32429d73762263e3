//! The system's limits for this user: processes, open files, memory. A limit is `None` if the system doesn't
//! report it.

use crate::units::MIB;
use std::fs;
use std::path::{Path, PathBuf};

/// Most processes and threads for an agent: a shell, three threads of its own, one of the coordinator, and
/// one of git-lfs. This last one waits for the end of the agent.
const PROCESSES_OF_AGENT: u64 = 6;
/// Processes and threads of git, git-lfs and the coordinator.
const PROCESSES_BESIDE_AGENTS: u64 = 60;
/// Files that git-lfs has open for an agent.
const FILES_OF_AGENT: u64 = 4;
/// Files that git-lfs has open beside those for agents.
const FILES_BESIDE_AGENTS: u64 = 56;
/// Memory of an agent and its shell that they share with no other process.
const MEMORY_OF_AGENT_BYTES: u64 = 3 * MIB as u64;
/// Memory beside that of the agents: git, git-lfs, and the coordinator with the least memory that it can work
/// with.
const MEMORY_BESIDE_AGENTS_BYTES: u64 = 256 * MIB as u64;
/// Address space that git-lfs takes for each agent: the stack of a thread that waits for the end of the
/// agent.
const ADDRESSES_OF_AGENT: u64 = 9 * MIB as u64;
/// Address space beside that for agents.
const ADDRESSES_BESIDE_AGENTS: u64 = 880 * MIB as u64;
/// Most files and connections that an agent opens, if the system allows it. Some systems refuse more, even if
/// they report a higher limit.
pub(crate) const OPEN_FILES: u64 = 10_240;

/// A limit, and its name for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The amount that the limit still allows.
    pub amount: u64,
    /// The name of the limit.
    pub by: &'static str,
}

/// Returns how many more processes and threads this user may start here.
pub fn processes() -> Option<Limit> {
    let group = group_limits("pids", "pids.max", "pids.max", "pids.current")
        .map(|amount| Limit { amount, by: "the pids limit of this container" });
    least([group, user_processes()])
}

/// Returns how many files a process may have open, after it has raised its own limit.
pub fn open_files() -> Option<Limit> {
    resource::open_files().map(|amount| Limit { amount, by: "ulimit -Hn" })
}

/// Returns the most bytes of memory that a process may have.
pub fn memory() -> Option<Limit> {
    least([common_memory(), address_space()])
}

/// Returns the memory of all processes here together.
fn common_memory() -> Option<Limit> {
    let group = group_limits("memory", "memory.max", "memory.limit_in_bytes", "")
        .map(|amount| Limit { amount, by: "the memory limit of this container" });
    let machine = sysinfo::System::new().ok().and_then(|mut system| {
        system.refresh_memory();
        (system.total_memory() > 0).then(|| Limit { amount: system.total_memory(), by: "this machine" })
    });
    least([group, machine])
}

fn address_space() -> Option<Limit> {
    resource::address_space().map(|amount| Limit { amount, by: "ulimit -v" })
}

/// Returns how many agents git-lfs may start here without reaching a limit, and the limit. Returns `None` if
/// `wanted` agents are possible.
pub fn agents(wanted: u32) -> Option<(u32, Limit)> {
    let fits = |limit: Option<Limit>, rest: u64, each: u64| {
        let limit = limit?;
        let fits = limit.amount.saturating_sub(rest) / each;
        (fits < u64::from(wanted)).then_some((fits.max(1) as u32, limit))
    };
    let all = [
        fits(processes(), PROCESSES_BESIDE_AGENTS, PROCESSES_OF_AGENT),
        fits(open_files(), FILES_BESIDE_AGENTS, FILES_OF_AGENT),
        fits(common_memory(), MEMORY_BESIDE_AGENTS_BYTES, MEMORY_OF_AGENT_BYTES),
        fits(address_space(), ADDRESSES_BESIDE_AGENTS, ADDRESSES_OF_AGENT),
    ];
    all.into_iter().flatten().min_by_key(|(fits, _)| *fits)
}

fn least<const N: usize>(limits: [Option<Limit>; N]) -> Option<Limit> {
    limits.into_iter().flatten().min_by_key(|limit| limit.amount)
}

/// Returns the smallest limit of this process's control group and its ancestors, less the number in the file
/// `used`.
fn group_limits(controller: &str, file: &str, old_file: &str, used: &str) -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let of_group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        let (root, file) = match controllers {
            "" => (PathBuf::from("/sys/fs/cgroup"), file),
            several if several.split(',').any(|one| one == controller) => {
                (Path::new("/sys/fs/cgroup").join(several), old_file)
            }
            _ => return None,
        };
        let folder = root.join(path.trim_start_matches('/'));
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(&root));
        folders.filter_map(|folder| limit_in(folder, file, used)).min()
    };
    groups.lines().filter_map(of_group).min()
}

fn limit_in(folder: &Path, file: &str, used: &str) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    // "max" means no limit, and so does a number that no machine has
    let limit = number(file).filter(|limit| *limit < 1 << 60)?;
    let used = if used.is_empty() { 0 } else { number(used).unwrap_or_default() };
    Some(limit.saturating_sub(used))
}

/// Returns the rest of `ulimit -u`. That limit counts everything that the user runs on this machine.
fn user_processes() -> Option<Limit> {
    let (most, user) = resource::processes()?;
    let tasks: u64 =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| tasks_of(&entry.path(), user)).sum();
    Some(Limit { amount: most.saturating_sub(tasks), by: "ulimit -u" })
}

/// Returns the number of threads of a process, if the process is this user's.
fn tasks_of(process: &Path, user: u32) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let first = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    (first("Uid:")? == u64::from(user)).then(|| first("Threads:"))?
}

#[cfg(unix)]
mod resource {
    //! The limits that `ulimit` shows.

    use rustix::process::{Resource, getrlimit, getuid};

    pub(super) fn open_files() -> Option<u64> {
        getrlimit(Resource::Nofile).maximum
    }

    pub(super) fn address_space() -> Option<u64> {
        getrlimit(Resource::As).current
    }

    /// Returns the most processes of this user, and the user's number. Returns `None` for root, because the
    /// limit doesn't count for root.
    pub(super) fn processes() -> Option<(u64, u32)> {
        let user = getuid();
        let most = getrlimit(Resource::Nproc).current.filter(|_| !user.is_root())?;
        Some((most, user.as_raw()))
    }
}

#[cfg(windows)]
mod resource {
    //! The same functions for Windows, which has no such limits.

    pub(super) fn open_files() -> Option<u64> {
        None
    }

    pub(super) fn address_space() -> Option<u64> {
        None
    }

    pub(super) fn processes() -> Option<(u64, u32)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_a_group_is_less_what_is_used_and_max_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        let read = |used| limit_in(folder.path(), "pids.max", used);
        assert_eq!(read(""), None);
        write("pids.max", "max\n");
        assert_eq!(read(""), None);
        write("pids.max", "512\n");
        write("pids.current", "600\n");
        assert_eq!((read(""), read("pids.current")), (Some(512), Some(0)));
        write("pids.max", "9223372036854771712\n");
        assert_eq!(read(""), None);
    }

    #[test]
    fn the_least_limit_counts() {
        let limit = |amount, by| Some(Limit { amount, by });
        assert_eq!(least([limit(7, "one"), None, limit(5, "another")]), limit(5, "another"));
        assert_eq!(least([None]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_tasks_of_this_process_are_counted() {
        let own = rustix::process::getuid().as_raw();
        assert!(tasks_of(Path::new("/proc/self"), own).unwrap() >= 1);
        assert_eq!(tasks_of(Path::new("/proc/self"), own + 1), None);
    }
}
