//! One target: which rows it leads to, and how it is brought into the maps.

use std::collections::BTreeSet;
use std::sync::Arc;

use underpass_common::fib::TargetId;
use underpass_common::nexthop::{SOURCE_ON_LINK, SOURCE_VALID, Target as RawTarget, TargetKind};
use underpass_common::reason::Reason;

use super::buckets::{Range, Ranges, order_for, rebalance};
use super::rows::Rows;
use super::writer::Writer;
use super::{Reach, Shortage, TargetView};
use crate::fib::model::{Forward, Target};

pub const PASS: u32 = TargetKind::Pass as u32;
pub const NEXT_HOP: u32 = TargetKind::NextHop as u32;
pub const GROUP: u32 = TargetKind::Group as u32;

/// A target that an earlier agent left.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// Its row of the table.
    pub raw: RawTarget,
    /// Rows of its buckets; empty when it is no group of ours.
    pub buckets: Vec<u32>,
}

impl Leftover {
    /// The range of a group.
    pub fn range(raw: &RawTarget) -> Option<Range> {
        let size = raw.mask.checked_add(1)?;
        (raw.kind == GROUP && size.is_power_of_two()).then(|| Range { start: raw.index, order: size.ilog2() })
    }

    /// The rows that it leads to.
    pub fn rows(&self) -> Vec<u32> {
        if self.raw.kind == NEXT_HOP {
            return vec![self.raw.index];
        }
        self.buckets.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// A target in use.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is to do.
    pub spec: Arc<Target>,
    /// Prefixes that want it.
    pub users: usize,
    /// Rows of the next hops that can be used at all, with weights.
    pub members: Vec<(u32, u16)>,
    /// Rows that it led to before: released when the maps no longer say so.
    pub leaving: Vec<u32>,
    /// What the map holds; all zero before the first write.
    pub written: RawTarget,
    /// Of a group; kept while the group has no members for the time being.
    pub range: Option<Range>,
    /// Row of each bucket, as wanted.
    buckets: Vec<u32>,
    /// Row of each bucket, as written.
    written_buckets: Vec<u32>,
}

impl Entry {
    /// A target that leads nowhere yet, wanted by one prefix.
    pub fn new(spec: Arc<Target>) -> Self {
        Self {
            spec,
            users: 1,
            members: Vec::new(),
            leaving: Vec::new(),
            written: RawTarget::default(),
            range: None,
            buckets: Vec::new(),
            written_buckets: Vec::new(),
        }
    }

    /// Fills in the rows of the next hops that can be used at all: those whose port transmits XDP
    /// frames. `candidates` are rows that an earlier agent's target led to.
    ///
    /// # Errors
    /// The row table is full; the rows that were taken before stay in `members`.
    pub fn select(&mut self, rows: &mut Rows, reach: &Reach<'_>, candidates: &[u32]) -> Result<(), Shortage> {
        let Forward::NextHops(hops) = &self.spec.forward else { return Ok(()) };
        for (hop, weight) in hops.iter().filter(|(hop, _)| reach.egress.contains(&hop.port)) {
            let row = rows.acquire(*hop, reach, candidates).ok_or(Shortage::NextHops)?;
            self.members.push((row, *weight));
        }
        Ok(())
    }

    /// Rows of the members.
    pub fn rows(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|(row, _)| *row)
    }

    /// Order of the range of a target with several next hops, `None` for the others.
    fn order(&self) -> Result<Option<u32>, Shortage> {
        match &self.spec.forward {
            Forward::NextHops(hops) if hops.len() > 1 => {
                let weights: Vec<u16> = hops.iter().map(|(_, weight)| *weight).collect();
                order_for(&weights).map(Some).ok_or(Shortage::Buckets)
            }
            Forward::NextHops(_) | Forward::Pass(_) => Ok(None),
        }
    }

    /// Gives a group that has members its buckets, which start with `flows` (of a power-of-two number
    /// of buckets, or none).
    ///
    /// # Errors
    /// The bucket table is full, or the group has too many members.
    pub fn ensure_range(&mut self, flows: &[u32], ranges: &mut Ranges) -> Result<(), Shortage> {
        if self.members.is_empty() || self.range.is_some() {
            return Ok(());
        }
        let Some(order) = self.order()? else { return Ok(()) };
        let range = ranges.take(order).ok_or(Shortage::Buckets)?;
        let size = range.size() as usize;
        self.range = Some(range);
        self.written_buckets = vec![0; size];
        // A flow's bucket in the larger range is, modulo the smaller size, its bucket in the smaller one.
        self.buckets = flows.iter().copied().cycle().take(size).collect();
        self.buckets.resize(size, 0);
        Ok(())
    }

    /// The rows that flows take now, for [`Self::ensure_range`] of the target that follows.
    pub fn flows(&self) -> Vec<u32> {
        match (self.buckets.as_slice(), self.members.as_slice()) {
            ([], [(row, _)]) => vec![*row],
            (buckets, _) => buckets.to_vec(),
        }
    }

    /// Takes over what an earlier agent left, if it does already what this one is to do.
    pub fn claim(&mut self, left: &Leftover, rows: &Rows, reach: &Reach<'_>) -> bool {
        let order = self.order().ok().flatten().filter(|_| !self.members.is_empty());
        if let Some(order) = order {
            let members: BTreeSet<u32> = self.rows().collect();
            let live: BTreeSet<u32> = members.iter().copied().filter(|row| rows.wants_live(*row)).collect();
            let used: BTreeSet<u32> = left.buckets.iter().copied().collect();
            // With no next hop left, the flows stay with those that were there last.
            let same = if live.is_empty() { used.is_subset(&members) } else { used == live };
            let range =
                Leftover::range(&left.raw).filter(|range| range.order == order && !left.buckets.is_empty());
            if range.is_none() || !same || !used.iter().all(|row| rows.is_written(*row)) {
                return false;
            }
            self.range = range;
        }
        if self.want(reach) != left.raw {
            self.range = None;
            return false;
        }
        if order.is_some() {
            self.buckets.clone_from(&left.buckets);
            self.written_buckets.clone_from(&left.buckets);
        }
        self.written = left.raw;
        true
    }

    /// Spreads a group's flows over its live members; with none left they stay where they are.
    pub fn balance(&mut self, rows: &Rows) {
        if self.buckets.is_empty() || self.members.is_empty() {
            return;
        }
        let live: Vec<_> = self.members.iter().copied().filter(|(row, _)| rows.wants_live(*row)).collect();
        if !live.is_empty() {
            rebalance(&mut self.buckets, &live);
            return;
        }
        let member = |row: &u32| self.rows().any(|member| member == *row);
        if !self.buckets.iter().all(member) {
            rebalance(&mut self.buckets, &self.members);
        }
    }

    /// The content that the map should have.
    pub fn want(&self, reach: &Reach<'_>) -> RawTarget {
        let source = &self.spec.source;
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
        (raw.kind, raw.index, raw.mask) = match (&self.spec.forward, self.members.as_slice(), self.range) {
            (Forward::Pass(reason), ..) => (PASS, *reason as u32, 0),
            (_, [], _) => (PASS, Reason::EgressNotManaged as u32, 0),
            (_, _, Some(range)) => (GROUP, range.start, range.mask()),
            (_, [(row, _), ..], None) => (NEXT_HOP, *row, 0),
        };
        raw
    }

    /// Whether the map's content leads elsewhere than the wanted one.
    pub fn leads_elsewhere(&self, want: &RawTarget) -> bool {
        (self.written.index, self.written.mask) != (want.index, want.mask)
    }

    /// Writes the buckets that differ.
    pub fn write_buckets(&mut self, rows: &Rows, writer: &mut Writer<'_>) {
        let (Some(range), false) = (self.range, self.members.is_empty()) else { return };
        let pairs = self.buckets.iter().zip(&mut self.written_buckets);
        for (at, (row, written)) in range.indices().zip(pairs) {
            if row != written && rows.is_written(*row) && writer.write(|maps| maps.set_bucket(at, *row)) {
                *written = *row;
            }
        }
    }

    /// Makes packets stop at the target before it is led elsewhere; only its kind changes. Returns
    /// whether it was stopped now.
    pub fn stop(&mut self, id: TargetId, want: &RawTarget, writer: &mut Writer<'_>) -> bool {
        let stopped = RawTarget { kind: PASS, ..self.written };
        let now = self.written.kind != PASS
            && self.leads_elsewhere(want)
            && writer.write(|maps| maps.set_target(id, stopped));
        if now {
            self.written = stopped;
        }
        now
    }

    /// Whether the buckets are as wanted, as far as the target needs them.
    pub fn has_its_buckets(&self) -> bool {
        self.range.is_none() || self.members.is_empty() || self.buckets == self.written_buckets
    }

    /// Whether everything that the target leads to is in the maps. A group that packets take already
    /// may have old buckets: their rows are kept until they are written.
    fn is_ready(&self, rows: &Rows) -> bool {
        let taken = self.written.kind == GROUP;
        self.rows().all(|row| rows.is_written(row)) && (taken || self.has_its_buckets())
    }

    /// Writes the target; `false` when it has to wait for another call. One that packets may be
    /// reading (`cooling`, or not stopped) is not led elsewhere, and leads there in two steps: where to,
    /// then go.
    pub fn publish(
        &mut self,
        id: TargetId,
        want: RawTarget,
        cooling: bool,
        rows: &Rows,
        writer: &mut Writer<'_>,
    ) -> bool {
        if !self.is_ready(rows) {
            return false;
        }
        let fresh = self.written == RawTarget::default();
        if !fresh && self.leads_elsewhere(&want) {
            let blocked = cooling || self.written.kind != PASS;
            if blocked || !self.write(id, RawTarget { kind: PASS, ..want }, writer) {
                return false;
            }
        }
        self.write(id, want, writer)
    }

    fn write(&mut self, id: TargetId, raw: RawTarget, writer: &mut Writer<'_>) -> bool {
        if self.written != raw {
            if !writer.write(|maps| maps.set_target(id, raw)) {
                return false;
            }
            self.written = raw;
        }
        true
    }

    /// Whether packets are forwarded.
    pub fn is_forwarding(&self, rows: &Rows) -> bool {
        self.written.kind != PASS && self.rows().any(|row| rows.is_live(row))
    }

    /// For people.
    pub fn view(&self, id: TargetId, rows: &Rows) -> TargetView {
        let pass = match (&self.spec.forward, self.members.is_empty()) {
            (Forward::Pass(reason), _) => Some(*reason),
            (Forward::NextHops(_), true) => Some(Reason::EgressNotManaged),
            (Forward::NextHops(_), false) => None,
        };
        let rows: Vec<_> = self.rows().filter_map(|row| rows.view(row)).collect();
        let dead = !rows.is_empty() && rows.iter().all(|row| !row.live);
        TargetView { id, pass: pass.or(dead.then_some(Reason::NextHopNotLive)), rows }
    }
}
