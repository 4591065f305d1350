//! Session tables of the machines that the reference names.

use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;
use underpass_tests::reference::ReferenceLab;
use underpass_tests::topology;

use crate::Check;

/// Machines whose tables are shown.
const MACHINES: &[&str] = &["node1", "node3", "leaf01", "gw1"];

/// The sessions of a machine.
#[derive(Debug, Serialize)]
pub struct Table {
    /// Machine.
    pub machine: String,
    /// The program that has the sessions.
    pub daemon: &'static str,
    /// Sessions.
    pub sessions: Vec<Row>,
}

/// A session.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Peer's name in the lab.
    pub peer: String,
    /// Peer's address.
    pub address: IpAddr,
    /// Peer's AS.
    pub remote_as: u32,
    /// State.
    pub state: String,
    /// Routes taken in.
    pub received: usize,
}

/// Asks the daemons, and checks that each has the sessions of the reference and that all are up.
pub fn collect(lab: &mut ReferenceLab, checks: &mut Vec<Check>) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for &machine in MACHINES {
        let (daemon, sessions) = if machine == "gw1" {
            ("Underpass", own_sessions(lab)?)
        } else if topology::node(machine).is_some() {
            ("BIRD 1.6.8", daemon_sessions(lab, machine)?)
        } else {
            ("FRR", daemon_sessions(lab, machine)?)
        };
        let expected = topology::expected_peers(machine);
        let up = |peer: &IpAddr| {
            sessions.iter().any(|row: &Row| row.address == *peer && row.state == "Established")
        };
        let missing: Vec<String> = expected
            .iter()
            .map(|peer| IpAddr::V4(*peer))
            .filter(|peer| !up(peer))
            .map(|peer| peer.to_string())
            .collect();
        checks.push(Check::new(
            format!("{machine} has its {} sessions of the reference, all Established", expected.len()),
            missing.is_empty(),
            || format!("not established: {}", missing.join(", ")),
        ));
        tables.push(Table { machine: machine.to_owned(), daemon, sessions });
    }
    Ok(tables)
}

fn daemon_sessions(lab: &ReferenceLab, machine: &str) -> Result<Vec<Row>> {
    let sessions = lab.sessions(machine)?.into_iter().map(|session| Row {
        peer: name_of(session.peer),
        address: session.peer,
        remote_as: session.remote_as,
        state: session.state,
        received: session.imported,
    });
    Ok(sessions.collect())
}

fn own_sessions(lab: &mut ReferenceLab) -> Result<Vec<Row>> {
    let peers = lab.agent("gw1").client().peers()?.peers.into_iter().map(|peer| Row {
        peer: peer.name,
        address: peer.address,
        remote_as: peer.remote_as,
        state: peer.state,
        received: peer.received,
    });
    Ok(peers.collect())
}

/// The machine that has an address in the lab.
fn name_of(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    if address == topology::GATEWAY {
        return "gw1".to_owned();
    }
    if let Some((_, node)) = topology::nodes().find(|(_, node)| node.address == address) {
        return node.name.to_owned();
    }
    for rack in topology::RACKS {
        if address == rack.gateway || address == rack.uplink_address {
            return rack.leaf.to_owned();
        }
        if address == rack.spine_address {
            return "spine".to_owned();
        }
    }
    address.to_string()
}
