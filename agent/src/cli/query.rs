//! Commands that ask the running agent.

use std::io::IsTerminal;

use anyhow::{anyhow, bail};
use serde::Serialize;

use super::args;
use super::output::{self, Exit, OutputFormat};
use super::render::{self, Style};
use crate::api::client;
use crate::api::model::{Request, Response};
use crate::config::model::Agent;

pub(super) fn status(agent: &Agent, format: OutputFormat) -> anyhow::Result<Exit> {
    let Response::Status(report) = ask(agent, &Request::Status)? else { return Err(wrong_report()) };
    show(&report, format, render::status)?;
    Ok(if report.problems.is_empty() { Exit::Fine } else { Exit::Problem })
}

pub(super) fn peers(agent: &Agent, format: OutputFormat) -> anyhow::Result<Exit> {
    let Response::Peers(report) = ask(agent, &Request::Peers)? else { return Err(wrong_report()) };
    show(&report, format, render::peers)
}

pub(super) fn routes(agent: &Agent, format: OutputFormat) -> anyhow::Result<Exit> {
    let Response::Routes(report) = ask(agent, &Request::Routes)? else { return Err(wrong_report()) };
    show(&report, format, render::routes)
}

pub(super) fn lookup(agent: &Agent, lookup: &args::Lookup) -> anyhow::Result<Exit> {
    let request = Request::Lookup {
        address: lookup.address,
        source: lookup.source,
        interface: lookup.interface.clone(),
    };
    let Response::Lookup(report) = ask(agent, &request)? else { return Err(wrong_report()) };
    show(&report, lookup.read.output, render::lookup)?;
    Ok(if report.agree { Exit::Fine } else { Exit::Problem })
}

pub(super) fn counters(agent: &Agent, format: OutputFormat) -> anyhow::Result<Exit> {
    let Response::Counters(report) = ask(agent, &Request::Counters)? else { return Err(wrong_report()) };
    show(&report, format, render::counters)
}

pub(super) fn peer(agent: &Agent, order: &args::Order) -> anyhow::Result<Exit> {
    let request =
        Request::Peer { peer: order.peer.clone(), action: order.action, message: order.message.clone() };
    let Response::Done(report) = ask(agent, &request)? else { return Err(wrong_report()) };
    show(&report, order.read.output, render::done)
}

pub(super) fn reload(agent: &Agent, format: OutputFormat) -> anyhow::Result<Exit> {
    let Response::Reloaded(report) = ask(agent, &Request::Reload)? else { return Err(wrong_report()) };
    show(&report, format, render::reloaded)?;
    Ok(if report.problems.is_empty() { Exit::Fine } else { Exit::Problem })
}

fn ask(agent: &Agent, request: &Request) -> anyhow::Result<Response> {
    match client::call(&agent.socket, request)? {
        Response::Error { message } => bail!(message),
        response => Ok(response),
    }
}

fn wrong_report() -> anyhow::Error {
    anyhow!(
        "the agent sent another report than the one asked for; are agent and command of the same version?"
    )
}

fn show<R: Serialize>(
    report: &R,
    format: OutputFormat,
    render: fn(&R, Style) -> String,
) -> anyhow::Result<Exit> {
    match format {
        OutputFormat::Json => output::print_json(report),
        OutputFormat::Table => {
            let style = if std::io::stdout().is_terminal() { Style::Ruled } else { Style::Plain };
            output::print(&render(report, style))
        }
    }
}
