//! A forwarder that the benchmark attaches and fills itself.

use std::net::IpAddr;

use anyhow::Context;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, DevMap};
use aya::programs::XdpMode;
use aya::{Ebpf, Pod};
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use underpass_common::abi::{self, Control, port_slot};
use underpass_common::bench::NEXT_HOPS;
use underpass_common::fib::{TargetId, VIEW_BITS, lpm_key4, lpm_key6};
use underpass_common::nexthop::{
    NEXT_HOP_LIVE, NextHop, PORT_EGRESS, PORT_INGRESS, PORT_INGRESS6, PORT_TX, Port, SOURCE_ON_LINK,
    SOURCE_VALID, Target, TargetKind,
};

use crate::column::Column;
use crate::object;
use crate::rig::{Path, Rig, next_hop_mac};
use crate::routes::Routes;

/// Row and target of next hop 0; the floor sends everything to this row.
const FIRST: u32 = 1;
/// Target of the network that the frames come from.
const SOURCE_TARGET: TargetId = FIRST + NEXT_HOPS;
/// The view of all ports.
pub const VIEW: u32 = 0;

/// The programs and maps of one column.
pub struct Rival {
    object: Ebpf,
}

impl Rival {
    /// Fills the tables and attaches the program.
    ///
    /// # Errors
    /// A map or a program is refused.
    pub fn start(path: &Path, program: &str, rig: &Rig) -> anyhow::Result<Self> {
        // In the router's namespace: device maps and names of devices belong to one.
        let object = path.router.enter(|| attach(path, program))??;
        let mut rival = Self { object };
        if path.column == Column::LpmTrie {
            fill_trie(&mut rival.object, &rig.routes, path.source.1)?;
        }
        Ok(rival)
    }
}

/// Fills the targets of an object, and its trie with the routes and the frames' source.
///
/// # Errors
/// The kernel refuses.
pub fn fill_trie(object: &mut Ebpf, routes: &Routes, source: IpNet) -> anyhow::Result<()> {
    let mut table = Array::try_from(object::map(object, abi::map::TARGETS)?)?;
    for id in FIRST..SOURCE_TARGET {
        let target = Target { kind: TargetKind::NextHop as u32, index: id, ..Target::default() };
        table.set(id, target, 0)?;
    }
    let row = Target { source_flags: SOURCE_VALID | SOURCE_ON_LINK, ..Target::default() };
    table.set(SOURCE_TARGET, row, 0)?;
    for (prefix, target) in targets(routes).chain([(source, SOURCE_TARGET)]) {
        let length = VIEW_BITS + u32::from(prefix.prefix_len());
        let inserted = match prefix.addr() {
            IpAddr::V4(address) => {
                let key = Key::new(length, lpm_key4(VIEW, address.octets()));
                insert(object, abi::map::FIB4, &key, target)
            }
            IpAddr::V6(address) => {
                let key = Key::new(length, lpm_key6(VIEW, address.octets()));
                insert(object, abi::map::FIB6, &key, target)
            }
        };
        inserted.with_context(|| format!("cannot insert {prefix}"))?;
    }
    Ok(())
}

fn insert<K: Pod>(object: &mut Ebpf, name: &str, key: &Key<K>, target: TargetId) -> anyhow::Result<()> {
    let mut trie = LpmTrie::<_, K, TargetId>::try_from(object::map(object, name)?)?;
    Ok(trie.insert(key, target, 0)?)
}

/// The routes with the targets of their next hops.
pub fn targets(routes: &Routes) -> impl Iterator<Item = (IpNet, TargetId)> {
    routes.with_next_hops().map(|(prefix, number)| (prefix, FIRST + number))
}

/// Loads an object of its own, fills the small tables and attaches the program.
fn attach(path: &Path, name: &str) -> anyhow::Result<Ebpf> {
    let mut object = object::open()?;
    let egress = if_nametoindex(path.egress.as_str())?;
    let ingress = if_nametoindex(path.ingress.as_str())?;
    let control = Control { lease_until: u64::MAX, enabled: 1, flow_seed: 0 };
    Array::try_from(object::map(&mut object, abi::map::CONTROL)?)?.set(0, control, 0)?;
    let mut rows = Array::try_from(object::map(&mut object, abi::map::NEXT_HOPS)?)?;
    for number in 0..NEXT_HOPS {
        let row = NextHop {
            ifindex: egress,
            state: NEXT_HOP_LIVE,
            destination_mac: next_hop_mac(number),
            source_mac: path.egress_mac,
            mtu: 1500,
            reserved: [0; 2],
        };
        rows.set(FIRST + number, row, 0)?;
    }
    let mut devices = DevMap::try_from(object::map(&mut object, abi::map::TX_PORTS)?)?;
    devices.set(port_slot(egress), egress, None, 0)?;
    let mut ports = Array::try_from(object::map(&mut object, abi::map::PORTS)?)?;
    if egress != ingress {
        let flags = PORT_EGRESS;
        let port = Port { ifindex: egress, number: 2, flags, mac: path.egress_mac, ..Port::default() };
        ports.set(port_slot(egress), port, 0)?;
    }
    let flags = PORT_INGRESS | PORT_INGRESS6 | PORT_TX;
    let port = Port { ifindex: ingress, number: 1, flags, mac: path.router_mac, ..Port::default() };
    ports.set(port_slot(ingress), port, 0)?;
    let program = object::load(&mut object, name)?;
    program.attach(&path.ingress, XdpMode::Driver).with_context(|| format!("cannot attach {name}"))?;
    Ok(object)
}
