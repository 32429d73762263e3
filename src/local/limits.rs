//! What the system lets this user have: processes, open files, memory. Nothing is known where a system doesn't say.

use std::fs;
use std::path::{Path, PathBuf};

use crate::limit;

/// A limit, and its name for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// So much is to be had.
    pub amount: u64,
    /// Who sets it.
    pub by: &'static str,
}

/// How many more processes and threads this user may start, here.
pub fn processes() -> Option<Limit> {
    let group = group_limits("pids", "pids.max", "pids.max", "pids.current")
        .map(|amount| Limit { amount, by: "the pids limit of this container" });
    least([group, user_processes()])
}

/// How many files a process may have open, once it has asked for all.
pub fn open_files() -> Option<Limit> {
    resource::open_files().map(|amount| Limit { amount, by: "ulimit -Hn" })
}

/// How many bytes of memory there are for a process, at the most.
pub fn memory() -> Option<Limit> {
    least([common_memory(), address_space()])
}

/// What all processes here have together.
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

/// How many agents git-lfs may start here without reaching a limit, if that is fewer than `wanted`, and which limit it is.
pub fn agents(wanted: u32) -> Option<(u32, Limit)> {
    let fits = |limit: Option<Limit>, rest: u64, each: u64| {
        let limit = limit?;
        let fits = limit.amount.saturating_sub(rest) / each;
        (fits < u64::from(wanted)).then_some((fits.max(1) as u32, limit))
    };
    let all = [
        fits(processes(), limit::PROCESSES_BESIDE_AGENTS, limit::PROCESSES_OF_AGENT),
        fits(open_files(), limit::FILES_BESIDE_AGENTS, limit::FILES_OF_AGENT),
        fits(common_memory(), limit::MEMORY_BESIDE_AGENTS_BYTES, limit::MEMORY_OF_AGENT_BYTES),
        fits(address_space(), limit::ADDRESSES_BESIDE_AGENTS, limit::ADDRESSES_OF_AGENT),
    ];
    all.into_iter().flatten().min_by_key(|(fits, _)| *fits)
}

fn least<const N: usize>(limits: [Option<Limit>; N]) -> Option<Limit> {
    limits.into_iter().flatten().min_by_key(|limit| limit.amount)
}

/// The smallest limit of this process's control group and all that it is part of, less what `used` says.
fn group_limits(controller: &str, file: &str, old_file: &str, used: &str) -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let of_group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
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
    // "max" is none, and so is what no machine has
    let limit = number(file).filter(|limit| *limit < 1 << 60)?;
    let used = if used.is_empty() { 0 } else { number(used).unwrap_or_default() };
    Some(limit.saturating_sub(used))
}

/// What is left of `ulimit -u`, which counts all that the user runs on this machine.
fn user_processes() -> Option<Limit> {
    let (most, user) = resource::processes()?;
    let tasks: u64 =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| tasks_of(&entry.path(), user)).sum();
    Some(Limit { amount: most.saturating_sub(tasks), by: "ulimit -u" })
}

/// The threads of a process, if it is this user's.
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
    //! What `ulimit` shows.

    use rustix::process::{Resource, getrlimit, getuid};

    pub(super) fn open_files() -> Option<u64> {
        getrlimit(Resource::Nofile).maximum
    }

    pub(super) fn address_space() -> Option<u64> {
        getrlimit(Resource::As).current
    }

    /// The most processes of a user, and which user. The limit doesn't count for root.
    pub(super) fn processes() -> Option<(u64, u32)> {
        let user = getuid();
        let most = getrlimit(Resource::Nproc).current.filter(|_| !user.is_root())?;
        Some((most, user.as_raw()))
    }
}

#[cfg(windows)]
mod resource {
    //! Nothing there is limited in these ways.

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
