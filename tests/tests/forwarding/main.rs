//! Packets through the reference lab, by XDP and by the kernel: real UDP and TCP, with every byte, TTL
//! and counter checked.
//!
//! All tests take turns on one lab, which has Underpass on its five machines.

mod changes;
mod local;
mod paths;
mod reload;
mod slow_path;
mod switch;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use underpass::api::model::Lookup;
use underpass_tests::reference::{AGENTS, ReferenceLab, Turns};
use underpass_tests::topology::{self, CLIENT, GATEWAY_CLIENT};
use underpass_tests::wait;

/// For what the kernel, BIRD or an agent needs a moment for.
const SOON: Duration = Duration::from_secs(20);

/// So many that each of two next hops gets some.
const FLOWS: usize = 32;

static LAB: Turns = Turns::with_agents(AGENTS);

/// Address of a pod or a client.
fn address(machine: &str) -> IpAddr {
    IpAddr::V4(match machine {
        "client" => CLIENT,
        "gwclient" => GATEWAY_CLIENT,
        pod => topology::pod_address(pod).unwrap_or_else(|| panic!("{pod} has no address")),
    })
}

/// A port of a pod or a client.
fn target(machine: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address(machine), port)
}

/// Packets that an agent counted, by port and reason.
#[derive(Debug, Default)]
struct Counts(BTreeMap<(String, String), u64>);

impl Counts {
    /// As they stand.
    fn of(lab: &ReferenceLab, agent: &str) -> Self {
        let report = lab.agent(agent).client().counters().expect("the agent has counters");
        let rows = report.counters.into_iter().map(|row| ((row.interface, row.reason), row.packets));
        Self(rows.collect())
    }

    /// What has been added since.
    fn added(&self, lab: &ReferenceLab, agent: &str) -> Self {
        let now = Self::of(lab, agent).0.into_iter();
        let added = now.map(|(key, packets)| {
            let before = self.0.get(&key).copied().unwrap_or(0);
            let added = packets.checked_sub(before);
            (key, added.expect("counters never fall"))
        });
        Self(added.collect())
    }

    /// Packets from `port` with this outcome.
    fn get(&self, port: &str, reason: &str) -> u64 {
        self.0.get(&(port.to_owned(), reason.to_owned())).copied().unwrap_or(0)
    }

    /// Packets that XDP forwarded, from any port.
    fn forwarded(&self) -> u64 {
        let forwarded = self.0.iter().filter(|((_, reason), _)| reason.starts_with("forwarded"));
        forwarded.map(|(_, packets)| packets).sum()
    }
}

/// Asks an agent where packets from one machine to another go that come in on `port`.
fn lookup(lab: &ReferenceLab, agent: &str, port: &str, from: &str, to: &str) -> anyhow::Result<Lookup> {
    lab.agent(agent).client().lookup(address(to), Some(address(from)), Some(port))
}

/// Waits until an agent forwards from one machine to another: it may have to learn the neighbour first.
fn wait_forwards(lab: &ReferenceLab, agent: &str, port: &str, from: &str, to: &str) {
    wait::until(&format!("{agent} forwards from {from} to {to}"), SOON, || {
        let lookup = lookup(lab, agent, port, from, to)?;
        ensure!(lookup.agree, "XDP and kernel differ: {lookup:?}");
        ensure!(lookup.xdp.verdict != "pass", "{:?}", lookup.xdp);
        Ok(())
    })
    .expect("forwarded by XDP");
}

/// Runs `underpass on` or `underpass off` on a machine, as operators do.
fn switch(lab: &ReferenceLab, agent: &str, command: &str) {
    let output = lab.agent(agent).cli(&[command]).expect("underpass starts");
    assert!(output.status.success(), "{command} on {agent}: {}", String::from_utf8_lossy(&output.stderr));
}
