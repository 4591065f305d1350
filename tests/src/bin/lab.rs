//! `cargo xtask lab`: the reference lab for people.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use underpass_tests::agent;
use underpass_tests::lab;
use underpass_tests::netns::Netns;
use underpass_tests::reference::{self, AGENTS, Options, ReferenceLab};
use underpass_tests::topology::calico;

/// The reference lab in network namespaces.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask lab", bin_name = "cargo xtask lab")]
struct Cli {
    /// Name of the lab; several can be up.
    #[arg(long, global = true, default_value = lab::DEFAULT_NAME)]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Raise the lab and leave it up.
    Up(Up),
    /// Take the lab down.
    Down,
    /// Sessions of every machine, and what the agents say.
    Status,
    /// Run a command in the namespace of a machine: `exec node1 -- ip route`.
    Exec {
        /// node1 .. node6, leaf01, leaf02, spine, gw1, client, gwclient, pod1 .. pod6, pod3b, rack1, rack2.
        machine: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Up {
    /// Start no Underpass.
    #[arg(long)]
    no_agents: bool,
    /// The reflectors keep the next hop towards the leafs: no hairpin.
    #[arg(long)]
    next_hop_keep: bool,
    /// Stay until SIGINT or SIGTERM; the lab comes down with this process, however it ends.
    #[arg(long)]
    foreground: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Up(options) => up(&cli.name, options),
        Command::Down => lab::find(&cli.name).and_then(|dir| lab::down(&dir)),
        Command::Status => lab::find(&cli.name).and_then(|dir| status(&cli.name, &dir)),
        Command::Exec { machine, command } => exec(&cli.name, machine, command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab {}: {error:#}", cli.name);
            ExitCode::FAILURE
        }
    }
}

fn up(name: &str, up: &Up) -> Result<()> {
    // Blocked before any thread starts, so that only `wait` below takes them.
    let mut signals = SigSet::empty();
    if up.foreground {
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().context("cannot block signals")?;
    }
    let started = Instant::now();
    let options = Options {
        name: Some(name.to_owned()),
        agents: if up.no_agents { Vec::new() } else { AGENTS.to_vec() },
        calico: calico::Options { next_hop_keep: up.next_hop_keep },
    };
    let mut lab = ReferenceLab::start(&options)?;
    println!("lab {name}: started, waiting for sessions and routes");
    lab.wait_converged(Duration::from_mins(1))?;
    println!("lab {name}: up after {:.1} s", started.elapsed().as_secs_f64());
    let command = lab::command(name);
    println!("  {command} status");
    println!("  {command} exec node1 -- ip route");
    println!("  files of each machine are below {}", lab.lab().dir().display());
    if up.foreground {
        signals.wait().context("cannot wait for a signal")?;
        return Ok(());
    }
    println!("  {command} down");
    lab.keep()
}

fn status(name: &str, dir: &Path) -> Result<()> {
    println!(
        "{:8} {:16} {:>6}  {:12} {:>8} {:>5}  routes in table main",
        "machine", "peer", "AS", "state", "received", "sent"
    );
    let mut down = 0;
    for machine in reference::routers() {
        let routes = netns(name, machine).routes("main").map_or(0, |routes| routes.len());
        for (row, session) in reference::sessions(dir, machine)?.iter().enumerate() {
            println!(
                "{:8} {:16} {:>6}  {:12} {:>8} {:>5}  {}",
                if row == 0 { machine } else { "" },
                session.peer.to_string(),
                session.remote_as,
                session.state,
                session.imported,
                session.exported,
                if row == 0 { routes.to_string() } else { String::new() }
            );
            down += usize::from(!session.is_established());
        }
    }
    if down > 0 {
        println!("{down} sessions are not established (those with gw1 need its agent)");
    }
    println!();
    for machine in AGENTS.iter().filter(|machine| dir.join(machine).join("underpass.toml").is_file()) {
        match agent::Client::new(&dir.join(machine)).and_then(|client| client.status()) {
            Ok(status) => println!("{machine:8} {}", agent_line(&status)),
            Err(error) => println!("{machine:8} {error:#}"),
        }
    }
    Ok(())
}

/// One line about an agent.
fn agent_line(status: &underpass::api::model::Status) -> String {
    let mut parts = vec![format!("underpass {}, up {} s", status.version, status.uptime_seconds)];
    if let Some(datapath) = &status.datapath {
        let ports: Vec<_> = datapath.ports.iter().map(|port| port.interface.as_str()).collect();
        parts.push(format!(
            "XDP on {}: {} of {} prefixes forwarded, {}",
            ports.join(" and "),
            datapath.prefixes_forwarding,
            datapath.prefixes,
            if datapath.synced { "synced" } else { "behind" }
        ));
    }
    if let Some(bgp) = &status.bgp {
        parts.push(format!("{} of {} sessions, {} prefixes", bgp.established, bgp.peers, bgp.prefixes));
    }
    parts.extend(status.problems.iter().map(|problem| format!("PROBLEM: {problem}")));
    parts.join("; ")
}

fn exec(name: &str, machine: &str, command: &[String]) -> Result<()> {
    lab::find(name)?;
    let netns = netns(name, machine);
    if !netns.path().exists() {
        bail!("there is no machine {machine}; see `cargo xtask lab help exec`");
    }
    let [program, arguments @ ..] = command else { bail!("no command given") };
    let error = netns.command(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}

fn netns(name: &str, machine: &str) -> Netns {
    Netns::named(format!("{}-{machine}", lab::named_id(name)))
}
