//! Where random frames come from and go to; most are near a boundary of some check.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use ipnet::Ipv4Net;
use underpass_tests::twin::{Shot, mac};

use crate::packet::{Packet, corrupt, ethernet, pad, tag_frame};
use crate::route::Kind;
use crate::world::{PORTS, World, chance, choose};

/// Times that a source may be used: the kernel sends five ICMP errors of some kinds to an address, and
/// then one a second.
const USES: u32 = 4;

/// Draws frames for a world.
#[derive(Debug)]
pub struct Frames {
    seed: u64,
    uses: HashMap<Ipv4Addr, u32>,
    /// On-link sources: ICMP errors and redirects to them have to leave.
    neighbours: BTreeMap<Ipv4Addr, usize>,
}

/// What a source is drawn for.
#[derive(Clone, Copy)]
struct Draw {
    port: usize,
    tag: u16,
    destination: Ipv4Addr,
    sound: bool,
}

impl Frames {
    /// The frames of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, uses: HashMap::new(), neighbours: BTreeMap::new() }
    }

    /// Frame number `tag`, 1 to 65,535. Call it for all tags in order: sources are used up.
    pub fn next(&mut self, world: &World, tag: u16) -> Shot {
        let rng = &mut Rng::with_seed(self.seed ^ (u64::from(tag) << 32));
        let port = rng.usize(0..PORTS);
        // Nothing is wrong with most frames but, perhaps, their addresses.
        let sound = chance(rng, 75);
        let destination = destination(world, rng, sound);
        let source = self.source(world, rng, Draw { port, tag, destination, sound });
        let local = is_local(world, destination);
        let own_source = is_local(world, source);
        let mtu = world.plan.ports[port].mtu as usize;
        let packet = Packet { tag, source, destination, local: local || own_source, sound };
        let mut frame = ethernet(rng, port, sound);
        let length = length(world, rng, mtu);
        packet.append(&mut frame, rng, length);
        pad(&mut frame, rng);
        if !sound {
            corrupt(&mut frame, rng);
            tag_frame(&mut frame, rng);
        }
        // What the port would not take at all is no question to the router.
        frame.truncate(mtu + 18);
        Shot { port, tag: u32::from(tag), frame }
    }

    /// The commands that give the on-link sources that were drawn since a MAC address.
    pub fn senders(&mut self) -> String {
        std::mem::take(&mut self.neighbours).iter().fold(String::new(), |mut text, (address, port)| {
            let [_, _, high, low] = address.octets();
            let mac = mac(&[6, 0, 1, u8::try_from(*port).expect("few"), high, low]);
            let _ = writeln!(text, "neighbour replace {address} lladdr {mac} nud permanent dev p{port}");
            text
        })
    }

    fn source(&mut self, world: &World, rng: &mut Rng, draw: Draw) -> Ipv4Addr {
        let Draw { port, tag, destination, sound } = draw;
        let other = rng.usize(0..PORTS);
        let [high, low] = tag.to_be_bytes();
        let remote = |port: usize| {
            let [a, b, ..] = world.sources[port][0].addr().octets();
            Ipv4Addr::from([a, b, high, low | 1])
        };
        let neighbour = |port: usize| {
            let [a, b, ..] = world.on_link[port][0].addr().octets();
            Ipv4Addr::from([a, b, high.wrapping_add(1), low])
        };
        let address = match rng.u32(0..if sound { 86 } else { 100 }) {
            0..=59 => remote(port),
            60..=67 => remote(other),
            68..=82 => neighbour(port),
            83..=85 => neighbour(other),
            86..=91 if !world.destinations.is_empty() => one_of(rng, &world.destinations),
            92..=93 => own(world, rng),
            94 => world.on_link[other][0].broadcast(),
            95..=97 => special(rng),
            _ => rng.u32(..).into(),
        };
        let address = if in_group(world, address) { Ipv4Addr::from(u32::from(address) | 1) } else { address };
        let uses = self.uses.entry(address).or_default();
        *uses += 1;
        // On-link neighbours get redirects, one each: those for a source are less and less frequent.
        let most = if world.on_link.iter().flatten().any(|net| net.contains(&address)) { 1 } else { USES };
        let address = if *uses > most || address == destination { remote(port) } else { address };
        for port in (0..PORTS).filter(|port| address == neighbour(*port)) {
            self.neighbours.insert(address, port);
        }
        address
    }
}

/// Length of the IP packet.
fn length(world: &World, rng: &mut Rng, mtu: usize) -> usize {
    let longest = match rng.u32(0..100) {
        0..=59 => rng.usize(20..120),
        60..=84 => {
            let near = world.plan.ports[rng.usize(0..PORTS)].mtu;
            let near = *choose(rng, &[near, near, 1300, 1400, 1450]) as usize;
            (near + rng.usize(0..9)).saturating_sub(4)
        }
        _ => rng.usize(20..2000),
    };
    longest.min(mtu)
}

/// Whether the router may take a packet to (or from) an address for its own.
fn is_local(world: &World, address: Ipv4Addr) -> bool {
    let on = |net: &Ipv4Net| net.broadcast() == address || net.network() == address;
    world.plan.own.iter().any(|own| own.contains(&IpAddr::V4(address)))
        || world.on_link.iter().flatten().any(on)
        || matches!(address.octets(), [0 | 127 | 169 | 224.., ..])
}

fn destination(world: &World, rng: &mut Rng, sound: bool) -> Ipv4Addr {
    let address = match rng.u32(0..if sound { 82 } else { 100 }) {
        0..=45 if sound && !world.forwarded.is_empty() => one_of(rng, &world.forwarded),
        0..=75 if !world.destinations.is_empty() => one_of(rng, &world.destinations),
        76..=81 => [10, 10 + rng.u8(0..4), 0, rng.u8(2..9)].into(),
        82..=84 => of_any_port(rng, &world.on_link),
        85..=87 => own(world, rng),
        88..=89 => world.on_link[rng.usize(0..PORTS)][0].broadcast(),
        90..=92 => special(rng),
        93..=95 => of_any_port(rng, &world.sources),
        _ => rng.u32(..).into(),
    };
    if in_group(world, address) { Ipv4Addr::from(u32::from(address) & !1) } else { address }
}

/// Whether several next hops may lead to an address. There, even addresses are destinations and odd ones
/// sources, so that the check of the choice can route the destinations by themselves.
fn in_group(world: &World, address: Ipv4Addr) -> bool {
    let group = |kind: &Kind| matches!(kind, Kind::Via(hops) if hops.len() > 1);
    world.routes.iter().any(|route| group(&route.kind) && route.prefix.contains(&address))
}

/// One of the router's addresses.
fn own(world: &World, rng: &mut Rng) -> Ipv4Addr {
    match choose(rng, &world.plan.own).addr() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// An address of one of several prefixes.
fn one_of(rng: &mut Rng, prefixes: &[Ipv4Net]) -> Ipv4Addr {
    let prefix = *choose(rng, prefixes);
    within(rng, prefix)
}

/// An address of a prefix of any port.
fn of_any_port(rng: &mut Rng, prefixes: &[Vec<Ipv4Net>; PORTS]) -> Ipv4Addr {
    let port = rng.usize(0..PORTS);
    one_of(rng, &prefixes[port])
}

/// An address of a prefix: a boundary or any.
fn within(rng: &mut Rng, prefix: Ipv4Net) -> Ipv4Addr {
    match rng.u32(0..10) {
        0 => prefix.network(),
        1 => prefix.broadcast(),
        _ => Ipv4Addr::from(u32::from(prefix.network()) | (rng.u32(..) & u32::from(prefix.hostmask()))),
    }
}

/// An address with a meaning of its own.
fn special(rng: &mut Rng) -> Ipv4Addr {
    let any = rng.u8(..);
    (*choose(
        rng,
        &[
            [0, 0, 0, 0],
            [0, 0, 0, any],
            [127, 0, 0, 1],
            [127, any, 0, any],
            [169, 254, any, any],
            [224, 0, 0, any],
            [239, any, 1, 1],
            [240, 0, 0, any],
            [255, 255, 255, 254],
            [255, 255, 255, 255],
        ],
    ))
    .into()
}
