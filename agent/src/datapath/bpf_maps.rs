//! [`FibMaps`] over the pinned BPF maps.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::XdpMapError;
use aya::maps::{Array, DevMap, Map, MapData, MapError as AyaError, PerCpuArray};
use ipnet::{IpNet, Ipv4Net};
use underpass_common::abi::{
    BUCKET_ENTRIES, Counter, FIB4_ENTRIES, NEXT_HOP_ENTRIES, TARGET_ENTRIES, map, port_slot,
};
use underpass_common::fib::{TargetId, VIEW_BITS, ViewId, lpm_key4};
use underpass_common::nexthop::{NextHop, PORT_EGRESS, Port, Target, TargetKind};

use super::maps::{Capacity, Contents, FibMaps, MapError};
use crate::netlink::model::IfIndex;
use crate::sys::barrier;

/// Waited for where the kernel refuses an RCU barrier from user space (`nohz_full`): far longer than a
/// driver may stay in one poll (two ticks, `net.core.netdev_budget_usecs`).
const GRACE_FALLBACK: Duration = Duration::from_millis(200);

/// The maps of a loaded object.
pub struct BpfMaps {
    ports: Array<MapData, Port>,
    tx_ports: DevMap<MapData>,
    fib4: LpmTrie<MapData, [u8; 8], TargetId>,
    targets: Array<MapData, Target>,
    buckets: Array<MapData, u32>,
    next_hops: Array<MapData, NextHop>,
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
    /// Takes the tables out of a loaded object.
    ///
    /// # Errors
    /// A map is missing or of another type.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            ports: take(ebpf, map::PORTS)?,
            tx_ports: take(ebpf, map::TX_PORTS)?,
            fib4: take(ebpf, map::FIB4)?,
            targets: take(ebpf, map::TARGETS)?,
            buckets: take(ebpf, map::BUCKETS)?,
            next_hops: take(ebpf, map::NEXT_HOPS)?,
            counters: take(ebpf, map::COUNTERS)?,
        })
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

    fn read_prefixes(&self, contents: &mut Contents) -> Result<(), MapError> {
        for entry in &self.fib4 {
            let (key, target) = entry.map_err(|error| failed(map::FIB4, "read", "all", error))?;
            let data = key.data();
            let view = ViewId::from_be_bytes([data[0], data[1], data[2], data[3]]);
            let address = Ipv4Addr::new(data[4], data[5], data[6], data[7]);
            let length = u8::try_from(key.prefix_len().saturating_sub(VIEW_BITS)).unwrap_or(u8::MAX);
            // A key shorter than the view or longer than an address was never written by us.
            if let Ok(prefix) = Ipv4Net::new(address, length) {
                contents.prefixes.insert((view, IpNet::V4(prefix)), target);
            }
        }
        Ok(())
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
        if let Err(error) = barrier::synchronize_rcu() {
            tracing::debug!(%error, "no RCU barrier from user space, waiting instead");
            thread::sleep(GRACE_FALLBACK);
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
        let key = lpm_key(view, prefix).map_err(|source| MapError::new(map::FIB4, "set", prefix, source))?;
        let written = self.fib4.insert(&key, target, 0);
        written.map_err(|error| failed(map::FIB4, "set", prefix, error))
    }

    fn delete_prefix(&mut self, view: ViewId, prefix: IpNet) -> Result<(), MapError> {
        let Ok(key) = lpm_key(view, prefix) else { return Ok(()) };
        missing_is_fine(self.fib4.remove(&key)).map_err(|error| failed(map::FIB4, "delete", prefix, error))
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

    fn contents(&self) -> Result<Contents, MapError> {
        let targets: BTreeMap<_, _> = read_array(map::TARGETS, &self.targets)?.into_iter().collect();
        let mut contents = Contents {
            buckets: self.read_buckets(targets.values())?,
            targets,
            next_hops: read_array(map::NEXT_HOPS, &self.next_hops)?.into_iter().collect(),
            ports: self.ports()?.into_iter().map(|port| (port.ifindex, self.as_open(port))).collect(),
            ..Contents::default()
        };
        self.read_prefixes(&mut contents)?;
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

fn lpm_key(view: ViewId, prefix: IpNet) -> Result<Key<[u8; 8]>, io::Error> {
    match (prefix.addr(), prefix.prefix_len()) {
        (IpAddr::V4(address), length) => {
            Ok(Key::new(VIEW_BITS + u32::from(length), lpm_key4(view, address.octets())))
        }
        (IpAddr::V6(_), _) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the LPM engine holds IPv4 only"))
        }
    }
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

fn missing_is_fine(result: Result<(), AyaError>) -> Result<(), AyaError> {
    match result {
        Err(AyaError::KeyNotFound) => Ok(()),
        Err(AyaError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn failed(map: &'static str, operation: &'static str, key: impl ToString, error: AyaError) -> MapError {
    MapError::new(map, operation, key, io_error(error))
}

/// The kernel's answer inside the loader crate's error.
fn io_error(error: AyaError) -> io::Error {
    match error {
        AyaError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
