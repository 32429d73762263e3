//! The ledger of acknowledged objects, and counts of events.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

/// An object, as its pointer names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub oid: String,
    pub size: u64,
}

impl Object {
    pub fn of(content: &[u8]) -> Object {
        Object { oid: hex::encode(Sha256::digest(content)), size: content.len() as u64 }
    }

    pub fn pointer(&self) -> String {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", self.oid, self.size)
    }
}

/// Every acknowledged object. Nothing is ever taken out.
#[derive(Default)]
pub struct Ledger(Mutex<BTreeMap<String, u64>>);

impl Ledger {
    pub fn add(&self, objects: impl IntoIterator<Item = Object>) {
        let mut all = self.0.lock().unwrap();
        all.extend(objects.into_iter().map(|object| (object.oid, object.size)));
    }

    pub fn objects(&self) -> Vec<Object> {
        let all = self.0.lock().unwrap();
        all.iter().map(|(oid, size)| Object { oid: oid.clone(), size: *size }).collect()
    }
}

#[derive(Default)]
pub struct Count(AtomicUsize);

impl Count {
    pub fn one_more(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// How often each thing was done. Failed commands count as such only.
#[derive(Default)]
pub struct Tally {
    pub pushes: Count,
    pub pulls: Count,
    pub compactions: Count,
    pub kills: Count,
    pub failures: Count,
    pub audits: Count,
    pub clocks_off: Count,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("pushes", &self.pushes),
            ("pulls", &self.pulls),
            ("compactions", &self.compactions),
            ("kills", &self.kills),
            ("failed commands", &self.failures),
            ("audits", &self.audits),
            ("clocks off", &self.clocks_off),
        ];
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{} {name}", count.get())).collect();
        f.write_str(&counts.join(", "))
    }
}
