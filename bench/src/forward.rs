//! `forward`: what a packet costs by plain Linux forwarding, by the kernel's lookup helper, by Underpass
//! and without any lookup.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use aya::sys::{Stats, enable_stats};
use underpass_common::bench::{BATCH, DESTINATIONS, FRAME_LEN, NEXT_HOPS};

use crate::chart::{self, Chart, Group};
use crate::column::Column;
use crate::machine::Machine;
use crate::random::SplitMix64;
use crate::report::{ForwardMethod, ForwardRow, Report, forward_table};
use crate::rig::{BLOCKS, Rig};
use crate::routers::Routers;
use crate::stats::{Ratio, Summary, pair_ratios};
use crate::traffic::{self, Traffic};

/// Share of a pass's frames that must arrive; a pass below it says more about queues than about forwarding.
const DELIVERED_AT_LEAST: f64 = 0.99;

/// Arguments of `underpass-bench forward`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the results to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the results into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Fewer and shorter passes: the whole run stays below two minutes.
    #[arg(long)]
    quick: bool,
    /// Numbers of /26 routes.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 10_000], value_parser = clap::value_parser!(u32).range(1..=i64::from(BLOCKS / 2)))]
    routes: Vec<u32>,
    /// Timed passes per column [default: 61; quick: 15].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: Option<u32>,
    /// Frames per pass [default: 262144; quick: 131072].
    #[arg(long, value_parser = clap::value_parser!(u32).range(65_536..=4_194_304))]
    frames: Option<u32>,
    /// Seed of routes, destinations and the order of passes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processor that does all the work [default: the last one].
    #[arg(long)]
    cpu: Option<usize>,
}

/// Measures, prints, and writes the files that were asked for.
///
/// # Errors
/// The rig cannot be raised, a router does not forward as it should, or a file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::read()?;
    let rounds = args.passes.unwrap_or(if args.quick { 15 } else { 61 });
    let method = ForwardMethod {
        frame_bytes: FRAME_LEN,
        destinations: DESTINATIONS,
        next_hops: NEXT_HOPS,
        frames_per_pass: args.frames.unwrap_or(if args.quick { 131_072 } else { 262_144 }),
        rounds,
        program_rounds: rounds.div_ceil(3),
        batch: BATCH,
        delivered_at_least: DELIVERED_AT_LEAST,
        seed: args.seed,
        cpu: args.cpu.unwrap_or(machine.cores as usize - 1),
    };
    println!(
        "{}, {} cores, Linux {}: {} rounds of {} frames per column, seed {}, processor {}",
        machine.cpu, machine.cores, machine.kernel, rounds, method.frames_per_pass, method.seed, method.cpu
    );
    let mut rows = Vec::new();
    for &routes in &args.routes {
        rows.extend(measure(routes, &method)?);
    }
    print!("\n{}", forward_table(&rows));
    let report = Report { bench: "forward".to_owned(), machine, method, rows };
    if let Some(path) = &args.json {
        report.write(path)?;
        println!("\nwritten: {}", path.display());
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, draw(&report)).with_context(|| format!("cannot write {}", path.display()))?;
        println!("drawn: {}", path.display());
    }
    Ok(())
}

/// The rows for one number of routes, on a rig of its own.
fn measure(routes: u32, method: &ForwardMethod) -> anyhow::Result<Vec<ForwardRow>> {
    println!("{routes} routes: raising the rig");
    let mut random = SplitMix64::new(method.seed ^ u64::from(routes));
    let rig = Rig::raise(routes, &mut random)?;
    let mut traffic = Traffic::prepare(&rig, method.cpu)?;
    let routers = Routers::start(&rig, &mut traffic)?;
    println!("{routes} routes: every column reaches all {DESTINATIONS} destinations; timing");
    let mut passes = Passes::default();
    for _ in 0..method.rounds {
        passes.round(&mut random, &rig, &mut traffic, method.frames_per_pass)?;
    }
    println!("{routes} routes: measuring the programs' own time");
    let program_ns = program_times(&mut random, &rig, &mut traffic, &routers, method)?;
    Column::ALL
        .into_iter()
        .zip(program_ns)
        .map(|(column, program_ns)| {
            let ns_per_packet = Summary::of(&passes.kept(column)).with_context(|| {
                format!("{routes} routes: every pass of {} lost more than 1 % of its frames", column.label())
            })?;
            Ok(ForwardRow {
                routes,
                family: "ipv4".to_owned(),
                column: column.label().to_owned(),
                ns_per_packet,
                program_ns: Summary::of(&program_ns),
                ratio_to_floor: passes.ratio(column, Column::Floor),
                ratio_to_fib_helper: passes.ratio(column, Column::FibHelper),
                ratio_to_kernel: passes.ratio(column, Column::Kernel),
                delivered: passes.delivered_share(column),
                passes: passes.kept(column).len(),
                passes_rejected: passes.times[index(column)].iter().filter(|time| time.is_none()).count(),
            })
        })
        .collect()
}

/// Timed passes of all columns, by [`Column::number`].
#[derive(Debug, Default)]
struct Passes {
    /// Nanoseconds per packet by round; `None` for a pass thrown away.
    times: [Vec<Option<f64>>; Column::ALL.len()],
    /// Frames sent and delivered in the passes that count.
    frames: [(u64, u64); Column::ALL.len()],
}

fn index(column: Column) -> usize {
    usize::from(column.number())
}

impl Passes {
    /// One pass of every column, in a random order.
    fn round(
        &mut self,
        random: &mut SplitMix64,
        rig: &Rig,
        traffic: &mut Traffic,
        frames: u32,
    ) -> anyhow::Result<()> {
        let mut order = Column::ALL;
        random.shuffle(&mut order);
        for column in order {
            let pass = traffic.pass(rig, column, frames)?;
            self.add(column, &pass);
        }
        Ok(())
    }

    fn add(&mut self, column: Column, pass: &traffic::Pass) {
        let kept = pass.ns_per_packet().filter(|_| pass.delivered_share() >= DELIVERED_AT_LEAST);
        if kept.is_some() {
            let (sent, delivered) = &mut self.frames[index(column)];
            (*sent, *delivered) = (*sent + pass.sent, *delivered + pass.delivered);
        } else {
            println!("{}: pass thrown away, {:.4} delivered", column.label(), pass.delivered_share());
        }
        self.times[index(column)].push(kept);
    }

    fn kept(&self, column: Column) -> Vec<f64> {
        self.times[index(column)].iter().copied().flatten().collect()
    }

    fn delivered_share(&self, column: Column) -> f64 {
        let (sent, delivered) = self.frames[index(column)];
        traffic::as_f64(delivered) / traffic::as_f64(sent.max(1))
    }

    /// Rate of `column` divided by that of `reference`.
    fn ratio(&self, column: Column, reference: Column) -> Option<Ratio> {
        if column == reference {
            return Some(Ratio::ONE);
        }
        Ratio::of(&pair_ratios(&self.times[index(column)], &self.times[index(reference)]))
    }
}

/// Run time per frame of every column's program, pass by pass; nothing for the kernel's column. The
/// statistics slow all programs down, so these passes are not used for anything else.
fn program_times(
    random: &mut SplitMix64,
    rig: &Rig,
    traffic: &mut Traffic,
    routers: &Routers,
    method: &ForwardMethod,
) -> anyhow::Result<[Vec<f64>; Column::ALL.len()]> {
    let _statistics = enable_stats(Stats::RunTime).context("cannot enable BPF statistics")?;
    let mut times = [const { Vec::new() }; Column::ALL.len()];
    for _ in 0..method.program_rounds {
        let mut order = Column::ALL;
        random.shuffle(&mut order);
        for column in order {
            let Some(before) = routers.program_time(column)? else { continue };
            traffic.pass(rig, column, method.frames_per_pass)?;
            let after = routers.program_time(column)?.context("the program is gone")?;
            let runs = after.runs - before.runs;
            ensure!(runs > 0, "the program of {} did not run", column.label());
            let time = after.time.saturating_sub(before.time);
            times[index(column)].push(time.as_secs_f64() * 1e9 / traffic::as_f64(runs));
        }
    }
    Ok(times)
}

/// The result as a bar chart.
fn draw(report: &Report<ForwardMethod, ForwardRow>) -> String {
    let mut scales: Vec<u32> = report.rows.iter().map(|row| row.routes).collect();
    scales.dedup();
    let bar = |routes: u32, column: Column| {
        let mut rows = report.rows.iter();
        rows.find(|row| row.routes == routes && row.column == column.label()).map(|row| row.ns_per_packet)
    };
    let groups = scales.into_iter().map(|routes| Group {
        label: format!("{} routes", thousands(routes)),
        bars: Column::ALL.map(|column| bar(routes, column)).to_vec(),
    });
    chart::svg(&Chart {
        title: "Forwarding a packet, nanoseconds (less is better)".to_owned(),
        subtitle: format!(
            "veth to veth on one core of {}, Linux {}, 64-byte UDP, {} destinations",
            report.machine.cpu,
            report.machine.kernel,
            thousands(u32::try_from(report.method.destinations).unwrap_or(u32::MAX))
        ),
        axis: "ns per packet: median and range".to_owned(),
        series: Column::ALL.map(|column| column.label().to_owned()).to_vec(),
        groups: groups.collect(),
    })
}

/// 10000 as "10,000".
fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Passes, thousands};
    use crate::column::Column;
    use crate::traffic::Pass;

    fn pass(microseconds: u64, delivered: u64) -> Pass {
        Pass {
            sent: 1000,
            delivered,
            by_other_way: 0,
            unexpected: 0,
            elapsed: Duration::from_micros(microseconds),
        }
    }

    #[test]
    fn a_lossy_pass_is_thrown_away_with_its_pair() {
        let mut passes = Passes::default();
        passes.add(Column::Kernel, &pass(1000, 1000));
        passes.add(Column::Underpass, &pass(500, 1000));
        passes.add(Column::Kernel, &pass(100, 980));
        passes.add(Column::Underpass, &pass(400, 1000));
        assert_eq!(passes.kept(Column::Kernel).len(), 1);
        let ratio = passes.ratio(Column::Underpass, Column::Kernel).expect("one pair");
        assert!((ratio.median - 2.0).abs() < 1e-9, "twice the kernel's rate, but {ratio:?}");
        assert!((passes.delivered_share(Column::Kernel) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn ratio_to_itself_is_one() {
        let mut passes = Passes::default();
        passes.add(Column::Floor, &pass(300, 1000));
        assert_eq!(passes.ratio(Column::Floor, Column::Floor), Some(crate::stats::Ratio::ONE));
        assert_eq!(passes.ratio(Column::Floor, Column::Kernel), None);
    }

    #[test]
    fn numbers_with_separators() {
        for (number, text) in [(0, "0"), (100, "100"), (10_000, "10,000"), (1_000_000, "1,000,000")] {
            assert_eq!(thousands(number), text);
        }
    }
}
