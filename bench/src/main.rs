//! Benchmarks in pairs on a veth rig: each prints a table for people, and writes JSON and an SVG on demand.
//!
//! Run it by `cargo xtask bench`, which builds the agent beside it.

mod chart;
mod column;
mod control;
mod curve;
mod failover;
mod forward;
mod lookup;
mod machine;
mod measure;
mod memory;
mod object;
mod output;
mod random;
mod report;
mod rig;
mod routers;
mod routes;
mod stats;
mod tables;
mod traffic;
mod verdict;

use clap::Parser;

/// As the agent has it: what is measured in this process is the agent's code.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Benchmarks of Underpass. They need root and keep to network namespaces of their own.
#[derive(Debug, Parser)]
#[command(name = "underpass-bench", version)]
enum Command {
    /// A packet's cost by plain Linux forwarding, by the kernel's lookup helper, by Underpass and without a lookup.
    Forward(forward::Args),
    /// Time from a link or neighbour failure to the last next-hop row, by the number of prefixes.
    Failover(failover::Args),
    /// Time from a BGP session's start to the routes in RIB, kernel and XDP, beside BIRD 2; a storm of updates.
    Control(control::Args),
    /// A lookup's cost in a tight loop by each engine, and the cost of changing the table.
    Lookup(lookup::Args),
    /// Processor time and memory of compiler, XDP reconciler and flat table per prefix. Needs no privileges.
    Tables(tables::Args),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Forward(args) => forward::run(&args),
        Command::Failover(args) => failover::run(&args),
        Command::Control(args) => control::run(&args),
        Command::Lookup(args) => lookup::run(&args),
        Command::Tables(args) => tables::run(&args),
    }
}
