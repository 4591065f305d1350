//! The reference lab: the cluster of [`crate::topology`] in namespaces, with real daemons.
//!
//! * Nodes route as Debian and Calico set them up: forwarding on, loose reverse-path filter, redirects at
//!   their default, a static default route to the leaf, pods behind `cali*` veths with proxy ARP.
//! * The leafs and the spine hash flows on ports too, as switches do.
//! * Traffic from pods to the clients behind gw1 goes by the leaf, which has a static route to gw1 and
//!   announces it.
//! * A rack is a bridge in a namespace of its own; its ports, and the client's port behind gw1, run an XDP
//!   pass program and compute checksums, so that the veths of the machines behave like NICs.

mod build;
mod turns;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

pub use self::turns::{Turn, Turns};
use crate::agent::Agent;
use crate::daemon::{Bird, Frr, Session, bird, frr};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::topology::{self, RACKS, agents, calico, switch};
use crate::wait;

/// Machines that run Underpass in the reference.
pub const AGENTS: &[&str] = &["node1", "node2", "node4", "node5", "gw1"];

/// What differs between reference labs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of a lab for people; without it the lab has a name of its own.
    pub name: Option<String>,
    /// Machines on which Underpass is started, of [`AGENTS`].
    pub agents: Vec<&'static str>,
    /// Calico's settings.
    pub calico: calico::Options,
}

/// The running reference lab. It comes down when this is dropped.
#[derive(Debug)]
pub struct ReferenceLab {
    // In the order of dropping: agents before the daemons, all before the namespaces.
    agents: BTreeMap<String, Agent>,
    birds: BTreeMap<String, Bird>,
    frrs: BTreeMap<String, Frr>,
    calico: calico::Options,
    lab: Lab,
}

impl ReferenceLab {
    /// Raises the lab and starts its daemons and agents, without waiting for routes.
    ///
    /// # Errors
    /// Not root, something is not installed, or a daemon does not start.
    pub fn start(options: &Options) -> Result<Self> {
        let lab = match &options.name {
            Some(name) => Lab::named(name)?,
            None => Lab::new()?,
        };
        build::network(&lab).context("cannot build the network")?;
        let (birds, frrs) = start_daemons(&lab, options.calico)?;
        let mut reference = Self { agents: BTreeMap::new(), birds, frrs, calico: options.calico, lab };
        for machine in &options.agents {
            reference.start_agent(machine)?;
        }
        Ok(reference)
    }

    /// [`ReferenceLab::start`], then [`ReferenceLab::wait_converged`] for a minute.
    ///
    /// # Errors
    /// As both.
    pub fn converged(options: &Options) -> Result<Self> {
        let mut reference = Self::start(options)?;
        reference.wait_converged(Duration::from_mins(1))?;
        Ok(reference)
    }

    /// Folder, id and bpffs.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The namespace of a machine.
    pub fn netns(&self, machine: &str) -> Netns {
        self.lab.netns(machine)
    }

    /// The BIRD of a node.
    ///
    /// # Panics
    /// It is no node.
    pub fn bird(&self, node: &str) -> &Bird {
        self.birds.get(node).unwrap_or_else(|| panic!("{node} has no BIRD"))
    }

    /// As [`ReferenceLab::bird`], to stop, kill and restart it.
    ///
    /// # Panics
    /// It is no node.
    pub fn bird_mut(&mut self, node: &str) -> &mut Bird {
        self.birds.get_mut(node).unwrap_or_else(|| panic!("{node} has no BIRD"))
    }

    /// The FRR of a switch.
    ///
    /// # Panics
    /// It is no switch.
    pub fn frr(&self, switch: &str) -> &Frr {
        self.frrs.get(switch).unwrap_or_else(|| panic!("{switch} has no FRR"))
    }

    /// As [`ReferenceLab::frr`], to stop, kill and restart its bgpd.
    ///
    /// # Panics
    /// It is no switch.
    pub fn frr_mut(&mut self, switch: &str) -> &mut Frr {
        self.frrs.get_mut(switch).unwrap_or_else(|| panic!("{switch} has no FRR"))
    }

    /// The agent of a machine.
    ///
    /// # Panics
    /// It was not started.
    pub fn agent(&self, machine: &str) -> &Agent {
        self.agents.get(machine).unwrap_or_else(|| panic!("no agent was started on {machine}"))
    }

    /// As [`ReferenceLab::agent`], to wait for, stop, kill and restart it.
    ///
    /// # Panics
    /// It was not started.
    pub fn agent_mut(&mut self, machine: &str) -> &mut Agent {
        self.agents.get_mut(machine).unwrap_or_else(|| panic!("no agent was started on {machine}"))
    }

    /// Starts Underpass on a machine with its configuration of the reference.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_agent(&mut self, machine: &str) -> Result<&mut Agent> {
        let sections = if machine == "gw1" { agents::gateway() } else { agents::node() };
        self.start_agent_with(machine, &sections)
    }

    /// Starts Underpass on a machine with these sections of the configuration.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_agent_with(&mut self, machine: &str, sections: &str) -> Result<&mut Agent> {
        let agent = Agent::start(&self.lab, machine, sections)?;
        self.agents.insert(machine.to_owned(), agent);
        Ok(self.agent_mut(machine))
    }

    /// Takes an agent out of the lab; dropping it kills it.
    pub fn take_agent(&mut self, machine: &str) -> Option<Agent> {
        self.agents.remove(machine)
    }

    /// The sessions of a machine's BIRD or FRR, sorted by peer, gw1's included.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn sessions(&self, machine: &str) -> Result<Vec<Session>> {
        sessions(self.lab.dir(), machine)
    }

    /// Waits until every session of the reference is Established, the routes of all nodes are in every
    /// kernel (gw1's too when its agent was started), and the agents that were started are synced.
    ///
    /// # Errors
    /// Something is missing after `deadline`; the text says what.
    pub fn wait_converged(&mut self, deadline: Duration) -> Result<()> {
        wait::until("the reference lab has converged", deadline, || {
            self.check_sessions()?;
            self.check_routes()
        })?;
        for agent in self.agents.values_mut() {
            agent.wait_synced(deadline)?;
        }
        if self.agents.contains_key("gw1") {
            wait::until("gw1 has its routes", deadline, || self.check_routes_of("gw1"))?;
        }
        Ok(())
    }

    fn check_sessions(&self) -> Result<()> {
        for machine in routers() {
            let sessions = self.sessions(machine)?;
            for peer in topology::expected_peers(machine) {
                let session = sessions.iter().find(|session| session.peer == IpAddr::V4(peer));
                let session = session.with_context(|| format!("{machine} has no peer {peer}"))?;
                ensure!(session.is_established(), "{machine}: {peer} is {}", session.state);
            }
        }
        Ok(())
    }

    fn check_routes(&self) -> Result<()> {
        routers().try_for_each(|machine| self.check_routes_of(machine))
    }

    /// Every block of other nodes is in the machine's kernel, and a leaf uses all of its reflectors, which
    /// name themselves as next hop unless they are told to keep it.
    fn check_routes_of(&self, machine: &str) -> Result<()> {
        let routes = self.netns(machine).routes("main")?;
        for (rack, node) in topology::nodes().filter(|(_, node)| node.name != machine) {
            for block in node.blocks {
                let route = routes.iter().find(|route| route.prefix.to_string() == *block);
                let route = route.with_context(|| format!("{machine} has no route to {block}"))?;
                let spread = rack.leaf == machine && !self.calico.next_hop_keep;
                let wanted = if spread { rack.reflectors().count() } else { 1 };
                let found = route.next_hops.len();
                ensure!(found >= wanted, "{machine} has {found} of {wanted} next hops for {block}");
            }
        }
        Ok(())
    }

    /// Leaves the lab up, agents and daemons included, until `cargo xtask lab down`.
    ///
    /// # Errors
    /// As [`Lab::keep`].
    pub fn keep(self) -> Result<()> {
        let Self { agents, birds, frrs, lab, .. } = self;
        // Their destructors would kill the processes.
        std::mem::forget((agents, birds, frrs));
        lab.keep()
    }
}

/// Machines with a BIRD or an FRR, in the order of the reference's table.
pub fn routers() -> impl Iterator<Item = &'static str> {
    let switches = std::iter::once("spine").chain(RACKS.iter().map(|rack| rack.leaf));
    switches.chain(topology::nodes().map(|(_, node)| node.name))
}

/// The sessions of a machine's BIRD or FRR, sorted by peer, in the lab with run folder `dir`.
///
/// # Errors
/// The daemon does not answer, or the machine has none.
pub fn sessions(dir: &Path, machine: &str) -> Result<Vec<Session>> {
    let dir = dir.join(machine);
    let mut sessions = if topology::node(machine).is_some() {
        bird::Client::new(dir.join("bird.ctl")).sessions()?
    } else if routers().any(|router| router == machine) {
        frr::Client::new(dir).sessions()?
    } else {
        bail!("{machine} has neither BIRD nor FRR");
    };
    sessions.sort();
    Ok(sessions)
}

type Daemons = (BTreeMap<String, Bird>, BTreeMap<String, Frr>);

/// Starts all daemons at once: each takes a fraction of a second to open its socket.
fn start_daemons(lab: &Lab, options: calico::Options) -> Result<Daemons> {
    thread::scope(|scope| {
        let birds: Vec<_> = topology::nodes()
            .map(|(rack, node)| {
                let config = calico::config(rack, node, options);
                let start = move || Bird::start(lab, node.name, bird::Version::V1, &config);
                (node.name, scope.spawn(start))
            })
            .collect();
        let switches = RACKS.iter().map(|rack| (rack.leaf, switch::leaf(rack)));
        let frrs: Vec<_> = std::iter::once(("spine", switch::spine()))
            .chain(switches)
            .map(|(name, config)| (name, scope.spawn(move || Frr::start(lab, name, &config))))
            .collect();
        Ok((join(birds)?, join(frrs)?))
    })
}

fn join<T>(
    threads: Vec<(&'static str, thread::ScopedJoinHandle<'_, Result<T>>)>,
) -> Result<BTreeMap<String, T>> {
    let join = |(name, thread): (&str, thread::ScopedJoinHandle<'_, Result<T>>)| {
        let started = thread.join().map_err(|_| anyhow!("starting the daemon of {name} panicked"))?;
        Ok((name.to_owned(), started.with_context(|| format!("cannot start the daemon of {name}"))?))
    };
    threads.into_iter().map(join).collect()
}
