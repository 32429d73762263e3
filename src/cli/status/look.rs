//! A look at a store: the store is opened, its index is checked, and its guarantees are probed. Each store is
//! looked at once, even if several remotes lead to it. All looks run at the same time, on threads of their
//! own.

use serde::Serialize;

use crate::cli::{print, settings};
use crate::error::{Error, Result};
use crate::maintain::check::{self, Health};
use crate::repo::Repo;
use crate::store::{self, Access, Store, StoreUrl, UNSYNCED};
use crate::threads;

/// A store, and the way to reach it, by a remote's URL and its settings.
#[derive(Clone, PartialEq)]
pub(super) struct Target {
    pub place: StoreUrl,
    pub access: Access,
}

/// A request to look at a store.
#[derive(Clone)]
pub(super) struct Asked {
    pub target: Target,
    /// True if the store is also to be probed.
    pub probe: bool,
}

/// The results for one store.
pub(super) struct Look {
    pub target: Target,
    pub seen: Option<Seen>,
    pub findings: Vec<String>,
}

/// A store that could be opened.
pub(super) struct Seen {
    pub location: String,
    pub id: String,
    pub anonymous: Option<bool>,
    pub unsigned: Option<String>,
    pub notes: Vec<String>,
    pub health: Health,
    pub probe: Option<Probe>,
}

/// The guarantees of a store to this user's key.
#[derive(Clone, Serialize)]
pub(super) struct Probe {
    pub conditional_put: bool,
    pub overwrite: bool,
    pub list_after_put: bool,
    pub delete: bool,
    /// The names of objects that could not be removed.
    pub left: Vec<String>,
}

impl From<store::probe::Probe> for Probe {
    fn from(found: store::probe::Probe) -> Self {
        Self {
            conditional_put: found.honours_conditions,
            overwrite: found.may_overwrite,
            list_after_put: found.lists_at_once,
            delete: found.may_delete,
            left: found.left,
        }
    }
}

impl Look {
    /// Looks at all stores at the same time, so that a store that doesn't answer costs only its own time.
    pub(super) fn at_all<'a>(repo: &Repo, asked: impl Iterator<Item = &'a Asked>) -> Vec<Self> {
        let distinct = distinct(asked);
        let places: Vec<String> = distinct.iter().map(|asked| asked.target.place.shown()).collect();
        print::while_waiting(places.join(", "), || {
            std::thread::scope(|scope| {
                let mut begun = Vec::new();
                for asked in &distinct {
                    begun.push(threads::spawn_scoped(scope, "look", move || Self::at(repo, asked)));
                }
                let mut looks = Vec::new();
                for (asked, thread) in distinct.iter().zip(begun) {
                    looks.push(match thread {
                        Ok(thread) => thread.join().unwrap_or_else(|_| Self::failed(asked)),
                        // the system allows too few threads
                        Err(_) => Self::at(repo, asked),
                    });
                }
                looks
            })
        })
    }

    fn at(repo: &Repo, asked: &Asked) -> Self {
        let target = asked.target.clone();
        let mut findings = Vec::new();
        match Seen::at(repo, asked, &mut findings) {
            Ok(seen) => Self { target, seen: Some(seen), findings },
            Err(error) => {
                findings.push(error.to_string());
                Self { target, seen: None, findings }
            }
        }
    }

    /// The result if the look has panicked.
    fn failed(asked: &Asked) -> Self {
        let error = Error::internal(format!("checking {} panicked", asked.target.place.shown()));
        Self { target: asked.target.clone(), seen: None, findings: vec![error.to_string()] }
    }
}

/// Joins requests for the same store. The joined request probes the store if one of them does.
fn distinct<'a>(asked: impl Iterator<Item = &'a Asked>) -> Vec<Asked> {
    let mut distinct: Vec<Asked> = Vec::new();
    for one in asked {
        match distinct.iter_mut().find(|known| known.target == one.target) {
            Some(known) => known.probe |= one.probe,
            None => distinct.push(one.clone()),
        }
    }
    distinct
}

impl Seen {
    /// Opens the store, checks its index, and probes it if that was asked for.
    fn at(repo: &Repo, asked: &Asked, findings: &mut Vec<String>) -> Result<Self> {
        let Target { place, access } = &asked.target;
        let store = Store::open(place, settings::top(repo, place)?, access)?;
        let health = check::look(&store)?;
        findings.extend(health.damage.iter().map(Error::to_string));
        let probe = if asked.probe { probe(&store, findings) } else { None };
        Ok(Self {
            location: store.location(),
            id: store.description().id.to_string(),
            anonymous: store.is_anonymous(),
            unsigned: store.unsigned(),
            notes: notes(&store),
            health,
            probe,
        })
    }
}

/// Returns remarks about the store that are no problems.
fn notes(store: &Store) -> Vec<String> {
    let mut notes = Vec::new();
    if store.is_unsynced() {
        notes.push(format!("the file system of the store can't sync: {UNSYNCED}"));
    }
    if let Ok(foreign) = store.foreign_names()
        && !foreign.is_empty()
    {
        notes.push(format!("files of other programs in the store are ignored: {}", foreign.join(", ")));
    }
    notes
}

/// Finds out which guarantees the store gives to this user's key. Adds missing ones to `findings`.
fn probe(store: &Store, findings: &mut Vec<String>) -> Option<Probe> {
    let found = match store.probe() {
        Ok(found) => found,
        Err(error) => {
            findings.push(error.to_string());
            return None;
        }
    };
    if !found.lists_at_once {
        findings.push(format!(
            "a listing of {} lacks objects that were written before it, so data may be lost; keep the store on \
             another service",
            store.location()
        ));
    }
    if store.description().creates && !found.honours_conditions {
        findings.push(format!(
            "{} doesn't honour conditional writes, and its store.json says that it does. Nothing is lost, but each \
             command sends one useless request; run `git lfs-cdc init` with its URL to correct store.json",
            store.location()
        ));
    }
    Some(found.into())
}
