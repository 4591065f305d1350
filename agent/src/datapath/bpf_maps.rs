//! [`FibMaps`] over the pinned BPF maps.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::xdp::XdpMapError;
use aya::maps::{Array, DevMap, Map, MapData, MapError as AyaError, PerCpuArray};
use ipnet::IpNet;
use underpass_common::abi::{
    BUCKET_ENTRIES, Counter, FIB4_ENTRIES, NEXT_HOP_ENTRIES, TARGET_ENTRIES, map, port_slot,
};
use underpass_common::fib::{TargetId, ViewId};
use underpass_common::nexthop::{NextHop, PORT_EGRESS, Port, Target, TargetKind};

use super::flat::{Refusal, Usage};
use super::growth;
use super::maps::{Capacity, Contents, FibMaps, MapError, PrefixChange};
use super::prefix_table::{Engine, PrefixTable};
use crate::netlink::model::IfIndex;
use crate::sys::barrier;

/// Waited for where the kernel refuses an RCU barrier from user space (`nohz_full`): far longer than a
/// driver may stay in one poll (two ticks, `net.core.netdev_budget_usecs`).
const GRACE_FALLBACK: Duration = Duration::from_millis(200);

/// When this part of the flat table rests, a grace period is waited for.
const RESTING_SHARE: u64 = 8;

/// Returns when no packet is under way any more that was looked up before the call.
pub fn grace_period() {
    if let Err(error) = barrier::synchronize_rcu() {
        tracing::debug!(%error, "no RCU barrier from user space, waiting instead");
        thread::sleep(GRACE_FALLBACK);
    }
}

/// The maps of a loaded object, and its programs.
pub struct BpfMaps {
    ebpf: Ebpf,
    folder: PathBuf,
    ports: Array<MapData, Port>,
    tx_ports: DevMap<MapData>,
    prefixes: PrefixTable,
    targets: Array<MapData, Target>,
    buckets: Array<MapData, u32>,
    next_hops: Array<MapData, NextHop>,
    own: Array<MapData, u64>,
    counters: PerCpuArray<MapData, Counter>,
}

/// A map of the object by name and as type `M`.
///
/// # Errors
/// The object has none of that name, or it is of another type.
pub fn take<M: TryFrom<Map, Error = AyaError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, MapError> {
    let found = ebpf.take_map(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
    found.and_then(|map| M::try_from(map).map_err(io_error)).map_err(|source| MapError {
        map: name,
        operation: "open",
        key: String::new(),
        source,
    })
}

impl BpfMaps {
    /// Takes the tables out of an object that was loaded below `folder`, with the prefixes in `engine`.
    ///
    /// # Errors
    /// A map is missing or of another type.
    pub fn take(mut ebpf: Ebpf, folder: PathBuf, engine: Engine) -> Result<Self, MapError> {
        Ok(Self {
            ports: take(&mut ebpf, map::PORTS)?,
            tx_ports: take(&mut ebpf, map::TX_PORTS)?,
            prefixes: PrefixTable::take(&mut ebpf, engine)?,
            targets: take(&mut ebpf, map::TARGETS)?,
            buckets: take(&mut ebpf, map::BUCKETS)?,
            next_hops: take(&mut ebpf, map::NEXT_HOPS)?,
            own: take(&mut ebpf, map::OWN)?,
            counters: take(&mut ebpf, map::COUNTERS)?,
            ebpf,
            folder,
        })
    }

    /// The programs.
    pub const fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Size and use of the flat table; `None` with another one.
    pub fn usage(&self) -> Option<Usage> {
        match &self.prefixes {
            PrefixTable::Flat(table) => Some(table.usage()),
            PrefixTable::LpmTrie(_) => None,
        }
    }

    /// Makes room in the flat table for so many more prefixes: by a grace period when much of it only rests,
    /// else by a larger size class. `false`: there is none to be had.
    fn make_room(&mut self, more: usize) -> bool {
        let PrefixTable::Flat(table) = &mut self.prefixes else { return false };
        let Usage { capacity, resting, .. } = table.usage();
        if resting >= capacity / RESTING_SHARE {
            grace_period();
            table.rested();
            return true;
        }
        match growth::grow(&self.folder, table, more) {
            Ok((ebpf, copy)) => {
                self.ebpf = ebpf;
                **table = copy;
                true
            }
            Err(problem) => {
                tracing::warn!(%problem, "the prefix table is full and cannot grow");
                false
            }
        }
    }

    /// Makes a change, with more room if need be.
    fn change(&mut self, change: PrefixChange) -> Result<(), MapError> {
        loop {
            match self.prefixes.set(change) {
                Err(error) if error.source.kind() == io::ErrorKind::StorageFull && self.make_room(1) => {}
                result => break result,
            }
        }
    }

    /// Waits for a grace period when much of the flat table rests.
    fn tidy(&mut self) {
        if let PrefixTable::Flat(table) = &mut self.prefixes {
            let Usage { capacity, resting, .. } = table.usage();
            if resting >= capacity / RESTING_SHARE {
                grace_period();
                table.rested();
            }
        }
    }

    /// The counters.
    pub const fn counters(&self) -> &PerCpuArray<MapData, Counter> {
        &self.counters
    }

    /// The port rows that are in use.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn ports(&self) -> Result<Vec<Port>, MapError> {
        let rows = read_array(map::PORTS, &self.ports)?;
        Ok(rows.into_iter().map(|(_, port)| port).collect())
    }

    /// The buckets of the groups: a system call each, and most of the table is never used.
    fn read_buckets<'a>(
        &self,
        targets: impl Iterator<Item = &'a Target>,
    ) -> Result<BTreeMap<u32, u32>, MapError> {
        let mut found = BTreeMap::new();
        for group in targets.filter(|target| target.kind == TargetKind::Group as u32) {
            let end = group.index.saturating_add(group.mask).saturating_add(1).min(BUCKET_ENTRIES);
            for index in group.index..end {
                let row = self.buckets.get(&index, 0);
                let row = row.map_err(|error| failed(map::BUCKETS, "read", index, error))?;
                if row != 0 {
                    found.insert(index, row);
                }
            }
        }
        Ok(found)
    }

    /// The row without `PORT_EGRESS` where the redirect map has forgotten the port: a deleted interface
    /// takes its entry along (`dev_map_notification`), and another may have got its index since.
    fn as_open(&self, mut port: Port) -> Port {
        let open = self.tx_ports.get(port_slot(port.ifindex), 0);
        if !open.is_ok_and(|entry| entry.if_index == port.ifindex) {
            port.flags &= !PORT_EGRESS;
        }
        port
    }
}

impl FibMaps for BpfMaps {
    fn capacity(&self) -> Capacity {
        Capacity {
            prefixes: FIB4_ENTRIES as usize,
            targets: TARGET_ENTRIES,
            buckets: BUCKET_ENTRIES,
            next_hops: NEXT_HOP_ENTRIES,
        }
    }

    fn grace_period(&mut self) -> Result<(), MapError> {
        grace_period();
        if let PrefixTable::Flat(table) = &mut self.prefixes {
            table.rested();
        }
        Ok(())
    }

    fn set_next_hop(&mut self, index: u32, row: NextHop) -> Result<(), MapError> {
        let written = self.next_hops.set(index, row, 0);
        written.map_err(|error| failed(map::NEXT_HOPS, "set", index, error))
    }

    fn set_bucket(&mut self, index: u32, next_hop: u32) -> Result<(), MapError> {
        let written = self.buckets.set(index, next_hop, 0);
        written.map_err(|error| failed(map::BUCKETS, "set", index, error))
    }

    fn set_target(&mut self, id: TargetId, target: Target) -> Result<(), MapError> {
        let written = self.targets.set(id, target, 0);
        written.map_err(|error| failed(map::TARGETS, "set", id, error))
    }

    fn set_prefix(&mut self, view: ViewId, prefix: IpNet, target: TargetId) -> Result<(), MapError> {
        self.change(((view, prefix), Some(target)))
    }

    fn delete_prefix(&mut self, view: ViewId, prefix: IpNet) -> Result<(), MapError> {
        self.change(((view, prefix), None))
    }

    fn set_prefixes(&mut self, changes: &[PrefixChange]) -> Vec<Result<(), MapError>> {
        let mut results: Vec<Result<(), MapError>> = Vec::with_capacity(changes.len());
        if let PrefixTable::Flat(table) = &mut self.prefixes {
            let refused = table.set_whole(changes);
            if refused.is_empty() {
                results.resize_with(changes.len(), || Ok(()));
                self.tidy();
                return results;
            }
            let full = refused.iter().filter(|(_, refusal)| *refusal == Refusal::Full).count();
            if full > 0 && self.make_room(full) {
                // Those that were made already are made again, which changes nothing.
                return self.set_prefixes(changes);
            }
        }
        for change in changes {
            let result = self.change(*change);
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
        results
    }

    fn set_port(&mut self, port: Port) -> Result<(), MapError> {
        let slot = port_slot(port.ifindex);
        let before = self.ports.get(&slot, 0);
        let before = before.map_err(|error| failed(map::PORTS, "read", slot, error))?;
        if before.ifindex != 0 && before.ifindex != port.ifindex {
            let text = format!("the slot belongs to interface {}", before.ifindex);
            let source = io::Error::new(io::ErrorKind::AlreadyExists, text);
            return Err(MapError::new(map::PORTS, "set", port.ifindex, source));
        }
        // Opened before the row says so, closed after it no longer does.
        let egress = port.flags & PORT_EGRESS != 0;
        if egress {
            open_egress(&mut self.tx_ports, slot, port.ifindex)?;
        }
        let written = self.ports.set(slot, port, 0);
        written.map_err(|error| failed(map::PORTS, "set", port.ifindex, error))?;
        if !egress {
            close_egress(&mut self.tx_ports, slot)?;
        }
        Ok(())
    }

    fn clear_port(&mut self, ifindex: IfIndex) -> Result<(), MapError> {
        let slot = port_slot(ifindex);
        let before = self.ports.get(&slot, 0);
        let before = before.map_err(|error| failed(map::PORTS, "read", slot, error))?;
        if before.ifindex != ifindex {
            return Ok(());
        }
        let written = self.ports.set(slot, Port::default(), 0);
        written.map_err(|error| failed(map::PORTS, "clear", ifindex, error))?;
        close_egress(&mut self.tx_ports, slot)
    }

    fn set_own(&mut self, word: u32, bits: u64) -> Result<(), MapError> {
        let written = self.own.set(word, bits, 0);
        written.map_err(|error| failed(map::OWN, "set", word, error))
    }

    fn contents(&self) -> Result<Contents, MapError> {
        let targets: BTreeMap<_, _> = read_array(map::TARGETS, &self.targets)?.into_iter().collect();
        let mut contents = Contents {
            buckets: self.read_buckets(targets.values())?,
            targets,
            next_hops: read_array(map::NEXT_HOPS, &self.next_hops)?.into_iter().collect(),
            own: read_array(map::OWN, &self.own)?.into_iter().collect(),
            ports: self.ports()?.into_iter().map(|port| (port.ifindex, self.as_open(port))).collect(),
            ..Contents::default()
        };
        self.prefixes.read(&mut contents)?;
        Ok(contents)
    }
}

/// The device map forgets a deleted interface by itself, and one of the same index would have to be
/// entered again: so it is always written.
fn open_egress(map: &mut DevMap<MapData>, slot: u32, ifindex: IfIndex) -> Result<(), MapError> {
    map.set(slot, ifindex, None, 0).map_err(|error| {
        let source = match error {
            XdpMapError::MapError(error) => io_error(error),
            other @ XdpMapError::ChainedProgramNotSupported => io::Error::other(other),
        };
        MapError::new(map::TX_PORTS, "set", ifindex, source)
    })
}

/// Writing interface 0 empties the slot (`dev_map_update_elem`).
fn close_egress(map: &mut DevMap<MapData>, slot: u32) -> Result<(), MapError> {
    if map.get(slot, 0).is_err() {
        return Ok(());
    }
    open_egress(map, slot, 0)
}

/// The elements of an array that are not all zero.
fn read_array<V: aya::Pod + Default + PartialEq>(
    name: &'static str,
    array: &Array<MapData, V>,
) -> Result<Vec<(u32, V)>, MapError> {
    let mut found = Vec::new();
    for index in 0..array.len() {
        let value = array.get(&index, 0).map_err(|error| failed(name, "read", index, error))?;
        if value != V::default() {
            found.push((index, value));
        }
    }
    Ok(found)
}

/// A missing key is what a removal leads to.
///
/// # Errors
/// Any other error.
pub fn missing_is_fine(result: Result<(), AyaError>) -> Result<(), AyaError> {
    match result {
        Err(AyaError::KeyNotFound) => Ok(()),
        Err(AyaError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// An error of the loader crate as one of a map.
pub fn failed(map: &'static str, operation: &'static str, key: impl ToString, error: AyaError) -> MapError {
    MapError::new(map, operation, key, io_error(error))
}

/// The kernel's answer inside the loader crate's error.
fn io_error(error: AyaError) -> io::Error {
    match error {
        AyaError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
