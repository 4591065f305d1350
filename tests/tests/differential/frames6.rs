//! Where random IPv6 frames come from and go to; most are near a boundary of some check.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use fastrand::Rng;
use ipnet::Ipv6Net;
use underpass_tests::twin::{Shot, mac};

use crate::packet6::{Packet6, append, corrupt, ethernet};
use crate::world::{PORTS, chance, choose};
use crate::world6::{World6, behind, subnet};

/// Frames to a destination after which none comes from a neighbour. The kernel allows a destination six
/// redirects in a burst, and counts those that it then does not send because the source is no neighbour: XDP
/// forwards such packets, so that with Underpass the seventh redirect may still go out.
const REDIRECTS: u32 = 5;

/// Draws IPv6 frames for a world.
#[derive(Debug)]
pub struct Frames6 {
    seed: u64,
    uses: HashMap<Ipv6Addr, u32>,
    neighbours: BTreeMap<Ipv6Addr, usize>,
}

impl Frames6 {
    /// The frames of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, uses: HashMap::new(), neighbours: BTreeMap::new() }
    }

    /// The commands that give the on-link sources that were drawn since a MAC address.
    pub fn senders(&mut self) -> String {
        std::mem::take(&mut self.neighbours).iter().fold(String::new(), |mut text, (address, port)| {
            let [.., high, low] = address.octets();
            let mac = mac(&[6, 0, 1, u8::try_from(*port).expect("few"), high, low]);
            let _ = writeln!(text, "neighbour replace {address} lladdr {mac} nud permanent dev p{port}");
            text
        })
    }

    /// Frame number `tag`, 1 to 65,535. Call it for all tags in order.
    pub fn next(&mut self, world: &World6, tag: u16) -> Shot {
        let rng = &mut Rng::with_seed(self.seed ^ (u64::from(tag) << 32));
        let port = rng.usize(0..PORTS);
        let sound = chance(rng, 75);
        let destination = destination(world, rng, sound);
        let source = self.source(world, rng, (port, tag, sound), destination);
        let local = is_local(world, destination) || is_local(world, source);
        let mtu = world.plan.ports[port].mtu as usize;
        let length = length(world, rng, mtu);
        let length = if local { length.min(1000) } else { length };
        let mut frame = ethernet(rng, port, sound);
        append(&mut frame, rng, &Packet6 { tag, source, destination, local, sound, length });
        if chance(rng, 8) {
            let padding = rng.usize(1..48);
            frame.extend((0..padding).map(|_| rng.u8(..)));
        }
        if !sound {
            corrupt(&mut frame, rng);
        }
        frame.truncate(mtu + 18);
        Shot { port, tag: u32::from(tag), frame }
    }

    fn source(
        &mut self,
        world: &World6,
        rng: &mut Rng,
        (port, tag, sound): (usize, u16, bool),
        destination: Ipv6Addr,
    ) -> Ipv6Addr {
        let other = rng.usize(0..PORTS);
        let host = |net: Ipv6Net, middle: u16| {
            let mut words = net.addr().segments();
            words[6] = middle;
            words[7] = tag;
            Ipv6Addr::from(words)
        };
        let remote = |port: usize| host(behind(port), 3);
        let on_link = |port: usize| host(subnet(port), 1);
        let address = match rng.u32(0..if sound { 86 } else { 100 }) {
            0..=62 => remote(port),
            63..=69 => remote(other),
            70..=83 => on_link(port),
            84..=85 => on_link(other),
            86..=88 => one_of(rng, &world.destinations),
            89..=91 => own(world, rng),
            92..=97 => special(rng, port),
            _ => rng.u128(..).into(),
        };
        let link = (0..PORTS).find(|port| address == on_link(*port));
        let uses = self.uses.entry(destination).or_default();
        *uses += 1;
        if *uses > REDIRECTS || address == destination {
            return remote(port);
        }
        if let Some(port) = link {
            self.neighbours.insert(address, port);
        }
        address
    }
}

fn own(world: &World6, rng: &mut Rng) -> Ipv6Addr {
    match choose(rng, &world.plan.own).addr() {
        IpAddr::V6(address) => address,
        IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
    }
}

/// Whether the router may take a packet to or from an address for its own.
fn is_local(world: &World6, address: Ipv6Addr) -> bool {
    let anycast = (0..PORTS).any(|port| subnet(port).addr() == address);
    world.plan.own.iter().any(|own| own.contains(&IpAddr::V6(address)))
        || anycast
        || address.is_multicast()
        || address.is_loopback()
        || address.is_unspecified()
        || address.is_unicast_link_local()
        || (0..PORTS).any(|port| behind(port).addr() == address)
}

fn destination(world: &World6, rng: &mut Rng, sound: bool) -> Ipv6Addr {
    let port = rng.usize(0..PORTS);
    match rng.u32(0..if sound { 82 } else { 100 }) {
        0..=45 if sound && !world.forwarded.is_empty() => one_of(rng, &world.forwarded),
        0..=75 if !world.destinations.is_empty() => one_of(rng, &world.destinations),
        76..=81 => with_host(subnet(port), rng.u16(2..9)),
        82..=84 => within(rng, subnet(port)),
        85..=88 => own(world, rng),
        89..=92 => special(rng, port),
        93..=96 => within(rng, behind(port)),
        _ => rng.u128(..).into(),
    }
}

fn with_host(net: Ipv6Net, host: u16) -> Ipv6Addr {
    let mut words = net.addr().segments();
    words[7] = host;
    words.into()
}

/// An address of one of several prefixes.
fn one_of(rng: &mut Rng, prefixes: &[Ipv6Net]) -> Ipv6Addr {
    let prefix = *choose(rng, prefixes);
    within(rng, prefix)
}

/// An address of a prefix: a boundary or any.
fn within(rng: &mut Rng, prefix: Ipv6Net) -> Ipv6Addr {
    match rng.u32(0..20) {
        0 => prefix.network(),
        1 => prefix.broadcast(),
        _ => Ipv6Addr::from(u128::from(prefix.network()) | (rng.u128(..) & u128::from(prefix.hostmask()))),
    }
}

/// An address with a meaning of its own. Not those that neighbour discovery uses.
fn special(rng: &mut Rng, port: usize) -> Ipv6Addr {
    let any = rng.u16(..);
    let port = u16::try_from(port).expect("few");
    Ipv6Addr::from(*choose(
        rng,
        &[
            [0; 8],
            [0, 0, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 0xffff, 0x0aba, any],
            [0, 0, 0, 0, 0, 0, 0x0a00, any],
            [0xfe80, 0, 0, 0, 0, 0, 0x100 + port, 2],
            [0xfe80, 0, 0, 0, 0, 0, 1, any],
            [0xfec0, 0, 0, 0, 0, 0, 0, any],
            [0xff02, 0, 0, 0, 0, 0, 0, 0x77],
            [0xff0e, 0, 0, 0, 0, 0, 0, any],
            [0xff01, 0, 0, 0, 0, 0, 0, 1],
            [0x64, 0xff9b, 0, 0, 0, 0, any, any],
            [0x2002, any, 0, 0, 0, 0, 0, 1],
        ],
    ))
}

/// Length of the IP packet.
fn length(world: &World6, rng: &mut Rng, mtu: usize) -> usize {
    let longest = match rng.u32(0..100) {
        0..=59 => rng.usize(40..160),
        60..=84 => {
            let near = world.plan.ports[rng.usize(0..PORTS)].mtu as usize;
            let near = *choose(rng, &[near, near, 1280, 1300, 1400]);
            let above = *choose(rng, &[0, 0, 1, 2, 4, 5, 39, 40, 41]);
            near + above - rng.usize(0..2)
        }
        _ => rng.usize(40..2000),
    };
    longest.min(mtu)
}
