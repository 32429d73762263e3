//! Processes of commands: each runs to its end under a deadline, and both outputs are kept.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::scan::{Secrets, strangers};

/// Nothing in these tests takes this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(4);
/// Command lines are looked at often while a command is young, and at least this often later.
const LOOK: Duration = Duration::from_millis(250);

/// How a command ended.
pub struct Outcome {
    pub command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Both outputs, for looking up messages: git and git-lfs don't agree on where these go.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A command under way, in a process group of its own as a shell would start it.
pub struct Running {
    child: Child,
    stdout: File,
    stderr: File,
    command: String,
    secrets: Secrets,
}

impl Running {
    /// Starts a command that must not show any of the secrets.
    pub fn start(mut command: Command, secrets: Secrets) -> Running {
        let stdout = tempfile::tempfile().unwrap();
        let stderr = tempfile::tempfile().unwrap();
        // listed before the first process of these tests
        strangers();
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Running { child, stdout, stderr, command: describe(&command), secrets }
    }

    /// Sends SIGINT to the whole process group, as Ctrl-C does in a terminal.
    pub fn interrupt(&self) {
        signal("INT", &format!("-{}", self.child.id()));
    }

    /// Sends SIGKILL to the whole process group. No process can prevent that.
    pub fn destroy(&self) {
        signal("KILL", &format!("-{}", self.child.id()));
    }

    /// The processes of its group with their names, the oldest first.
    #[cfg(target_os = "linux")]
    pub fn members(&self) -> Vec<(u32, String)> {
        let group = self.child.id().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let member = |process: PathBuf| {
            // number, name in brackets, state, parent, group; a process may be gone by now
            let stat = std::fs::read_to_string(process.join("stat")).ok()?;
            let (start, rest) = stat.rsplit_once(") ")?;
            let (id, name) = start.split_once(" (")?;
            let is_member = rest.split(' ').nth(2) == Some(&group) && !rest.starts_with('Z');
            if is_member { Some((id.parse().ok()?, name.to_owned())) } else { None }
        };
        let mut members: Vec<_> = processes.filter_map(member).collect();
        members.sort_unstable();
        members
    }

    pub fn finished(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn wait(self) -> Outcome {
        self.wait_within(DEADLINE)
    }

    /// Panics if the command takes longer.
    pub fn wait_within(mut self, deadline: Duration) -> Outcome {
        let started = Instant::now();
        let mut next_look = Duration::ZERO;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > deadline {
                self.kill();
                panic!("{} hangs; so far:\n{}", self.command, read_again(&mut self.stderr));
            }
            if started.elapsed() >= next_look {
                if let Some(process) = self.secrets.in_command_lines() {
                    self.kill();
                    panic!("the command line of {process} shows a secret during {}", self.command);
                }
                next_look = started.elapsed() + (2 * started.elapsed()).clamp(POLL, LOOK);
            }
            sleep(POLL);
        };
        let outcome = Outcome {
            command: self.command,
            code: status.code(),
            stdout: read_again(&mut self.stdout),
            stderr: read_again(&mut self.stderr),
        };
        assert!(!self.secrets.stand_in(&outcome.text()), "the output of {} shows a secret", outcome.command);
        outcome
    }

    fn kill(&mut self) {
        self.destroy();
        self.child.wait().unwrap();
    }
}

/// Sends a signal to a process, or to a process group if the id has a minus sign. That it is gone already is
/// fine.
pub fn signal(name: &str, target: &str) {
    let script = "kill -s \"$0\" -- \"$1\" 2>/dev/null";
    Command::new("sh").args(["-c", script, name, target]).status().unwrap();
}

/// Waits until `condition` holds; false if it doesn't within `limit`.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > limit {
            return false;
        }
        sleep(POLL);
    }
    true
}

/// Prints a line that the test harness does not swallow when the test passes.
pub fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

fn read_again(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
