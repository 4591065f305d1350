//! Whether a run reached what it is to reach. Pure.

use serde::{Deserialize, Serialize};

use crate::report::aligned;

/// What a figure is to be, and what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Table size, as in the tables.
    pub routes: String,
    /// What is measured.
    pub what: String,
    /// Whether the figure has to be at least the bar, instead of at most.
    pub least: bool,
    /// The bar.
    pub bar: f64,
    /// The run's figure; `None`: not measured.
    pub measured: Option<f64>,
    /// Whether the figure is on the right side; `None`: not measured.
    pub met: Option<bool>,
}

impl Verdict {
    /// A figure that may be `bar` at most.
    pub fn most(routes: String, what: &str, bar: f64, measured: Option<f64>) -> Self {
        let met = measured.map(|measured| measured <= bar);
        Self { routes, what: what.to_owned(), least: false, bar, measured, met }
    }

    /// A figure that has to be `bar` at least.
    pub fn least(routes: String, what: &str, bar: f64, measured: Option<f64>) -> Self {
        let met = measured.map(|measured| measured >= bar);
        Self { routes, what: what.to_owned(), least: true, bar, measured, met }
    }
}

/// The verdicts as a table for people.
pub fn table(verdicts: &[Verdict]) -> String {
    let header = ["routes", "bar", "wanted", "measured", ""];
    let mut cells = vec![header.map(str::to_owned)];
    for verdict in verdicts {
        let sign = if verdict.least { ">=" } else { "<=" };
        cells.push([
            verdict.routes.clone(),
            verdict.what.clone(),
            format!("{sign} {}", verdict.bar),
            verdict.measured.map_or_else(|| "-".to_owned(), |measured| format!("{measured:.2}")),
            match verdict.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "not measured",
            }
            .to_owned(),
        ]);
    }
    aligned(&cells, 2)
}
