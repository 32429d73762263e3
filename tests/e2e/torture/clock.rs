//! Clocks that are off: libfaketime stands between programs and the system's clock. Programs in Go, like
//! git-lfs itself, ask the kernel and are not deceived.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dice::Dice;
use crate::machine::Machine;
use crate::skip::skip;
use crate::storage::Kind;

pub struct Clocks {
    library: Option<PathBuf>,
}

impl Clocks {
    pub fn find() -> Clocks {
        let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
        let folders = folders.chain(["/usr/lib".into(), "/usr/lib64".into()]);
        let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
        let library = libraries.find(|library| library.exists());
        if library.is_none() {
            skip("clocks that are off, because libfaketime is not installed");
        }
        Clocks { library }
    }

    /// The same machine with a clock that is off. A service refuses signatures when a clock is off by more
    /// than 15 minutes.
    pub fn put_off(&self, machine: Machine, dice: &mut Dice) -> Option<Machine> {
        let library = self.library.as_ref()?;
        let amount = match Kind::asked_for() {
            Kind::Folders => format!("{}y", dice.between(1, 9)),
            Kind::S3 => format!("{}m", dice.between(1, 13)),
        };
        let sign = dice.pick(&["+", "-"]);
        let machine = machine
            .with_variable("LD_PRELOAD", library.to_str().unwrap())
            .with_variable("FAKETIME", &format!("{sign}{amount}"))
            .with_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // files have the time of the machine itself, or of a server with a right clock
        Some(if dice.one_in(2) { machine.with_variable("NO_FAKE_STAT", "1") } else { machine })
    }
}

/// Removes the shared memory that killed processes have left.
impl Drop for Clocks {
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number =
                ["faketime_shm_", "sem.faketime_sem_"].iter().find_map(|start| name.strip_prefix(start));
            if number.is_some_and(|number| !Path::new("/proc").join(number).exists()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
