//! Commands that act without the agent: the kill switch and the clean-up.

use std::fmt::Write;

use anyhow::{Context, bail};
use serde_json::json;

use super::output::{self, Exit, OutputFormat};
use crate::api::client;
use crate::api::model::{Request, SCHEMA};
use crate::config::Config;
use crate::config::model::{Agent, Kernel};
use crate::datapath::control::{self, ControlError};
use crate::datapath::pins;
use crate::netlink::monitor::Monitor;
use crate::netlink::route_writer::RouteWriter;
use crate::reconcile::kernel::{RouteError, RouteTarget, plan};

/// `underpass off` and `underpass on`: sets the kill switch in the pinned map.
///
/// # Errors
/// Nothing is loaded there, or the kernel refuses.
pub(super) fn set_enabled(agent: &Agent, enabled: bool, format: OutputFormat) -> anyhow::Result<Exit> {
    let (loaded, text) = match control::set_enabled(&agent.bpffs, enabled) {
        Ok(()) if enabled => (true, "on: packets are forwarded by XDP while the agent runs\n".to_owned()),
        Ok(()) => (true, "off: every packet is left to the kernel, until `underpass on`\n".to_owned()),
        // What `off` is for holds already.
        Err(error @ ControlError::NotLoaded { .. }) if !enabled => {
            (false, format!("nothing to switch off: {error}\n"))
        }
        Err(error) => return Err(error.into()),
    };
    match format {
        OutputFormat::Table => output::print(&text),
        OutputFormat::Json => {
            output::print_json(&json!({ "schema": SCHEMA, "enabled": enabled, "loaded": loaded }))
        }
    }
}

/// `underpass flush`: detaches the XDP programs, removes the maps, then our routes.
///
/// # Errors
/// An agent runs or may be running, something cannot be removed, or the kernel's routes cannot be read.
pub(super) fn flush(config: &Config, format: OutputFormat) -> anyhow::Result<Exit> {
    refuse_while_running(&config.agent)?;
    // XDP first: without its programs no packet can follow a route that is being removed.
    let pins = pins::flush(&config.agent.bpffs)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let results = runtime.block_on(remove_routes(&config.kernel))?;
    let failed: Vec<String> =
        results.iter().filter_map(|result| result.as_ref().err()).map(ToString::to_string).collect();
    let (routes, table, protocol) =
        (results.len() - failed.len(), config.kernel.table, config.kernel.protocol);
    match format {
        OutputFormat::Table => {
            let mut text = format!(
                "detached {} programs, removed {} maps and the routes of {routes} prefixes (table {table}, \
                 protocol {protocol})\n",
                pins.links, pins.maps
            );
            for error in &failed {
                let _ = writeln!(text, "{error}");
            }
            output::print(&text)?;
        }
        OutputFormat::Json => {
            output::print_json(&json!({
                "schema": SCHEMA, "programs": pins.links, "maps": pins.maps, "routes": routes,
                "table": table, "protocol": protocol, "errors": failed,
            }))?;
        }
    }
    Ok(if failed.is_empty() { Exit::Fine } else { Exit::Problem })
}

fn refuse_while_running(agent: &Agent) -> anyhow::Result<()> {
    match client::call(&agent.socket, &Request::Status) {
        Ok(_) => bail!(
            "the agent at {} is running and would put everything back; stop it first (`underpass off` stops \
             forwarding at once)",
            agent.socket.display()
        ),
        Err(error) if error.is_nobody_there() => Ok(()),
        Err(error) => {
            Err(error).context("cannot tell whether the agent is running, which must be stopped first")
        }
    }
}

/// One result per prefix that had routes of ours.
async fn remove_routes(kernel: &Kernel) -> anyhow::Result<Vec<Result<(), RouteError>>> {
    let monitor = Monitor::start().context("cannot read the kernel's routes")?;
    let ops = plan::flush(monitor.state(), kernel.into());
    let mut writer = RouteWriter::new().context("cannot open a netlink socket")?;
    Ok(writer.execute(&ops).await)
}
