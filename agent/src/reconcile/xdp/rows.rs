//! Next-hop rows: one per (port, neighbour, MTU), shared by all targets that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use underpass_common::nexthop::{NEXT_HOP_LIVE, NextHop as RawRow, Target, TargetKind};

use super::slots::Slots;
use super::writer::Writer;
use super::{Reach, RowView};
use crate::datapath::maps::{Capacity, Contents};
use crate::fib::model::{NextHop, Resolution};
use crate::netlink::model::{Delta, IfIndex};

/// A row in use.
#[derive(Clone, Debug)]
struct Row {
    next_hop: NextHop,
    /// Targets that lead here.
    users: usize,
    /// The neighbour has no valid entry.
    unresolved: bool,
    want: RawRow,
    /// What the map holds; all zero before the first write.
    written: RawRow,
}

/// The table of rows.
#[derive(Clone, Debug)]
pub struct Rows {
    slots: Slots,
    in_use: BTreeMap<u32, Row>,
    by_next_hop: BTreeMap<NextHop, u32>,
    dirty: BTreeSet<u32>,
    /// Rows that were live since the last grace period and no longer are.
    cooling: BTreeSet<u32>,
    /// Rows that were given back and are live in the map because a write failed.
    undead: BTreeMap<u32, RawRow>,
    /// Rows that an earlier agent left and nothing has claimed yet.
    leftover: BTreeMap<u32, RawRow>,
    /// Those to which nothing led: rows of next hops that were dead.
    spare: BTreeSet<u32>,
}

const fn is_live(row: &RawRow) -> bool {
    row.state & NEXT_HOP_LIVE != 0
}

fn same_macs(a: &RawRow, b: &RawRow) -> bool {
    a.destination_mac == b.destination_mac && a.source_mac == b.source_mac
}

impl Rows {
    /// Starts with what is in the maps.
    pub fn adopt(capacity: Capacity, found: &Contents) -> Self {
        let led_to: BTreeSet<u32> = found.targets.values().flat_map(|raw| rows_of(raw, found)).collect();
        let leftover = found.next_hops.clone();
        Self {
            slots: Slots::new(capacity.next_hops, leftover.keys().copied()),
            in_use: BTreeMap::new(),
            by_next_hop: BTreeMap::new(),
            dirty: BTreeSet::new(),
            cooling: BTreeSet::new(),
            undead: BTreeMap::new(),
            spare: leftover.keys().filter(|index| !led_to.contains(index)).copied().collect(),
            leftover,
        }
    }

    /// The row of a next hop, for one more user: its own, else one of `candidates` that an earlier
    /// agent left with the same content, else a new one. `None`: the table is full.
    pub fn acquire(&mut self, next_hop: NextHop, reach: &Reach<'_>, candidates: &[u32]) -> Option<u32> {
        if let Some(index) = self.by_next_hop.get(&next_hop) {
            self.in_use.get_mut(index)?.users += 1;
            return Some(*index);
        }
        let (want, unresolved) = wanted(&next_hop, reach, &RawRow::default());
        let fits = |index: &&u32| self.leftover.get(index).is_some_and(|raw| fits(raw, &want));
        let (index, written) = match candidates.iter().chain(&self.spare).find(fits) {
            Some(index) => (*index, self.leftover.remove(index).unwrap_or_default()),
            None => (self.slots.take()?, RawRow::default()),
        };
        let (want, _) = wanted(&next_hop, reach, &written);
        // Whether a dead row was live a moment ago only the earlier agent knew.
        if !is_live(&written) && !same_macs(&written, &RawRow::default()) {
            self.cooling.insert(index);
        }
        self.in_use.insert(index, Row { next_hop, users: 1, unresolved, want, written });
        self.by_next_hop.insert(next_hop, index);
        self.dirty.insert(index);
        Some(index)
    }

    /// One user less; the last one frees the row. No target in the map may lead to it any more.
    pub fn release(&mut self, index: u32, writer: &mut Writer<'_>) {
        let Some(row) = self.in_use.get_mut(&index) else { return };
        row.users = row.users.saturating_sub(1);
        if row.users > 0 {
            return;
        }
        let Some(row) = self.in_use.remove(&index) else { return };
        self.by_next_hop.remove(&row.next_hop);
        self.dirty.remove(&index);
        self.cooling.remove(&index);
        if row.written == RawRow::default() {
            self.slots.put_back(index);
            return;
        }
        self.retire(index, row.written, writer);
    }

    /// Gives a written row back. A packet that is still on its way to it goes to the kernel: the port
    /// may be closed next.
    fn retire(&mut self, index: u32, written: RawRow, writer: &mut Writer<'_>) {
        self.slots.retire(index);
        let dead = RawRow { state: 0, ..written };
        if is_live(&written) && !writer.write(|maps| maps.set_next_hop(index, dead)) {
            self.undead.insert(index, written);
        }
    }

    /// Computes the wanted content of the rows that `delta` concerns again; returns those that came to
    /// life or died.
    pub fn refresh(&mut self, delta: &Delta, reach: &Reach<'_>) -> BTreeSet<u32> {
        let mut changed = BTreeSet::new();
        for index in self.concerned(delta) {
            let Some(row) = self.in_use.get_mut(&index) else { continue };
            let (want, unresolved) = wanted(&row.next_hop, reach, &row.written);
            row.unresolved = unresolved;
            if is_live(&want) != is_live(&row.want) {
                changed.insert(index);
            }
            if want != row.want {
                row.want = want;
                self.dirty.insert(index);
            }
        }
        changed
    }

    /// Rows by these interfaces and to these neighbours. The others are not looked at: a failure must
    /// not take longer where there are many.
    fn concerned(&self, delta: &Delta) -> Vec<u32> {
        if delta.full {
            return self.in_use.keys().copied().collect();
        }
        let by_port = delta.interfaces.iter().flat_map(|port| self.by_next_hop.range(all_by(*port)));
        let to_neighbour =
            delta.neighbours.iter().flat_map(|(port, to)| self.by_next_hop.range(all_to(*port, *to)));
        by_port.chain(to_neighbour).map(|(_, index)| *index).collect()
    }

    /// Writes what may be written under packets: fresh rows, and rows that die or come to life with
    /// their addresses. Rows that get other addresses are stopped. Returns whether those need a grace
    /// period before [`Self::publish`].
    pub fn prepare(&mut self, writer: &mut Writer<'_>) -> bool {
        let mut wait = false;
        self.undead.retain(|index, row| {
            !writer.write(|maps| maps.set_next_hop(*index, RawRow { state: 0, ..*row }))
        });
        for index in std::mem::take(&mut self.dirty) {
            let Some(row) = self.in_use.get(&index) else { continue };
            if row.written == RawRow::default() || same_macs(&row.want, &row.written) {
                self.write(index, |want, _| want, writer);
                continue;
            }
            if is_live(&row.written) {
                self.write(index, |_, written| RawRow { state: 0, ..written }, writer);
            }
            self.dirty.insert(index);
            wait |= self.cooling.contains(&index);
        }
        wait
    }

    /// Writes the other addresses, of rows that have been dead for a grace period; the others wait for
    /// the next call.
    pub fn publish(&mut self, writer: &mut Writer<'_>) {
        let ready = |index: &u32| {
            !self.cooling.contains(index) && self.in_use.get(index).is_none_or(|row| !is_live(&row.written))
        };
        let (ready, waiting) = std::mem::take(&mut self.dirty).into_iter().partition(ready);
        self.dirty = waiting;
        let ready: BTreeSet<u32> = ready;
        for index in ready {
            if self.write(index, |want, _| RawRow { state: 0, ..want }, writer) {
                self.write(index, |want, _| want, writer);
            }
        }
    }

    /// Writes what `content` makes of the wanted and the written row; remembers a failure.
    fn write(
        &mut self,
        index: u32,
        content: impl FnOnce(RawRow, RawRow) -> RawRow,
        writer: &mut Writer<'_>,
    ) -> bool {
        let Some(row) = self.in_use.get_mut(&index) else { return false };
        let raw = content(row.want, row.written);
        if raw == row.written {
            return true;
        }
        if !writer.write(|maps| maps.set_next_hop(index, raw)) {
            self.dirty.insert(index);
            return false;
        }
        if is_live(&row.written) && !is_live(&raw) {
            self.cooling.insert(index);
        } else if is_live(&raw) {
            self.cooling.remove(&index);
        }
        row.written = raw;
        true
    }

    /// No packet reads any more what was dead or given back before.
    pub fn rested(&mut self) {
        self.cooling.clear();
    }

    /// After a grace period, and after targets and buckets: empties the rows that were given back.
    pub fn sweep(&mut self, writer: &mut Writer<'_>) {
        self.slots.sweep(|index| {
            let done = writer.write(|maps| maps.set_next_hop(index, RawRow::default()));
            if done {
                self.undead.remove(&index);
            }
            done
        });
    }

    /// Gives back what an earlier agent left and nothing claimed.
    pub fn abandon_leftover(&mut self, writer: &mut Writer<'_>) {
        self.spare.clear();
        for (index, raw) in std::mem::take(&mut self.leftover) {
            self.retire(index, raw, writer);
        }
    }

    /// Whether the row is to be live.
    pub fn wants_live(&self, index: u32) -> bool {
        self.in_use.get(&index).is_some_and(|row| is_live(&row.want))
    }

    /// Whether the map holds the row, live or dead.
    pub fn is_written(&self, index: u32) -> bool {
        self.in_use.get(&index).is_some_and(|row| row.written != RawRow::default())
    }

    /// Whether packets take the row.
    pub fn is_live(&self, index: u32) -> bool {
        self.in_use.get(&index).is_some_and(|row| is_live(&row.written))
    }

    /// Whether the map may hold live rows of this port.
    pub fn lead_to(&self, port: IfIndex) -> bool {
        let by_port = self.by_next_hop.range(all_by(port)).filter_map(|(_, index)| self.in_use.get(index));
        let given_back = self.undead.values().chain(self.leftover.values());
        by_port.map(|row| &row.written).chain(given_back).any(|row| row.ifindex == port && is_live(row))
    }

    /// How many indices rest.
    pub fn resting(&self) -> usize {
        self.slots.resting()
    }

    /// Rows in use, and how many of them are live.
    pub fn count(&self) -> (usize, usize) {
        (self.in_use.len(), self.in_use.values().filter(|row| is_live(&row.written)).count())
    }

    /// Whether packets may take a row that should be another.
    pub fn is_stale(&self) -> bool {
        let live = |index| self.in_use.get(index).is_some_and(|row| is_live(&row.written));
        !self.undead.is_empty() || self.dirty.iter().any(live)
    }

    /// Whether every row is as wanted.
    pub fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.undead.is_empty()
    }

    /// A row for people.
    pub fn view(&self, index: u32) -> Option<RowView> {
        let row = self.in_use.get(&index)?;
        let mac = Some(row.written.destination_mac).filter(|mac| *mac != [0; 6]);
        Some(RowView { index, next_hop: row.next_hop, live: is_live(&row.written), mac })
    }

    /// Next hops in use whose neighbour is not resolved.
    pub fn unresolved(&self) -> impl Iterator<Item = NextHop> {
        self.in_use.values().filter(|row| row.unresolved).map(|row| row.next_hop)
    }
}

/// Next hops by a port.
fn all_by(port: IfIndex) -> RangeInclusive<NextHop> {
    let first = NextHop { port, neighbour: Ipv4Addr::UNSPECIFIED.into(), mtu: 0 };
    let last = NextHop { port, neighbour: Ipv6Addr::from_bits(u128::MAX).into(), mtu: u32::MAX };
    first..=last
}

/// Next hops to a neighbour on a port.
const fn all_to(port: IfIndex, neighbour: IpAddr) -> RangeInclusive<NextHop> {
    NextHop { port, neighbour, mtu: 0 }..=NextHop { port, neighbour, mtu: u32::MAX }
}

/// The rows that a target leads to. Buckets outside of its range are what is left of groups long gone.
fn rows_of<'a>(target: &Target, found: &'a Contents) -> Box<dyn Iterator<Item = u32> + 'a> {
    if target.kind == TargetKind::NextHop as u32 {
        Box::new(std::iter::once(target.index))
    } else if target.kind == TargetKind::Group as u32 {
        let last = target.index.saturating_add(target.mask);
        Box::new(found.buckets.range(target.index..=last).map(|(_, row)| *row))
    } else {
        Box::new(std::iter::empty())
    }
}

/// The content that a row should have, and whether the neighbour is what it lacks. A dead row keeps its
/// addresses: bringing it back is one write.
fn wanted(next_hop: &NextHop, reach: &Reach<'_>, written: &RawRow) -> (RawRow, bool) {
    let row = RawRow { ifindex: next_hop.port, mtu: next_hop.mtu, ..RawRow::default() };
    let dead = RawRow { destination_mac: written.destination_mac, source_mac: written.source_mac, ..row };
    match (reach.resolve)(next_hop) {
        Resolution::Live { destination_mac, source_mac } if reach.egress.contains(&next_hop.port) => {
            (RawRow { state: NEXT_HOP_LIVE, destination_mac, source_mac, ..row }, false)
        }
        Resolution::Live { .. } | Resolution::PortDown => (dead, false),
        Resolution::Unresolved => (dead, true),
    }
}

/// Whether a row that was found can stand for the wanted one without being written.
fn fits(found: &RawRow, want: &RawRow) -> bool {
    found.ifindex == want.ifindex
        && found.mtu == want.mtu
        && is_live(found) == is_live(want)
        && (!is_live(want) || same_macs(found, want))
}
