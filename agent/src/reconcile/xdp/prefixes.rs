//! The prefix table: what is wanted, what is in the map, what did not fit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use underpass_common::fib::{TargetId, ViewId};

use super::Shortage;
use super::targets::Targets;
use super::writer::Writer;
use crate::datapath::maps::PrefixChange;
use crate::prefix_map::{ViewMap, ViewSet};

/// A prefix of a view.
pub type Key = (ViewId, IpNet);

/// From so many changes on they are made together.
const AT_ONCE: usize = 16;

/// Longest prefix first.
type ByLength = (Reverse<u8>, Key);

fn by_length(key: Key) -> ByLength {
    (Reverse(key.1.prefix_len()), key)
}

/// In place of a target id: none. No table has so many targets.
const NONE: TargetId = TargetId::MAX;

/// What a prefix is to have and what it has; one of both at least.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Target of the compiled table; 0 for those of `starved`.
    wanted: TargetId,
    /// What the map holds.
    installed: TargetId,
}

impl Place {
    const EMPTY: Self = Self { wanted: NONE, installed: NONE };

    fn wanted(self) -> Option<TargetId> {
        Some(self.wanted).filter(|id| *id != NONE)
    }

    fn installed(self) -> Option<TargetId> {
        Some(self.installed).filter(|id| *id != NONE)
    }
}

/// The table of prefixes.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    places: ViewMap<Place>,
    /// How many the map holds.
    installed: usize,
    dirty: ViewSet,
    /// Prefixes whose target did not fit: in the table with target 0.
    starved: BTreeMap<Key, Shortage>,
    /// Prefixes that could not be written: what covers them must not forward their packets.
    unplaced: BTreeSet<Key>,
}

impl Prefixes {
    /// Starts with what is in the map.
    pub fn adopt(found: BTreeMap<Key, TargetId>) -> Self {
        let installed = found.len();
        let place = |(key, installed)| (key, Place { installed, ..Place::EMPTY });
        Self { places: found.into_iter().map(place).collect(), installed, ..Self::default() }
    }

    fn place_of(&self, key: &Key) -> Place {
        self.places.get(key).copied().unwrap_or(Place::EMPTY)
    }

    /// What the map holds for exactly this prefix.
    pub fn installed(&self, key: &Key) -> Option<TargetId> {
        self.place_of(key).installed()
    }

    /// Number of prefixes in the map.
    pub const fn count(&self) -> usize {
        self.installed
    }

    /// The target that the prefix has so far, wanted or in the map.
    pub fn before(&self, key: &Key) -> Option<TargetId> {
        let place = self.place_of(key);
        place.wanted().filter(|id| *id != 0).or(place.installed())
    }

    /// Notes what the prefix is to have: a target, or nothing; returns what it was to have before.
    pub fn want(&mut self, key: Key, target: Option<Result<TargetId, Shortage>>) -> Option<TargetId> {
        self.dirty.insert(key, ());
        if !self.starved.is_empty() {
            self.starved.remove(&key);
        }
        let wanted = match target {
            Some(Ok(id)) => id,
            Some(Err(shortage)) => {
                self.starved.insert(key, shortage);
                0
            }
            None => NONE,
        };
        self.change(key, |place| place.wanted = wanted).wanted()
    }

    /// Notes what the map holds for the prefix; gives what it held before.
    fn note(&mut self, key: Key, installed: TargetId) -> Option<TargetId> {
        let before = self.change(key, |place| place.installed = installed).installed();
        self.installed -= usize::from(before.is_some());
        self.installed += usize::from(installed != NONE);
        before
    }

    /// Changes what is known of a prefix; gives what was known before.
    fn change(&mut self, key: Key, change: impl FnOnce(&mut Place)) -> Place {
        let place = self.places.get_or_insert_with(key, || Place::EMPTY);
        let before = *place;
        change(place);
        if place.wanted == NONE && place.installed == NONE {
            self.places.remove(&key);
        }
        before
    }

    /// Inserts and replaces, longest prefix first. Together with [`Self::delete`], which goes the
    /// other way round, every address has its old or its new answer at any time, never that of a
    /// third prefix.
    pub fn publish(&mut self, targets: &mut Targets, writer: &mut Writer<'_>) {
        self.place_all(targets, writer);
        let wanted = self.dirty.keys().filter(|key| self.place_of(key).wanted().is_some());
        let mut queue: BTreeSet<ByLength> = wanted.map(by_length).collect();
        while let Some((_, key)) = queue.pop_first() {
            let Some(want) = self.place_of(&key).wanted() else { continue };
            let id = if targets.is_written(want) && !self.covers_unplaced(&key) { want } else { 0 };
            let placed = self.place(key, id, targets, writer);
            let changed = if placed { self.unplaced.remove(&key) } else { self.unplaced.insert(key) };
            if changed {
                for covering in self.covering(&key) {
                    self.dirty.insert(covering, ());
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
        let change = |key: Key| {
            let place = self.place_of(&key);
            let want = place.wanted()?;
            let id = if targets.is_written(want) { want } else { 0 };
            (place.installed != id).then_some((key, Some(id)))
        };
        let mut changes: Vec<PrefixChange> = self.dirty.keys().filter_map(change).collect();
        changes.sort_by_key(|((_, prefix), _)| Reverse(prefix.prefix_len()));
        writer.write_prefixes(&changes, |(key, target)| {
            let Some(id) = *target else { return };
            targets.hold(id);
            if let Some(before) = self.note(*key, id) {
                targets.unhold(before);
            }
        });
        let places = &self.places;
        self.dirty.retain(|key, ()| {
            let place = places.get(&key).copied().unwrap_or(Place::EMPTY);
            place.wanted().is_none_or(|want| place.installed != want || !targets.is_written(want))
        });
    }

    /// Removes all of these, as far as that is possible at once: when nothing else is under way that a
    /// removal could bring to light.
    fn take_out_all(&mut self, gone: &[Key], targets: &mut Targets, writer: &mut Writer<'_>) {
        if gone.len() < AT_ONCE || gone.len() < self.dirty.len() || !self.unplaced.is_empty() {
            return;
        }
        let held = gone.iter().filter(|key| self.installed(key).is_some());
        let changes: Vec<PrefixChange> = held.map(|key| (*key, None)).collect();
        writer.write_prefixes(&changes, |(key, _)| {
            if let Some(before) = self.note(*key, NONE) {
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
        if self.installed(&key) == Some(id) {
            return true;
        }
        if !writer.write(|maps| maps.set_prefix(key.0, key.1, id)) {
            return false;
        }
        targets.hold(id);
        if let Some(before) = self.note(key, id) {
            targets.unhold(before);
        }
        true
    }

    /// Removes what is no longer wanted, shortest prefix first.
    pub fn delete(&mut self, targets: &mut Targets, writer: &mut Writer<'_>) {
        let unwanted = self.dirty.keys().filter(|key| self.place_of(key).wanted().is_none());
        let mut gone: Vec<Key> = unwanted.collect();
        gone.sort_unstable_by_key(|key| Reverse(by_length(*key)));
        self.take_out_all(&gone, targets, writer);
        for key in gone {
            if self.unplaced.remove(&key) {
                self.dirty.extend(self.covering(&key));
            }
            if self.installed(&key).is_none() {
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
        self.covering(key).iter().any(|key| self.dirty.contains_key(key) && !self.is_harmless(key))
    }

    /// Whether no packet is forwarded by the prefix.
    fn is_harmless(&self, key: &Key) -> bool {
        self.installed(key).is_none_or(|id| id == 0)
    }

    /// Whether no packet would be forwarded by what covers the prefix.
    fn is_exposing_nothing(&self, key: &Key) -> bool {
        self.covering(key).iter().all(|key| self.is_harmless(key))
    }

    fn take_out(&mut self, key: Key, targets: &mut Targets, writer: &mut Writer<'_>) -> bool {
        let done = writer.write(|maps| maps.delete_prefix(key.0, key.1));
        if done && let Some(before) = self.note(key, NONE) {
            targets.unhold(before);
        }
        done
    }

    /// Prefixes, wanted or in the map, that cover `key`.
    fn covering(&self, key: &Key) -> Vec<Key> {
        let Some(prefix) = key.1.supernet() else { return Vec::new() };
        self.places.covering(&(key.0, prefix)).map(|(key, _)| key).collect()
    }

    fn covers_unplaced(&self, key: &Key) -> bool {
        let inside = (key.0, key.1);
        self.unplaced
            .range(inside..)
            .take_while(|(view, prefix)| *view == key.0 && key.1.contains(&prefix.network()))
            .any(|unplaced| unplaced != key)
    }

    /// Keys of the compiled table and of the map: everything that a full comparison has to look at.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.places.keys()
    }

    /// Prefixes whose target did not fit.
    pub const fn starved(&self) -> &BTreeMap<Key, Shortage> {
        &self.starved
    }

    /// Prefixes that could not be written.
    pub const fn unplaced(&self) -> &BTreeSet<Key> {
        &self.unplaced
    }

    /// Whether packets may be forwarded by what a prefix should not lead to any more.
    pub fn is_stale(&self) -> bool {
        self.dirty.keys().any(|key| !self.is_harmless(&key))
    }

    /// Whether the map holds what is wanted.
    pub fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.starved.is_empty() && self.unplaced.is_empty()
    }
}
