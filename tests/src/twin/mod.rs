//! Twin routers: the kernel alone, and the kernel with Underpass, set up alike and given the same frames.
//!
//! Each router is a namespace whose ports are veths; their far ends are in a second namespace without
//! addresses, where packet sockets put frames in and see what comes out. Both routers have the same interface
//! indexes and MAC addresses, so that what leaves them can be compared byte for byte.

mod counts;
mod outcome;
mod router;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;

pub use self::counts::{Counts, Reasons, forwarded};
pub use self::outcome::{Cause, Emission, Outcome, Reader, describe, describe_outcome, hex, mac};
pub use self::router::Router;
pub use self::wire::Wire;
use crate::agent::Agent;
use crate::lab::Lab;

/// For an agent on two busy cores.
const SYNC: Duration = Duration::from_secs(30);

/// A port of both routers.
#[derive(Clone, Debug)]
pub struct PortPlan {
    /// Name; the far end is called `f` and the port's number.
    pub name: String,
    /// MTU in bytes; that of the far end is 3000.
    pub mtu: u32,
}

/// What both routers are set up with.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Ports by number, all up.
    pub ports: Vec<PortPlan>,
    /// Sysctls below `net`, set when the ports are there.
    pub sysctls: Vec<(String, String)>,
    /// `ip` commands: addresses, neighbours, routes, rules.
    pub commands: String,
    /// `ip -6` commands, run after the others.
    pub commands6: String,
    /// IPv6 is on: with addresses at once, and without autoconfiguration.
    pub ipv6: bool,
    /// The routers' own addresses.
    pub own: Vec<IpNet>,
    /// Sections of the agent's configuration.
    pub sections: String,
}

/// A frame for both routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Number of the port that it comes in on.
    pub port: usize,
    /// What the frame carries to be recognised by ([`Reader`]).
    pub tag: u32,
    /// Ethernet frame.
    pub frame: Vec<u8>,
}

/// MAC address of a router's port.
pub fn port_mac(port: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, u8::try_from(port).expect("few ports")]
}

/// Interface index of a router's port.
pub fn port_index(port: usize) -> u32 {
    101 + u32::try_from(port).expect("few ports")
}

/// The two routers, and the agent on the second one.
#[derive(Debug)]
pub struct Twin {
    agent: Agent,
    /// The kernel alone.
    pub plain: Router,
    /// The kernel with Underpass.
    pub fast: Router,
    // Last: the agent ends before its namespace.
    lab: Lab,
}

impl Twin {
    /// Raises both routers and waits until the agent's tables are complete.
    ///
    /// # Errors
    /// Not root, a command of the plan fails, or the agent does not start.
    pub fn raise(plan: &Plan) -> Result<Self> {
        let lab = Lab::new()?;
        let reader = Reader { own: plan.own.clone() };
        let plain = Router::raise(&lab, "plain", plan, &reader)?;
        let fast = Router::raise(&lab, "fast", plan, &reader)?;
        let mut agent = Agent::start(&lab, "fast", &plan.sections)?;
        agent.wait_synced(SYNC)?;
        Ok(Self { agent, plain, fast, lab })
    }

    /// The lab that the routers are in.
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The agent on the fast router.
    pub const fn agent(&self) -> &Agent {
        &self.agent
    }

    /// As [`Twin::agent`], to stop and restart it.
    pub const fn agent_mut(&mut self) -> &mut Agent {
        &mut self.agent
    }

    /// Runs `ip` commands on both routers.
    ///
    /// # Errors
    /// A command fails.
    pub fn ip(&self, commands: &str) -> Result<()> {
        self.plain.netns.ip(commands)?;
        self.fast.netns.ip(commands)
    }

    /// Runs `ip -6` commands on both routers.
    ///
    /// # Errors
    /// A command fails.
    pub fn ip6(&self, commands: &str) -> Result<()> {
        self.plain.netns.ip6(commands)?;
        self.fast.netns.ip6(commands)
    }

    /// What the XDP program has counted so far.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn reasons(&self) -> Result<Reasons> {
        Reasons::of(self.agent.client())
    }

    /// Sends frames to both routers and collects what comes out, until nothing more does.
    ///
    /// # Errors
    /// A frame cannot be sent, or frames of the fast router reached its stack altered.
    pub fn send(&mut self, shots: &[Shot]) -> Result<()> {
        self.plain.send_all(shots)?;
        self.fast.send_all(shots)?;
        self.settle()
    }

    /// Collects until nothing has come for a moment.
    ///
    /// # Errors
    /// As [`Twin::send`].
    pub fn settle(&mut self) -> Result<()> {
        let mut quiet = 0;
        while quiet < 3 {
            std::thread::sleep(Duration::from_millis(1));
            let new = self.plain.collect()? + self.fast.collect()?;
            quiet = if new == 0 { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    /// The tags whose outcomes differ. What is late is waited for.
    ///
    /// # Errors
    /// As [`Twin::send`].
    pub fn differing(&mut self, shots: &[Shot]) -> Result<Vec<u32>> {
        let mut tags = Vec::new();
        for pause in [0, 20, 200, 1000] {
            std::thread::sleep(Duration::from_millis(pause));
            self.settle()?;
            let differ = |tag: &u32| self.plain.outcome(*tag) != self.fast.outcome(*tag);
            tags = shots.iter().map(|shot| shot.tag).filter(differ).collect();
            if tags.is_empty() && self.plain.strays == self.fast.strays {
                return Ok(tags);
            }
        }
        ensure!(
            self.plain.strays == self.fast.strays,
            "frames that nothing explains: the kernel alone sent {:?}, with Underpass {:?}",
            self.plain.strays,
            self.fast.strays
        );
        Ok(tags)
    }

    /// Replaces the addresses that are the routers' own.
    pub fn set_own(&mut self, own: &[IpNet]) {
        for router in [&mut self.plain, &mut self.fast] {
            router.set_own(own);
        }
    }

    /// Forgets all outcomes.
    pub fn forget(&mut self) {
        self.plain.forget();
        self.fast.forget();
    }

    /// Sends one frame and gives both outcomes, the kernel's first, and the reasons counted for it.
    ///
    /// # Errors
    /// As [`Twin::send`].
    pub fn try_one(&mut self, shot: &Shot) -> Result<(Outcome, Outcome, BTreeMap<String, u64>)> {
        let before = self.reasons()?;
        self.forget();
        self.send(std::slice::from_ref(shot))?;
        self.differing(std::slice::from_ref(shot))?;
        let reasons = self.reasons()?.since(&before);
        Ok((self.plain.outcome(shot.tag).clone(), self.fast.outcome(shot.tag).clone(), reasons))
    }
}
