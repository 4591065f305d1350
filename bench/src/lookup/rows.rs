//! Rows of `lookup`: an engine at a table.

use serde::{Deserialize, Serialize};

use super::engines::Engine;
use crate::report::{aligned, estimate};
use crate::routes::{Family, Kind, Popularity, RouteSet};
use crate::stats::{Estimate, Summary, pair_differences};

/// An engine at a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Number of routes.
    pub routes: u32,
    /// Address family.
    pub family: Family,
    /// What the routes are like.
    pub kind: Kind,
    /// How often each prefix is looked up.
    pub destinations: Popularity,
    /// Name of the engine.
    pub engine: String,
    /// Time of a turn of the loop, lookup included.
    pub ns_per_turn: Summary,
    /// The same less a turn without a lookup, in pairs.
    pub ns_per_lookup: Estimate,
}

/// The rows of a table. `passes` are nanoseconds per turn by engine and round.
pub fn rows(set: RouteSet, destinations: Popularity, passes: &[Vec<f64>; Engine::ALL.len()]) -> Vec<Row> {
    let times = |engine: Engine| passes[engine as usize].iter().copied().map(Some).collect::<Vec<_>>();
    let nothing = times(Engine::Nothing);
    let row = |engine: Engine| {
        Some(Row {
            routes: set.routes,
            family: set.family,
            kind: set.kind,
            destinations,
            engine: engine.label().to_owned(),
            ns_per_turn: Summary::of(&passes[engine as usize])?,
            ns_per_lookup: Estimate::of(&pair_differences(&times(engine), &nothing))?,
        })
    };
    Engine::ALL.into_iter().filter(|engine| *engine != Engine::Nothing).filter_map(row).collect()
}

/// The rows as a table for people.
pub fn table(rows: &[Row]) -> String {
    let header = ["routes", "destinations", "engine", "ns/lookup", "ns/turn", "range"];
    let mut cells = vec![header.map(str::to_owned)];
    for row in rows {
        let destinations = match row.destinations {
            Popularity::Uniform => "uniform",
            Popularity::Zipf => "zipf",
        };
        cells.push([
            RouteSet::new(row.family, row.kind, row.routes).label(),
            destinations.to_owned(),
            row.engine.clone(),
            estimate(Some(row.ns_per_lookup), 1),
            format!("{:.1}", row.ns_per_turn.median),
            format!("{:.1}-{:.1}", row.ns_per_turn.min, row.ns_per_turn.max),
        ]);
    }
    aligned(&cells, 3)
}

#[cfg(test)]
mod tests {
    use super::{rows, table};
    use crate::routes::Popularity;

    #[test]
    fn the_loop_is_taken_off_pair_by_pair() {
        let set = "blocks4:10".parse().expect("a set");
        let rows = rows(
            set,
            Popularity::Zipf,
            &[vec![10.0, 12.0], vec![110.0, 112.0], vec![60.0, 60.0], vec![30.0, 30.0]],
        );
        assert_eq!(rows.len(), 3);
        assert!((rows[0].ns_per_lookup.median - 100.0).abs() < 1e-9);
        assert!((rows[1].ns_per_lookup.median - 49.0).abs() < 1e-9);
        assert_eq!(table(&rows).lines().count(), 4);
    }
}
