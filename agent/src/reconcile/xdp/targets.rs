//! Targets: one per distinct content, shared by all prefixes that have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use underpass_common::fib::TargetId;
use underpass_common::nexthop::{SOURCE_ON_LINK, SOURCE_VALID, Target as RawTarget, TargetKind};
use underpass_common::reason::Reason;

use super::buckets::{Range, Ranges, order_for, rebalance};
use super::rows::Rows;
use super::slots::Slots;
use super::writer::Writer;
use super::{Reach, Shortage, TargetView};
use crate::datapath::maps::{Capacity, Contents};
use crate::fib::model::{Forward, NextHop, Resolution, Target};

const PASS: u32 = TargetKind::Pass as u32;
const NEXT_HOP: u32 = TargetKind::NextHop as u32;
const GROUP: u32 = TargetKind::Group as u32;

/// What the map should hold for a prefix whose target cannot be had: left to the kernel, also as a
/// source.
const FALLBACK: RawTarget =
    RawTarget { kind: PASS, index: Reason::TableFull as u32, mask: 0, source_flags: 0, source_ports: 0 };

/// A target in use.
#[derive(Clone, Debug)]
struct Entry {
    spec: Arc<Target>,
    /// Prefixes that want it.
    users: usize,
    /// Rows of the next hops that can be used at all, with weights.
    members: Vec<(u32, u16)>,
    /// Rows that it led to before: released when the maps no longer say so.
    leaving: Vec<u32>,
    /// Of a group; kept while the group has no members for the time being.
    range: Option<Range>,
    /// Row of each bucket, as wanted.
    buckets: Vec<u32>,
    /// Row of each bucket, as written.
    written_buckets: Vec<u32>,
    /// What the map holds; all zero before the first write.
    written: RawTarget,
}

/// The table of targets, with the buckets.
#[derive(Clone, Debug)]
pub struct Targets {
    slots: Slots,
    ranges: Ranges,
    entries: BTreeMap<TargetId, Entry>,
    by_spec: BTreeMap<Arc<Target>, TargetId>,
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
    leftover: BTreeMap<TargetId, (RawTarget, Vec<u32>)>,
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
            let rows = match range_of(raw) {
                // A group that shares buckets with another is none of ours: nothing is taken from it.
                Some(range) if ranges.reserve(range) => range.indices().map(bucket).collect(),
                Some(_) | None => Vec::new(),
            };
            leftover.insert(*id, (*raw, rows));
        }
        Self {
            slots,
            ranges,
            entries: BTreeMap::new(),
            holders,
            by_spec: BTreeMap::new(),
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
        spec: &Target,
        before: Option<TargetId>,
        rows: &mut Rows,
        reach: &Reach<'_>,
    ) -> Result<TargetId, Shortage> {
        if let Some(id) = self.by_spec.get(spec) {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.users += 1;
            }
            return Ok(*id);
        }
        let left = before.and_then(|id| Some((id, self.leftover.get(&id)?.clone())));
        let candidates = left.as_ref().map_or_else(Vec::new, |(_, (raw, buckets))| {
            if raw.kind == NEXT_HOP { vec![raw.index] } else { distinct(buckets) }
        });
        let mut entry = Entry {
            spec: Arc::new(spec.clone()),
            users: 1,
            members: Vec::new(),
            leaving: Vec::new(),
            range: None,
            buckets: Vec::new(),
            written_buckets: Vec::new(),
            written: RawTarget::default(),
        };
        let taken = acquire_members(&mut entry, rows, reach, &candidates).and_then(|()| {
            if let Some((id, left)) = &left
                && claim(&mut entry, left, rows, reach)
            {
                self.leftover.remove(id);
                return Ok(*id);
            }
            let flows = left.map_or_else(|| self.flows_of(before), |(_, (_, buckets))| buckets);
            self.make_room(&mut entry, &flows)
        });
        let id = match taken {
            Ok(id) => id,
            Err(shortage) => {
                self.left_rows.extend(entry.members.iter().map(|(row, _)| *row));
                return Err(shortage);
            }
        };
        balance(&mut entry, rows);
        self.by_spec.insert(Arc::clone(&entry.spec), id);
        self.entries.insert(id, entry);
        self.dirty.insert(id);
        Ok(id)
    }

    /// An id, and a range for a group.
    fn make_room(&mut self, entry: &mut Entry, flows: &[u32]) -> Result<TargetId, Shortage> {
        let id = self.slots.take().ok_or(Shortage::Targets)?;
        ensure_range(entry, flows, &mut self.ranges).inspect_err(|_| self.slots.put_back(id))?;
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
            Some((raw, _)) if raw.kind == NEXT_HOP => 0,
            Some(_) if !hops.iter().any(|(hop, _)| live(hop)) => 1,
            Some(_) => 2,
            None => 3,
        }
    }

    /// The rows that the flows of a target take now.
    fn flows_of(&self, target: Option<TargetId>) -> Vec<u32> {
        let Some(entry) = target.and_then(|id| self.entries.get(&id)) else { return Vec::new() };
        match (entry.buckets.as_slice(), entry.members.as_slice()) {
            ([], [(row, _)]) => vec![*row],
            (buckets, _) => buckets.to_vec(),
        }
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
        if changed.is_empty() {
            return;
        }
        for (id, entry) in &mut self.entries {
            if entry.range.is_some() && entry.members.iter().any(|(row, _)| changed.contains(row)) {
                balance(entry, rows);
                self.dirty.insert(*id);
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
        let before = std::mem::take(&mut entry.members);
        let mut selected = acquire_members(entry, rows, reach, &[]);
        if selected.is_err() {
            // The row table is full: what is there goes on, as far as it can be used.
            let taken = std::mem::take(&mut entry.members);
            self.left_rows.extend(taken.iter().map(|(row, _)| *row));
            let (kept, left): (Vec<_>, Vec<_>) =
                before.into_iter().partition(|(row, _)| rows.wants_live(*row));
            entry.members = kept;
            entry.leaving.extend(left.iter().map(|(row, _)| *row));
        } else {
            entry.leaving.extend(before.iter().map(|(row, _)| *row));
        }
        // Without room for buckets the first next hop alone is used: a subset of the kernel's.
        selected = selected.and(ensure_range(entry, &[], &mut self.ranges));
        if selected.is_err() {
            self.short.insert(id);
        } else {
            self.short.remove(&id);
        }
        balance(entry, rows);
        self.dirty.insert(id);
    }

    /// Writes buckets, and stops targets that are going to lead elsewhere. Returns whether those need a
    /// grace period before [`Self::publish`].
    pub fn prepare(&mut self, rows: &Rows, reach: &Reach<'_>, writer: &mut Writer<'_>) -> bool {
        let mut wait = false;
        for id in self.dirty.clone() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            write_buckets(entry, rows, writer);
            let want = want(entry, reach);
            let elsewhere = (entry.written.index, entry.written.mask) != (want.index, want.mask);
            if entry.written.kind != PASS && elsewhere {
                let stopped = RawTarget { kind: PASS, ..entry.written };
                if writer.write(|maps| maps.set_target(id, stopped)) {
                    entry.written = stopped;
                    self.cooling.insert(id);
                }
            }
            wait |= self.cooling.contains(&id) && elsewhere;
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
            let want = want(entry, reach);
            let done =
                is_ready(entry, rows) && publish_entry(id, entry, want, self.cooling.contains(&id), writer);
            if done {
                self.cooling.remove(&id);
            }
            if done && has_its_buckets(entry) {
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
            self.dirty.remove(&id);
            self.cooling.remove(&id);
            self.short.remove(&id);
            self.left_rows.extend(entry.members.iter().map(|(row, _)| *row));
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
            range.indices().fold(true, |done, at| writer.write(|maps| maps.set_bucket(at, 0)) && done)
        });
    }

    /// Gives back what an earlier agent left and nothing claimed.
    pub fn abandon_leftover(&mut self) {
        for (id, (raw, buckets)) in std::mem::take(&mut self.leftover) {
            self.slots.retire(id);
            if let Some(range) = range_of(&raw).filter(|_| !buckets.is_empty()) {
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
        let forwarding = |entry: &Entry| {
            entry.written.kind != PASS && entry.members.iter().any(|(row, _)| rows.is_live(*row))
        };
        let ids = self.entries.iter().filter(|(_, entry)| forwarding(entry)).map(|(id, _)| id);
        ids.filter_map(|id| self.holders.get(id)).sum()
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

    /// Whether every target is as wanted.
    pub fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.short.is_empty()
    }

    /// A target for people.
    pub fn view(&self, id: TargetId, rows: &Rows) -> Option<TargetView> {
        if id == 0 {
            return Some(TargetView { id, pass: Some(Reason::TableFull), rows: Vec::new() });
        }
        let entry = self.entries.get(&id)?;
        let pass = match (&entry.spec.forward, entry.members.is_empty()) {
            (Forward::Pass(reason), _) => Some(*reason),
            (Forward::NextHops(_), true) => Some(Reason::EgressNotManaged),
            (Forward::NextHops(_), false) => None,
        };
        let rows: Vec<_> = entry.members.iter().filter_map(|(row, _)| rows.view(*row)).collect();
        let dead = !rows.is_empty() && rows.iter().all(|row| !row.live);
        Some(TargetView { id, pass: pass.or(dead.then_some(Reason::NextHopNotLive)), rows })
    }
}

/// The range of a group that was read back.
fn range_of(raw: &RawTarget) -> Option<Range> {
    let size = raw.mask.checked_add(1)?;
    (raw.kind == GROUP && size.is_power_of_two()).then(|| Range { start: raw.index, order: size.ilog2() })
}

fn distinct(rows: &[u32]) -> Vec<u32> {
    rows.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Order of the range of a target with several next hops, `None` for the others.
fn group_order(spec: &Target) -> Result<Option<u32>, Shortage> {
    match &spec.forward {
        Forward::NextHops(hops) if hops.len() > 1 => {
            let weights: Vec<u16> = hops.iter().map(|(_, weight)| *weight).collect();
            order_for(&weights).map(Some).ok_or(Shortage::Buckets)
        }
        Forward::NextHops(_) | Forward::Pass(_) => Ok(None),
    }
}

/// Fills in the rows of the next hops that can be used at all: those whose port transmits XDP frames.
/// The rows that were taken before an error stay in `members`.
fn acquire_members(
    entry: &mut Entry,
    rows: &mut Rows,
    reach: &Reach<'_>,
    candidates: &[u32],
) -> Result<(), Shortage> {
    let Forward::NextHops(hops) = &entry.spec.forward else { return Ok(()) };
    for (hop, weight) in hops.iter().filter(|(hop, _)| reach.egress.contains(&hop.port)) {
        let row = rows.acquire(*hop, reach, candidates).ok_or(Shortage::NextHops)?;
        entry.members.push((row, *weight));
    }
    Ok(())
}

/// Gives a group that has members its buckets, which start with `flows` (of a power-of-two number of
/// buckets, or none).
fn ensure_range(entry: &mut Entry, flows: &[u32], ranges: &mut Ranges) -> Result<(), Shortage> {
    if entry.members.is_empty() || entry.range.is_some() {
        return Ok(());
    }
    let Some(order) = group_order(&entry.spec)? else { return Ok(()) };
    let range = ranges.take(order).ok_or(Shortage::Buckets)?;
    let size = range.size() as usize;
    entry.range = Some(range);
    entry.written_buckets = vec![0; size];
    // A flow's bucket in the larger range is, modulo the smaller size, its bucket in the smaller one.
    entry.buckets = flows.iter().copied().cycle().take(size).collect();
    entry.buckets.resize(size, 0);
    Ok(())
}

/// Takes over a target that an earlier agent left, if it does already what `entry` is to do.
fn claim(entry: &mut Entry, left: &(RawTarget, Vec<u32>), rows: &Rows, reach: &Reach<'_>) -> bool {
    let (raw, buckets) = left;
    let group = matches!(group_order(&entry.spec), Ok(Some(_))) && !entry.members.is_empty();
    if group {
        let order = group_order(&entry.spec).ok().flatten();
        let written = |row: &u32| rows.is_written(*row);
        let members: BTreeSet<u32> = entry.members.iter().map(|(row, _)| *row).collect();
        let live: BTreeSet<u32> = members.iter().copied().filter(|row| rows.wants_live(*row)).collect();
        let used: BTreeSet<u32> = buckets.iter().copied().collect();
        // With no next hop left, the flows stay with those that were there last.
        let same = if live.is_empty() { used.is_subset(&members) } else { used == live };
        let range = range_of(raw).filter(|range| Some(range.order) == order && !buckets.is_empty());
        if range.is_none() || !same || !used.iter().all(written) {
            return false;
        }
        entry.range = range;
    }
    if want(entry, reach) != *raw {
        entry.range = None;
        return false;
    }
    if group {
        entry.buckets.clone_from(buckets);
        entry.written_buckets.clone_from(buckets);
    }
    entry.written = *raw;
    true
}

/// Spreads a group's flows over its live members; with none left they stay where they are.
fn balance(entry: &mut Entry, rows: &Rows) {
    if entry.buckets.is_empty() || entry.members.is_empty() {
        return;
    }
    let live: Vec<_> = entry.members.iter().copied().filter(|(row, _)| rows.wants_live(*row)).collect();
    if !live.is_empty() {
        rebalance(&mut entry.buckets, &live);
        return;
    }
    let member = |row: &u32| entry.members.iter().any(|(member, _)| member == row);
    if !entry.buckets.iter().all(member) {
        rebalance(&mut entry.buckets, &entry.members);
    }
}

fn write_buckets(entry: &mut Entry, rows: &Rows, writer: &mut Writer<'_>) {
    let (Some(range), false) = (entry.range, entry.members.is_empty()) else { return };
    let pairs = entry.buckets.iter().zip(&mut entry.written_buckets);
    for (at, (row, written)) in range.indices().zip(pairs) {
        if row != written && rows.is_written(*row) && writer.write(|maps| maps.set_bucket(at, *row)) {
            *written = *row;
        }
    }
}

/// The content that the map should have.
fn want(entry: &Entry, reach: &Reach<'_>) -> RawTarget {
    let source = &entry.spec.source;
    let mut raw = RawTarget::default();
    if source.valid {
        raw.source_flags |= SOURCE_VALID;
    }
    if source.on_link {
        raw.source_flags |= SOURCE_ON_LINK;
    }
    for number in source.interfaces.iter().filter_map(|ifindex| reach.numbers.get(ifindex)) {
        raw.source_ports |= 1 << number;
    }
    (raw.kind, raw.index, raw.mask) = match (&entry.spec.forward, entry.members.as_slice(), entry.range) {
        (Forward::Pass(reason), ..) => (PASS, *reason as u32, 0),
        (_, [], _) => (PASS, Reason::EgressNotManaged as u32, 0),
        (_, _, Some(range)) => (GROUP, range.start, range.mask()),
        (_, [(row, _), ..], None) => (NEXT_HOP, *row, 0),
    };
    raw
}

/// Whether the buckets are as wanted, as far as the target needs them.
fn has_its_buckets(entry: &Entry) -> bool {
    entry.range.is_none() || entry.members.is_empty() || entry.buckets == entry.written_buckets
}

/// Whether everything that the target leads to is in the maps. A group that packets take already may
/// have old buckets: their rows are kept until they are written.
fn is_ready(entry: &Entry, rows: &Rows) -> bool {
    let written = entry.members.iter().all(|(row, _)| rows.is_written(*row));
    let taken = entry.written.kind == GROUP;
    written && (taken || has_its_buckets(entry))
}

/// Writes a target. One that packets may be reading leads elsewhere only from a stop of a grace period
/// on, in two steps: where to, then go.
fn publish_entry(
    id: TargetId,
    entry: &mut Entry,
    want: RawTarget,
    cooling: bool,
    writer: &mut Writer<'_>,
) -> bool {
    if entry.written == want {
        return true;
    }
    let elsewhere = (entry.written.index, entry.written.mask) != (want.index, want.mask);
    let fresh = entry.written == RawTarget::default();
    if !fresh && elsewhere {
        if cooling || entry.written.kind != PASS {
            return false;
        }
        let stopped = RawTarget { kind: PASS, ..want };
        if !writer.write(|maps| maps.set_target(id, stopped)) {
            return false;
        }
        entry.written = stopped;
    }
    if entry.written != want {
        if !writer.write(|maps| maps.set_target(id, want)) {
            return false;
        }
        entry.written = want;
    }
    true
}
