//! The forwarders on the router: rival programs, and an agent that runs there as it does anywhere.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use aya::Ebpf;
use aya::maps::{Array, DevMap};
use aya::programs::{ProgramInfo, XdpMode, loaded_programs};
use nix::net::if_::if_nametoindex;
use serde::Deserialize;
use underpass_common::abi::{self, Control, port_slot};
use underpass_common::nexthop::{NEXT_HOP_LIVE, NextHop, PORT_EGRESS, PORT_INGRESS, Port};
use underpass_tests::agent::Agent;

use crate::column::Column;
use crate::object;
use crate::rig::{EGRESS, EGRESS_MAC, ROUTED, Rig, next_hop_mac, router_mac};
use crate::traffic::Traffic;

/// Time for the agent to compile all routes after its start.
const READY: Duration = Duration::from_mins(1);
/// The next-hop row that `rival_floor` sends everything to.
const FLOOR_ROW: u32 = 1;

/// Everything that forwards besides the kernel.
pub struct Routers {
    /// Programs and maps live as long as this does.
    _rivals: Ebpf,
    /// Stops when this is dropped.
    _agent: Agent,
    program_ids: [Option<u32>; Column::ALL.len()],
}

/// What BPF statistics say about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramTime {
    /// Time in the program.
    pub time: Duration,
    /// Runs.
    pub runs: u64,
}

impl Routers {
    /// Attaches the rivals, starts the agent, waits until it has compiled the routes, and proves that every
    /// column forwards to all destinations.
    ///
    /// # Errors
    /// A program is refused, the agent ends or is not ready in time, or a column does not forward.
    pub fn start(rig: &Rig, traffic: &mut Traffic) -> anyhow::Result<Self> {
        let rivals = rig.router.enter(start_rivals)??;
        let mut agent = Agent::start(&rig.lab, "router", &agent_config())?;
        agent.wait_synced(READY)?;
        let mut program_ids = [None; Column::ALL.len()];
        for column in Column::ALL {
            prove(rig, traffic, &agent, column)?;
            program_ids[usize::from(column.number())] = program_id(rig, column)?;
        }
        Ok(Self { _rivals: rivals, _agent: agent, program_ids })
    }

    /// What the statistics say about a column's program; `None` for the kernel's column.
    ///
    /// # Errors
    /// The program is gone.
    pub fn program_time(&self, column: Column) -> anyhow::Result<Option<ProgramTime>> {
        let Some(id) = self.program_ids[usize::from(column.number())] else { return Ok(None) };
        let info: ProgramInfo = loaded_programs()
            .filter_map(Result::ok)
            .find(|info| info.id() == id)
            .with_context(|| format!("the program of the column {} is gone", column.label()))?;
        Ok(Some(ProgramTime { time: info.run_time(), runs: info.run_count() }))
    }
}

/// Fills the rivals' tables and attaches the rivals. Runs in the router's namespace: device maps and
/// names of devices belong to one.
fn start_rivals() -> anyhow::Result<Ebpf> {
    let mut object = object::open()?;
    let egress = if_nametoindex(EGRESS)?;
    let control = Control { lease_until: u64::MAX, enabled: 1, flow_seed: 0 };
    Array::try_from(object::map(&mut object, abi::map::CONTROL)?)?.set(0, control, 0)?;
    let row = NextHop {
        ifindex: egress,
        state: NEXT_HOP_LIVE,
        destination_mac: next_hop_mac(FLOOR_ROW),
        source_mac: EGRESS_MAC,
        mtu: 1500,
        reserved: [0; 2],
    };
    Array::try_from(object::map(&mut object, abi::map::NEXT_HOPS)?)?.set(FLOOR_ROW, row, 0)?;
    let mut devices = DevMap::try_from(object::map(&mut object, abi::map::TX_PORTS)?)?;
    devices.set(port_slot(egress), egress, None, 0)?;
    let port = Port { ifindex: egress, number: 1, flags: PORT_EGRESS, mac: EGRESS_MAC, ..Port::default() };
    set_port(&mut object, port)?;
    for (number, column) in (2..).zip(Column::ALL) {
        let Some(name) = column.rival() else { continue };
        let (ifindex, mac) = (if_nametoindex(column.port())?, router_mac(column));
        set_port(&mut object, Port { ifindex, number, flags: PORT_INGRESS, mac, ..Port::default() })?;
        let program = object::load(&mut object, name)?;
        program.attach(column.port(), XdpMode::Driver).with_context(|| format!("cannot attach {name}"))?;
    }
    Ok(object)
}

fn set_port(object: &mut Ebpf, port: Port) -> anyhow::Result<()> {
    let mut ports = Array::try_from(object::map(object, abi::map::PORTS)?)?;
    Ok(ports.set(port_slot(port.ifindex), port, 0)?)
}

/// The agent's configuration, as an operator would write it.
fn agent_config() -> String {
    format!(
        "[datapath]\nports = [\"{}\", \"{EGRESS}\"]\naccelerate = [\"{ROUTED}\"]\n",
        Column::Underpass.port()
    )
}

/// Sends one frame to every destination; all have to arrive by the way that the column is about.
fn prove(rig: &Rig, traffic: &mut Traffic, agent: &Agent, column: Column) -> anyhow::Result<()> {
    let frames = u32::try_from(rig.destinations.len()).context("destinations are few")?;
    let pass = traffic.pass(rig, column, frames)?;
    if pass.delivered == pass.sent {
        return Ok(());
    }
    let counters = if column == Column::Underpass { agent.client().counters()?.counters } else { Vec::new() };
    let reasons: Vec<_> = counters.iter().map(|row| format!("{} {}", row.packets, row.reason)).collect();
    bail!(
        "the column {} does not forward: of {} frames {} arrived, {} by the wrong way, {} with a wrong MAC or TTL; counters: {reasons:?}",
        column.label(),
        pass.sent,
        pass.delivered,
        pass.by_other_way,
        pass.unexpected
    )
}

/// The id of the program on a column's port; `None` for the kernel's column.
fn program_id(rig: &Rig, column: Column) -> anyhow::Result<Option<u32>> {
    #[derive(Deserialize)]
    struct Link {
        xdp: Option<Attached>,
    }
    #[derive(Deserialize)]
    struct Attached {
        prog: Program,
    }
    #[derive(Deserialize)]
    struct Program {
        id: u32,
    }
    let port = column.port();
    let links: Vec<Link> = rig.router.ip_json(&format!("link show dev {port}"))?;
    let attached = links.into_iter().next().and_then(|link| link.xdp).map(|attached| attached.prog.id);
    ensure!(attached.is_some() != (column == Column::Kernel), "{port} has a program: {}", attached.is_some());
    Ok(attached)
}
