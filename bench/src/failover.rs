//! `failover`: how long it takes from a kernel notification until no packet takes the dead way any more,
//! by the number of prefixes that lead there.
//!
//! The kernel's links, addresses, rules and neighbours are read from a namespace; the routes are put
//! into the agent's picture of the kernel, and what follows is the agent's own code over real maps:
//! state, rows, buckets, compiler, prefixes. The clock starts with the decoded notification.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use ipnet::{IpNet, Ipv4Net};
use nix::net::if_::if_nametoindex;
use serde::Serialize;
use underpass::datapath::bpf_maps::BpfMaps;
use underpass::datapath::maps::{Capacity, Contents, FibMaps, MapError, PrefixChange};
use underpass::datapath::{Datapath, Engine, PortFacts};
use underpass::fib::compile::{Compiler, resolve};
use underpass::fib::model::CompileConfig;
use underpass::netlink::apply::Part;
use underpass::netlink::decode::Event;
use underpass::netlink::dump;
use underpass::netlink::model::{IfIndex, NeighbourState, State};
use underpass::netlink::requests::Requests;
use underpass::reconcile::xdp::{Environment, Outcome, UNGUARDED, XdpReconciler};
use underpass_common::fib::{TargetId, ViewId};
use underpass_common::nexthop::{NextHop, Port, Target};
use underpass_tests::lab::Lab;

use crate::machine::Machine;
use crate::report;
use crate::stats::Summary;

/// Next hops per port; prefix n leads to next hop n modulo this number on both ports.
const NEXT_HOPS: u32 = 16;
/// Prefixes are /24 of this network of four bits: room for 1,048,576.
const NETWORK: [u8; 4] = [16, 0, 0, 0];
const PREFIX_LEN: u8 = 24;

/// Arguments of `underpass-bench failover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the results to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Numbers of prefixes.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 10_000, 100_000, 1_000_000], value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    prefixes: Vec<u32>,
    /// Times that each event is measured.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: u32,
}

/// What is written.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    method: Method,
    rows: Vec<Row>,
}

/// How it was measured.
#[derive(Debug, Serialize)]
struct Method {
    next_hops: u32,
    passes: u32,
    clock: &'static str,
}

/// One event at one number of prefixes; microseconds since the decoded notification.
#[derive(Debug, Serialize)]
struct Row {
    prefixes: u32,
    event: &'static str,
    /// First write of a next-hop row: a way that is dead, or has another MAC, is not taken from here on.
    first_us: Summary,
    /// Last write of a next-hop row.
    us: Summary,
    /// Everything: buckets, compiler, prefixes, port rows.
    pass_us: Summary,
    /// Writes of rows.
    rows: usize,
    /// Grace periods waited for (about 10 ms each; see docs/adr/0012).
    grace_periods: usize,
}

/// Measures, prints, and writes the file that was asked for.
///
/// # Errors
/// No privilege for namespaces and BPF, a map refuses a write, or the file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::read()?;
    let mut rows = Vec::new();
    for prefixes in &args.prefixes {
        rows.extend(measure(*prefixes, args.passes)?);
    }
    print!("{}", table(&rows));
    let method =
        Method { next_hops: 2 * NEXT_HOPS, passes: args.passes, clock: "from the decoded notification" };
    let report = Report { bench: "failover", machine, method, rows };
    args.json.as_deref().map_or(Ok(()), |path| report::write_json(path, &report))
}

/// All events at one number of prefixes.
fn measure(prefixes: u32, passes: u32) -> anyhow::Result<Vec<Row>> {
    let lab = Lab::new()?;
    lab.add_machines(&["router"])?;
    let router = lab.netns("router");
    router.ip(&devices())?;
    router.enter(|| {
        let mut datapath = Datapath::load(&lab.bpffs().join("underpass"), Engine::Flat)?;
        let mut agent = Agent::start(datapath.maps(), prefixes)?;
        let port = if_nametoindex("e0")?;
        let gateway = Ipv4Addr::new(192, 0, 2, 11).into();
        let neighbour =
            agent.state.neighbours.get(&(port, gateway)).context("the neighbour is there")?.clone();
        let link = agent.state.links.get(&port).context("the port is there")?.clone();
        let failed = {
            let mut failed = neighbour.clone();
            (failed.state, failed.mac) = (NeighbourState::Failed, None);
            failed
        };
        let moved = {
            let mut moved = neighbour.clone();
            moved.mac = Some([2, 0, 0, 0, 0xee, 0xee]);
            moved
        };
        let down = {
            let mut down = link.clone();
            down.carrier = false;
            down
        };
        // Each event is followed by the one that undoes it.
        let events = [
            ("neighbour failed", Event::Neighbour(failed)),
            ("neighbour back", Event::Neighbour(neighbour.clone())),
            ("link down", Event::Link(down)),
            ("link up", Event::Link(link)),
            ("neighbour MAC", Event::Neighbour(moved)),
            ("neighbour MAC back", Event::Neighbour(neighbour)),
        ];
        let mut samples: BTreeMap<usize, Vec<Sample>> = BTreeMap::new();
        for _ in 0..passes {
            for (at, (name, event)) in events.iter().enumerate() {
                let sample = agent.carry(event.clone()).with_context(|| (*name).to_owned())?;
                samples.entry(at).or_default().push(sample);
            }
        }
        let row = |(at, (event, _)): (usize, &(&'static str, Event))| {
            summarise(prefixes, event, samples.get(&at).map_or(&[], Vec::as_slice))
        };
        events.iter().enumerate().map(row).collect()
    })?
}

/// Two ports with a network and sixteen resolved neighbours each, and a route over both.
fn devices() -> String {
    let mut commands = String::from("link set lo up\n");
    for (port, network) in [(0, "192.0.2"), (1, "198.51.100")] {
        // Writing to a String cannot fail.
        let _ = write!(
            commands,
            "link add e{port} type veth peer name f{port}\nlink set e{port} up\nlink set f{port} up\n\
             addr add {network}.1/24 dev e{port}\n"
        );
        for host in 0..NEXT_HOPS {
            let _ = writeln!(
                commands,
                "neigh add {network}.{} dev e{port} lladdr 02:00:00:00:{port:02x}:{host:02x} nud permanent",
                host + 10
            );
        }
    }
    for host in 0..NEXT_HOPS {
        let host = host + 10;
        let _ = writeln!(
            commands,
            "route add 10.255.255.{host}/32 nexthop via 192.0.2.{host} nexthop via 198.51.100.{host}"
        );
    }
    commands
}

/// One measurement, in microseconds.
struct Sample {
    first: f64,
    last: f64,
    pass: f64,
    rows: usize,
    grace_periods: usize,
}

fn summarise(prefixes: u32, event: &'static str, samples: &[Sample]) -> anyhow::Result<Row> {
    let of = |value: fn(&Sample) -> f64| {
        Summary::of(&samples.iter().map(value).collect::<Vec<_>>()).context("there are passes")
    };
    let first = samples.first().context("there are passes")?;
    Ok(Row {
        prefixes,
        event,
        first_us: of(|sample| sample.first)?,
        us: of(|sample| sample.last)?,
        pass_us: of(|sample| sample.pass)?,
        rows: first.rows,
        grace_periods: first.grace_periods,
    })
}

/// The agent's forwarding half, without its event loop.
struct Agent<'a> {
    state: State,
    compiler: Compiler,
    reconciler: XdpReconciler,
    ports: BTreeMap<IfIndex, PortFacts>,
    maps: Clocked<'a>,
}

impl<'a> Agent<'a> {
    fn start(maps: &'a mut BpfMaps, prefixes: u32) -> anyhow::Result<Self> {
        let mut requests = Requests::new().context("netlink")?;
        let read = dump::read(&mut requests, &Part::ALL.into(), &BTreeMap::new()).context("netlink")?;
        let mut state = read.dump.state;
        multiply_routes(&mut state, prefixes)?;
        let mut ports = BTreeMap::new();
        for (number, name) in [(1, "e0"), (2, "e1")] {
            let ifindex = if_nametoindex(name)?;
            let usable = PortFacts {
                ifindex,
                name: name.to_owned(),
                number,
                attached: true,
                ingress: true,
                egress: true,
                tx: true,
                ..PortFacts::default()
            };
            ports.insert(ifindex, usable);
        }
        let config = CompileConfig {
            ports: vec!["e0".to_owned(), "e1".to_owned()],
            accelerate: vec![IpNet::V4(Ipv4Net::new(NETWORK.into(), 4)?)],
            services: Vec::new(),
        };
        let reconciler = XdpReconciler::adopt(maps)?;
        let mut compiler = Compiler::new(config);
        compiler.update(&state, &underpass::netlink::model::Delta::full());
        let maps = Clocked { maps, rows: Vec::new() };
        let mut agent = Self { state, compiler, reconciler, ports, maps };
        let resolve = |next_hop: &_| resolve(next_hop, &agent.state);
        let environment = Environment { ports: &agent.ports, guarded: &UNGUARDED, resolve: &resolve };
        let outcome = agent.reconciler.full(&mut agent.maps, agent.compiler.fib(), environment);
        check(&outcome)?;
        let totals = agent.reconciler.totals();
        ensure!(
            totals.synced && totals.prefixes_forwarding >= prefixes as usize,
            "not all prefixes are forwarded: {totals:?}"
        );
        Ok(agent)
    }

    /// Carries a notification through, in the order of `run`.
    fn carry(&mut self, event: Event) -> anyhow::Result<Sample> {
        self.maps.rows.clear();
        let start = Instant::now();
        let delta = self.state.apply([event]).delta;
        let resolve = |next_hop: &_| resolve(next_hop, &self.state);
        let environment = Environment { ports: &self.ports, guarded: &UNGUARDED, resolve: &resolve };
        let rows = self.reconciler.refresh_rows(&mut self.maps, &delta, environment);
        let changed = self.compiler.update(&self.state, &delta);
        let rest = self.reconciler.apply(&mut self.maps, self.compiler.fib(), &changed, environment);
        let pass = start.elapsed();
        check(&rows)?;
        check(&rest)?;
        ensure!(self.reconciler.totals().synced, "the maps are not as wanted");
        let since = |at: &Instant| at.duration_since(start).as_secs_f64() * 1e6;
        let (first, last) = (self.maps.rows.first(), self.maps.rows.last());
        Ok(Sample {
            first: first.map(since).context("no row was written")?,
            last: last.map(since).context("no row was written")?,
            pass: pass.as_secs_f64() * 1e6,
            rows: self.maps.rows.len(),
            grace_periods: rows.grace_periods + rest.grace_periods,
        })
    }
}

fn check(outcome: &Outcome) -> anyhow::Result<()> {
    ensure!(outcome.failures.is_empty(), "a map refuses: {}", outcome.failures[0]);
    Ok(())
}

/// As many routes as asked for, each a copy of one of those in the kernel.
fn multiply_routes(state: &mut State, prefixes: u32) -> anyhow::Result<()> {
    let templates: Vec<_> = state
        .routes
        .iter()
        .filter(|route| route.prefix.prefix_len() == 32 && route.next_hops.len() == 2)
        .collect();
    ensure!(templates.len() == NEXT_HOPS as usize, "{} routes over two next hops", templates.len());
    for number in 0..prefixes {
        let mut route = templates[(number % NEXT_HOPS) as usize].clone();
        let address = u32::from_be_bytes(NETWORK) + (number << (32 - PREFIX_LEN));
        route.prefix = IpNet::V4(Ipv4Net::new(address.into(), PREFIX_LEN)?);
        state.routes.push(route);
    }
    Ok(())
}

/// The maps, and when rows were written.
struct Clocked<'a> {
    maps: &'a mut BpfMaps,
    rows: Vec<Instant>,
}

impl FibMaps for Clocked<'_> {
    fn capacity(&self) -> Capacity {
        self.maps.capacity()
    }

    fn grace_period(&mut self) -> Result<(), MapError> {
        self.maps.grace_period()
    }

    fn set_next_hop(&mut self, index: u32, row: NextHop) -> Result<(), MapError> {
        let done = self.maps.set_next_hop(index, row);
        self.rows.push(Instant::now());
        done
    }

    fn set_bucket(&mut self, index: u32, next_hop: u32) -> Result<(), MapError> {
        self.maps.set_bucket(index, next_hop)
    }

    fn set_target(&mut self, id: TargetId, target: Target) -> Result<(), MapError> {
        self.maps.set_target(id, target)
    }

    fn set_prefix(&mut self, view: ViewId, prefix: IpNet, target: TargetId) -> Result<(), MapError> {
        self.maps.set_prefix(view, prefix, target)
    }

    fn set_prefixes(&mut self, changes: &[PrefixChange]) -> Vec<Result<(), MapError>> {
        self.maps.set_prefixes(changes)
    }

    fn delete_prefix(&mut self, view: ViewId, prefix: IpNet) -> Result<(), MapError> {
        self.maps.delete_prefix(view, prefix)
    }

    fn set_port(&mut self, port: Port) -> Result<(), MapError> {
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

/// The rows as a table for people.
fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:>9}  {:<18}  {:>5}  {:>22}  {:>24}  {:>28}\n",
        "prefixes", "event", "rows", "first row, us", "last row, us", "whole pass, us"
    );
    let cell = |summary: &Summary| format!("{:.0} ({:.0}-{:.0})", summary.median, summary.min, summary.max);
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>9}  {:<18}  {:>5}  {:>22}  {:>24}  {:>28}",
            row.prefixes,
            row.event,
            row.rows,
            cell(&row.first_us),
            cell(&row.us),
            cell(&row.pass_us)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_median_and_range() {
        let summary = |median| Summary { median, min: median - 1.0, max: median + 1.0 };
        let row = Row {
            prefixes: 10,
            event: "link down",
            first_us: summary(5.0),
            us: summary(9.0),
            pass_us: summary(40.0),
            rows: 16,
            grace_periods: 0,
        };
        let text = table(&[row]);
        let words: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(words, ["10", "link", "down", "16", "5", "(4-6)", "9", "(8-10)", "40", "(39-41)"]);
    }
}
