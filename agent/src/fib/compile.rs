//! The kernel's rule walk and route lookup, compiled into prefixes and targets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use glob_match::glob_match;
use ipnet::IpNet;
use underpass_common::fib::ViewId;

use super::model::{CompileConfig, Fib, Port, Target};
use super::own::Own;
use super::ranges::Ranges;
pub use super::resolve::resolve;
use super::resolve::usable_mac;
use super::rules::{Ingress, Tables, Walk};
use super::shared::SharedTargets;
use super::table::Table;
use super::target::{Context, Mtu, host};
use crate::netlink::model::{Delta, Family, IfIndex, Link, Rule, State};
use crate::prefix_map::{PrefixSet, ViewSet};

/// `IPV6_MIN_MTU`: an interface with less does no IPv6.
const IPV6_MIN_MTU: u32 = 1280;

/// What an update changed in the [`Fib`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FibDelta {
    /// Compiled from scratch: anything may differ, the other fields are empty.
    pub full: bool,
    /// Ports whose row changed.
    pub ports: BTreeSet<IfIndex>,
    /// Prefixes that were added, changed or removed.
    pub prefixes: ViewSet,
}

/// Keeps a [`Fib`] in step with a [`State`].
#[derive(Debug)]
pub struct Compiler {
    config: CompileConfig,
    ranges: Ranges,
    /// Managed ports as they were compiled.
    managed: BTreeMap<IfIndex, Managed>,
    /// The managed ports that packets may leave by.
    egress: BTreeMap<IfIndex, Mtu>,
    /// Walk of each view.
    walks: BTreeMap<ViewId, Walk>,
    /// The tables that the walks refer to.
    tables: Tables,
    own: Own,
    /// Boundaries that only a full compile changes: ranges and selectors.
    fixed: PrefixSet,
    /// Resolved neighbours on managed ports: boundaries, too.
    hosts: PrefixSet,
    /// Whether there was a full compile.
    compiled: bool,
    targets: SharedTargets,
    fib: Fib,
}

/// What a full compile took from a managed port's link.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Managed {
    name: String,
    enslaved: bool,
}

impl Compiler {
    /// A compiler with an empty table; the first [`Self::update`] compiles everything.
    pub fn new(config: CompileConfig) -> Self {
        Self {
            ranges: Ranges::new(&config),
            config,
            managed: BTreeMap::new(),
            egress: BTreeMap::new(),
            walks: BTreeMap::new(),
            tables: Tables::new(),
            own: Own::default(),
            fixed: PrefixSet::new(),
            hosts: PrefixSet::new(),
            compiled: false,
            targets: SharedTargets::default(),
            fib: Fib::default(),
        }
    }

    /// The compiled table.
    pub const fn fib(&self) -> &Fib {
        &self.fib
    }

    /// Brings the table up to date with `state`, of which `delta` changed since the last call.
    pub fn update(&mut self, state: &State, delta: &Delta) -> FibDelta {
        let replugged = |&index| self.managed.get(&index) != self.manage(index, state).as_ref();
        let partial = self.compiled && !delta.full && !delta.interfaces.iter().any(replugged);
        if !partial || !self.refresh_own(delta, state) {
            self.compile(state);
            self.compiled = true;
            return FibDelta { full: true, ..FibDelta::default() };
        }
        let mut changes = FibDelta::default();
        let mut dirty = self.refresh_interfaces(&delta.interfaces, state, &mut changes);
        self.refresh_tables(delta, state, &mut dirty);
        let hosts = delta.neighbours.iter().filter(|(index, _)| self.egress.contains_key(index));
        dirty.extend(hosts.map(|&(_, address)| IpNet::from(address)));
        self.refresh_targets(&dirty, state, &mut changes);
        changes
    }

    /// Compiles everything.
    fn compile(&mut self, state: &State) {
        self.managed =
            state.links.keys().filter_map(|&index| Some((index, self.manage(index, state)?))).collect();
        self.egress =
            self.managed.keys().filter_map(|&index| Some((index, self.egress_mtu(index, state)?))).collect();
        let views = self.assign_views(state);
        self.tables =
            self.walks.values().flat_map(Walk::tables).map(|id| (id, Table::new(id, state))).collect();
        self.fixed = self.ranges.prefixes().chain(self.walks.values().flat_map(Walk::destinations)).collect();
        let resolved = state.neighbours.values().filter(|neighbour| usable_mac(neighbour).is_some());
        let hosts = resolved.filter(|neighbour| self.egress.contains_key(&neighbour.ifindex));
        self.hosts = hosts.map(|neighbour| IpNet::from(neighbour.address)).collect();

        self.own = Own::new(state);
        self.fib.own = self.own.filter();
        let all = self.own.is_all();
        let ports =
            views.into_iter().filter_map(|(index, view)| Some((index, port(index, view, all, state)?)));
        self.fib.ports = ports.collect();
        let mut boundaries: PrefixSet = self.tables.values().flat_map(Table::prefixes).collect();
        boundaries.extend(self.fixed.iter().chain(self.hosts.iter()));
        let mut shared = std::mem::take(&mut self.targets);
        shared.forget_routes();
        let views = self.walks.keys();
        let all = views.flat_map(|&view| boundaries.iter().map(move |prefix| (view, prefix)));
        let targets = all.filter_map(|key| Some((key, self.target(key, state, &mut shared)?)));
        self.fib.prefixes = targets.collect();
        self.targets = shared;
    }

    /// Gives every managed port a view. A walk that already has an id keeps it; a new one never takes
    /// an id that is in use, so that a port can be moved to its new view in one step.
    fn assign_views(&mut self, state: &State) -> BTreeMap<IfIndex, ViewId> {
        let before = std::mem::take(&mut self.walks);
        let mut views = BTreeMap::new();
        for (&ifindex, managed) in &self.managed {
            let ingress = Ingress { name: &managed.name, enslaved: managed.enslaved };
            let walk = Walk::new(&state.rules, ingress);
            let known =
                self.walks.iter().chain(&before).find(|(_, known)| **known == walk).map(|(&view, _)| view);
            let view = known.unwrap_or_else(|| {
                let used = |view: &ViewId| before.contains_key(view) || self.walks.contains_key(view);
                (0..=ViewId::MAX).find(|view| !used(view)).unwrap_or_default()
            });
            self.walks.insert(view, walk);
            views.insert(ifindex, view);
        }
        views
    }

    /// Brings own addresses up to date. `false`: they now concern all ports, which a full compile looks at.
    fn refresh_own(&mut self, delta: &Delta, state: &State) -> bool {
        let before = self.own.is_all();
        if self.own.refresh(delta, state) {
            self.fib.own = self.own.filter();
        }
        self.own.is_all() == before
    }

    /// Brings port rows up to date. Gives the prefixes that lead out by a port whose MTU changed.
    fn refresh_interfaces(
        &mut self,
        interfaces: &BTreeSet<IfIndex>,
        state: &State,
        changes: &mut FibDelta,
    ) -> PrefixSet {
        let mut dirty = PrefixSet::new();
        for &index in interfaces {
            let Some(view) = self.fib.ports.get(&index).map(|port| port.view) else { continue };
            if let Some(port) = port(index, view, self.own.is_all(), state)
                && self.fib.ports.insert(index, port.clone()) != Some(port)
            {
                changes.ports.insert(index);
            }
            let mtu = self.egress_mtu(index, state);
            if self.egress.get(&index).copied() != mtu {
                match mtu {
                    Some(mtu) => self.egress.insert(index, mtu),
                    None => self.egress.remove(&index),
                };
                dirty.extend(self.tables.values().flat_map(|table| table.prefixes_by(index)));
            }
        }
        dirty
    }

    /// Reads prefixes again. Adds those whose answer changed in any table.
    fn refresh_tables(&mut self, delta: &Delta, state: &State, dirty: &mut PrefixSet) {
        let tables = &mut self.tables;
        let mut refresh = |prefix: IpNet| {
            // Not `any`: every table has to be read.
            tables.iter_mut().fold(false, |changed, (&id, table)| table.refresh(id, prefix, state) || changed)
        };
        dirty.extend(delta.prefixes.iter().filter(|&prefix| refresh(prefix)));
    }

    /// Computes the targets of these prefixes, and of all boundaries inside of them, again.
    fn refresh_targets(&mut self, dirty: &PrefixSet, state: &State, changes: &mut FibDelta) {
        for prefix in dirty.iter().filter(|prefix| host(prefix).is_some()) {
            if self.is_host(&prefix, state) {
                self.hosts.insert(prefix);
            } else {
                self.hosts.remove(&prefix);
            }
        }
        let views: Vec<ViewId> = self.walks.keys().copied().collect();
        let mut shared = std::mem::take(&mut self.targets);
        shared.forget_routes();
        let mut done: Option<IpNet> = None;
        let mut concerned = Vec::new();
        for prefix in dirty.iter() {
            // A covering prefix comes before what it covers.
            if done.is_some_and(|done| done.contains(&prefix)) {
                continue;
            }
            done = Some(prefix);
            concerned.clear();
            concerned.extend(dirty.inside(&prefix));
            self.add_boundaries(&prefix, &mut concerned);
            for &prefix in &concerned {
                let is_boundary = self.is_boundary(&prefix) || self.hosts.contains(&prefix);
                for key in views.iter().map(|&view| (view, prefix)) {
                    let target = if is_boundary { self.target(key, state, &mut shared) } else { None };
                    self.set_target(key, target, changes);
                }
            }
        }
        self.targets = shared;
    }

    /// Adds the boundaries inside of `prefix` to those in `found`, each once and in order.
    fn add_boundaries(&self, prefix: &IpNet, found: &mut Vec<IpNet>) {
        found.extend(self.fixed.inside(prefix));
        found.extend(self.hosts.inside(prefix));
        found.extend(self.tables.values().flat_map(|table| table.inside(prefix)));
        // Stable: a few runs that are in order already.
        found.sort();
        found.dedup();
    }

    /// Takes over the target of a prefix.
    fn set_target(&mut self, key: (ViewId, IpNet), target: Option<Arc<Target>>, changes: &mut FibDelta) {
        match (target, self.fib.prefixes.get_mut(&key)) {
            (None, None) => return,
            (Some(target), Some(known)) if *known == target => return,
            (Some(target), Some(known)) => *known = target,
            (Some(target), None) => {
                self.fib.prefixes.insert(key, target);
            }
            (None, Some(_)) => {
                self.fib.prefixes.remove(&key);
            }
        }
        changes.prefixes.insert(key, ());
    }

    /// The target of a boundary in a view, or `None` when the view answers there as it does around it.
    fn target(
        &self,
        (view, prefix): (ViewId, IpNet),
        state: &State,
        shared: &mut SharedTargets,
    ) -> Option<Arc<Target>> {
        let walk = self.walks.get(&view)?;
        let context = Context { ports: &self.egress, ranges: &self.ranges, state };
        let in_tables =
            walk.tables().any(|id| self.tables.get(&id).is_some_and(|table| table.contains(&prefix)));
        let target = shared.of(&prefix, walk.verdict(&prefix, &self.tables), context);
        let is_host_entry = || target.is_forwarded() && host(&prefix).is_some();
        (in_tables || self.fixed.contains(&prefix) || is_host_entry()).then_some(target)
    }

    /// Whether answers change at `prefix` for another reason than a neighbour.
    fn is_boundary(&self, prefix: &IpNet) -> bool {
        self.fixed.contains(prefix) || self.tables.values().any(|table| table.contains(prefix))
    }

    /// Whether `prefix` is a resolved neighbour on a managed port.
    fn is_host(&self, prefix: &IpNet, state: &State) -> bool {
        let resolved = |host: IpAddr| {
            self.egress.keys().any(|&port| state.neighbours.get(&(port, host)).and_then(usable_mac).is_some())
        };
        host(prefix).is_some_and(resolved)
    }

    /// What makes a link a managed port, or `None` when it is none.
    fn manage(&self, index: IfIndex, state: &State) -> Option<Managed> {
        let link = state.links.get(&index)?;
        let managed = link.mac.is_some()
            && !link.loopback
            && self.config.ports.iter().any(|pattern| glob_match(pattern, &link.name));
        managed.then(|| Managed { name: link.name.clone(), enslaved: link.master.is_some() })
    }

    /// MTU of a port that packets may leave by; what is a port of something else does not route.
    fn egress_mtu(&self, index: IfIndex, state: &State) -> Option<Mtu> {
        let link = state.links.get(&index).filter(|link| link.master.is_none())?;
        let conf = state.ipv6_conf.get(&index).filter(|conf| conf.forwarding);
        let mtu = Mtu { ipv4: link.mtu, ipv6: conf.map(|conf| conf.mtu.min(link.mtu)) };
        self.managed.contains_key(&index).then_some(mtu)
    }
}

/// A port's row. `all_own`: as [`Own::is_all`].
fn port(index: IfIndex, view: ViewId, all_own: bool, state: &State) -> Option<Port> {
    let link = state.links.get(&index)?;
    let conf = state.ipv4_conf.get(&index).copied().unwrap_or_default();
    let mac = link.mac?;
    let ingress = conf.forwarding && routes(link);
    let conf6 = state.ipv6_conf.get(&index).copied().unwrap_or_default();
    let ingress6 = conf6.forwarding && routes(link) && link.mtu >= IPV6_MIN_MTU;
    let names_interface = |rule: &Rule| {
        rule.family == Family::Ipv6 && (rule.input_interface.is_some() || rule.output_interface.is_some())
    };
    let hairpin6 = !state.rules.iter().any(names_interface);
    let rp_filter = rp_filter(conf.rp_filter, has_ipv4_address(index, state));
    Some(Port {
        mac,
        view,
        rp_filter,
        send_redirects: conf.send_redirects,
        ingress,
        ingress6,
        hairpin6,
        own_sources: rp_filter == 0 && all_own,
    })
}

/// On an interface without an IPv4 address the kernel takes loose for strict (`no_addr` in
/// `__fib_validate_source`).
const fn rp_filter(setting: u8, has_address: bool) -> u8 {
    match setting {
        0 => 0,
        _ if !has_address => 1,
        setting => setting,
    }
}

fn has_ipv4_address(index: IfIndex, state: &State) -> bool {
    state.addresses.iter().any(|address| address.ifindex == index && address.address.addr().is_ipv4())
}

/// Whether the kernel routes what comes in on a link by itself.
const fn routes(link: &Link) -> bool {
    link.up && link.carrier && link.master.is_none()
}
