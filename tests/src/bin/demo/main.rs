//! `cargo xtask demo`: the reference lab at work, on one screen.

mod routes;
mod screen;
mod sessions;
mod traffic;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use underpass_tests::reference::{AGENTS, Options, ReferenceLab};

/// The reference lab needs this long at most to learn all routes, on two busy cores.
const CONVERGENCE: Duration = Duration::from_secs(90);

/// Raises the reference lab, shows sessions, routes and traffic, checks them, takes the lab down.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo")]
struct Cli {
    /// Print everything as one JSON object, the last line of the output.
    #[arg(long)]
    json: bool,
    /// Leave the lab up; `cargo xtask lab --name demo down` takes it down.
    #[arg(long)]
    keep: bool,
}

/// Something that must hold; the demo fails when it does not.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What is expected.
    pub what: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found instead.
    pub found: Option<String>,
}

impl Check {
    /// A check that holds, or says what was found.
    pub fn new(what: impl Into<String>, ok: bool, found: impl FnOnce() -> String) -> Self {
        Self { what: what.into(), ok, found: (!ok).then(found) }
    }
}

/// Everything that the demo found; `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Seconds until every route was in every kernel.
    pub converged_seconds: f64,
    /// Session tables.
    pub sessions: Vec<sessions::Table>,
    /// Routes of the agents.
    pub routes: Vec<routes::Table>,
    /// Traffic by the kernel and by XDP.
    pub traffic: Vec<traffic::Path>,
    /// What must hold.
    pub checks: Vec<Check>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(report) => {
            if report.checks.iter().all(|check| check.ok) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Report> {
    eprintln!(
        "raising the reference lab: spine, two leafs (FRR), six nodes (BIRD 1.6.8), gw1 (Underpass) ..."
    );
    let started = Instant::now();
    let name = cli.keep.then(|| "demo".to_owned());
    let mut lab = ReferenceLab::start(&Options { name, agents: AGENTS.to_vec(), ..Options::default() })?;
    lab.wait_converged(CONVERGENCE)?;
    let converged_seconds = started.elapsed().as_secs_f64();
    eprintln!("converged after {converged_seconds:.1} s, sending traffic ...");
    let mut checks = Vec::new();
    let sessions = sessions::collect(&mut lab, &mut checks)?;
    let traffic = traffic::run(&mut lab, &mut checks)?;
    // After the traffic: every neighbour that it needs is known by now.
    let routes = routes::collect(&mut lab, &mut checks)?;
    let report = Report { converged_seconds, sessions, routes, traffic, checks };
    screen::print(&report);
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    if cli.keep {
        lab.keep()?;
        eprintln!("the lab stays up: `cargo xtask lab --name demo status|exec|down`");
    }
    Ok(report)
}
