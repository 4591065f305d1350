//! Targets: one per distinct content, shared by all prefixes that have it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use underpass_common::fib::TargetId;
use underpass_common::nexthop::Target as RawTarget;
use underpass_common::reason::Reason;

use super::buckets::Ranges;
use super::rows::Rows;
use super::slots::Slots;
use super::target::{Entry, Leftover, NEXT_HOP, PASS};
use super::writer::Writer;
use super::{Reach, Shortage, TargetView};
use crate::datapath::maps::{Capacity, Contents};
use crate::fib::model::{Forward, NextHop, Resolution, Target};

/// What the map should hold for a prefix whose target cannot be had: left to the kernel, also as a
/// source.
const FALLBACK: RawTarget =
    RawTarget { kind: PASS, index: Reason::TableFull as u32, mask: 0, source_flags: 0, source_ports: 0 };

/// The table of targets, with the buckets.
#[derive(Clone, Debug)]
pub struct Targets {
    slots: Slots,
    ranges: Ranges,
    entries: BTreeMap<TargetId, Entry>,
    by_spec: BTreeMap<Arc<Target>, TargetId>,
    /// The same by the address of the content: the compiler shares what is equal.
    by_address: HashMap<usize, TargetId>,
    /// Which groups have a row among their members.
    groups_of: BTreeMap<u32, BTreeSet<TargetId>>,
    /// How many prefixes have each target in the map.
    holders: BTreeMap<TargetId, usize>,
    dirty: BTreeSet<TargetId>,
    /// Stopped since the last grace period.
    cooling: BTreeSet<TargetId>,
    /// A prefix turned away from these: perhaps nobody wants or has them any more.
    unused: BTreeSet<TargetId>,
    /// Those that lack rows or buckets since the ports changed.
    short: BTreeSet<TargetId>,
    /// Rows that no target in the maps leads to any more.
    left_rows: Vec<u32>,
    /// What an earlier agent left and nothing has claimed yet.
    leftover: BTreeMap<TargetId, Leftover>,
    fallback: RawTarget,
}

impl Targets {
    /// Starts with what is in the maps.
    pub fn adopt(capacity: Capacity, found: &Contents) -> Self {
        let mut holders = BTreeMap::new();
        for id in found.prefixes.values() {
            *holders.entry(*id).or_default() += 1;
        }
        let slots = Slots::new(capacity.targets, found.targets.keys().copied());
        let mut ranges = Ranges::new(capacity.buckets);
        let fallback = found.targets.get(&0).copied().unwrap_or_default();
        let bucket = |at| found.buckets.get(&at).copied().unwrap_or(0);
        let mut leftover = BTreeMap::new();
        for (id, raw) in found.targets.iter().filter(|(id, _)| **id != 0) {
            let buckets = match Leftover::range(raw) {
                // A group that shares buckets with another is none of ours: nothing is taken from it.
                Some(range) if ranges.reserve(range) => range.indices().map(bucket).collect(),
                Some(_) | None => Vec::new(),
            };
            leftover.insert(*id, Leftover { raw: *raw, buckets });
        }
        Self {
            slots,
            ranges,
            entries: BTreeMap::new(),
            holders,
            by_spec: BTreeMap::new(),
            by_address: HashMap::new(),
            groups_of: BTreeMap::new(),
            dirty: BTreeSet::new(),
            cooling: BTreeSet::new(),
            unused: BTreeSet::new(),
            short: BTreeSet::new(),
            left_rows: Vec::new(),
            leftover,
            fallback,
        }
    }

    /// The target of this content, for one more prefix: the one there is, else a new one. `before` is
    /// the prefix's target so far: a new group starts with its flows.
    ///
    /// # Errors
    /// Which table is full; nothing was taken then.
    pub fn acquire(
        &mut self,
        spec: &Arc<Target>,
        before: Option<TargetId>,
        rows: &mut Rows,
        reach: &Reach<'_>,
    ) -> Result<TargetId, Shortage> {
        if let Some(id) = self.by_address.get(&address(spec)).or_else(|| self.by_spec.get(spec)) {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.users += 1;
            }
            return Ok(*id);
        }
        let left = before.and_then(|id| Some((id, self.leftover.get(&id)?.clone())));
        let candidates = left.as_ref().map_or_else(Vec::new, |(_, left)| left.rows());
        let mut entry = Entry::new(Arc::clone(spec));
        let taken = entry.select(rows, reach, &candidates).and_then(|()| {
            if let Some((id, left)) = &left
                && entry.claim(left, rows, reach)
            {
                self.leftover.remove(id);
                return Ok(*id);
            }
            let flows = left.map_or_else(|| self.flows_of(before), |(_, left)| left.buckets);
            self.make_room(&mut entry, &flows)
        });
        let id = taken.inspect_err(|_| self.left_rows.extend(entry.rows()))?;
        entry.balance(rows);
        self.by_spec.insert(Arc::clone(spec), id);
        self.by_address.insert(address(spec), id);
        join_groups(&mut self.groups_of, id, &entry);
        self.entries.insert(id, entry);
        self.dirty.insert(id);
        Ok(id)
    }

    /// An id, and a range for a group.
    fn make_room(&mut self, entry: &mut Entry, flows: &[u32]) -> Result<TargetId, Shortage> {
        let id = self.slots.take().ok_or(Shortage::Targets)?;
        entry.ensure_range(flows, &mut self.ranges).inspect_err(|_| self.slots.put_back(id))?;
        Ok(id)
    }

    /// In which order prefixes claim what an earlier agent left: first those whose target names the row
    /// of each next hop, dead ones included, then groups, which name only live ones.
    pub fn claim_rank(&self, before: TargetId, spec: &Target, reach: &Reach<'_>) -> u8 {
        let Forward::NextHops(hops) = &spec.forward else { return 0 };
        let live = |hop: &NextHop| {
            reach.egress.contains(&hop.port) && matches!((reach.resolve)(hop), Resolution::Live { .. })
        };
        match self.leftover.get(&before) {
            Some(left) if left.raw.kind == NEXT_HOP => 0,
            Some(_) if !hops.iter().any(|(hop, _)| live(hop)) => 1,
            Some(_) => 2,
            None => 3,
        }
    }

    /// The rows that the flows of a target take now.
    fn flows_of(&self, target: Option<TargetId>) -> Vec<u32> {
        target.and_then(|id| self.entries.get(&id)).map_or_else(Vec::new, Entry::flows)
    }

    /// A prefix does not want the target any more.
    pub fn unwant(&mut self, id: TargetId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.users = entry.users.saturating_sub(1);
            self.unused.insert(id);
        }
    }

    /// A prefix has the target in the map.
    pub fn hold(&mut self, id: TargetId) {
        *self.holders.entry(id).or_default() += 1;
    }

    /// A prefix does not have the target in the map any more.
    pub fn unhold(&mut self, id: TargetId) {
        let Some(count) = self.holders.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            self.holders.remove(&id);
            self.unused.insert(id);
        }
    }

    /// Rows came to life or died: groups that use them spread their flows anew.
    pub fn liveness_changed(&mut self, changed: &BTreeSet<u32>, rows: &Rows) {
        let groups: BTreeSet<TargetId> =
            changed.iter().filter_map(|row| self.groups_of.get(row)).flatten().copied().collect();
        for id in groups {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.balance(rows);
                self.dirty.insert(id);
            }
        }
    }

    /// The ports changed: which next hops can be used at all is decided again for every target.
    pub fn reach_changed(&mut self, rows: &mut Rows, reach: &Reach<'_>) {
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            self.reselect(id, rows, reach);
        }
    }

    /// Tries again to complete the targets that lack something.
    pub fn retry_short(&mut self, rows: &mut Rows, reach: &Reach<'_>) {
        for id in std::mem::take(&mut self.short) {
            self.reselect(id, rows, reach);
        }
    }

    fn reselect(&mut self, id: TargetId, rows: &mut Rows, reach: &Reach<'_>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        leave_groups(&mut self.groups_of, id, entry);
        let before = std::mem::take(&mut entry.members);
        let mut selected = entry.select(rows, reach, &[]);
        if selected.is_err() {
            // The row table is full: what is there goes on, as far as it can be used.
            self.left_rows.extend(entry.rows());
            let (kept, left): (Vec<_>, Vec<_>) =
                before.into_iter().partition(|(row, _)| rows.wants_live(*row));
            entry.members = kept;
            entry.leaving.extend(left.iter().map(|(row, _)| *row));
        } else {
            entry.leaving.extend(before.iter().map(|(row, _)| *row));
        }
        // Without room for buckets the first next hop alone is used: a subset of the kernel's.
        selected = selected.and(entry.ensure_range(&[], &mut self.ranges));
        if selected.is_err() {
            self.short.insert(id);
        } else {
            self.short.remove(&id);
        }
        join_groups(&mut self.groups_of, id, entry);
        entry.balance(rows);
        self.dirty.insert(id);
    }

    /// Writes buckets, and stops targets that are going to lead elsewhere. Returns whether those need a
    /// grace period before [`Self::publish`].
    pub fn prepare(&mut self, rows: &Rows, reach: &Reach<'_>, writer: &mut Writer<'_>) -> bool {
        let mut wait = false;
        for id in self.dirty.clone() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.write_buckets(rows, writer);
            let want = entry.want(reach);
            if entry.stop(id, &want, writer) {
                self.cooling.insert(id);
            }
            wait |= self.cooling.contains(&id) && entry.leads_elsewhere(&want);
        }
        wait
    }

    /// Writes the targets that differ; those that still need a grace period, or whose rows or buckets
    /// could not be written, wait for the next call.
    pub fn publish(&mut self, rows: &Rows, reach: &Reach<'_>, writer: &mut Writer<'_>) {
        if self.fallback != FALLBACK && writer.write(|maps| maps.set_target(0, FALLBACK)) {
            self.fallback = FALLBACK;
        }
        for id in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let (want, cooling) = (entry.want(reach), self.cooling.contains(&id));
            let done = entry.publish(id, want, cooling, rows, writer);
            if done {
                self.cooling.remove(&id);
            }
            if done && entry.has_its_buckets() {
                self.left_rows.append(&mut entry.leaving);
            } else {
                self.dirty.insert(id);
            }
        }
    }

    /// Gives back what no prefix wants or has, and the rows that were left.
    pub fn release(&mut self, rows: &mut Rows, writer: &mut Writer<'_>) {
        for id in std::mem::take(&mut self.unused) {
            let wanted = self.entries.get(&id).is_none_or(|entry| entry.users > 0);
            if wanted || self.holders.contains_key(&id) {
                continue;
            }
            let Some(entry) = self.entries.remove(&id) else { continue };
            self.by_spec.remove(&entry.spec);
            self.by_address.remove(&address(&entry.spec));
            leave_groups(&mut self.groups_of, id, &entry);
            self.dirty.remove(&id);
            self.cooling.remove(&id);
            self.short.remove(&id);
            self.left_rows.extend(entry.rows());
            self.left_rows.extend(&entry.leaving);
            if entry.written == RawTarget::default() {
                self.slots.put_back(id);
            } else {
                self.slots.retire(id);
            }
            if let Some(range) = entry.range {
                // Written buckets are emptied by the sweep, seen or not.
                self.ranges.retire(range);
            }
        }
        for row in std::mem::take(&mut self.left_rows) {
            rows.release(row, writer);
        }
    }

    /// No packet reads any more what was stopped or given back before.
    pub fn rested(&mut self) {
        self.cooling.clear();
    }

    /// After a grace period: empties what was given back.
    pub fn sweep(&mut self, writer: &mut Writer<'_>) {
        self.slots.sweep(|id| writer.write(|maps| maps.set_target(id, RawTarget::default())));
        self.ranges.sweep(|range| {
            let mut done = true;
            for at in range.indices() {
                done &= writer.write(|maps| maps.set_bucket(at, 0));
            }
            done
        });
    }

    /// Gives back what an earlier agent left and nothing claimed.
    pub fn abandon_leftover(&mut self) {
        for (id, left) in std::mem::take(&mut self.leftover) {
            self.slots.retire(id);
            if let Some(range) = Leftover::range(&left.raw).filter(|_| !left.buckets.is_empty()) {
                self.ranges.retire(range);
            }
        }
    }

    /// Whether a prefix in the map still leads to what an earlier agent left and nothing has claimed.
    pub fn is_leftover_held(&self) -> bool {
        self.leftover.keys().any(|id| self.holders.contains_key(id))
    }

    /// Whether the map holds the target.
    pub fn is_written(&self, id: TargetId) -> bool {
        match id {
            0 => self.fallback == FALLBACK,
            id => self.entries.get(&id).is_some_and(|entry| entry.written != RawTarget::default()),
        }
    }

    /// Prefixes by which packets are forwarded.
    pub fn forwarding_prefixes(&self, rows: &Rows) -> usize {
        let forwarding = self.entries.iter().filter(|(_, entry)| entry.is_forwarding(rows));
        forwarding.filter_map(|(id, _)| self.holders.get(id)).sum()
    }

    /// Targets that lack rows or buckets since the ports changed.
    pub fn short(&self) -> usize {
        self.short.len()
    }

    /// Targets in use.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// How many ids and ranges rest.
    pub fn resting(&self) -> usize {
        self.slots.resting() + self.ranges.resting()
    }

    /// Whether packets may be forwarded by what a target should not be any more.
    pub fn is_stale(&self) -> bool {
        let forwards = |id| self.entries.get(id).is_some_and(|entry| entry.written.kind != PASS);
        self.dirty.iter().any(forwards)
    }

    /// Whether every target is as wanted.
    pub fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.short.is_empty()
    }

    /// A target for people.
    pub fn view(&self, id: TargetId, rows: &Rows) -> Option<TargetView> {
        if id == 0 {
            return Some(TargetView { id, pass: Some(Reason::TableFull), rows: Vec::new() });
        }
        self.entries.get(&id).map(|entry| entry.view(id, rows))
    }
}

/// Where a content is; nothing else is there as long as a target has it.
fn address(spec: &Arc<Target>) -> usize {
    Arc::as_ptr(spec).addr()
}

/// Notes the rows of a group.
fn join_groups(groups_of: &mut BTreeMap<u32, BTreeSet<TargetId>>, id: TargetId, entry: &Entry) {
    for row in entry.rows().filter(|_| entry.range.is_some()) {
        groups_of.entry(row).or_default().insert(id);
    }
}

/// Forgets the rows of a group.
fn leave_groups(groups_of: &mut BTreeMap<u32, BTreeSet<TargetId>>, id: TargetId, entry: &Entry) {
    for row in entry.rows() {
        if let Some(groups) = groups_of.get_mut(&row) {
            groups.remove(&id);
            if groups.is_empty() {
                groups_of.remove(&row);
            }
        }
    }
}
