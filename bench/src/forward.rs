//! `forward`: what a packet costs by plain Linux forwarding, by the kernel's lookup helper, by Underpass
//! and without any lookup.

mod rows;

use std::path::PathBuf;

use serde::Serialize;
use underpass_common::bench::{BATCH, DESTINATIONS, FRAME_LEN, FRAME6_LEN, NEXT_HOPS};

use self::rows::Row;
use crate::chart::{self, Chart, Group};
use crate::column::Column;
use crate::machine::Machine;
use crate::measure::{DELIVERED_AT_LEAST, Measurement, Plan};
use crate::random::SplitMix64;
use crate::report;
use crate::rig::Rig;
use crate::routers::Routers;
use crate::routes::{Popularity, RouteSet};
use crate::traffic::Traffic;

/// Arguments of `underpass-bench forward`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for forward.json and the charts.
    #[arg(long, value_name = "FOLDER", default_value = "bench/results")]
    out: PathBuf,
    /// Fewer and shorter passes.
    #[arg(long)]
    quick: bool,
    /// Route sets: blocks4:N, internet4:N, blocks6:N, internet6:N.
    #[arg(long, value_delimiter = ',')]
    routes: Vec<RouteSet>,
    /// Columns.
    #[arg(long, value_delimiter = ',', default_values_t = Column::ALL, value_enum)]
    columns: Vec<Column>,
    /// Timed passes per column.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: Option<u32>,
    /// Seed of routes, destinations and the order of passes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processor that does all the work [default: the last one].
    #[arg(long)]
    cpu: Option<usize>,
}

/// Result of `forward`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `forward`.
    pub bench: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// How it was measured.
    pub method: Method,
    /// Table sizes.
    pub rows: Vec<Row>,
}

/// How `forward` was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

/// Measures, prints, and writes the files.
///
/// # Errors
/// The rig cannot be raised, a router does not forward as it should, or a file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::read()?;
    let rounds = args.passes.unwrap_or(if args.quick { 11 } else { 31 });
    let plan = Plan {
        rounds,
        program_rounds: rounds.div_ceil(2),
        frames: 131_072,
        cpu: args.cpu.unwrap_or(machine.cores as usize - 1),
    };
    let mut rows = Vec::new();
    for set in &args.routes {
        rows.extend(measure(*set, &args.columns, &plan, args.seed)?);
        print!("\n{}", rows::table(&rows));
    }
    let method = Method {
        frame_bytes: FRAME_LEN,
        frame6_bytes: FRAME6_LEN,
        destinations: DESTINATIONS,
        next_hops: NEXT_HOPS,
        frames_per_pass: plan.frames,
        rounds: plan.rounds,
        program_rounds: plan.program_rounds,
        batch: BATCH,
        delivered_at_least: DELIVERED_AT_LEAST,
        seed: args.seed,
        cpu: plan.cpu,
    };
    let report = Report { bench: "forward", machine, method, rows };
    report::write_json(&args.out.join("forward.json"), &report)?;
    report::write_text(&args.out.join("forward.svg"), &draw(&report))?;
    println!("\nwritten: {}", args.out.join("forward.json").display());
    Ok(())
}

/// The rows for one route set, on a rig of its own.
fn measure(set: RouteSet, columns: &[Column], plan: &Plan, seed: u64) -> anyhow::Result<Vec<Row>> {
    println!("{set}: raising the rig");
    let mut random = SplitMix64::new(seed ^ u64::from(set.routes));
    let routes = set.routes(&mut random);
    let destinations = Popularity::Uniform.destinations(&routes, DESTINATIONS, &mut random);
    let spread = routes.spread(&destinations)?;
    let rig = Rig::raise(columns, routes)?;
    println!("{set}: in the kernel in {:.1} s", rig.installed_in.as_secs_f64());
    let mut traffic = Traffic::prepare(&rig, &destinations)?;
    let routers = Routers::start(&rig, &mut traffic, &spread, plan.cpu)?;
    if let Some(ready) = routers.ready_in {
        println!(
            "{set}: agent ready after {:.1} s with {} KiB",
            ready.as_secs_f64(),
            routers.agent_resident_kib.unwrap_or_default()
        );
    }
    let measured = Measurement::take(plan, &mut random, &rig, &mut traffic, &routers)?;
    rows::rows(&rig, &routers, Popularity::Uniform, &measured)
}

/// The result as a bar chart.
fn draw(report: &Report) -> String {
    let mut labels: Vec<String> = report.rows.iter().map(rows::label).collect();
    labels.dedup();
    let bar = |label: &str, column: Column| {
        let mut rows = report.rows.iter();
        rows.find(|row| rows::label(row) == label && row.column == column.label())
            .map(|row| row.ns_per_packet)
    };
    let groups = labels.iter().map(|label| Group {
        label: label.clone(),
        bars: Column::ALL.map(|column| bar(label, column)).to_vec(),
    });
    chart::svg(&Chart {
        title: "Forwarding a packet, nanoseconds (less is better)".to_owned(),
        subtitle: format!(
            "veth to veth on one core of {}, Linux {}, 64-byte UDP",
            report.machine.cpu, report.machine.kernel,
        ),
        axis: "ns per packet: median and range".to_owned(),
        series: Column::ALL.map(|column| column.label().to_owned()).to_vec(),
        groups: groups.collect(),
    })
}
