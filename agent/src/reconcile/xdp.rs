//! The compiled table in the maps of the XDP program. Pure over [`FibMaps`].
//!
//! # Design
//! Prefix, target and next-hop row are three tables: prefixes of the same content share a target,
//! targets share rows. A neighbour or port that changes rewrites rows and buckets, never prefixes.
//! Each table knows what is wanted and what the map holds, and writes the difference; what could not
//! be written stays marked and is tried again by the next call.
//!
//! # Invariants
//! * Rows before buckets before targets before prefixes, and the reverse for removal: the program
//!   never follows an index to something that is not there.
//! * For every address the program finds the old answer or the new one at any time: prefixes are
//!   inserted longest first and deleted shortest first, and what a packet under way may be reading is
//!   stopped and rests for a grace period before it leads elsewhere.
//! * What does not fit is left to the kernel, and so is what covers it: no packet takes a route that
//!   the kernel would not use.

pub mod buckets;
mod own;
mod ports;
mod prefixes;
mod rows;
mod slots;
mod target;
mod targets;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use underpass_common::fib::{TargetId, ViewId};

use self::own::Own;
use self::ports::Ports;
use self::prefixes::{Key, Prefixes};
use self::rows::Rows;
use self::targets::Targets;
pub use self::view::{Outcome, RowView, Shortage, TargetView, Totals};
use self::writer::Writer;
use crate::datapath::PortFacts;
use crate::datapath::maps::{FibMaps, MapError};
use crate::fib::compile::FibDelta;
use crate::fib::model::{Fib, NextHop, Resolution};
use crate::netlink::model::{Delta, IfIndex};
use crate::prefix_map::ViewSet;

/// Elements that rest before a grace period is waited for only to have them back.
const RESTING_LIMIT: usize = 4096;

/// No port's packets are kept from it: for [`Environment::guarded`] where rules are not watched.
pub static UNGUARDED: BTreeMap<IfIndex, u32> = BTreeMap::new();

/// What the reconciler is told besides the compiled table.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Ports that the configuration names, as the data plane found them.
    pub ports: &'a BTreeMap<IfIndex, PortFacts>,
    /// Ports whose packets a rule of the kernel could decide about, with `PORT_GUARDED*`.
    pub guarded: &'a BTreeMap<IfIndex, u32>,
    /// Neighbour and port of a next hop: `compile::resolve` over the kernel's state.
    pub resolve: &'a dyn Fn(&NextHop) -> Resolution,
}

/// What decides which next hops can be used.
struct Reach<'a> {
    /// Ports that are open for frames: redirected ones, or those that came in there (`XDP_TX`).
    egress: BTreeSet<IfIndex>,
    /// Numbers of the managed ports.
    numbers: BTreeMap<IfIndex, u32>,
    resolve: &'a dyn Fn(&NextHop) -> Resolution,
}

/// Brings the maps to the compiled table.
#[derive(Clone, Debug)]
pub struct XdpReconciler {
    own: Own,
    ports: Ports,
    rows: Rows,
    targets: Targets,
    prefixes: Prefixes,
    /// Ports that can be used and their numbers, as all rows and targets know them; `None` when some
    /// know other ones.
    reached: Option<(BTreeSet<IfIndex>, BTreeMap<IfIndex, u32>)>,
    /// The first full comparison is done.
    compared: bool,
    /// What an earlier agent left is not given back yet.
    adopting: bool,
}

impl XdpReconciler {
    /// Reads the maps back and takes over what is there: the first [`Self::full`] keeps the ids of
    /// what is right already.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn adopt(maps: &impl FibMaps) -> Result<Self, MapError> {
        let capacity = maps.capacity();
        let found = maps.contents()?;
        Ok(Self {
            rows: Rows::adopt(capacity, &found),
            targets: Targets::adopt(capacity, &found),
            own: Own::adopt(found.own),
            ports: Ports::adopt(found.ports),
            prefixes: Prefixes::adopt(found.prefixes),
            reached: None,
            compared: false,
            adopting: true,
        })
    }

    /// Compares the whole table and writes what differs.
    pub fn full(&mut self, maps: &mut impl FibMaps, fib: &Fib, environment: Environment<'_>) -> Outcome {
        let mut keys: ViewSet = fib.prefixes.keys().collect();
        keys.extend(self.prefixes.keys());
        self.compared = true;
        self.sync(maps, fib, &keys, environment, true)
    }

    /// Writes what `delta` changed since the last call, and what failed then; an empty delta only
    /// tries again.
    pub fn apply(
        &mut self,
        maps: &mut impl FibMaps,
        fib: &Fib,
        delta: &FibDelta,
        environment: Environment<'_>,
    ) -> Outcome {
        if delta.full || !self.compared {
            return self.full(maps, fib, environment);
        }
        self.sync(maps, fib, &delta.prefixes, environment, false)
    }

    /// Rewrites the rows (and the buckets, where a row died or came to life) of next hops whose
    /// neighbour or interface changed; never a prefix. Fast: to be called before the compiler.
    pub fn refresh_rows(
        &mut self,
        maps: &mut impl FibMaps,
        delta: &Delta,
        environment: Environment<'_>,
    ) -> Outcome {
        let mut writer = Writer::new(maps);
        let reach = self.reach(environment);
        self.reached.take_if(|(egress, _)| *egress != reach.egress);
        let changed = self.rows.refresh(delta, &reach);
        // First of all what is dead: from here on no packet takes it, and groups may take their time.
        self.rows.prepare(&mut writer);
        self.targets.liveness_changed(&changed, &self.rows);
        self.publish_targets(&reach, &mut writer);
        finish(writer)
    }

    /// Sums.
    pub fn totals(&self) -> Totals {
        let (next_hops, next_hops_live) = self.rows.count();
        Totals {
            prefixes: self.prefixes.count(),
            prefixes_forwarding: self.targets.forwarding_prefixes(&self.rows),
            prefixes_left_out: self.prefixes.starved().len() + self.prefixes.unplaced().len(),
            targets: self.targets.count(),
            next_hops,
            next_hops_live,
            synced: self.compared
                && self.prefixes.is_synced()
                && self.targets.is_synced()
                && self.rows.is_synced()
                && self.ports.is_synced()
                && self.own.is_synced(),
        }
    }

    /// Whether writes that failed have left something in the maps by which packets may be forwarded
    /// though the kernel would not do so any more. What merely has no room is not: it is passed.
    pub fn is_stale(&self) -> bool {
        !self.compared
            || self.prefixes.is_stale()
            || self.targets.is_stale()
            || self.rows.is_stale()
            || self.ports.is_stale()
            || !self.own.is_complete()
    }

    /// What XDP does with packets to exactly this prefix; `None` when it is not in the table.
    pub fn prefix(&self, view: ViewId, prefix: IpNet) -> Option<TargetView> {
        self.target(self.prefixes.installed(&(view, prefix))?)
    }

    /// A target by its id, as the probe answers it.
    pub fn target(&self, id: TargetId) -> Option<TargetView> {
        self.targets.view(id, &self.rows)
    }

    /// A next-hop row by its index, as the probe answers it.
    pub fn row(&self, index: u32) -> Option<RowView> {
        self.rows.view(index)
    }

    /// Next hops whose neighbour is not resolved: the kernel should be asked for them.
    pub fn unresolved(&self) -> Vec<NextHop> {
        self.rows.unresolved().collect()
    }

    /// What the operator should look at, one sentence each with the remedy.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for shortage in [Shortage::Targets, Shortage::Buckets, Shortage::NextHops] {
            let concerned = || self.prefixes.starved().iter().filter(|(_, why)| **why == shortage);
            if let Some(((_, first), _)) = concerned().next() {
                problems.push(format!(
                    "{} prefixes ({first} first) are left to the kernel: the {}; narrow \
                     datapath.accelerate",
                    concerned().count(),
                    shortage.table()
                ));
            }
        }
        if self.targets.short() > 0 {
            problems.push(format!(
                "{} targets lack next hops that could be used: the next-hop or hash-bucket table is full; \
                 narrow datapath.accelerate",
                self.targets.short()
            ));
        }
        if let Some((_, first)) = self.prefixes.unplaced().first() {
            problems.push(format!(
                "{} prefixes ({first} first), and what covers them, are left to the kernel: the prefix \
                 table is full or the kernel refuses; narrow datapath.accelerate",
                self.prefixes.unplaced().len()
            ));
        }
        problems
    }

    fn reach<'a>(&self, environment: Environment<'a>) -> Reach<'a> {
        let transmits =
            |ifindex: &IfIndex| environment.ports.get(ifindex).is_some_and(|facts| facts.egress || facts.tx);
        Reach {
            egress: self.ports.egress().filter(transmits).collect(),
            numbers: self.ports.numbers().collect(),
            resolve: environment.resolve,
        }
    }

    fn sync(
        &mut self,
        maps: &mut dyn FibMaps,
        fib: &Fib,
        keys: &ViewSet,
        environment: Environment<'_>,
        all_rows: bool,
    ) -> Outcome {
        let mut writer = Writer::new(maps);
        self.own.open(&fib.own, &mut writer);
        self.ports.open(fib, environment, self.own.is_complete(), &mut writer);
        let reach = self.reach(environment);
        let reached = Some((reach.egress.clone(), reach.numbers.clone()));
        let moved = self.reached != reached;
        if moved || all_rows {
            let changed = self.rows.refresh(&Delta::full(), &reach);
            self.targets.liveness_changed(&changed, &self.rows);
        }
        if moved {
            self.targets.reach_changed(&mut self.rows, &reach);
            self.reached = reached;
        } else {
            self.targets.retry_short(&mut self.rows, &reach);
        }
        self.plan(fib, keys, &reach);
        self.publish(&reach, &mut writer);
        self.retry_starved(fib, &reach, &mut writer);
        self.end_adoption(&mut writer);
        self.ports.finish(&self.rows, &mut writer);
        self.own.finish(&mut writer);
        if self.resting() >= RESTING_LIMIT {
            self.grace(&mut writer);
        }
        finish(writer)
    }

    /// Decides the target of each key. Those that are in the map go first: what an earlier agent left
    /// is claimed by the prefix that has it.
    fn plan(&mut self, fib: &Fib, keys: &ViewSet, reach: &Reach<'_>) {
        let (mut known, mut new) = (ViewSet::new(), ViewSet::new());
        for key in keys.keys() {
            let place = if self.prefixes.installed(&key).is_some() { &mut known } else { &mut new };
            place.insert(key, ());
        }
        if self.adopting {
            let mut known: Vec<Key> = known.keys().collect();
            known.sort_by_cached_key(|key| {
                let before = self.prefixes.before(key);
                before
                    .zip(fib.prefixes.get(key))
                    .map_or(u8::MAX, |(before, spec)| self.targets.claim_rank(before, spec, reach))
            });
            for key in known {
                self.decide(key, fib, reach);
            }
        } else {
            known.keys().for_each(|key| self.decide(key, fib, reach));
        }
        new.keys().for_each(|key| self.decide(key, fib, reach));
    }

    fn decide(&mut self, key: Key, fib: &Fib, reach: &Reach<'_>) {
        let before = self.prefixes.before(&key);
        let spec = fib.prefixes.get(&key);
        let target = spec.map(|spec| self.targets.acquire(spec, before, &mut self.rows, reach));
        if let Some(old) = self.prefixes.want(key, target) {
            self.targets.unwant(old);
        }
    }

    fn publish(&mut self, reach: &Reach<'_>, writer: &mut Writer<'_>) {
        self.publish_targets(reach, writer);
        self.prefixes.publish(&mut self.targets, writer);
        self.ports.finish(&self.rows, writer);
        self.prefixes.delete(&mut self.targets, writer);
        // Deletions make room, and free what covered the deleted.
        self.prefixes.publish(&mut self.targets, writer);
        self.targets.release(&mut self.rows, writer);
    }

    fn publish_targets(&mut self, reach: &Reach<'_>, writer: &mut Writer<'_>) {
        let rows_wait = self.rows.prepare(writer);
        let targets_wait = self.targets.prepare(&self.rows, reach, writer);
        if rows_wait || targets_wait {
            self.grace(writer);
        }
        self.rows.publish(writer);
        self.targets.publish(&self.rows, reach, writer);
    }

    /// What found no room gets another chance when this call has given something back.
    fn retry_starved(&mut self, fib: &Fib, reach: &Reach<'_>, writer: &mut Writer<'_>) {
        let content = self.prefixes.starved().is_empty() && self.targets.short() == 0;
        if content || self.resting() == 0 || !self.grace(writer) {
            return;
        }
        self.targets.retry_short(&mut self.rows, reach);
        let starved = self.prefixes.starved().keys().copied().collect();
        self.plan(fib, &starved, reach);
        self.publish(reach, writer);
    }

    /// Gives back what an earlier agent left, once no prefix in the map leads to it any more.
    fn end_adoption(&mut self, writer: &mut Writer<'_>) {
        if !self.adopting || self.targets.is_leftover_held() {
            return;
        }
        self.adopting = false;
        self.targets.abandon_leftover();
        self.rows.abandon_leftover(writer);
        if self.resting() > 0 {
            self.grace(writer);
        }
    }

    /// Waits until no packet reads what was taken out of use, and makes that available again.
    fn grace(&mut self, writer: &mut Writer<'_>) -> bool {
        if !writer.grace_period() {
            return false;
        }
        self.rows.rested();
        self.targets.rested();
        self.targets.sweep(writer);
        self.rows.sweep(writer);
        true
    }

    fn resting(&self) -> usize {
        self.rows.resting() + self.targets.resting()
    }
}

fn finish(writer: Writer<'_>) -> Outcome {
    let outcome = writer.outcome;
    if let Some(first) = outcome.failures.first() {
        tracing::warn!(failures = outcome.failures.len(), %first, "map operations failed; they are tried again");
    }
    outcome
}
