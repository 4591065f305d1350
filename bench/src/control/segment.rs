//! The rig: reflectors and a receiver in namespaces of their own on one segment.
//!
//! ```text
//! feeder1 ──┐
//!           segment (bridge) ── eth0 receiver
//! feeder2 ──┘
//! ```

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipnet::IpNet;
use underpass_tests::daemon::Bird;
use underpass_tests::daemon::bird::Version;
use underpass_tests::lab::Lab;
use underpass_tests::netns::Netns;
use underpass_tests::wait;
use underpass_tests::xdp::PassProgram;

use crate::rig::{QUIET, mac_text, make_router};
use crate::routes::{Family, Routes};

/// The AS of reflectors and receiver.
pub const AUTONOMOUS_SYSTEM: u32 = 64512;
/// The receiver.
pub const RECEIVER: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// The segment.
pub const SEGMENT: &str = "198.19.0.0/16";
/// Next hops of the routes: hosts of the segment.
pub const NEXT_HOPS: u32 = 200;
/// Kinds of paths that the reflectors announce to each next hop: with the next hops, 4,000 sets of attributes.
const PATHS: u32 = 20;
/// Namespace of the receiver, and of the bridge.
pub const MACHINE: &str = "receiver";
const BRIDGE: &str = "segment";
/// A reflector reads a million routes from its configuration first.
const LOADING: Duration = Duration::from_mins(2);

/// The segment with its reflectors, which have their routes and no session yet.
pub struct Segment {
    /// Owner of the namespaces.
    pub lab: Lab,
    /// Where the receiver runs.
    pub receiver: Netns,
    feeders: Vec<Bird>,
}

impl Segment {
    /// Raises it with so many machines for reflectors, which are not started.
    ///
    /// # Errors
    /// A namespace or link cannot be made.
    pub fn raise(reflectors: usize) -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        let feeders: Vec<String> = (1..=reflectors).map(machine).collect();
        let machines: Vec<&str> =
            [BRIDGE, MACHINE].into_iter().chain(feeders.iter().map(String::as_str)).collect();
        for namespace in lab.add_machines(&machines)? {
            namespace.sysctl(&QUIET)?;
        }
        let (bridge, receiver) = (lab.netns(BRIDGE), lab.netns(MACHINE));
        make_router(&receiver, Family::Ipv4)?;
        bridge.ip(&bridge_commands(&receiver, &feeders, &lab))?;
        // A veth transmits frames of XDP only to a peer that takes them.
        PassProgram::load(&lab)?.attach(&bridge, MACHINE)?;
        receiver.ip(&receiver_commands())?;
        for (number, feeder) in feeders.iter().enumerate() {
            let address = reflector(number + 1);
            lab.netns(feeder).ip(&format!("address add {address}/16 dev eth0\nlink set eth0 up\n"))?;
        }
        Ok(Self { lab, receiver, feeders: Vec::new() })
    }

    /// Starts the reflectors and waits until they have all routes.
    ///
    /// # Errors
    /// BIRD does not start or lacks routes.
    pub fn feed(&mut self, reflectors: usize, routes: &Routes) -> anyhow::Result<()> {
        for number in 1..=reflectors {
            let config = reflector_config(number, routes);
            self.feeders.push(Bird::start(&self.lab, &machine(number), Version::V2, &config)?);
        }
        let wanted = format!("for {} networks", routes.prefixes.len());
        for feeder in &self.feeders {
            wait::until("a reflector has its routes", LOADING, || {
                let count = feeder.client().command("show route count")?;
                ensure!(count.contains(&wanted), "{}", count.trim());
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The first reflector's namespace, for a generator in its place.
    pub fn generator(&self) -> Netns {
        self.lab.netns(&machine(1))
    }

    /// Has the reflectors open their sessions.
    ///
    /// # Errors
    /// BIRD refuses.
    pub fn open(&self) -> anyhow::Result<()> {
        self.feeders.iter().try_for_each(|feeder| feeder.client().command("enable receiver").map(drop))
    }

    /// Keeps the reflectors going: BIRD 2.0 may go to sleep with routes left to send, for the three seconds of its
    /// main loop, and a command wakes it.
    ///
    /// # Errors
    /// BIRD does not answer.
    pub fn nudge(&self) -> anyhow::Result<()> {
        self.feeders.iter().try_for_each(|feeder| feeder.client().command("show status").map(drop))
    }

    /// How long ago the first session was established; `None` while there is none.
    ///
    /// # Errors
    /// BIRD does not answer.
    pub fn established(&self) -> anyhow::Result<Option<Duration>> {
        let mut oldest = None;
        for feeder in &self.feeders {
            let answer = feeder.client().command("show protocols \"receiver\"")?;
            if answer.contains("Established") {
                oldest = oldest.max(Some(age(&answer)?));
            }
        }
        Ok(oldest)
    }
}

/// The age of a state in the answer to `show protocols`, by its second within the minute: that is the same in
/// every time zone.
fn age(answer: &str) -> anyhow::Result<Duration> {
    let time = answer.split_whitespace().find(|word| word.matches(':').count() == 2);
    let second = time.and_then(|time| time.rsplit(':').next()?.parse().ok());
    let second: f64 = second.with_context(|| format!("BIRD's answer has no time: {answer}"))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    Ok(Duration::from_secs_f64((now - second).rem_euclid(60.0)))
}

fn machine(number: usize) -> String {
    format!("feeder{number}")
}

/// Address of reflector 1, 2, and so on.
pub fn reflector(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(RECEIVER.to_bits() + u32::try_from(number).unwrap_or(u32::MAX))
}

/// Address of a next hop.
pub fn next_hop(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(RECEIVER.to_bits() + 256 + number)
}

/// MAC address of a next hop.
pub const fn next_hop_mac(number: u32) -> [u8; 6] {
    let [low, high, ..] = number.to_le_bytes();
    [0x02, 0, 0, 0x53, high, low]
}

fn bridge_commands(receiver: &Netns, feeders: &[String], lab: &Lab) -> String {
    let mut lines = String::from("link add br0 type bridge\nlink set br0 up\n");
    let feeders = feeders.iter().map(|feeder| (feeder.as_str(), lab.netns(feeder)));
    for (name, far) in feeders.chain([(MACHINE, receiver.clone())]) {
        // Writing to a String cannot fail.
        let _ = write!(
            lines,
            "link add {name} type veth peer name eth0 netns {}\nlink set {name} master br0\nlink set {name} up\n",
            far.name()
        );
    }
    lines
}

fn receiver_commands() -> String {
    let mut lines = format!("address add {RECEIVER}/16 dev eth0\nlink set eth0 up\n");
    for number in 0..NEXT_HOPS {
        let (address, mac) = (next_hop(number), mac_text(next_hop_mac(number)));
        let _ = writeln!(lines, "neigh add {address} lladdr {mac} dev eth0 nud permanent");
    }
    lines
}

/// The routes with the numbers of their next hops: one after the other, so that every stretch of them has all.
pub fn with_next_hops(routes: &Routes) -> impl Iterator<Item = (IpNet, u32)> {
    routes.prefixes.iter().copied().zip((0..NEXT_HOPS).cycle())
}

/// A reflector of its own routes, static ones, whose AS paths and communities differ by protocol.
fn reflector_config(number: usize, routes: &Routes) -> String {
    let address = reflector(number);
    let mut text = String::with_capacity(routes.prefixes.len() * 48);
    let _ = write!(
        text,
        "router id {address};\ntimeformat protocol iso long us;\nprotocol device {{ }}\n\
         protocol bgp receiver {{\n disabled;\n direct;\n local {address} as {AUTONOMOUS_SYSTEM};\n \
         neighbor {RECEIVER} as {AUTONOMOUS_SYSTEM};\n rr client;\n connect delay time 1;\n \
         ipv4 {{ import none; export all; }};\n}}\n"
    );
    for path in 0..PATHS {
        let _ = writeln!(text, "protocol static paths{path} {{\n ipv4 {{ import filter {{");
        for hop in 0..=path % 4 {
            let _ = writeln!(text, "  bgp_path.prepend({});", 65000 + 10 * path + hop);
        }
        let _ = writeln!(text, "  bgp_community.add((64512, {path}));\n  accept;\n }}; }};");
        let of_path = with_next_hops(routes).enumerate().filter(|(index, _)| {
            let turn = u32::try_from(index / NEXT_HOPS as usize).unwrap_or(u32::MAX);
            turn % PATHS == path
        });
        for (_, (prefix, hop)) in of_path {
            let _ = writeln!(text, " route {prefix} via {};", next_hop(hop));
        }
        text.push_str("}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;
    use crate::routes::{Kind, RouteSet};

    #[test]
    fn a_reflector_has_every_route_once() {
        let routes = RouteSet::new(Family::Ipv4, Kind::Internet, 5000).routes(&mut SplitMix64::new(1));
        let config = reflector_config(1, &routes);
        assert_eq!(config.matches(" route ").count(), 5000);
        let (prefix, hop) = with_next_hops(&routes).nth(4321).expect("5000 routes");
        assert_eq!(config.matches(&format!(" route {prefix} via {};", next_hop(hop))).count(), 1);
    }

    #[test]
    fn the_age_is_read_whatever_the_time_zone() {
        let now = std::time::SystemTime::now() - Duration::from_secs(7);
        let second = now.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64() % 60.0;
        let answer = format!("receiver BGP --- up 2020-01-01 03:04:{second:09.6} Established\n");
        let age = age(&answer).expect("a time").as_secs_f64();
        assert!((7.0..8.0).contains(&age), "{age}");
        assert!(super::age("receiver BGP --- up Established").is_err());
    }
}
