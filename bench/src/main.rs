//! Benchmarks: each prints a table and writes JSON.
mod chart;
mod machine;
mod random;
mod report;
mod stats;
fn main() {}
