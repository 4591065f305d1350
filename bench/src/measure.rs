//! Passes of all columns in interleaved rounds.

use anyhow::{Context, ensure};
use aya::sys::{Stats, enable_stats};

use crate::column::Column;
use crate::random::SplitMix64;
use crate::rig::Rig;
use crate::routers::Routers;
use crate::stats::{Estimate, pair_differences, pair_ratios};
use crate::traffic::{self, Traffic};

/// Share of a pass's frames that must arrive; a pass below it says more about queues than about forwarding.
pub const DELIVERED_AT_LEAST: f64 = 0.99;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Timed passes per column.
    pub rounds: u32,
    /// Passes per column that measure the programs' own time.
    pub program_rounds: u32,
    /// Frames per pass.
    pub frames: u32,
    /// Processor that does all the work.
    pub cpu: usize,
}

/// Passes of the columns, by [`Column::index`].
#[derive(Debug, Default)]
pub struct Measurement {
    /// Nanoseconds per packet by round; `None` for a pass thrown away.
    pub times: [Vec<Option<f64>>; Column::ALL.len()],
    /// Frames sent and delivered in the passes that count.
    frames: [(u64, u64); Column::ALL.len()],
    /// Nanoseconds per packet in the program by round of its own.
    pub program: [Vec<Option<f64>>; Column::ALL.len()],
}

impl Measurement {
    /// Timed rounds, then rounds that measure the programs.
    ///
    /// # Errors
    /// A pass cannot be made, or a program did not run.
    pub fn take(
        plan: &Plan,
        random: &mut SplitMix64,
        rig: &Rig,
        traffic: &mut Traffic,
        routers: &Routers,
    ) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for _ in 0..plan.rounds {
            for column in shuffled(rig, random) {
                let pass = traffic.pass(rig.path(column)?, rig, &[plan.cpu], plan.frames)?;
                all.add(column, &pass);
            }
        }
        all.take_program_times(plan, random, rig, traffic, routers)?;
        Ok(all)
    }

    /// Run time per frame of every column's program, pass by pass; nothing for the kernel's column. The
    /// statistics slow all programs down, so these passes are not used for anything else.
    fn take_program_times(
        &mut self,
        plan: &Plan,
        random: &mut SplitMix64,
        rig: &Rig,
        traffic: &mut Traffic,
        routers: &Routers,
    ) -> anyhow::Result<()> {
        let _statistics = enable_stats(Stats::RunTime).context("cannot enable BPF statistics")?;
        for _ in 0..plan.program_rounds {
            for column in shuffled(rig, random) {
                let Some(before) = routers.program_time(column)? else { continue };
                traffic.pass(rig.path(column)?, rig, &[plan.cpu], plan.frames)?;
                let after = routers.program_time(column)?.context("the program is gone")?;
                let runs = after.runs - before.runs;
                ensure!(runs > 0, "the program of {} did not run", column.label());
                let time = after.time.saturating_sub(before.time);
                self.program[column.index()].push(Some(time.as_secs_f64() * 1e9 / traffic::as_f64(runs)));
            }
        }
        Ok(())
    }

    /// Notes a pass.
    pub fn add(&mut self, column: Column, pass: &traffic::Pass) {
        let kept = pass.ns_per_packet().filter(|_| pass.delivered_share() >= DELIVERED_AT_LEAST);
        if kept.is_some() {
            let (sent, delivered) = &mut self.frames[column.index()];
            (*sent, *delivered) = (*sent + pass.sent, *delivered + pass.delivered);
        } else {
            println!("{}: pass thrown away, {:.4} delivered", column.label(), pass.delivered_share());
        }
        self.times[column.index()].push(kept);
    }

    /// Nanoseconds per packet of a column's passes that count.
    pub fn kept(&self, column: Column) -> Vec<f64> {
        self.times[column.index()].iter().copied().flatten().collect()
    }

    /// Number of a column's passes that do not count.
    pub fn rejected(&self, column: Column) -> usize {
        self.times[column.index()].iter().filter(|time| time.is_none()).count()
    }

    /// Frames delivered divided by frames sent, in a column's passes that count.
    pub fn delivered_share(&self, column: Column) -> f64 {
        let (sent, delivered) = self.frames[column.index()];
        traffic::as_f64(delivered) / traffic::as_f64(sent.max(1))
    }

    /// Rate of `column` divided by that of `reference`.
    pub fn ratio(&self, column: Column, reference: Column) -> Option<Estimate> {
        if column == reference && !self.times[column.index()].is_empty() {
            return Some(Estimate::ONE);
        }
        Estimate::of(&pair_ratios(&self.times[column.index()], &self.times[reference.index()]))
    }

    /// Program time of `column` less that of the floor, in nanoseconds.
    pub fn over_floor(&self, column: Column) -> Option<Estimate> {
        let floor = &self.program[Column::Floor.index()];
        Estimate::of(&pair_differences(&self.program[column.index()], floor))
            .filter(|_| column != Column::Floor)
    }
}

/// The rig's columns in a random order.
fn shuffled(rig: &Rig, random: &mut SplitMix64) -> Vec<Column> {
    let mut order = rig.columns();
    random.shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Measurement;
    use crate::column::Column;
    use crate::stats::Estimate;
    use crate::traffic::Pass;

    fn pass(microseconds: u64, delivered: u64) -> Pass {
        Pass {
            sent: 1000,
            delivered,
            by_next_hop: Vec::new(),
            by_other_way: 0,
            unexpected: 0,
            elapsed: Duration::from_micros(microseconds),
            generators: 1,
        }
    }

    #[test]
    fn a_lossy_pass_is_thrown_away_with_its_pair() {
        let mut passes = Measurement::default();
        passes.add(Column::Kernel, &pass(1000, 1000));
        passes.add(Column::Underpass, &pass(500, 1000));
        passes.add(Column::Kernel, &pass(100, 980));
        passes.add(Column::Underpass, &pass(400, 1000));
        assert_eq!((passes.kept(Column::Kernel).len(), passes.rejected(Column::Kernel)), (1, 1));
        let ratio = passes.ratio(Column::Underpass, Column::Kernel).expect("one pair");
        assert!((ratio.median - 2.0).abs() < 1e-9, "twice the kernel's rate, but {ratio:?}");
        assert!((passes.delivered_share(Column::Kernel) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn ratio_to_itself_is_one() {
        let mut passes = Measurement::default();
        passes.add(Column::Floor, &pass(300, 1000));
        assert_eq!(passes.ratio(Column::Floor, Column::Floor), Some(Estimate::ONE));
        assert_eq!(passes.ratio(Column::Floor, Column::Kernel), None);
        assert_eq!(passes.ratio(Column::Kernel, Column::Kernel), None);
    }

    #[test]
    fn program_time_over_the_floor_is_a_difference_of_pairs() {
        let mut passes = Measurement::default();
        passes.program[Column::Floor.index()] = vec![Some(50.0), Some(80.0), Some(50.0)];
        passes.program[Column::Underpass.index()] = vec![Some(80.0), Some(110.0), Some(85.0)];
        let over = passes.over_floor(Column::Underpass).expect("three pairs");
        assert!((over.median - 30.0).abs() < 1e-9, "{over:?}");
        assert_eq!(passes.over_floor(Column::Floor), None);
    }
}
