//! The prefix table: what is wanted, what is in the map, what did not fit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use underpass_common::fib::{TargetId, ViewId};

use super::Shortage;
use super::targets::Targets;
use super::writer::Writer;
use crate::datapath::maps::PrefixChange;

/// A prefix of a view.
pub type Key = (ViewId, IpNet);

/// From so many changes on they are made together.
const AT_ONCE: usize = 16;

/// Longest prefix first.
type ByLength = (Reverse<u8>, Key);

fn by_length(key: Key) -> ByLength {
    (Reverse(key.1.prefix_len()), key)
}

/// The table of prefixes.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    /// Target of each prefix of the compiled table; 0 for those of `starved`.
    wanted: BTreeMap<Key, TargetId>,
    /// What the map holds.
    installed: BTreeMap<Key, TargetId>,
    dirty: BTreeSet<Key>,
    /// Prefixes whose target did not fit: in the table with target 0.
    starved: BTreeMap<Key, Shortage>,
    /// Prefixes that could not be written: what covers them must not forward their packets.
    unplaced: BTreeSet<Key>,
}

impl Prefixes {
    /// Starts with what is in the map.
    pub fn adopt(found: BTreeMap<Key, TargetId>) -> Self {
        Self { installed: found, ..Self::default() }
    }

    /// The target that the prefix has so far, wanted or in the map.
    pub fn before(&self, key: &Key) -> Option<TargetId> {
        self.wanted.get(key).filter(|id| **id != 0).or_else(|| self.installed.get(key)).copied()
    }

    /// Notes what the prefix is to have: a target, or nothing; returns what it was to have before.
    pub fn want(&mut self, key: Key, target: Option<Result<TargetId, Shortage>>) -> Option<TargetId> {
        self.dirty.insert(key);
        self.starved.remove(&key);
        match target {
            Some(Ok(id)) => self.wanted.insert(key, id),
            Some(Err(shortage)) => {
                self.starved.insert(key, shortage);
                self.wanted.insert(key, 0)
            }
            None => self.wanted.remove(&key),
        }
    }

    /// Inserts and replaces, longest prefix first. Together with [`Self::delete`], which goes the
    /// other way round, every address has its old or its new answer at any time, never that of a
    /// third prefix.
    pub fn publish(&mut self, targets: &mut Targets, writer: &mut Writer<'_>) {
        self.place_all(targets, writer);
        let mut queue: BTreeSet<ByLength> = self
            .dirty
            .iter()
            .filter(|key| self.wanted.contains_key(*key))
            .map(|key| by_length(*key))
            .collect();
        while let Some((_, key)) = queue.pop_first() {
            let Some(want) = self.wanted.get(&key).copied() else { continue };
            let id = if targets.is_written(want) && !self.covers_unplaced(&key) { want } else { 0 };
            let placed = self.place(key, id, targets, writer);
            let changed = if placed { self.unplaced.remove(&key) } else { self.unplaced.insert(key) };
            if changed {
                for covering in self.covering(&key) {
                    self.dirty.insert(covering);
                    queue.insert(by_length(covering));
                }
            }
            if placed && (id == want || self.covers_unplaced(&key)) {
                self.dirty.remove(&key);
            }
        }
        self.evict(targets, writer);
    }

    /// Brings all prefixes to their targets, as far as that is possible at once.
    fn place_all(&mut self, targets: &mut Targets, writer: &mut Writer<'_>) {
        if self.dirty.len() < AT_ONCE || !self.unplaced.is_empty() {
            return;
        }
        let change = |key: &Key| {
            let want = *self.wanted.get(key)?;
            let id = if targets.is_written(want) { want } else { 0 };
            (self.installed.get(key) != Some(&id)).then_some((*key, Some(id)))
        };
        let mut changes: Vec<PrefixChange> = self.dirty.iter().filter_map(change).collect();
        changes.sort_by_key(|((_, prefix), _)| Reverse(prefix.prefix_len()));
        let mut placed = Vec::with_capacity(changes.len());
        writer.write_prefixes(&changes, |(key, target)| placed.extend(target.map(|id| (*key, id))));
        self.note_placed(placed, targets);
        let is_done =
            |key: &Key, want: &TargetId| targets.is_written(*want) && self.installed.get(key) == Some(want);
        let (dirty, wanted) = (&mut self.dirty, &self.wanted);
        dirty.retain(|key| !wanted.get(key).is_some_and(|want| is_done(key, want)));
    }

    /// Notes what the map holds now. A large part of the table is merged in one pass: insertions one by one
    /// would take most of a first synchronization.
    fn note_placed(&mut self, placed: Vec<(Key, TargetId)>, targets: &mut Targets) {
        for (key, id) in &placed {
            targets.hold(*id);
            if let Some(before) = self.installed.get(key) {
                targets.unhold(*before);
            }
        }
        if placed.len() >= self.installed.len() / 8 {
            self.installed.append(&mut placed.into_iter().collect());
        } else {
            self.installed.extend(placed);
        }
    }

    /// Removes all of these, as far as that is possible at once: when nothing else is under way that a
    /// removal could bring to light.
    fn take_out_all(
        &mut self,
        gone: &BTreeSet<Reverse<ByLength>>,
        targets: &mut Targets,
        writer: &mut Writer<'_>,
    ) {
        if gone.len() < AT_ONCE || gone.len() < self.dirty.len() || !self.unplaced.is_empty() {
            return;
        }
        let keys = gone.iter().map(|Reverse((_, key))| *key).filter(|key| self.installed.contains_key(key));
        let changes: Vec<PrefixChange> = keys.map(|key| (key, None)).collect();
        let installed = &mut self.installed;
        writer.write_prefixes(&changes, |(key, _)| {
            if let Some(before) = installed.remove(key) {
                targets.unhold(before);
            }
        });
    }

    /// Takes out prefixes that could not be brought to their new target: the old one may be wrong for
    /// long. Only once everything that covers them is turned to the kernel, or packets would take a
    /// route that was never theirs.
    fn evict(&mut self, targets: &mut Targets, writer: &mut Writer<'_>) {
        let stale: Vec<Key> = self
            .unplaced
            .iter()
            .filter(|key| !self.is_harmless(key) && self.is_exposing_nothing(key))
            .copied()
            .collect();
        for key in stale {
            self.take_out(key, targets, writer);
        }
    }

    /// Brings one prefix to `id`.
    fn place(&mut self, key: Key, id: TargetId, targets: &mut Targets, writer: &mut Writer<'_>) -> bool {
        if self.installed.get(&key) == Some(&id) {
            return true;
        }
        if !writer.write(|maps| maps.set_prefix(key.0, key.1, id)) {
            return false;
        }
        targets.hold(id);
        if let Some(before) = self.installed.insert(key, id) {
            targets.unhold(before);
        }
        true
    }

    /// Removes what is no longer wanted, shortest prefix first.
    pub fn delete(&mut self, targets: &mut Targets, writer: &mut Writer<'_>) {
        let gone: BTreeSet<Reverse<ByLength>> = self
            .dirty
            .iter()
            .filter(|key| !self.wanted.contains_key(*key))
            .map(|key| Reverse(by_length(*key)))
            .collect();
        self.take_out_all(&gone, targets, writer);
        for Reverse((_, key)) in gone {
            if self.unplaced.remove(&key) {
                self.dirty.extend(self.covering(&key));
            }
            if !self.installed.contains_key(&key) {
                self.dirty.remove(&key);
            } else if self.is_under_stale(&key) {
                // Its removal would bring back an answer that is even older.
            } else if self.covers_unplaced(&key) && !self.is_exposing_nothing(&key) {
                // Its packets are not those of what covers it either: to the kernel, until they can be
                // told apart again.
                self.place(key, 0, targets, writer);
            } else if self.take_out(key, targets, writer) {
                self.dirty.remove(&key);
            }
        }
    }

    /// Whether a prefix that covers this one still forwards by what it should not any more.
    fn is_under_stale(&self, key: &Key) -> bool {
        self.covering(key).iter().any(|key| self.dirty.contains(key) && !self.is_harmless(key))
    }

    /// Whether no packet is forwarded by the prefix.
    fn is_harmless(&self, key: &Key) -> bool {
        self.installed.get(key).is_none_or(|id| *id == 0)
    }

    /// Whether no packet would be forwarded by what covers the prefix.
    fn is_exposing_nothing(&self, key: &Key) -> bool {
        self.covering(key).iter().all(|key| self.is_harmless(key))
    }

    fn take_out(&mut self, key: Key, targets: &mut Targets, writer: &mut Writer<'_>) -> bool {
        let done = writer.write(|maps| maps.delete_prefix(key.0, key.1));
        if done && let Some(before) = self.installed.remove(&key) {
            targets.unhold(before);
        }
        done
    }

    /// Prefixes, wanted or in the map, that cover `key`.
    fn covering(&self, key: &Key) -> Vec<Key> {
        let mut covering = Vec::new();
        let mut prefix = key.1;
        while let Some(parent) = prefix.supernet() {
            prefix = parent;
            let parent = (key.0, prefix);
            if self.wanted.contains_key(&parent) || self.installed.contains_key(&parent) {
                covering.push(parent);
            }
        }
        covering
    }

    fn covers_unplaced(&self, key: &Key) -> bool {
        let inside = (key.0, key.1);
        self.unplaced
            .range(inside..)
            .take_while(|(view, prefix)| *view == key.0 && key.1.contains(&prefix.network()))
            .any(|unplaced| unplaced != key)
    }

    /// Keys of the compiled table and of the map: everything that a full comparison has to look at.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.wanted.keys().chain(self.installed.keys()).copied().collect()
    }

    /// Prefixes whose target did not fit.
    pub const fn starved(&self) -> &BTreeMap<Key, Shortage> {
        &self.starved
    }

    /// Prefixes that could not be written.
    pub const fn unplaced(&self) -> &BTreeSet<Key> {
        &self.unplaced
    }

    /// What the map holds.
    pub const fn installed(&self) -> &BTreeMap<Key, TargetId> {
        &self.installed
    }

    /// Whether packets may be forwarded by what a prefix should not lead to any more.
    pub fn is_stale(&self) -> bool {
        self.dirty.iter().any(|key| !self.is_harmless(key))
    }

    /// Whether the map holds what is wanted.
    pub fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.starved.is_empty() && self.unplaced.is_empty()
    }
}
