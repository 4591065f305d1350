//! `control`: how long it takes from a BGP session's start until all of its routes are in the RIB, in the kernel
//! and in the maps of XDP, by the agent and by BIRD 2; and whether the agent stands a storm of updates.

mod check;
mod pass;
mod receiver;
mod rows;
mod segment;
mod speaker;
mod storm;
mod watch;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::pass::Case;
use self::receiver::Daemon;
use self::rows::{Passes, Row};
use self::storm::{Force, Storm};
use crate::chart;
use crate::machine::Machine;
use crate::machine::noise::{self, Noise};
use crate::output::Output;
use crate::random::SplitMix64;
use crate::routes::{Family, Kind, RouteSet, Routes};
use crate::verdict::{self, Verdict};

/// Prefixes that the storm is about, and that two reflectors send.
const MIDDLE: u32 = 100_000;

/// Arguments of `underpass-bench control`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the results [default: bench/results for a whole run, target/bench for a quick or
    /// partial one].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// 10,000 and 100,000 prefixes, fewer passes, ten seconds of storm.
    #[arg(long)]
    quick: bool,
    /// Numbers of prefixes, instead of the usual ones; no storm unless it is asked for.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    prefixes: Vec<u32>,
    /// Only these daemons.
    #[arg(long, value_delimiter = ',', value_enum)]
    daemons: Vec<Daemon>,
    /// Only the storm, or, with `--prefixes`, the storm too.
    #[arg(long)]
    storm: bool,
    /// Passes per daemon [default: 5; quick: 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    passes: Option<u32>,
    /// Seed of prefixes, the order of passes and the storm.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Result of `control`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `control`.
    pub bench: String,
    /// Where it ran.
    pub machine: Machine,
    /// Signs of other work on the machine.
    pub noise: Noise,
    /// How it was measured.
    pub method: Method,
    /// Every stage of every daemon at every table.
    pub rows: Vec<Row>,
    /// The storms.
    pub storms: Vec<Storm>,
    /// What the control path is to reach, and whether it did.
    pub bars: Vec<Verdict>,
}

/// How `control` was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Seed of prefixes, order and storm.
    pub seed: u64,
    /// Passes per daemon and table.
    pub passes: u32,
    /// What the clock starts and ends with.
    pub clock: String,
    /// How hard the storm blows.
    pub storm: Force,
}

/// Measures, prints, and writes JSON and SVG.
///
/// # Errors
/// No privilege for namespaces and BPF, no BIRD, routes that do not arrive, or a file that cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (machine, start) = (Machine::read()?, noise::Start::now()?);
    let method = Method {
        seed: args.seed,
        passes: args.passes.unwrap_or(if args.quick { 3 } else { 5 }),
        clock: "from the first session's Established at the reflector; rib: the daemon's own count, asked \
                every 20 ms; kernel: the last notification of a route; xdp: the agent's count of prefixes \
                written, asked every 20 ms"
            .to_owned(),
        storm: Force { updates_per_second: 10_000, seconds: if args.quick { 10 } else { 60 } },
    };
    let daemons = if args.daemons.is_empty() { Daemon::ALL.to_vec() } else { args.daemons.clone() };
    let mut random = SplitMix64::new(args.seed);
    let mut rows = Vec::new();
    let mut spreads = Vec::new();
    for (prefixes, reflectors) in cases(args) {
        let passes = measure(prefixes, reflectors, &daemons, method.passes, &mut random)?;
        rows.extend(rows::rows(prefixes, reflectors, &passes)?);
        spreads.extend(passes.get(&Daemon::Bird2).map(|passes| last_seconds(passes)));
    }
    let storms = if args.storm || args.prefixes.is_empty() {
        blow(&daemons, method.storm, args.seed)?
    } else {
        Vec::new()
    };
    let bars = rows::bars(&rows, &storms);
    print!("{}\n{}\n{}", rows::table(&rows), rows::storm_table(&storms), verdict::table(&bars));
    let noise = start.noise(&spreads)?;
    noise.remarks.iter().for_each(|remark| println!("not quiet: {remark}"));
    let chart = rows::chart(&rows, &machine);
    let report = Report { bench: "control".to_owned(), machine, noise, method, rows, storms, bars };
    let output = Output::new(args.out.as_deref(), is_whole(args));
    output.json("control", &report)?;
    output.svg("control", &chart::svg(&chart))
}

/// Numbers of prefixes and reflectors.
fn cases(args: &Args) -> Vec<(u32, usize)> {
    if !args.prefixes.is_empty() {
        return args.prefixes.iter().map(|prefixes| (*prefixes, 1)).collect();
    }
    match (args.storm, args.quick) {
        (true, _) => Vec::new(),
        (false, true) => vec![(10_000, 1), (MIDDLE, 1)],
        (false, false) => vec![(10_000, 1), (MIDDLE, 1), (MIDDLE, 2), (1_000_000, 1)],
    }
}

const fn is_whole(args: &Args) -> bool {
    !args.quick && !args.storm && args.prefixes.is_empty() && args.daemons.is_empty()
}

/// The table of this size.
fn table(prefixes: u32, seed: u64) -> Routes {
    let set = RouteSet::new(Family::Ipv4, Kind::Internet, prefixes);
    set.routes(&mut SplitMix64::new(seed ^ u64::from(prefixes)))
}

/// All passes of a case, in rounds with one pass of every daemon in a random order. The last round is checked.
fn measure(
    prefixes: u32,
    reflectors: usize,
    daemons: &[Daemon],
    rounds: u32,
    random: &mut SplitMix64,
) -> anyhow::Result<Passes> {
    let routes = table(prefixes, random.next_u64());
    let mut passes = Passes::new();
    for round in 1..=rounds {
        let mut order = daemons.to_vec();
        random.shuffle(&mut order);
        for daemon in order {
            let case = Case { routes: &routes, reflectors, daemon };
            let reached = pass::run(case, round == rounds)?;
            let stages = reached.iter().map(|at| format!("{} {:.2} s", at.stage.label(), at.seconds));
            println!(
                "{} prefixes, {reflectors} reflectors, {}, round {round}: {}",
                crate::report::thousands(prefixes),
                daemon.label(),
                stages.collect::<Vec<_>>().join(", ")
            );
            passes.entry(daemon).or_default().push(reached);
        }
    }
    Ok(passes)
}

fn blow(daemons: &[Daemon], force: Force, seed: u64) -> anyhow::Result<Vec<Storm>> {
    let routes = table(MIDDLE, seed);
    let mut storms = Vec::new();
    for daemon in daemons.iter().filter(|daemon| **daemon != Daemon::UnderpassBgp) {
        println!("storm at {}", daemon.label());
        storms.push(storm::run(&routes, *daemon, force, seed)?);
    }
    Ok(storms)
}

/// Seconds of the last stage by pass.
fn last_seconds(passes: &[Vec<pass::Reached>]) -> Vec<f64> {
    passes.iter().filter_map(|reached| reached.last()).map(|at| at.seconds).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn only_a_run_of_everything_is_whole() {
        let cases: [(&[&str], bool, usize); 5] = [
            (&[], true, 4),
            (&["--quick"], false, 2),
            (&["--storm"], false, 0),
            (&["--prefixes", "10,20,30"], false, 3),
            (&["--daemons", "bird2"], false, 4),
        ];
        for (line, whole, tables) in cases {
            let args = Line::parse_from(std::iter::once("control").chain(line.iter().copied())).args;
            assert_eq!((is_whole(&args), super::cases(&args).len()), (whole, tables), "{line:?}");
        }
    }
}
