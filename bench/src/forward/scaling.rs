//! From one processor to two.

use serde::{Deserialize, Serialize};

use crate::column::Column;
use crate::measure::{DELIVERED_AT_LEAST, Plan};
use crate::random::SplitMix64;
use crate::report::{aligned, estimate};
use crate::rig::Rig;
use crate::stats::{Estimate, Summary, pair_ratios};
use crate::traffic::{Pass, Traffic};

/// A column with one generator and with two, each on a processor of its own that does the frames' whole way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// The column.
    pub column: String,
    /// Number of routes (/26).
    pub routes: u32,
    /// Frames delivered per second by one processor, in millions.
    pub one: Summary,
    /// The same by two.
    pub two: Summary,
    /// Rate of two processors divided by that of one, in pairs.
    pub speedup: Option<Estimate>,
    /// Frames delivered divided by frames sent, with one processor: over all passes.
    pub delivered_one: Summary,
    /// The same with two processors.
    pub delivered_two: Summary,
    /// Whether a pass delivered less than 0.99: then frames were lost in queues, and the rates say
    /// more about those than about forwarding.
    pub lossy: bool,
}

/// Measures all columns of a rig on `cpus[0]` alone and on both of `cpus`.
///
/// # Errors
/// A pass cannot be made, or nothing arrived.
pub fn measure(
    rig: &Rig,
    traffic: &mut Traffic,
    plan: &Plan,
    cpus: [usize; 2],
    random: &mut SplitMix64,
) -> anyhow::Result<Vec<Scaling>> {
    let mut passes: [[Vec<Pass>; 2]; Column::ALL.len()] = Default::default();
    for _ in 0..plan.rounds.div_ceil(2) {
        let mut order: Vec<_> =
            rig.columns().into_iter().flat_map(|column| [(column, 0), (column, 1)]).collect();
        random.shuffle(&mut order);
        for (column, both) in order {
            let pass = traffic.pass(rig.path(column)?, rig, &cpus[..=both], plan.frames)?;
            passes[column.index()][both].push(pass);
        }
    }
    Ok(rig.columns().into_iter().filter_map(|column| row(rig, column, &passes[column.index()])).collect())
}

fn row(rig: &Rig, column: Column, [one, two]: &[Vec<Pass>; 2]) -> Option<Scaling> {
    let times = |passes: &[Pass]| passes.iter().map(Pass::ns_per_packet).collect::<Vec<_>>();
    let rates = |passes: &[Pass]| {
        let rates: Vec<f64> = times(passes).into_iter().flatten().map(|time| 1e3 / time).collect();
        Summary::of(&rates)
    };
    let delivered =
        |passes: &[Pass]| Summary::of(&passes.iter().map(Pass::delivered_share).collect::<Vec<_>>());
    let (delivered_one, delivered_two) = (delivered(one)?, delivered(two)?);
    Some(Scaling {
        column: column.label().to_owned(),
        routes: rig.set().routes,
        one: rates(one)?,
        two: rates(two)?,
        speedup: Estimate::of(&pair_ratios(&times(two), &times(one))),
        delivered_one,
        delivered_two,
        lossy: delivered_one.min.min(delivered_two.min) < DELIVERED_AT_LEAST,
    })
}

/// The rows as a table for people.
pub fn table(rows: &[Scaling]) -> String {
    let header =
        ["column", "1 cpu Mpps", "range", "2 cpus Mpps", "range", "speed-up", "delivered/sent 1", "2", ""];
    let mut cells = vec![header.map(str::to_owned)];
    for row in rows {
        let range = |summary: Summary| format!("{:.2}-{:.2}", summary.min, summary.max);
        cells.push([
            row.column.clone(),
            format!("{:.2}", row.one.median),
            range(row.one),
            format!("{:.2}", row.two.median),
            range(row.two),
            estimate(row.speedup, 2),
            format!("{:.4}", row.delivered_one.median),
            format!("{:.4} (worst {:.4})", row.delivered_two.median, row.delivered_two.min),
            if row.lossy { "LOSSY: below 0.99".to_owned() } else { String::new() },
        ]);
    }
    aligned(&cells, 1)
}
