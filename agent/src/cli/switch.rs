//! Commands that act without the agent: the kill switch and the clean-up.

use std::fmt::Write;

use anyhow::{Context, bail};

use super::output::{self, Exit};
use crate::api::client;
use crate::api::model::Request;
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
pub(super) fn set_enabled(agent: &Agent, enabled: bool) -> anyhow::Result<Exit> {
    match control::set_enabled(&agent.bpffs, enabled) {
        Ok(()) if enabled => output::print("on: packets are forwarded by XDP while the agent runs\n"),
        Ok(()) => output::print("off: every packet is left to the kernel, until `underpass on`\n"),
        // What `off` is for holds already.
        Err(error @ ControlError::NotLoaded { .. }) if !enabled => {
            output::print(&format!("nothing to switch off: {error}\n"))
        }
        Err(error) => Err(error.into()),
    }
}

/// `underpass flush`: detaches the XDP programs, removes the maps, then our routes.
///
/// # Errors
/// An agent runs or may be running, something cannot be removed, or the kernel's routes cannot be read.
pub(super) fn flush(config: &Config) -> anyhow::Result<Exit> {
    refuse_while_running(&config.agent)?;
    // XDP first: without its programs no packet can follow a route that is being removed.
    let pins = pins::flush(&config.agent.bpffs)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let results = runtime.block_on(remove_routes(&config.kernel))?;
    let failed: Vec<&RouteError> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    let mut text = format!(
        "detached {} programs, removed {} maps and the routes of {} prefixes (table {}, protocol {})\n",
        pins.links,
        pins.maps,
        results.len() - failed.len(),
        config.kernel.table,
        config.kernel.protocol
    );
    for error in &failed {
        let _ = writeln!(text, "{error}");
    }
    output::print(&text)?;
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
