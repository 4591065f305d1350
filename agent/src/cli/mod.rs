//! The command line.
//!
//! Read commands ask the running agent over its socket. `off`, `on` and `flush` act on what is pinned
//! and on the kernel themselves, so that they work when no agent runs.

mod args;
mod check;
mod from_calico;
mod output;
mod query;
pub mod render;
mod switch;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::api::model::SCHEMA;
use crate::config::model::Agent;
use crate::config::{self, Config, Problem};
use args::{Cli, Command, ConfigCommand};
use output::{Exit, OutputFormat};

/// Parses the command line and runs the command. The exit code is 0 (fine), 1 (a problem was found or
/// the agent failed) or 2 (wrong usage or configuration, or no answer: cannot tell).
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Also --help and --version. Nobody to tell when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { Exit::CannotTell.into() } else { Exit::Fine.into() };
        }
    };
    match dispatch(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::print_error(&error);
            Exit::CannotTell.into()
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Run => run(cli),
        Command::Status(read) => query::status(&agent(cli)?, read.output),
        Command::Peers(read) => query::peers(&agent(cli)?, read.output),
        Command::Routes(read) => query::routes(&agent(cli)?, read.output),
        Command::Peer(order) => query::peer(&agent(cli)?, order),
        Command::Reload(read) => query::reload(&agent(cli)?, read.output),
        Command::Lookup(lookup) => query::lookup(&agent(cli)?, lookup),
        Command::Counters(read) => query::counters(&agent(cli)?, read.output),
        Command::Flush(read) => switch::flush(&config(cli)?.0, read.output),
        Command::Off(read) => switch::set_enabled(&agent(cli)?, false, read.output),
        Command::On(read) => switch::set_enabled(&agent(cli)?, true, read.output),
        Command::Config(ConfigCommand::Check(read)) => check::check(cli.config_path(), read.output),
        Command::Config(ConfigCommand::Example) => output::print(config::EXAMPLE),
        Command::Config(ConfigCommand::FromCalico(arguments)) => from_calico::from_calico(arguments),
        Command::Version(read) => version(read.output),
    }
}

/// The configuration with the command line's paths, refused when it has errors; and its warnings.
fn config(cli: &Cli) -> anyhow::Result<(Config, Vec<Problem>)> {
    Ok(cli.source().load()?)
}

/// Socket and pin folder, also of a file with errors, and without one the defaults.
fn agent(cli: &Cli) -> anyhow::Result<Agent> {
    let mut agent = match config::load_agent(cli.config_path()) {
        Ok(agent) => agent,
        Err(error) if cli.config.is_some() => return Err(error.into()),
        Err(_) => Agent::default(),
    };
    cli.source().override_paths(&mut agent);
    Ok(agent)
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let (config, warnings) = config(cli)?;
    crate::obs::log::init(&config.log)?;
    for warning in warnings {
        tracing::warn!("{}:{warning}", cli.config_path().display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    match runtime.block_on(crate::run::run(config, cli.source())) {
        Ok(()) => Ok(Exit::Fine),
        Err(error) => {
            tracing::error!("{}", output::describe(&error));
            Ok(Exit::Problem)
        }
    }
}

fn version(format: OutputFormat) -> anyhow::Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let abi = underpass_common::abi::ABI_VERSION;
    match format {
        OutputFormat::Table => output::print(&format!("underpass {version} (ABI {abi})\n")),
        OutputFormat::Json => {
            output::print_json(&serde_json::json!({ "schema": SCHEMA, "version": version, "abi": abi }))
        }
    }
}
