//! [`FibMaps`] in memory, which also checks each operation against what a packet under way may read.
//!
//! The tables behave as the BPF maps do. A wrong order of operations, harmless-looking because no
//! packet happens to be there, is written down in [`MemoryMaps::violations`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::fib::{TargetId, ViewId};
use underpass_common::nexthop::{NEXT_HOP_LIVE, NextHop, PORT_EGRESS, PORT_TX, Port, Target, TargetKind};

use super::maps::{Capacity, Contents, FibMaps, MapError};
use crate::netlink::model::IfIndex;

/// What packets that were looked up since the last grace period may still read.
#[derive(Clone, Debug, Default)]
struct Hot {
    /// Forwarding targets that a prefix pointed to.
    targets: BTreeMap<TargetId, Target>,
    /// Rows that such a target led to.
    rows: BTreeSet<u32>,
    /// Those that were live, with their content.
    live: BTreeMap<u32, NextHop>,
}

/// Tables in memory.
#[derive(Clone, Debug)]
pub struct MemoryMaps {
    capacity: Capacity,
    contents: Contents,
    references: BTreeMap<TargetId, usize>,
    hot: Hot,
    violations: Vec<String>,
    writes: usize,
    grace_periods: usize,
    fail_every: Option<usize>,
}

impl MemoryMaps {
    /// Empty tables.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            contents: Contents::default(),
            references: BTreeMap::new(),
            hot: Hot::default(),
            violations: Vec::new(),
            writes: 0,
            grace_periods: 0,
            fail_every: None,
        }
    }

    /// Operations that could have misled a packet, in words.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Write operations so far, failed ones included.
    pub const fn writes(&self) -> usize {
        self.writes
    }

    /// Grace periods so far.
    pub const fn grace_periods(&self) -> usize {
        self.grace_periods
    }

    /// Makes every n-th write operation fail (`None`: none).
    pub const fn fail_every(&mut self, n: Option<usize>) {
        self.fail_every = n;
    }

    /// The tables.
    pub const fn tables(&self) -> &Contents {
        &self.contents
    }

    /// The longest prefix of `view` that covers `address`, as the program finds it.
    pub fn lookup(&self, view: ViewId, address: impl Into<IpAddr>) -> Option<(IpNet, TargetId)> {
        let mut around = Some(IpNet::from(address.into()));
        while let Some(prefix) = around {
            if let Some(target) = self.contents.prefixes.get(&(view, prefix)) {
                return Some((prefix, *target));
            }
            around = prefix.supernet();
        }
        None
    }

    /// Rows that a target leads to, in the order of its buckets.
    pub fn rows_of(&self, target: &Target) -> Vec<u32> {
        if target.kind == TargetKind::NextHop as u32 {
            return vec![target.index];
        }
        if target.kind != TargetKind::Group as u32 {
            return Vec::new();
        }
        let last = target.index.saturating_add(target.mask);
        (target.index..=last).map(|index| self.contents.buckets.get(&index).copied().unwrap_or(0)).collect()
    }

    fn begin(
        &mut self,
        map: &'static str,
        operation: &'static str,
        key: impl ToString,
    ) -> Result<(), MapError> {
        self.writes += 1;
        if self.fail_every.is_some_and(|n| self.writes.is_multiple_of(n)) {
            let source = io::Error::from_raw_os_error(libc::ENOMEM);
            return Err(MapError::new(map, operation, key, source));
        }
        Ok(())
    }

    fn check(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(format!("write {}: {}", self.writes, message()));
        }
    }

    /// Notes that packets can now reach `id`.
    fn touch_target(&mut self, id: TargetId) {
        let Some(target) = self.contents.targets.get(&id).copied() else { return };
        if !self.is_referenced(id) || target.kind == TargetKind::Pass as u32 {
            return;
        }
        self.hot.targets.insert(id, target);
        for row in self.rows_of(&target) {
            self.touch_row(row);
        }
    }

    fn touch_row(&mut self, index: u32) {
        self.hot.rows.insert(index);
        if let Some(row) = self.contents.next_hops.get(&index)
            && row.state & NEXT_HOP_LIVE != 0
        {
            self.hot.live.insert(index, *row);
        }
    }

    fn reference(&mut self, id: TargetId, change: isize) {
        let count = self.references.entry(id).or_default();
        *count = count.saturating_add_signed(change);
    }

    fn is_referenced(&self, id: TargetId) -> bool {
        self.references.get(&id).is_some_and(|count| *count > 0)
    }

    /// Groups that a prefix points to, or that are hot, whose range holds the bucket.
    fn groups_with(&self, bucket: u32) -> Vec<(TargetId, Target, bool)> {
        let holds = |target: &Target| {
            target.kind == TargetKind::Group as u32
                && (target.index..=target.index.saturating_add(target.mask)).contains(&bucket)
        };
        let table = self.contents.targets.iter().filter(|(id, _)| self.is_referenced(**id));
        let table = table.map(|(id, target)| (*id, *target, false));
        let hot = self.hot.targets.iter().map(|(id, target)| (*id, *target, true));
        table.chain(hot).filter(|(_, target, _)| holds(target)).collect()
    }

    fn row_in_use(&self, index: u32) -> bool {
        let targets = self.contents.targets.iter().filter(|(id, _)| self.is_referenced(**id));
        targets.into_iter().any(|(_, target)| self.rows_of(target).contains(&index))
    }

    fn check_target(&mut self, id: TargetId, target: &Target) {
        let set = |maps: &Self, row: u32| row != 0 && maps.contents.next_hops.contains_key(&row);
        if target.kind == TargetKind::NextHop as u32 {
            let fine = set(self, target.index);
            self.check(fine, || format!("target {id} leads to the empty row {}", target.index));
        }
        if target.kind == TargetKind::Group as u32 {
            let range = u64::from(target.index) + u64::from(target.mask);
            let fits =
                range < u64::from(self.capacity.buckets) && (target.mask.wrapping_add(1)).is_power_of_two();
            self.check(fits, || format!("target {id} has a bad bucket range {target:?}"));
            if !fits {
                return;
            }
            let empty = self.rows_of(target).into_iter().find(|row| !set(self, *row));
            self.check(empty.is_none(), || format!("target {id} leads to the empty row {empty:?}"));
            let last = target.index + target.mask;
            let other = (target.index..=last)
                .flat_map(|bucket| self.groups_with(bucket))
                .find(|(other, ..)| *other != id);
            self.check(other.is_none(), || format!("target {id} shares buckets with {other:?}"));
        }
        if let Some(hot) = self.hot.targets.get(&id).copied() {
            let same = hot.index == target.index && hot.mask == target.mask;
            let kind = target.kind == hot.kind || target.kind == TargetKind::Pass as u32;
            self.check(same && kind, || {
                format!("target {id} turns from {hot:?} into {target:?} under packets")
            });
        }
    }
}

impl FibMaps for MemoryMaps {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn grace_period(&mut self) -> Result<(), MapError> {
        self.grace_periods += 1;
        self.hot = Hot::default();
        for id in self.contents.targets.keys().copied().collect::<Vec<_>>() {
            self.touch_target(id);
        }
        Ok(())
    }

    fn set_next_hop(&mut self, index: u32, row: NextHop) -> Result<(), MapError> {
        self.begin("next hops", "set", index)?;
        if index >= self.capacity.next_hops {
            return Err(out_of_range("next hops", index));
        }
        self.check(index != 0, || "row 0 is written".to_owned());
        if let Some(hot) = self.hot.live.get(&index).copied() {
            let frozen = NextHop { state: row.state, ..hot };
            self.check(row == frozen, || {
                format!("row {index} turns from {hot:?} into {row:?} under packets")
            });
        }
        if row == NextHop::default() {
            let used = self.row_in_use(index) || self.hot.rows.contains(&index);
            self.check(!used, || format!("row {index} is freed in use"));
            self.contents.next_hops.remove(&index);
            return Ok(());
        }
        if row.state & NEXT_HOP_LIVE != 0 {
            let port = self.contents.ports.get(&row.ifindex);
            let open = port.is_some_and(|port| port.flags & (PORT_EGRESS | PORT_TX) != 0);
            self.check(open, || format!("row {index} is live on the closed port {}", row.ifindex));
        }
        self.contents.next_hops.insert(index, row);
        if self.hot.rows.contains(&index) {
            self.touch_row(index);
        }
        Ok(())
    }

    fn set_bucket(&mut self, index: u32, next_hop: u32) -> Result<(), MapError> {
        self.begin("buckets", "set", index)?;
        if index >= self.capacity.buckets {
            return Err(out_of_range("buckets", index));
        }
        let groups = self.groups_with(index);
        for (id, target, _) in groups.iter().filter(|(.., hot)| *hot) {
            let now = self.contents.targets.get(id).copied().unwrap_or_default();
            let current = now.index == target.index && now.mask == target.mask;
            self.check(current, || format!("bucket {index} of the abandoned target {id} is written"));
        }
        if next_hop == 0 {
            self.check(groups.is_empty(), || format!("bucket {index} is emptied in use: {groups:?}"));
            self.contents.buckets.remove(&index);
            return Ok(());
        }
        let set = self.contents.next_hops.contains_key(&next_hop);
        self.check(set, || format!("bucket {index} leads to the empty row {next_hop}"));
        self.contents.buckets.insert(index, next_hop);
        if groups.iter().any(|(.., hot)| *hot) {
            self.touch_row(next_hop);
        }
        Ok(())
    }

    fn set_target(&mut self, id: TargetId, target: Target) -> Result<(), MapError> {
        self.begin("targets", "set", id)?;
        if id >= self.capacity.targets {
            return Err(out_of_range("targets", id));
        }
        let pass = target.kind == TargetKind::Pass as u32;
        self.check(id != 0 || pass, || format!("target 0 becomes {target:?}"));
        self.check_target(id, &target);
        if target == Target::default() {
            let used = self.is_referenced(id) || self.hot.targets.contains_key(&id);
            self.check(!used, || format!("target {id} is freed in use"));
            self.contents.targets.remove(&id);
            return Ok(());
        }
        self.contents.targets.insert(id, target);
        self.touch_target(id);
        Ok(())
    }

    fn set_prefix(&mut self, view: ViewId, prefix: IpNet, target: TargetId) -> Result<(), MapError> {
        self.begin("prefixes", "set", prefix)?;
        let known = self.contents.targets.contains_key(&target);
        self.check(known, || format!("{prefix} points to the empty target {target}"));
        let key = (view, prefix.trunc());
        let full = self.contents.prefixes.len() >= self.capacity.prefixes;
        if full && !self.contents.prefixes.contains_key(&key) {
            let source = io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(MapError::new("prefixes", "set", prefix, source));
        }
        if let Some(before) = self.contents.prefixes.insert(key, target) {
            self.reference(before, -1);
        }
        self.reference(target, 1);
        self.touch_target(target);
        Ok(())
    }

    fn delete_prefix(&mut self, view: ViewId, prefix: IpNet) -> Result<(), MapError> {
        self.begin("prefixes", "delete", prefix)?;
        if let Some(before) = self.contents.prefixes.remove(&(view, prefix.trunc())) {
            self.reference(before, -1);
        }
        Ok(())
    }

    fn set_port(&mut self, port: Port) -> Result<(), MapError> {
        self.begin("ports", "set", port.ifindex)?;
        if port.flags & (PORT_EGRESS | PORT_TX) == 0 {
            self.check_closing(port.ifindex);
        }
        self.contents.ports.insert(port.ifindex, port);
        Ok(())
    }

    fn clear_port(&mut self, ifindex: IfIndex) -> Result<(), MapError> {
        self.begin("ports", "clear", ifindex)?;
        self.check_closing(ifindex);
        self.contents.ports.remove(&ifindex);
        Ok(())
    }

    fn set_own(&mut self, word: u32, bits: u64) -> Result<(), MapError> {
        self.begin("own addresses", "set", word)?;
        self.contents.own.insert(word, bits);
        self.contents.own.retain(|_, bits| *bits != 0);
        Ok(())
    }

    fn contents(&self) -> Result<Contents, MapError> {
        Ok(self.contents.clone())
    }
}

impl MemoryMaps {
    fn check_closing(&mut self, ifindex: IfIndex) {
        let live = self
            .contents
            .next_hops
            .iter()
            .filter(|(index, _)| self.hot.rows.contains(index))
            .find(|(_, row)| row.ifindex == ifindex && row.state & NEXT_HOP_LIVE != 0)
            .map(|(index, _)| *index);
        self.check(live.is_none(), || format!("port {ifindex} is closed under the live row {live:?}"));
    }
}

fn out_of_range(map: &'static str, index: u32) -> MapError {
    MapError::new(map, "set", index, io::Error::from_raw_os_error(libc::E2BIG))
}

#[cfg(test)]
mod tests;
