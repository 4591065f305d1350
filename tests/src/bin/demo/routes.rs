//! Routes of the agents in RIB, kernel and XDP.

use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;
use underpass::api::model::RouteStatus;
use underpass_tests::reference::ReferenceLab;
use underpass_tests::topology;

use crate::Check;

/// Agents whose tables are shown: a reflector, which compiles BIRD's routes, and the gateway, which has
/// its own.
const MACHINES: &[&str] = &["node1", "gw1"];

/// The routes of an agent.
#[derive(Debug, Serialize)]
pub struct Table {
    /// Machine.
    pub machine: String,
    /// Routes to pod blocks and client networks.
    pub routes: Vec<RouteStatus>,
    /// Prefixes in all: those above, addresses, broadcasts, pods, ranges.
    pub prefixes: usize,
    /// Those on which RIB, kernel and XDP agree.
    pub agreeing: usize,
    /// Destinations that were also looked up one by one, in the live program and in the kernel.
    pub looked_up: usize,
}

/// Asks the agents, and checks that the three places agree and that the fast path has what it should.
pub fn collect(lab: &mut ReferenceLab, checks: &mut Vec<Check>) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for &machine in MACHINES {
        let client = lab.agent(machine).client().clone();
        let routes = client.routes()?.routes;
        let disagreeing: Vec<String> =
            routes.iter().filter(|route| !route.agree).map(|route| route.prefix.to_string()).collect();
        checks.push(Check::new(
            format!("{machine}: RIB, kernel and XDP agree on all {} prefixes", routes.len()),
            disagreeing.is_empty(),
            || format!("they differ on {}", disagreeing.join(", ")),
        ));
        let remote: Vec<&str> = topology::nodes()
            .filter(|(_, node)| node.name != machine)
            .flat_map(|(_, node)| node.blocks.iter().copied())
            .collect();
        let forwarded = |block: &&str| {
            let found = routes.iter().find(|route| route.prefix.to_string() == **block);
            found.is_some_and(|route| route.xdp.as_ref().is_some_and(|xdp| xdp.verdict == "forward"))
        };
        let missing: Vec<&str> = remote.iter().filter(|block| !forwarded(block)).copied().collect();
        checks.push(Check::new(
            format!("{machine}: XDP forwards to the {} blocks of other nodes", remote.len()),
            missing.is_empty(),
            || format!("it does not to {}", missing.join(", ")),
        ));
        let mut wrong = Vec::new();
        let mut looked_up = 0;
        for (_, pod) in topology::pods() {
            let lookup = client.lookup(IpAddr::V4(pod.address), None, None)?;
            looked_up += 1;
            if !lookup.agree {
                wrong
                    .push(format!("{}: XDP {}, kernel {:?}", pod.address, lookup.xdp.verdict, lookup.kernel));
            }
        }
        checks.push(Check::new(
            format!("{machine}: the live program and the kernel answer alike for the address of every pod"),
            wrong.is_empty(),
            || wrong.join("; "),
        ));
        let agreeing = routes.len() - disagreeing.len();
        tables.push(Table {
            machine: machine.to_owned(),
            prefixes: routes.len(),
            agreeing,
            looked_up,
            routes: routes.into_iter().filter(is_network).collect(),
        });
    }
    Ok(tables)
}

/// Routes to blocks, services and clients: no host routes, no broadcasts.
fn is_network(route: &RouteStatus) -> bool {
    route.prefix.prefix_len() < 32 && route.kernel.is_some()
}
