//! `lookup`: what a lookup costs by itself, in a tight loop, by each engine.

mod engines;
mod flat;
mod rows;

use std::path::PathBuf;

use serde::Serialize;
use underpass_common::bench::DESTINATIONS;

use self::engines::{Engine, Loops};
use self::flat::Edits;
use self::rows::Row;
use crate::column::Column;
use crate::curve::{self, Curve, Line};
use crate::machine::Machine;
use crate::machine::noise::{self, Noise};
use crate::output::Output;
use crate::random::SplitMix64;
use crate::rig::Rig;
use crate::routes::{Family, Kind, Popularity, RouteSet};
use crate::stats::Summary;
use crate::traffic;
use crate::verdict::{self, Verdict};

/// Arguments of `underpass-bench lookup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the results [default: bench/results for a whole run, target/bench for a quick or
    /// partial one].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Fewer tables, fewer passes: one minute.
    #[arg(long)]
    quick: bool,
    /// Route sets instead of the usual ones: blocks4:N, internet4:N, blocks6:N, internet6:N.
    #[arg(long, value_delimiter = ',')]
    routes: Vec<RouteSet>,
    /// Passes per engine [default: 31; quick: 11].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: Option<u32>,
    /// Seed of routes, destinations and the order of passes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processor that does all the work [default: the last one].
    #[arg(long)]
    cpu: Option<usize>,
}

/// Result of `lookup`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `lookup`.
    pub bench: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// Signs of other work on the machine: by the loop without lookups instead of the floor.
    pub noise: Noise,
    /// How it was measured.
    pub method: Method,
    /// Engines by table.
    pub rows: Vec<Row>,
    /// What it costs to fill and to change the flat table.
    pub edits: Vec<Edits>,
    /// What filling and changing is to cost, and whether it did.
    pub bars: Vec<Verdict>,
}

/// How `lookup` was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Method {
    /// Lookups per pass, one after the other.
    pub lookups_per_pass: u32,
    /// Addresses that they go through, over and over.
    pub destinations: usize,
    /// Passes per engine, in rounds with a random order.
    pub rounds: u32,
    /// Seed of routes, destinations and orders.
    pub seed: u64,
    /// Processor.
    pub cpu: usize,
}

/// Measures, prints, and writes the files.
///
/// # Errors
/// The kernel refuses something, or a file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::read()?;
    let start = noise::Start::now()?;
    let method = Method {
        lookups_per_pass: 131_072,
        destinations: DESTINATIONS,
        rounds: args.passes.unwrap_or(if args.quick { 11 } else { 31 }),
        seed: args.seed,
        cpu: args.cpu.unwrap_or(machine.cores as usize - 1),
    };
    let mut measured = Measured::default();
    for set in sets(args) {
        measure(set, &method, &mut measured)?;
    }
    let Measured { rows, edits, loops } = measured;
    print!("\n{}\nThe flat table, filled and changed\n{}", rows::table(&rows), flat::table(&edits));
    let bars = flat::verdicts(&edits);
    if !bars.is_empty() {
        print!("\n{}", verdict::table(&bars));
    }
    let noise = start.noise(&loops)?;
    print!("{}", noise.text());
    let report = Report { bench: "lookup", machine, noise, method, rows, edits, bars };
    println!();
    let output = Output::new(args.out.as_deref(), !args.quick && args.routes.is_empty());
    output.json("lookup", &report)?;
    output.svg("lookup", &draw(&report))
}

fn sets(args: &Args) -> Vec<RouteSet> {
    if !args.routes.is_empty() {
        return args.routes.clone();
    }
    let internet: &[u32] =
        if args.quick { &[1_000, 100_000] } else { &[10, 1_000, 10_000, 100_000, 1_000_000] };
    let internet = internet.iter().map(|routes| RouteSet::new(Family::Ipv4, Kind::Internet, *routes));
    let blocks = |family| RouteSet::new(family, Kind::Blocks, 10_000);
    let mut sets: Vec<_> = [blocks(Family::Ipv4)].into_iter().chain(internet).collect();
    sets.push(blocks(Family::Ipv6));
    if !args.quick {
        sets.push(RouteSet::new(Family::Ipv6, Kind::Internet, 200_000));
    }
    sets
}

/// What has been measured so far.
#[derive(Debug, Default)]
struct Measured {
    rows: Vec<Row>,
    edits: Vec<Edits>,
    /// Times of the loop without lookups.
    loops: Vec<Vec<f64>>,
}

/// The flat table's edits at a route set, and all engines, uniform and by Zipf.
fn measure(set: RouteSet, method: &Method, measured: &mut Measured) -> anyhow::Result<()> {
    println!("{set}: raising the rig");
    let mut random = SplitMix64::new(method.seed ^ u64::from(set.routes));
    let rig = Rig::raise(&[Column::FibHelper], set.routes(&mut random))?;
    let pin = rig.lab.bpffs().join("lookup");
    // In a thread of its own, which alone stays on the processor.
    let edits = rig.generator.enter(|| {
        traffic::pin(method.cpu)?;
        flat::measure(&rig.routes, &pin, &mut random)
    })??;
    let bytes = edits.map_bytes;
    measured.edits.push(edits);
    let mut programs = Loops::load(rig.path(Column::FibHelper)?, &rig.routes, &pin, bytes)?;
    for popularity in [Popularity::Uniform, Popularity::Zipf] {
        programs.aim(&popularity.destinations(&rig.routes, DESTINATIONS, &mut random))?;
        let mut passes: [Vec<f64>; Engine::ALL.len()] = Default::default();
        for _ in 0..method.rounds {
            let mut order = Engine::ALL;
            random.shuffle(&mut order);
            for engine in order {
                passes[engine as usize].push(programs.pass(engine, method)?);
            }
        }
        measured.rows.extend(rows::rows(set, popularity, &passes));
        measured.loops.push(passes[Engine::Nothing as usize].clone());
    }
    Ok(())
}

/// Uniform destinations in internet-like IPv4 tables as lines.
fn draw(report: &Report) -> String {
    let line = |engine: Engine| {
        let fits = |row: &&Row| {
            row.engine == engine.label()
                && (row.family, row.kind) == (Family::Ipv4, Kind::Internet)
                && row.destinations == Popularity::Uniform
        };
        let point = |row: &Row| {
            (
                row.routes,
                Summary {
                    median: row.ns_per_lookup.median,
                    min: row.ns_per_lookup.low,
                    max: row.ns_per_lookup.high,
                },
            )
        };
        let points: Vec<_> = report.rows.iter().filter(fits).map(point).collect();
        Line { name: engine.label().to_owned(), colour: engine.colour(), points }
    };
    curve::svg(&Curve {
        title: "A lookup alone, in a tight loop (less is better)".to_owned(),
        subtitle: format!(
            "internet-like IPv4 prefixes, one core of {}, Linux {}; the loop's own cost taken off",
            report.machine.cpu, report.machine.kernel
        ),
        axis: "ns per lookup: median and its 95 % interval".to_owned(),
        along: "prefixes".to_owned(),
        lines: Engine::ALL.into_iter().filter(|engine| *engine != Engine::Nothing).map(line).collect(),
    })
}
