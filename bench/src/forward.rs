//! `forward`: what a packet costs by plain Linux forwarding, by the kernel's lookup helper, by Underpass
//! and without any lookup.

mod bars;
mod draw;
mod keep;
mod rows;
mod scaling;
mod tables;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use underpass_common::bench::{BATCH, DESTINATIONS, FRAME_LEN, FRAME6_LEN, NEXT_HOPS};

use self::keep::Keep;
use self::rows::Row;
use self::scaling::Scaling;
use self::tables::{Session, SetUp};
use crate::column::Column;
use crate::machine::Machine;
use crate::machine::noise::{self, Noise};
use crate::measure::{DELIVERED_AT_LEAST, Plan};
use crate::output::Output;
use crate::random::SplitMix64;
use crate::routes::{Family, Kind, Popularity, RouteSet};
use crate::verdict::{self, Verdict};

/// Parts of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// All columns at the route sets.
    Tables,
    /// Cost against table size.
    Curve,
    /// From one processor to two.
    Scaling,
    /// Out by the port that the packet came in on.
    Hairpin,
    /// The reference cluster with its hairpin and without.
    Keep,
}

/// Arguments of `underpass-bench forward`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the results [default: bench/results for a whole run, target/bench for a quick or
    /// partial one].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Fewer tables, fewer passes: three minutes.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Route sets of the tables, instead of the usual ones: blocks4:N, internet4:N, blocks6:N, internet6:N.
    #[arg(long, value_delimiter = ',')]
    routes: Vec<RouteSet>,
    /// Only these columns.
    #[arg(long, value_delimiter = ',', value_enum)]
    columns: Vec<Column>,
    /// Timed passes per column [default: 31; quick: 11].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: Option<u32>,
    /// Seed of routes, destinations and the order of passes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processor that does all the work [default: the last one].
    #[arg(long)]
    cpu: Option<usize>,
    /// Measures nothing: draws the published charts and the README's section anew from `forward.json`.
    #[arg(long)]
    redraw: bool,
}

/// Result of `forward`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `forward`.
    pub bench: String,
    /// Where it ran.
    pub machine: Machine,
    /// Signs of other work on the machine.
    pub noise: Noise,
    /// How it was measured.
    pub method: Method,
    /// Every column at every route set.
    pub rows: Vec<Row>,
    /// What the data plane is to reach, and whether it did.
    pub bars: Vec<Verdict>,
    /// Internet-like sets from 10 routes on.
    pub curve: Vec<Row>,
    /// From one processor to two.
    pub scaling: Vec<Scaling>,
    /// Every column with the ingress port as egress port: `floor` is a static `XDP_TX`.
    pub hairpin: Vec<Row>,
    /// The reference cluster's hairpin, and the cluster without it.
    pub next_hop_keep: Vec<Keep>,
    /// How long kernel and agent took to learn the routes.
    pub set_up: Vec<SetUp>,
}

/// How `forward` was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Bytes per IPv4 frame in memory; 4 more (the check sequence) on a wire.
    pub frame_bytes: usize,
    /// Bytes per IPv6 frame in memory.
    pub frame6_bytes: usize,
    /// Destination addresses.
    pub destinations: usize,
    /// Next hops; route n uses next hop n modulo this number.
    pub next_hops: u32,
    /// Frames sent per pass.
    pub frames_per_pass: u32,
    /// Rounds; each column has one timed pass per round, in a random order.
    pub rounds: u32,
    /// Rounds of the separate runs that measure the programs' own time.
    pub program_rounds: u32,
    /// Frames per batch of the generator.
    pub batch: u32,
    /// A pass counts when at least this share of its frames arrived as it should.
    pub delivered_at_least: f64,
    /// Seed of routes, destinations and orders.
    pub seed: u64,
    /// Processor that does all the work.
    pub cpu: usize,
}

impl Args {
    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether the results are worth publishing.
    fn whole(&self) -> bool {
        !self.quick && self.only.is_empty() && self.routes.is_empty() && self.columns.is_empty()
    }

    fn plan(&self, machine: &Machine) -> Plan {
        let rounds = self.passes.unwrap_or(if self.quick { 11 } else { 31 });
        let cpu = self.cpu.unwrap_or(machine.cores as usize - 1);
        Plan { rounds, program_rounds: rounds.div_ceil(2), frames: 131_072, cpu }
    }

    /// The columns asked for, without `but`.
    fn columns(&self, but: &[Column]) -> Vec<Column> {
        let asked = |column: &Column| self.columns.is_empty() || self.columns.contains(column);
        Column::ALL.into_iter().filter(asked).filter(|column| !but.contains(column)).collect()
    }

    /// The route sets of the tables, with what is sent to them.
    fn tables(&self) -> Vec<(RouteSet, Vec<Popularity>)> {
        const UNIFORM: &[Popularity] = &[Popularity::Uniform];
        const BOTH: &[Popularity] = &[Popularity::Uniform, Popularity::Zipf];
        let set = RouteSet::new;
        let all = [
            (set(Family::Ipv4, Kind::Blocks, 100), UNIFORM, true),
            (set(Family::Ipv4, Kind::Blocks, 10_000), BOTH, true),
            (set(Family::Ipv4, Kind::Internet, 100_000), UNIFORM, true),
            (set(Family::Ipv4, Kind::Internet, 1_000_000), BOTH, false),
            (set(Family::Ipv6, Kind::Blocks, 10_000), BOTH, true),
            (set(Family::Ipv6, Kind::Internet, 200_000), UNIFORM, false),
        ];
        if !self.routes.is_empty() {
            return self.routes.iter().map(|set| (*set, UNIFORM.to_vec())).collect();
        }
        let wanted = all.into_iter().filter(|(_, _, in_quick)| *in_quick || !self.quick);
        wanted.map(|(set, all, _)| (set, if self.quick { UNIFORM.to_vec() } else { all.to_vec() })).collect()
    }

    /// Sizes of the curve. The large ones are among the tables already.
    fn curve(&self) -> &'static [u32] {
        if self.quick { &[10, 1_000] } else { &[10, 100, 1_000, 10_000] }
    }
}

/// Measures, prints, and writes the files.
///
/// # Errors
/// A rig cannot be raised, a router does not forward as it should, or a file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let output = Output::new(args.out.as_deref(), args.whole());
    if args.redraw {
        return draw_all(&output.read("forward")?, &output);
    }
    let machine = Machine::read()?;
    let start = noise::Start::now()?;
    let plan = args.plan(&machine);
    println!(
        "{}, {} cores, Linux {}: {} rounds of {} frames per column, seed {}, processor {}",
        machine.cpu, machine.cores, machine.kernel, plan.rounds, plan.frames, args.seed, plan.cpu
    );
    let mut session = Session::new(plan, args.seed);
    if args.has(Part::Tables) {
        for (set, popularities) in args.tables() {
            let scaled = args.has(Part::Scaling) && set == SCALED && machine.cores > 1;
            // The reverse path is checked of IPv4 sources only.
            let but: &[Column] = if set.family == Family::Ipv6 { &[Column::Strict] } else { &[] };
            session.table(set, &popularities, &args.columns(but), scaled)?;
        }
        print!("\n{}", rows::table(&session.rows));
    }
    if args.has(Part::Curve) {
        for routes in args.curve() {
            let set = RouteSet::new(Family::Ipv4, Kind::Internet, *routes);
            session.curve(set, &args.columns(&[Column::Kernel]))?;
        }
        session.finish_curve();
        print!("\nCost against table size\n{}", rows::table(&session.curve));
    }
    if args.has(Part::Scaling) && session.scaling.is_empty() && machine.cores > 1 {
        session.scaling(SCALED, &args.columns(&[]))?;
    }
    if !session.scaling.is_empty() {
        print!("\nFrom one processor to two\n{}", scaling::table(&session.scaling));
    }
    if args.has(Part::Hairpin) {
        session.hairpin(SCALED, &args.columns(&[Column::Strict]))?;
        print!("\nOut by the ingress port (XDP_TX)\n{}", rows::table(&session.hairpin));
    }
    let mut next_hop_keep = Vec::new();
    if args.has(Part::Keep) {
        println!("raising three reference clusters");
        next_hop_keep = keep::measure(plan.rounds.div_ceil(2), &mut SplitMix64::new(args.seed))?;
        print!("\nThe reference cluster, socket to socket\n{}", keep::table(&next_hop_keep));
    }
    let noise = start.noise(&session.floors)?;
    let bars = bars::verdicts(&session.rows);
    if !bars.is_empty() {
        print!("\n{}", verdict::table(&bars));
    }
    print!("{}", noise.text());
    let report = Report {
        bench: "forward".to_owned(),
        machine,
        noise,
        method: method(&plan, args.seed),
        rows: session.rows,
        bars,
        curve: session.curve,
        scaling: session.scaling,
        hairpin: session.hairpin,
        next_hop_keep,
        set_up: session.set_up,
    };
    println!();
    output.json("forward", &report)?;
    draw_all(&report, &output)
}

/// The set that scaling and hairpin are measured with.
const SCALED: RouteSet = RouteSet::new(Family::Ipv4, Kind::Blocks, 10_000);

fn draw_all(report: &Report, output: &Output) -> anyhow::Result<()> {
    if !report.rows.is_empty() {
        output.svg("forward", &draw::bars(report))?;
    }
    if !report.curve.is_empty() {
        output.svg("curve", &draw::curve(report))?;
    }
    output.readme("forward", &draw::readme(report))
}

const fn method(plan: &Plan, seed: u64) -> Method {
    Method {
        frame_bytes: FRAME_LEN,
        frame6_bytes: FRAME6_LEN,
        destinations: DESTINATIONS,
        next_hops: NEXT_HOPS,
        frames_per_pass: plan.frames,
        rounds: plan.rounds,
        program_rounds: plan.program_rounds,
        batch: BATCH,
        delivered_at_least: DELIVERED_AT_LEAST,
        seed,
        cpu: plan.cpu,
    }
}
