//! `tables`: processor time and memory of the forwarding half per prefix: compiler, XDP reconciler and flat table,
//! in memory. It needs no privileges.
//!
//! The routes are made, not read; what follows is the agent's own code. A first synchronization that comes in
//! pieces names some thousand random prefixes at a time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use underpass::datapath::PortFacts;
use underpass::datapath::flat::FlatTable;
use underpass::datapath::flat::memory::{HeapMemory, heap};
use underpass::datapath::maps::{Capacity, Contents, FibMaps, MapError, PrefixChange};
use underpass::datapath::prefix_table::refused;
use underpass::fib::compile::{Compiler, resolve};
use underpass::fib::model::CompileConfig;
use underpass::netlink::model::{
    Delta, Family, IfIndex, Link, Neighbour, NeighbourState, Route, RouteBody, RouteNextHop, RouteType, Rule,
    RuleAction, State, TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN,
};
use underpass::reconcile::xdp::{Environment, UNGUARDED, XdpReconciler};
use underpass_common::abi::{BUCKET_ENTRIES, FIB_BYTES, NEXT_HOP_ENTRIES, TARGET_ENTRIES};
use underpass_common::fib::{TargetId, ViewId};
use underpass_common::nexthop::{NextHop, Port, Target};

use crate::memory::{peak_kib, resident_kib};
use crate::random::SplitMix64;
use crate::routes::RouteSet;

/// The port that all routes lead out by.
const PORT: IfIndex = 2;
/// Neighbours that routes lead to.
const GATEWAYS: u8 = 16;

/// Arguments of `underpass-bench tables`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The routes.
    #[arg(long, default_value = "internet4:1000000")]
    routes: RouteSet,
    /// Prefixes that an increment names; 0: everything at once.
    #[arg(long, default_value_t = 4096)]
    step: usize,
    /// Seed of the routes and of their order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Measures and prints.
///
/// # Errors
/// The table does not get as many prefixes as there are routes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut random = SplitMix64::new(args.seed);
    let mut prefixes = args.routes.routes(&mut random).prefixes;
    let states = [None, Some(0), Some(1)].map(|shift| state(&prefixes, shift));
    random.shuffle(&mut prefixes);
    let [empty, first, second] = &states;
    let mut agent = Agent::new(args.routes)?;
    let start = resident()?;
    println!(
        "{:<22}{:>10}{:>10}{:>10}{:>12}",
        "ns per prefix", "compiler", "reconciler", "flat", "bytes each"
    );
    if args.step == 0 {
        agent.pass(first, &Delta::full());
        agent.report("a full compile", start, prefixes.len())?;
    } else {
        agent.pass(empty, &Delta::full());
        agent.spent = Spent::default();
        for (name, state) in [("added", first), ("changed", second), ("withdrawn", empty)] {
            for step in prefixes.chunks(args.step) {
                agent.pass(state, &Delta { prefixes: step.iter().copied().collect(), ..Delta::default() });
            }
            let left = agent.reconciler.totals();
            let expected = if name == "withdrawn" { 0 } else { prefixes.len() };
            ensure!(left.synced && left.prefixes_forwarding == expected, "{name}: {left:?}");
            agent.report(name, start, prefixes.len())?;
        }
    }
    println!("peak {} MiB, of which {} MiB for the routes", peak()? >> 20, start >> 20);
    Ok(())
}

/// Processor time by part.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    compiler: Duration,
    /// The flat table included.
    reconciler: Duration,
}

struct Agent {
    compiler: Compiler,
    reconciler: XdpReconciler,
    ports: BTreeMap<IfIndex, PortFacts>,
    maps: Maps,
    spent: Spent,
}

impl Agent {
    fn new(set: RouteSet) -> anyhow::Result<Self> {
        let mut maps = Maps { table: FlatTable::new(heap(largest() / 4)), spent: Cell::default() };
        let usable = PortFacts {
            ifindex: PORT,
            name: "e0".to_owned(),
            number: 1,
            attached: true,
            ingress: true,
            egress: true,
            tx: true,
            ..PortFacts::default()
        };
        let config =
            CompileConfig { ports: vec!["e0".to_owned()], accelerate: set.ranges(), services: Vec::new() };
        Ok(Self {
            compiler: Compiler::new(config),
            reconciler: XdpReconciler::adopt(&maps).context("an empty table")?,
            ports: [(PORT, usable)].into(),
            maps: {
                maps.grace_period().context("nothing rests")?;
                maps
            },
            spent: Spent::default(),
        })
    }

    /// What the agent does with a change of the kernel's state.
    fn pass(&mut self, state: &State, delta: &Delta) {
        let resolve = |next_hop: &_| resolve(next_hop, state);
        let environment = Environment { ports: &self.ports, guarded: &UNGUARDED, resolve: &resolve };
        let start = cpu_time();
        let changed = self.compiler.update(state, delta);
        let compiled = cpu_time();
        self.reconciler.apply(&mut self.maps, self.compiler.fib(), &changed, environment);
        drop(changed);
        self.spent.compiler += compiled.saturating_sub(start);
        self.spent.reconciler += cpu_time().saturating_sub(compiled);
    }

    fn report(&mut self, name: &str, start: u64, prefixes: usize) -> anyhow::Result<()> {
        let spent = std::mem::take(&mut self.spent);
        let flat = self.maps.spent.take();
        let each = |time: Duration| time.as_nanos() / prefixes as u128;
        let mut line = format!("{name:<22}");
        for (time, width) in [(spent.compiler, 10), (spent.reconciler.saturating_sub(flat), 12), (flat, 8)] {
            write!(line, "{:>width$}", each(time))?;
        }
        println!("{line}{:>12}", resident()?.saturating_sub(start) / prefixes as u64);
        Ok(())
    }
}

/// The flat table alone; the other tables take everything.
struct Maps {
    table: FlatTable<HeapMemory>,
    spent: Cell<Duration>,
}

impl Maps {
    fn timed<T>(&mut self, act: impl FnOnce(&mut FlatTable<HeapMemory>) -> T) -> T {
        let start = cpu_time();
        let result = act(&mut self.table);
        self.spent.set(self.spent.get() + cpu_time().saturating_sub(start));
        result
    }
}

impl FibMaps for Maps {
    fn capacity(&self) -> Capacity {
        let (targets, buckets, next_hops) = (TARGET_ENTRIES, BUCKET_ENTRIES, NEXT_HOP_ENTRIES);
        Capacity { prefixes: usize::MAX, targets, buckets, next_hops }
    }

    fn grace_period(&mut self) -> Result<(), MapError> {
        self.table.rested();
        Ok(())
    }

    fn set_next_hop(&mut self, _: u32, _: NextHop) -> Result<(), MapError> {
        Ok(())
    }

    fn set_bucket(&mut self, _: u32, _: u32) -> Result<(), MapError> {
        Ok(())
    }

    fn set_target(&mut self, _: TargetId, _: Target) -> Result<(), MapError> {
        Ok(())
    }

    fn set_prefix(&mut self, view: ViewId, prefix: IpNet, target: TargetId) -> Result<(), MapError> {
        self.timed(|table| table.set((view, prefix), Some(target)))
            .map_err(|refusal| refused(prefix, refusal))
    }

    fn set_prefixes(&mut self, changes: &[PrefixChange]) -> Vec<Result<(), MapError>> {
        let refused = self.timed(|table| {
            let refused = table.set_whole(changes);
            if table.usage().resting >= table.usage().capacity / 8 {
                table.rested();
            }
            refused
        });
        assert_eq!(refused, [], "the table is large enough");
        changes.iter().map(|_| Ok(())).collect()
    }

    fn delete_prefix(&mut self, view: ViewId, prefix: IpNet) -> Result<(), MapError> {
        self.timed(|table| table.set((view, prefix), None)).map_err(|refusal| refused(prefix, refusal))
    }

    fn set_port(&mut self, _: Port) -> Result<(), MapError> {
        Ok(())
    }

    fn clear_port(&mut self, _: IfIndex) -> Result<(), MapError> {
        Ok(())
    }

    fn set_own(&mut self, _: u32, _: u64) -> Result<(), MapError> {
        Ok(())
    }

    fn contents(&self) -> Result<Contents, MapError> {
        Ok(Contents::default())
    }
}

/// Bytes of the largest flat table.
fn largest() -> usize {
    FIB_BYTES.into_iter().max().map_or(0, |bytes| bytes as usize)
}

/// The kernel's state with a route to each prefix, by way of gateway `shift` and those after it; `None`: without
/// routes.
fn state(prefixes: &[IpNet], shift: Option<usize>) -> State {
    let mut state = State { rules: rules(), ..State::default() };
    let link = Link {
        index: PORT,
        name: "e0".to_owned(),
        kind: None,
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        carrier: true,
        loopback: false,
        master: None,
        lower: None,
    };
    state.links.insert(PORT, link);
    for host in 0..GATEWAYS {
        let (address, mac) = (gateway(usize::from(host)), Some([2, 0, 0, 0, 1, host]));
        let neighbour = Neighbour { ifindex: PORT, address, mac, state: NeighbourState::Valid };
        state.neighbours.insert((PORT, address), neighbour);
    }
    let Some(shift) = shift else { return state };
    for (at, prefix) in prefixes.iter().enumerate() {
        let route = route(*prefix, gateway(at + shift));
        state.routes.push(route);
    }
    state
}

fn gateway(number: usize) -> IpAddr {
    let host = u8::try_from(number % usize::from(GATEWAYS)).unwrap_or_default();
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10 + host))
}

fn route(prefix: IpNet, gateway: IpAddr) -> Route {
    let hop = RouteNextHop::new(PORT, Some(gateway));
    Route {
        table: TABLE_MAIN,
        prefix,
        tos: 0,
        metric: 200,
        body: Arc::new(RouteBody::new(210, RouteType::Unicast, vec![hop])),
    }
}

/// Those that every namespace starts with.
fn rules() -> Vec<Rule> {
    let rule = |family, priority, table| Rule::new(family, priority, RuleAction::Table(table));
    let ipv4 = [(0, TABLE_LOCAL), (32766, TABLE_MAIN), (32767, TABLE_DEFAULT)];
    let ipv6 = [(0, TABLE_LOCAL), (32766, TABLE_MAIN)];
    let ipv4 = ipv4.into_iter().map(|(priority, table)| rule(Family::Ipv4, priority, table));
    ipv4.chain(ipv6.into_iter().map(|(priority, table)| rule(Family::Ipv6, priority, table))).collect()
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn resident() -> anyhow::Result<u64> {
    resident_kib(std::process::id()).map(|kib| kib << 10).context("a process has memory")
}

fn peak() -> anyhow::Result<u64> {
    peak_kib(std::process::id()).map(|kib| kib << 10).context("a process has memory")
}
