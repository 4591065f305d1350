//! A small world for the tests: ports, neighbours, a compiled table, and what the program must then do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::IpNet;
use underpass_common::fib::{TargetId, ViewId};
use underpass_common::nexthop::{
    NEXT_HOP_LIVE, NextHop as RawRow, Port as RawPort, SOURCE_ON_LINK, SOURCE_VALID, Target as RawTarget,
    TargetKind,
};
use underpass_common::reason::Reason;

use super::super::{Environment, Outcome, XdpReconciler};
use crate::datapath::PortFacts;
use crate::datapath::maps::{Capacity, Contents, FibMaps, MapError};
use crate::datapath::memory_maps::MemoryMaps;
use crate::fib::compile::FibDelta;
use crate::fib::model::{Fib, Forward, NextHop, Port, Resolution, Source, Target};
use crate::netlink::model::{Delta, IfIndex};

/// Plenty of room.
pub const ROOMY: Capacity = Capacity { prefixes: 1000, targets: 1000, buckets: 8192, next_hops: 1000 };

/// MAC of every port.
const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0xff, 0];

pub fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

pub fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

/// The next hop `10.99.PORT.NEIGHBOUR` on a port.
pub fn hop(port: IfIndex, neighbour: u8) -> NextHop {
    let last_but_one = u8::try_from(port).expect("small");
    NextHop { port, neighbour: Ipv4Addr::new(10, 99, last_but_one, neighbour).into(), mtu: 1500 }
}

/// A target that forwards to hops of equal weight.
pub fn forward(hops: &[NextHop]) -> Target {
    let hops: BTreeSet<_> = hops.iter().map(|hop| (*hop, 1)).collect();
    Target {
        forward: Forward::NextHops(hops.into_iter().collect()),
        source: Source { valid: true, on_link: false, interfaces: BTreeSet::from([3]) },
    }
}

pub fn pass(reason: Reason) -> Target {
    Target { forward: Forward::Pass(reason), source: Source::default() }
}

/// What happens to packets to and from an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub forward: Way,
    pub source_flags: u32,
    pub source_ports: u64,
}

/// What happens to packets to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// No prefix.
    Miss,
    /// Left to the kernel.
    Pass(u32),
    /// No next hop is live.
    Dead,
    /// Port, neighbour's MAC, port's MAC and MTU of the live next hops.
    Forward(BTreeSet<(IfIndex, [u8; 6], [u8; 6], u32)>),
}

impl Meaning {
    const MISS: Self = Self { forward: Way::Miss, source_flags: 0, source_ports: 0 };
}

/// Everything that the reconciler is told.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub fib: Fib,
    pub facts: BTreeMap<IfIndex, PortFacts>,
    pub guarded: BTreeMap<IfIndex, u32>,
    pub resolutions: BTreeMap<NextHop, Resolution>,
}

impl World {
    /// Ports 3, 4 and 5 up and usable, every neighbour resolved, no prefix.
    pub fn new() -> Self {
        let mut world = Self::default();
        for (ifindex, number) in [(3, 1), (4, 2), (5, 3)] {
            world.set_port(ifindex, number, true, 0);
        }
        world
    }

    pub fn set_port(&mut self, ifindex: IfIndex, number: u32, egress: bool, view: ViewId) {
        let facts = PortFacts {
            ifindex,
            name: format!("eth{ifindex}"),
            number,
            attached: true,
            ingress: true,
            egress,
            tx: egress,
            ..PortFacts::default()
        };
        self.facts.insert(ifindex, facts);
        let port = Port {
            mac: PORT_MAC,
            view,
            rp_filter: 0,
            send_redirects: true,
            ingress: true,
            ingress6: true,
            hairpin6: true,
            own_sources: true,
        };
        self.fib.ports.insert(ifindex, port);
    }

    pub fn remove_port(&mut self, ifindex: IfIndex) {
        self.facts.remove(&ifindex);
        self.fib.ports.remove(&ifindex);
    }

    pub fn set(&mut self, prefix: &str, target: Target) {
        self.fib.prefixes.insert((0, net(prefix)), target.into());
    }

    pub fn remove(&mut self, prefix: &str) {
        self.fib.prefixes.remove(&(0, net(prefix)));
    }

    pub fn resolve(&self, next_hop: &NextHop) -> Resolution {
        self.resolutions.get(next_hop).copied().unwrap_or_else(|| live(next_hop))
    }

    pub fn kill(&mut self, next_hop: NextHop) {
        self.resolutions.insert(next_hop, Resolution::Unresolved);
    }

    pub fn revive(&mut self, next_hop: NextHop) {
        self.resolutions.remove(&next_hop);
    }

    pub fn full(&self, xdp: &mut XdpReconciler, maps: &mut impl FibMaps) -> Outcome {
        self.with(|environment| xdp.full(maps, &self.fib, environment))
    }

    /// Applies the changes of these prefixes of view 0.
    pub fn apply(&self, xdp: &mut XdpReconciler, maps: &mut impl FibMaps, prefixes: &[&str]) -> Outcome {
        let delta = FibDelta {
            prefixes: prefixes.iter().map(|prefix| (0, net(prefix))).collect(),
            ..FibDelta::default()
        };
        self.with(|environment| xdp.apply(maps, &self.fib, &delta, environment))
    }

    pub fn refresh(&self, xdp: &mut XdpReconciler, maps: &mut impl FibMaps, hop: &NextHop) -> Outcome {
        let delta = Delta { neighbours: BTreeSet::from([(hop.port, hop.neighbour)]), ..Delta::default() };
        self.with(|environment| xdp.refresh_rows(maps, &delta, environment))
    }

    pub fn with<T>(&self, call: impl FnOnce(Environment<'_>) -> T) -> T {
        call(Environment { ports: &self.facts, guarded: &self.guarded, resolve: &|hop| self.resolve(hop) })
    }

    /// What must happen to packets to and from an address: the naive way.
    pub fn expected(&self, view: ViewId, address: Ipv4Addr) -> Meaning {
        let covering = self
            .fib
            .prefixes
            .iter()
            .filter(|((of, prefix), _)| *of == view && prefix.contains(&std::net::IpAddr::V4(address)));
        let Some((_, target)) = covering.max_by_key(|((_, prefix), _)| prefix.prefix_len()) else {
            return Meaning::MISS;
        };
        let managed =
            |ifindex: &IfIndex| self.facts.get(ifindex).filter(|_| self.fib.ports.contains_key(ifindex));
        let forward = match &target.forward {
            Forward::Pass(reason) => Way::Pass(*reason as u32),
            Forward::NextHops(hops) => {
                let usable: Vec<_> = hops
                    .iter()
                    .filter(|(hop, _)| managed(&hop.port).is_some_and(|facts| facts.egress))
                    .collect();
                let live: BTreeSet<_> = usable
                    .iter()
                    .filter_map(|(hop, _)| match self.resolve(hop) {
                        Resolution::Live { destination_mac, source_mac } => {
                            Some((hop.port, destination_mac, source_mac, hop.mtu))
                        }
                        Resolution::Unresolved | Resolution::PortDown => None,
                    })
                    .collect();
                match (usable.is_empty(), live.is_empty()) {
                    (true, _) => Way::Pass(Reason::EgressNotManaged as u32),
                    (_, true) => Way::Dead,
                    _ => Way::Forward(live),
                }
            }
        };
        let source = &target.source;
        let flag = |set, flag| if set { flag } else { 0 };
        Meaning {
            forward,
            source_flags: flag(source.valid, SOURCE_VALID) | flag(source.on_link, SOURCE_ON_LINK),
            source_ports: source
                .interfaces
                .iter()
                .filter_map(managed)
                .fold(0, |ports, facts| ports | 1 << facts.number),
        }
    }
}

/// The resolution of a neighbour that was never touched.
pub fn live(next_hop: &NextHop) -> Resolution {
    let std::net::IpAddr::V4(address) = next_hop.neighbour else { return Resolution::Unresolved };
    let [.., port, last] = address.octets();
    Resolution::Live { destination_mac: [2, 0, 0, 0, port, last], source_mac: PORT_MAC }
}

/// What the tables say about an address.
pub fn found(maps: &MemoryMaps, view: ViewId, address: Ipv4Addr) -> Meaning {
    let Some((_, id)) = maps.lookup(view, address) else { return Meaning::MISS };
    let target = maps.tables().targets.get(&id).copied().unwrap_or_default();
    let rows: Vec<_> = maps
        .rows_of(&target)
        .into_iter()
        .map(|row| maps.tables().next_hops.get(&row).copied().unwrap_or_default())
        .collect();
    let live: BTreeSet<_> = rows
        .iter()
        .filter(|row| row.state & NEXT_HOP_LIVE != 0)
        .map(|row| (row.ifindex, row.destination_mac, row.source_mac, row.mtu))
        .collect();
    let forward = match (target.kind == TargetKind::Pass as u32, live.is_empty()) {
        (true, _) => Way::Pass(target.index),
        (_, true) => Way::Dead,
        _ => Way::Forward(live),
    };
    Meaning { forward, source_flags: target.source_flags, source_ports: target.source_ports }
}

/// Memory maps that look, after every single write, whether an address has an answer that is neither
/// of the old table nor of the new one.
pub struct Observed<'a> {
    pub maps: &'a mut MemoryMaps,
    pub addresses: &'a [(ViewId, Ipv4Addr)],
    /// What the maps said before, the old table by the new neighbours and ports, and the new table.
    answers: Vec<[Meaning; 3]>,
    pub strays: Vec<String>,
}

impl<'a> Observed<'a> {
    pub fn new(
        maps: &'a mut MemoryMaps,
        old: &World,
        new: &World,
        addresses: &'a [(ViewId, Ipv4Addr)],
    ) -> Self {
        let mut between = new.clone();
        between.fib.prefixes.clone_from(&old.fib.prefixes);
        let answers = addresses.iter().map(|(view, address)| {
            [found(maps, *view, *address), between.expected(*view, *address), new.expected(*view, *address)]
        });
        let answers = answers.collect();
        Self { maps, addresses, answers, strays: Vec::new() }
    }

    fn look(&mut self, result: Result<(), MapError>) -> Result<(), MapError> {
        for (at, (view, address)) in self.addresses.iter().enumerate() {
            let now = found(self.maps, *view, *address);
            let ways = |meaning: &Meaning| match &meaning.forward {
                Way::Forward(ways) => ways.clone(),
                Way::Miss | Way::Pass(_) | Way::Dead => BTreeSet::new(),
            };
            let allowed: BTreeSet<_> = self.answers[at].iter().flat_map(ways).collect();
            if !ways(&now).is_subset(&allowed) {
                let text = format!("view {view}, {address}: {now:?}, allowed {:?}", self.answers[at]);
                self.strays.push(text);
            }
        }
        result
    }
}

impl FibMaps for Observed<'_> {
    fn capacity(&self) -> Capacity {
        self.maps.capacity()
    }
    fn grace_period(&mut self) -> Result<(), MapError> {
        self.maps.grace_period()
    }
    fn set_next_hop(&mut self, index: u32, row: RawRow) -> Result<(), MapError> {
        let result = self.maps.set_next_hop(index, row);
        self.look(result)
    }
    fn set_bucket(&mut self, index: u32, next_hop: u32) -> Result<(), MapError> {
        let result = self.maps.set_bucket(index, next_hop);
        self.look(result)
    }
    fn set_target(&mut self, id: TargetId, target: RawTarget) -> Result<(), MapError> {
        let result = self.maps.set_target(id, target);
        self.look(result)
    }
    fn set_prefix(&mut self, view: ViewId, prefix: IpNet, target: TargetId) -> Result<(), MapError> {
        let result = self.maps.set_prefix(view, prefix, target);
        self.look(result)
    }
    fn delete_prefix(&mut self, view: ViewId, prefix: IpNet) -> Result<(), MapError> {
        let result = self.maps.delete_prefix(view, prefix);
        self.look(result)
    }
    fn set_port(&mut self, port: RawPort) -> Result<(), MapError> {
        self.maps.set_port(port)
    }
    fn clear_port(&mut self, ifindex: IfIndex) -> Result<(), MapError> {
        self.maps.clear_port(ifindex)
    }
    fn set_own(&mut self, word: u32, bits: u64) -> Result<(), MapError> {
        self.maps.set_own(word, bits)
    }
    fn contents(&self) -> Result<Contents, MapError> {
        self.maps.contents()
    }
}
