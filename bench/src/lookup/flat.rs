//! The agent's flat table in a map of its own: how long it takes to fill and to change.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use aya::maps::MapData;
use serde::{Deserialize, Serialize};
use underpass::datapath::flat::{Change, FlatTable};
use underpass::sys::mapping::Mapping;
use underpass_common::abi::{self, FIB_BYTES, FIB_SLACK};

use crate::random::SplitMix64;
use crate::report::{aligned, megabytes};
use crate::routers::rival;
use crate::routes::{Family, Kind, RouteSet, Routes};
use crate::stats::{self, Summary};
use crate::verdict::Verdict;

/// How often the table is filled.
const FILLS: usize = 5;
/// Changes of one prefix that are timed: half of them take a prefix out, half put it back.
const EDITS: u32 = 8192;
/// Changes between two grace periods.
const BATCH: u32 = 256;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// What a change of the table costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edits {
    /// Number of routes.
    pub routes: u32,
    /// Address family.
    pub family: Family,
    /// What the routes are like.
    pub kind: Kind,
    /// Size class of the table in bytes: the smallest that holds them all.
    pub map_bytes: u32,
    /// Bytes of it in use after a fill.
    pub used_bytes: u64,
    /// Milliseconds to fill the empty table with all routes at once.
    pub fill_ms: Summary,
    /// Microseconds to change one prefix: the middle one of all changes.
    pub edit_us_median: f64,
    /// What 99 of 100 changes do not exceed.
    pub edit_us_p99: f64,
    /// The slowest.
    pub edit_us_max: f64,
}

/// Fills a map with the routes, times that and changes of single prefixes, and leaves it pinned, filled, at
/// `pin`.
///
/// # Errors
/// No size class holds them, or the kernel refuses.
pub fn measure(routes: &Routes, pin: &Path, random: &mut SplitMix64) -> anyhow::Result<Edits> {
    let changes: Vec<Change> =
        rival::targets(routes).map(|(prefix, target)| ((rival::VIEW, prefix), Some(target))).collect();
    for bytes in FIB_BYTES {
        let map = create(bytes)?;
        let open = || Mapping::new(map.fd().as_fd(), bytes as usize).context("cannot map the table");
        if !FlatTable::new(open()?).set_all(&changes).is_empty() {
            continue;
        }
        let mut fills = Vec::new();
        for _ in 0..FILLS {
            let mut table = FlatTable::new(open()?);
            let started = Instant::now();
            let refused = table.set_all(&changes);
            fills.push(started.elapsed().as_secs_f64() * 1e3);
            ensure!(refused.is_empty(), "a table that held all routes refuses {}", refused.len());
        }
        let mut table = FlatTable::new(open()?);
        table.set_all(&changes);
        let used_bytes = table.usage().used;
        let edits = stats::sorted(&edit(&mut table, &changes, random)?);
        map.pin(pin).with_context(|| format!("cannot pin a map to {}", pin.display()))?;
        let RouteSet { family, kind, routes } = routes.set;
        let at = |percent| stats::percentile(&edits, percent).context("no changes were made");
        return Ok(Edits {
            routes,
            family,
            kind,
            map_bytes: bytes,
            used_bytes,
            fill_ms: Summary::of(&fills).context("no fills were made")?,
            edit_us_median: at(50)?,
            edit_us_p99: at(99)?,
            edit_us_max: at(100)?,
        });
    }
    bail!("{}: no size class of the table holds them", routes.set)
}

/// Microseconds of every change.
fn edit(
    table: &mut FlatTable<Mapping>,
    changes: &[Change],
    random: &mut SplitMix64,
) -> anyhow::Result<Vec<f64>> {
    let count = u32::try_from(changes.len())?;
    let mut times = Vec::new();
    for number in 0..EDITS / 2 {
        let (key, target) = changes[random.below(count) as usize];
        for target in [None, target] {
            let started = Instant::now();
            table.set(key, target).with_context(|| format!("cannot change {}", key.1))?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        if number % (BATCH / 2) == 0 {
            // Nobody reads the table yet: there is no grace period to wait for.
            table.rested();
        }
    }
    Ok(times)
}

/// A map of a size class.
fn create(bytes: u32) -> anyhow::Result<MapData> {
    const ARRAY: u32 = 2;
    let shape = aya_obj::Map::new_from_params(ARRAY, 4, bytes + FIB_SLACK, 1, MMAPABLE);
    MapData::create(shape, abi::map::FIB, None).with_context(|| format!("cannot make a map of {bytes} bytes"))
}

/// What filling and changing is to cost, by table size: `(routes, microseconds for a change)`.
const BARS: [(u32, f64); 2] = [(10_000, 2.0), (1_000_000, 20.0)];
/// Most milliseconds for a million prefixes.
const FILL_MS: f64 = 1000.0;

/// Whether the IPv4 tables are filled and changed as fast as they should.
pub fn verdicts(rows: &[Edits]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for row in rows.iter().filter(|row| row.family == Family::Ipv4) {
        let label = RouteSet::new(row.family, row.kind, row.routes).label();
        if let Some((_, bar)) = BARS.iter().find(|(routes, _)| *routes == row.routes) {
            verdicts.push(Verdict::most(
                label.clone(),
                "change of one prefix, us",
                *bar,
                Some(row.edit_us_median),
            ));
        }
        if row.routes == 1_000_000 {
            verdicts.push(Verdict::most(label, "fill at once, ms", FILL_MS, Some(row.fill_ms.median)));
        }
    }
    verdicts
}

/// The rows as a table for people.
pub fn table(rows: &[Edits]) -> String {
    let header = ["routes", "map", "in use", "fill ms", "range", "edit us: median", "p99", "slowest"];
    let mut cells = vec![header.map(str::to_owned)];
    for row in rows {
        cells.push([
            RouteSet::new(row.family, row.kind, row.routes).label(),
            megabytes(u64::from(row.map_bytes)),
            megabytes(row.used_bytes),
            format!("{:.1}", row.fill_ms.median),
            format!("{:.1}-{:.1}", row.fill_ms.min, row.fill_ms.max),
            format!("{:.2}", row.edit_us_median),
            format!("{:.2}", row.edit_us_p99),
            format!("{:.0}", row.edit_us_max),
        ]);
    }
    aligned(&cells, 1)
}
