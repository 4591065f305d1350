//! The half that forwards: compiler, maps, ports, lease.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use underpass_common::abi::Counter;
use underpass_common::nexthop::{PORT_GUARDED4, PORT_GUARDED6};
use underpass_common::reason::Reason;

use crate::api::model::PortStatus;
use crate::config::model::{Agent as AgentConfig, Datapath as DatapathConfig, Services};
use crate::datapath::facts::{AttachMode, DriverFacts};
use crate::datapath::maps::MapError;
use crate::datapath::probe::{self, Answer};
use crate::datapath::settle::{Gate, POLL};
use crate::datapath::{Datapath, DatapathError, PortFacts};
use crate::fib::compile::{Compiler, FibDelta, resolve};
use crate::fib::model::{CompileConfig, Fib};
use crate::guard::Guard;
use crate::netlink::model::{Delta, Family, IfIndex, State};
use crate::netlink::neighbour::{Backoff, Solicitor};
use crate::reconcile::xdp::{Environment, Outcome, Totals, XdpReconciler};

/// The lease is renewed this many times within its length.
const RENEWALS: u32 = 6;
/// Ports, open questions to neighbours and failed writes are looked at again this often.
const CHECK: Duration = Duration::from_secs(1);

/// Why the forwarding half cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// Programs and maps.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The maps cannot be read back.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Neighbours cannot be asked for.
    #[error("netlink socket for neighbours: {0}")]
    Solicitor(#[from] io::Error),
}

/// Compiler, reconciler and data plane. One per agent, owned by the loop.
pub struct Forwarding {
    config: DatapathConfig,
    datapath: Datapath,
    compiler: Compiler,
    reconciler: XdpReconciler,
    ports: BTreeMap<IfIndex, PortFacts>,
    gate: Gate,
    guard: Guard,
    solicitor: Solicitor,
    backoff: Backoff,
    next_renewal: Instant,
    next_check: Instant,
    /// Set while the lease or the kill switch cannot be written.
    control_problem: Option<String>,
    /// Map operations that failed and are tried again.
    failures: Vec<String>,
}

impl Forwarding {
    /// Loads or adopts the data plane and brings it to the kernel's state; only then the lease begins.
    ///
    /// # Errors
    /// bpffs, programs, maps or netlink cannot be used; the error says what to do.
    pub fn start(
        config: &DatapathConfig,
        agent: &AgentConfig,
        state: &State,
        now: Instant,
    ) -> Result<Self, ForwardingError> {
        let mut datapath = Datapath::load(&agent.bpffs, config.fib)?;
        datapath.allow_generic(config.generic);
        let reconciler = XdpReconciler::adopt(datapath.maps())?;
        let mut forwarding = Self {
            config: config.clone(),
            compiler: Compiler::new(compile_config(config)),
            reconciler,
            datapath,
            ports: BTreeMap::new(),
            gate: Gate::new(config.carrier_wait),
            guard: Guard::start(config, state, now),
            solicitor: Solicitor::new()?,
            backoff: Backoff::default(),
            next_renewal: now,
            next_check: now,
            control_problem: None,
            failures: Vec::new(),
        };
        forwarding.refresh_rows(state, &Delta::full());
        forwarding.kernel_changed(state, &Delta::full(), now);
        forwarding.detach_leftovers()?;
        forwarding.work(state, now);
        forwarding.datapath.arm()?;
        Ok(forwarding)
    }

    /// Carries a change of links and neighbours through to the rows: at once, however many prefixes
    /// there are.
    pub fn refresh_rows(&mut self, state: &State, delta: &Delta) {
        let resolve = |next_hop: &_| resolve(next_hop, state);
        let environment = Environment { ports: &self.ports, guarded: self.guard.flags(), resolve: &resolve };
        let rows = self.reconciler.refresh_rows(self.datapath.maps(), delta, environment);
        self.note(&rows);
    }

    /// Carries a change of the kernel's state through to the maps, after [`Self::refresh_rows`].
    pub fn kernel_changed(&mut self, state: &State, delta: &Delta, now: Instant) {
        self.guard.follow(state, now);
        let mut changed = self.compiler.update(state, delta);
        let gone = self.follow_ports(state, &mut changed, now);
        self.write(state, &changed);
        for ifindex in gone {
            if let Err(problem) = self.datapath.detach(ifindex) {
                warn!(ifindex, %problem, "port is no longer managed, but its program stays");
            }
        }
        self.next_check = self.next_check.min(now);
    }

    /// Asks for neighbours, looks after ports and failed writes, renews the lease, as far as it is due.
    pub fn work(&mut self, state: &State, now: Instant) {
        if self.guard.work(state, now) {
            let ports = self.ports.keys().copied().collect();
            self.write(state, &FibDelta { ports, ..FibDelta::default() });
        }
        if now >= self.next_check {
            self.next_check = now + CHECK;
            self.ask_for_neighbours(now);
            self.check_ports(state, now);
            if !self.failures.is_empty() || !self.reconciler.totals().synced {
                self.write(state, &FibDelta::default());
            }
        }
        if now >= self.next_renewal {
            self.renew_lease(now);
        }
    }

    /// A lease vouches for the tables: while writes fail that leave packets on an old way, it is left
    /// to run out.
    fn renew_lease(&mut self, now: Instant) {
        let renewed = if self.reconciler.is_stale() {
            self.next_renewal = now + CHECK;
            Err("the tables cannot be brought to the kernel's state".to_owned())
        } else {
            self.next_renewal = now + self.config.lease / RENEWALS;
            self.datapath.renew_lease(self.config.lease).map_err(|problem| problem.to_string())
        };
        if let Err(problem) = &renewed
            && self.control_problem.as_ref() != Some(problem)
        {
            warn!(problem, "the lease is not renewed: packets will go to the kernel when it ends");
        }
        self.control_problem = renewed.err();
    }

    /// When [`Self::work`] has something to do next.
    pub fn next_deadline(&self) -> Instant {
        self.next_renewal.min(self.next_check)
    }

    /// Waits until [`Self::work`] has to look at the kernel's rules. Cancel-safe.
    pub async fn rules_changed(&mut self) {
        self.guard.ready().await;
    }

    /// The watch over the kernel's rules.
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The compiled table.
    pub const fn fib(&self) -> &Fib {
        self.compiler.fib()
    }

    /// What is in the maps.
    pub const fn reconciler(&self) -> &XdpReconciler {
        &self.reconciler
    }

    /// Configuration that it runs with.
    pub const fn config(&self) -> &DatapathConfig {
        &self.config
    }

    /// Managed ports.
    pub const fn ports(&self) -> &BTreeMap<IfIndex, PortFacts> {
        &self.ports
    }

    /// As `underpass status` shows them.
    pub fn port_statuses(&self) -> Vec<PortStatus> {
        let flags = self.guard.flags();
        let guarded = |port: &PortFacts| {
            let flags = flags.get(&port.ifindex).copied().unwrap_or(0);
            let families = [(PORT_GUARDED4, Family::Ipv4), (PORT_GUARDED6, Family::Ipv6)];
            let guarded = families.iter().filter(|(flag, _)| flags & flag != 0);
            guarded.map(|(_, family)| family.name().to_owned()).collect()
        };
        let status = |port: &PortFacts| PortStatus { guarded: guarded(port), ..port.status() };
        self.ports.values().map(status).collect()
    }

    /// Sums.
    pub fn totals(&self) -> Totals {
        self.reconciler.totals()
    }

    /// Kill switch and seconds left on the lease.
    ///
    /// # Errors
    /// The control map cannot be read.
    pub fn control(&mut self) -> Result<(bool, u64), DatapathError> {
        Ok((self.datapath.enabled()?, self.datapath.lease_seconds()?))
    }

    /// Non-zero counters; no interface for packets that came in on no managed port.
    ///
    /// # Errors
    /// The counter map cannot be read.
    pub fn counters(&self) -> Result<Vec<(Option<IfIndex>, Reason, Counter)>, DatapathError> {
        let by_number: BTreeMap<u32, IfIndex> =
            self.ports.values().map(|port| (port.number, port.ifindex)).filter(|(n, _)| *n > 0).collect();
        let totals = self.datapath.counters()?;
        Ok(totals
            .into_iter()
            .map(|((number, reason), total)| (by_number.get(&number).copied(), reason, total))
            .collect())
    }

    /// Asks the live program about a flow.
    ///
    /// # Errors
    /// The kernel does not run the probe.
    pub fn probe(&mut self, ingress: IfIndex, flow: &probe::Flow) -> Result<Answer, DatapathError> {
        self.datapath.probe(ingress, &probe::udp_frame(flow))
    }

    /// What the operator should look at, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for port in self.ports.values() {
            problems.extend(port.problem.as_ref().map(|problem| format!("port {}: {problem}", port.name)));
        }
        if self.ports.is_empty() {
            problems.push(format!(
                "no interface matches datapath.ports = {:?}: correct it, or bring the interface up",
                self.config.ports
            ));
        }
        problems.extend(self.guard.problem());
        problems.extend(self.control_problem.iter().map(|problem| format!("lease: {problem}")));
        problems.extend(self.reconciler.problems());
        problems.extend(self.failures.iter().take(3).cloned());
        problems
    }

    /// Attaches to ports that are new and forgets those that are gone, which are given back: their
    /// programs are detached once the maps no longer use them.
    fn follow_ports(&mut self, state: &State, changed: &mut FibDelta, now: Instant) -> Vec<IfIndex> {
        let wanted = &self.compiler.fib().ports;
        let gone: Vec<IfIndex> =
            self.ports.keys().filter(|port| !wanted.contains_key(port)).copied().collect();
        for ifindex in &gone {
            if let Some(port) = self.ports.remove(ifindex) {
                info!(port = port.name, "port is gone");
                changed.ports.insert(*ifindex);
            }
        }
        let new: Vec<IfIndex> =
            wanted.keys().filter(|port| !self.ports.contains_key(port)).copied().collect();
        for ifindex in new {
            let name = state.links.get(&ifindex).map_or("", |link| &link.name);
            let facts = self.attach_in_turn(ifindex, name, now);
            if let Some(problem) = &facts.problem {
                warn!(port = name, problem, "port is not fully usable");
            } else {
                info!(port = name, tx = facts.tx, notes = ?facts.notes, "port attached");
            }
            self.ports.insert(ifindex, facts);
            changed.ports.insert(ifindex);
            // Next hops by way of the port can be used now.
            changed.full = true;
        }
        gone
    }

    /// Attaches to a port unless another one is still waited for.
    fn attach_in_turn(&mut self, ifindex: IfIndex, name: &str, now: Instant) -> PortFacts {
        if let Some((_, other)) = self.gate.waits_for() {
            return PortFacts::refused(ifindex, name, format!("waits until {other} has its carrier back"));
        }
        let facts = self.datapath.attach(ifindex, name);
        if facts.unsettled {
            let driver = facts.driver.as_deref();
            self.gate.close(ifindex, name, driver.is_some_and(|driver| driver.kind.is_none()), now);
            self.gate.step(driver.map(|driver| driver.carrier), now);
        }
        facts
    }

    /// Looks again at what ports can do: a veth's abilities change with its peer, a foreign program
    /// may be gone, and it may be the next port's turn.
    fn check_ports(&mut self, state: &State, now: Instant) {
        let mut changed = FibDelta::default();
        for (ifindex, facts) in &mut self.ports {
            let refreshed = self.datapath.refresh(facts);
            note_change(*ifindex, facts, refreshed, &mut changed);
        }
        if let Some((ifindex, _)) = self.gate.waits_for() {
            let carrier = |facts: &PortFacts| facts.driver.as_deref().map(carrier_of);
            self.gate.step(self.ports.get(&ifindex).and_then(carrier), now);
        }
        let lost: Vec<IfIndex> =
            self.ports.values().filter(|facts| !facts.attached).map(|facts| facts.ifindex).collect();
        for ifindex in lost {
            let Some(mut facts) = self.ports.remove(&ifindex) else { continue };
            let again = self.attach_in_turn(ifindex, &facts.name, now);
            note_change(ifindex, &mut facts, again, &mut changed);
            self.ports.insert(ifindex, facts);
        }
        if self.gate.waits_for().is_some() {
            self.next_check = self.next_check.min(now + POLL);
        }
        if changed.full {
            self.write(state, &changed);
        }
    }

    fn ask_for_neighbours(&mut self, now: Instant) {
        let unresolved = self.reconciler.unresolved();
        let keys: std::collections::BTreeSet<(IfIndex, IpAddr)> =
            unresolved.iter().map(|next_hop| (next_hop.port, next_hop.neighbour)).collect();
        self.backoff.retain(|key| keys.contains(key));
        for (port, neighbour) in keys {
            if self.backoff.due((port, neighbour), now)
                && let Err(problem) = self.solicitor.solicit(port, neighbour)
            {
                warn!(%neighbour, port, %problem, "cannot ask for the neighbour");
            }
        }
    }

    fn write(&mut self, state: &State, changed: &FibDelta) {
        let resolve = |next_hop: &_| resolve(next_hop, state);
        let environment = Environment { ports: &self.ports, guarded: self.guard.flags(), resolve: &resolve };
        let maps = self.datapath.maps();
        let fib = self.compiler.fib();
        let outcome = if changed.full {
            self.reconciler.full(maps, fib, environment)
        } else {
            self.reconciler.apply(maps, fib, changed, environment)
        };
        self.failures.clear();
        self.note(&outcome);
    }

    fn note(&mut self, outcome: &Outcome) {
        if let Some(first) = outcome.failures.first() {
            warn!(failures = outcome.failures.len(), %first, "map writes failed, trying again");
        }
        self.failures.extend(outcome.failures.iter().map(ToString::to_string));
    }

    /// Programs and port numbers that an earlier agent left on interfaces that are no longer to be
    /// managed.
    fn detach_leftovers(&mut self) -> Result<(), DatapathError> {
        for ifindex in self.datapath.known()? {
            if !self.ports.contains_key(&ifindex) {
                info!(ifindex, "giving up an interface that is no longer managed");
                self.datapath.detach(ifindex)?;
            }
        }
        Ok(())
    }
}

const fn carrier_of(driver: &DriverFacts) -> bool {
    driver.carrier
}

/// Takes over what was found out about a port, and tells of what changed.
fn note_change(ifindex: IfIndex, facts: &mut PortFacts, now: PortFacts, changed: &mut FibDelta) {
    if !now.is_told_like(facts) {
        info!(
            port = now.name,
            mode = now.mode.map(AttachMode::label),
            ingress = now.ingress,
            egress = now.egress,
            tx = now.tx,
            problem = now.problem,
            notes = ?now.notes,
            "port changed"
        );
    }
    if !now.is_used_like(facts) {
        changed.ports.insert(ifindex);
        changed.full = true;
    }
    *facts = now;
}

fn compile_config(config: &DatapathConfig) -> CompileConfig {
    CompileConfig {
        ports: config.ports.clone(),
        accelerate: config.accelerate.clone(),
        services: match config.services {
            Services::Pass => config.service_ranges.clone(),
            Services::Forward => Vec::new(),
        },
    }
}
