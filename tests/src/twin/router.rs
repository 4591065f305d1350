//! One router with its ports and what left by them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use serde::Deserialize;

use super::outcome::{Cause, Outcome, Reader, describe, mac};
use super::wire::Wire;
use super::{Counts, Plan, Shot, port_index, port_mac};
use crate::lab::Lab;
use crate::netns::{self, Netns};
use crate::wait;
use crate::xdp::PassProgram;

/// Settings of every router. They keep the kernel's own chatter and limits out of the comparison:
/// neighbours that do not answer fail at once, those that exist never age, and ICMP errors are not limited.
const SYSCTLS: &[(&str, &str)] = &[
    ("ipv4.icmp_ratelimit", "0"),
    ("ipv4.icmp_ratemask", "0"),
    ("ipv4.icmp_msgs_per_sec", "1000000"),
    ("ipv4.icmp_msgs_burst", "1000000"),
    ("ipv6.icmp.ratelimit", "0"),
    // Of all types, only one that does not exist.
    ("ipv6.icmp.ratemask", "255"),
    ("ipv4.ip_forward", "1"),
    ("ipv4.conf.all.rp_filter", "0"),
    ("ipv4.conf.default.rp_filter", "0"),
];
/// Without IPv6.
const WITHOUT_IPV6: &[(&str, &str)] =
    &[("ipv6.conf.default.disable_ipv6", "1"), ("ipv6.conf.all.disable_ipv6", "1")];
/// With IPv6.
const WITH_IPV6: &[(&str, &str)] = &[
    ("ipv6.conf.all.forwarding", "1"),
    ("ipv6.conf.default.forwarding", "1"),
    ("ipv6.conf.default.accept_dad", "0"),
    ("ipv6.conf.default.accept_ra", "0"),
    ("ipv6.conf.default.router_solicitations", "0"),
];
/// Settings of every port's neighbours.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("mcast_solicit", "0"),
    ("app_solicit", "0"),
    ("delay_first_probe_time", "600"),
    ("base_reachable_time_ms", "3600000"),
];
/// Frames that are under way at a time: fewer than any queue holds.
const BATCH: usize = 32;
/// Longer than any port takes, and not too long for XDP in one buffer.
const FAR_MTU: u32 = 3000;

/// A router of a [`super::Twin`].
#[derive(Debug)]
pub struct Router {
    /// Its namespace.
    pub netns: Netns,
    /// The namespace of the far ends.
    pub wire: Netns,
    wires: Vec<Wire>,
    taps: Vec<Wire>,
    reader: Reader,
    outcomes: BTreeMap<u32, Outcome>,
    /// What left and belongs to no frame.
    pub strays: Outcome,
    /// Frames that were sent and not yet seen by the stack.
    sent: HashMap<(usize, Vec<u8>), u64>,
    /// Frames that the stack has seen.
    pub reached_stack: u64,
}

impl Router {
    /// Sets a router up.
    ///
    /// # Errors
    /// A command fails.
    pub fn raise(lab: &Lab, machine: &str, plan: &Plan, reader: &Reader) -> Result<Self> {
        let far = format!("{machine}-wire");
        let [netns, wire]: [Netns; 2] =
            lab.add_machines(&[machine, &far])?.try_into().expect("as many as asked for");
        netns.sysctl(SYSCTLS)?;
        netns.sysctl(if plan.ipv6 { WITH_IPV6 } else { WITHOUT_IPV6 })?;
        wire.sysctl(WITHOUT_IPV6)?;
        let mut commands = String::new();
        for (number, port) in plan.ports.iter().enumerate() {
            let _ = writeln!(
                commands,
                "link add name {} index {} address {} mtu {} netns {} type veth \
                 peer name f{number} mtu {FAR_MTU} netns {}",
                port.name,
                port_index(number),
                mac(&port_mac(number)),
                port.mtu,
                netns.name(),
                wire.name(),
            );
        }
        netns::ip(&commands)?;
        let pass = if machine == "fast" { Some(PassProgram::load(lab)?) } else { None };
        let numbers = 0..plan.ports.len();
        let up = |name: &str| format!("link set {name} up\n");
        wire.ip(&numbers.clone().map(|number| up(&format!("f{number}"))).collect::<String>())?;
        netns.ip(&plan.ports.iter().map(|port| up(&port.name)).collect::<String>())?;
        for number in numbers.clone() {
            if let Some(pass) = &pass {
                pass.attach(&wire, &format!("f{number}"))?;
            }
        }
        wait_up(&netns, plan)?;
        for port in &plan.ports {
            let families: &[&str] = if plan.ipv6 { &["ipv4", "ipv6"] } else { &["ipv4"] };
            let keys = families.iter().flat_map(|family| {
                NEIGHBOURS
                    .iter()
                    .map(move |(name, value)| (format!("{family}.neigh.{}.{name}", port.name), *value))
            });
            let keys: Vec<_> = keys.collect();
            netns.sysctl(&keys.iter().map(|(key, value)| (key.as_str(), *value)).collect::<Vec<_>>())?;
        }
        let sysctls: Vec<_> =
            plan.sysctls.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        netns.sysctl(&sysctls)?;
        netns.ip(&plan.commands)?;
        netns.ip6(&plan.commands6)?;
        let wires = numbers.map(|number| Wire::open(&wire, &format!("f{number}"))).collect::<Result<_>>()?;
        let taps = plan.ports.iter().map(|port| Wire::open(&netns, &port.name)).collect::<Result<_>>()?;
        Ok(Self {
            netns,
            wire,
            wires,
            taps,
            reader: reader.clone(),
            outcomes: BTreeMap::new(),
            strays: Vec::new(),
            sent: HashMap::new(),
            reached_stack: 0,
        })
    }

    /// Sends a frame into a port.
    ///
    /// # Errors
    /// The port does not take it.
    pub fn send(&mut self, shot: &Shot) -> Result<()> {
        let wire = &self.wires[shot.port];
        let mut tries = 0;
        while let Err(error) = wire.send(&shot.frame) {
            tries += 1;
            if tries == 20 {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        *self.sent.entry((shot.port, as_the_stack_sees(&shot.frame))).or_default() += 1;
        Ok(())
    }

    /// Takes in what has left since, and checks that what reached the stack is what was sent. Returns how
    /// many frames there were.
    ///
    /// # Errors
    /// A frame reached the stack that was never sent like that.
    pub fn collect(&mut self) -> Result<usize> {
        let mut count = 0;
        for (port, wire) in self.wires.iter().enumerate() {
            count += wire.drain(|frame| match self.reader.read(port, frame) {
                (Cause::Noise, _) => {}
                (Cause::Unknown, emission) => insert(&mut self.strays, emission),
                (Cause::Frame(tag), emission) => insert(self.outcomes.entry(tag).or_default(), emission),
            })?;
        }
        let mut altered = None;
        for (port, tap) in self.taps.iter().enumerate() {
            count += tap.drain(|frame| {
                self.reached_stack += 1;
                match self.sent.get_mut(&(port, frame.to_vec())) {
                    Some(left) if *left > 0 => *left -= 1,
                    _ => altered = Some((port, frame.to_vec())),
                }
            })?;
        }
        if let Some((port, frame)) = altered {
            bail!("port {port} of {}: never sent like this: {}", self.netns.name(), describe(&frame));
        }
        Ok(count)
    }

    /// What left because of a frame, sorted.
    pub fn outcome(&self, tag: u32) -> &Outcome {
        static NOTHING: Outcome = Vec::new();
        self.outcomes.get(&tag).unwrap_or(&NOTHING)
    }

    /// Sends frames, and takes in what has left between them.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::collect`].
    pub fn send_all(&mut self, shots: &[Shot]) -> Result<()> {
        for batch in shots.chunks(BATCH) {
            for shot in batch {
                self.send(shot)?;
            }
            self.collect()?;
        }
        Ok(())
    }

    /// Replaces the addresses that are the router's own.
    pub fn set_own(&mut self, own: &[IpNet]) {
        self.reader.own = own.to_vec();
    }

    /// Puts an outcome in the place of what was seen.
    pub fn set_outcome(&mut self, tag: u32, outcome: Outcome) {
        self.outcomes.insert(tag, outcome);
    }

    /// Forgets the outcomes of some frames.
    pub fn forget_those(&mut self, tags: impl Iterator<Item = u32>) {
        for tag in tags {
            self.outcomes.remove(&tag);
        }
    }

    /// Forgets outcomes and strays.
    pub fn forget(&mut self) {
        self.outcomes.clear();
        self.strays.clear();
        self.sent.clear();
    }

    /// Frames that the stack has not seen.
    pub fn unseen(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.sent.iter().filter(|(_, left)| **left > 0).map(|((port, frame), _)| (*port, frame.as_slice()))
    }

    /// Counters of the stack.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        Counts::of(&self.netns).with_context(|| format!("counters of {}", self.netns.name()))
    }
}

/// Waits until the kernel is done with the ports' coming up: it resets their IPv6 MTU then, a moment late.
fn wait_up(netns: &Netns, plan: &Plan) -> Result<()> {
    wait::until("the ports are up", Duration::from_secs(10), || {
        let links: Vec<Link> = netns.ip_json("link show")?;
        let up = |name: &str| links.iter().any(|link| link.ifname == name && link.operstate == "UP");
        ensure!(plan.ports.iter().all(|port| up(&port.name)), "not all are");
        Ok(())
    })
}

#[derive(Deserialize)]
struct Link {
    ifname: String,
    operstate: String,
}

/// Inserts in order.
fn insert(outcome: &mut Outcome, emission: super::Emission) {
    let at = outcome.partition_point(|other| *other < emission);
    outcome.insert(at, emission);
}

/// A tag is taken off before packet sockets see the frame.
fn as_the_stack_sees(frame: &[u8]) -> Vec<u8> {
    match frame {
        [macs @ .., _, _, _, _] if macs.len() < 14 => frame.to_vec(),
        _ if frame.len() >= 18 && matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]) => {
            [&frame[..12], &frame[16..]].concat()
        }
        _ => frame.to_vec(),
    }
}
