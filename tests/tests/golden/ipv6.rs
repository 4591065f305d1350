//! IPv6 packets: every check and its boundary, and the kernel as the oracle.

use std::net::Ipv6Addr;

use underpass_common::nexthop::{NextHop, PORT_GUARDED6, PORT_HAIRPIN6, PORT_INGRESS6, PORT_TX, Port};
use underpass_common::reason::Reason;
use underpass_tests::bpf::{DataPlane, INGRESS_IFINDEX, verdict};

use crate::fixture::{
    Answer, BY_INGRESS, Case, EGRESS_MAC, EGRESS_ROW, EGRESS_TARGET, HAIRPIN_ROW, HAIRPIN_TARGET,
    INGRESS_MAC, LEAF_MAC, NEIGHBOUR_MAC, ON_LINK, Ports, SOURCE_TARGET, Setup, check, egress_row,
    hairpin_row, ingress_port, network, pass, prepare,
};
use crate::router::Router;

const SOURCE: &str = "2001:db8:a::1";
const DESTINATION: &str = "2001:db8:b::7";
const HAIRPIN: &str = "2001:db8:c::9";
const UDP: u8 = 17;
const TCP: u8 = 6;
const FRAGMENT: u8 = 44;

/// An IPv6 frame, byte by byte.
#[derive(Clone, Debug)]
struct Frame {
    to: [u8; 6],
    first_word: u32,
    next_header: u8,
    hop_limit: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    payload: Vec<u8>,
    /// What the header says of the payload, when that is not its length.
    length: Option<u16>,
    padding: usize,
}

fn frame() -> Frame {
    Frame {
        to: INGRESS_MAC,
        first_word: 0x6b81_2345,
        next_header: UDP,
        hop_limit: 64,
        source: address(SOURCE),
        destination: address(DESTINATION),
        payload: (0..18).collect(),
        length: None,
        padding: 0,
    }
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

impl Frame {
    fn build(&self) -> Vec<u8> {
        let length = u16::try_from(self.payload.len()).expect("fits");
        let mut bytes = [&self.to[..], &LEAF_MAC, &[0x86, 0xdd], &self.first_word.to_be_bytes()].concat();
        bytes.extend(self.length.unwrap_or(length).to_be_bytes());
        bytes.extend([self.next_header, self.hop_limit]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.payload);
        bytes.extend(std::iter::repeat_n(0xee, self.padding));
        bytes
    }

    fn to(mut self, text: &str) -> Self {
        self.destination = address(text);
        self
    }

    fn from(mut self, text: &str) -> Self {
        self.source = address(text);
        self
    }

    fn next_header(mut self, number: u8) -> Self {
        self.next_header = number;
        self
    }

    fn hop_limit(mut self, hops: u8) -> Self {
        self.hop_limit = hops;
        self
    }

    /// Makes the packet `length` bytes long, header included.
    fn packet_length(mut self, length: usize) -> Self {
        self.payload = (0..length - 40).map(|i| u8::try_from(i % 251).expect("below 256")).collect();
        self
    }

    fn padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }
}

/// What leaves, computed from the frame that came: padding off, MACs, hop limit less one.
fn leaves(frame: &Frame, source_mac: [u8; 6], destination_mac: [u8; 6]) -> Vec<u8> {
    let mut bytes = Frame { padding: 0, hop_limit: frame.hop_limit - 1, ..frame.clone() }.build();
    bytes[..6].copy_from_slice(&destination_mac);
    bytes[6..12].copy_from_slice(&source_mac);
    bytes
}

fn unchanged(_: &mut DataPlane, _: Ports) {}

/// All IPv6 packets.
pub fn cases(ports: Ports) -> Vec<Case> {
    let mut cases = forwarded(ports);
    cases.extend(refused());
    cases.extend(by_route(ports));
    cases
}

fn forwarded(ports: Ports) -> Vec<Case> {
    let go = |name, frame: Frame| Case {
        name,
        frame: frame.build(),
        setup: unchanged as Setup,
        reason: Reason::ForwardedRedirect,
        leaves: Some(leaves(&frame, EGRESS_MAC, NEIGHBOUR_MAC)),
        answer: Answer {
            port_number: 1,
            target: EGRESS_TARGET,
            source_target: 0,
            next_hop: EGRESS_ROW,
            egress_ifindex: ports.egress,
        },
    };
    let hairpin = |name, frame: Frame, source_target, setup: Setup, reason| {
        let frame = frame.to(HAIRPIN);
        Case {
            setup,
            reason,
            leaves: Some(leaves(&frame, INGRESS_MAC, LEAF_MAC)),
            answer: Answer {
                port_number: 1,
                target: HAIRPIN_TARGET,
                source_target,
                next_hop: HAIRPIN_ROW,
                egress_ifindex: INGRESS_IFINDEX,
            },
            ..go(name, frame)
        }
    };
    vec![
        go("IPv6 udp", frame()),
        go("IPv6 tcp", frame().next_header(TCP).packet_length(60)),
        go("IPv6 icmp", frame().next_header(58)),
        go("IPv6 no next header", frame().next_header(59)),
        go("IPv6 fragment", frame().next_header(FRAGMENT)),
        go("IPv6 routing header", frame().next_header(43)),
        go("IPv6 destination options", frame().next_header(60)),
        go("IPv6 esp", frame().next_header(50)),
        go("IPv6 one byte of payload", frame().packet_length(41).padding(5)),
        go("IPv6 hop limit 2", frame().hop_limit(2)),
        go("IPv6 hop limit 255", frame().hop_limit(255)),
        go("IPv6 as long as the MTU", frame().packet_length(1500)),
        go("IPv6 padding trimmed", frame().padding(7)),
        go("IPv6 padding longer than the MTU trimmed", frame().padding(1600)),
        go("IPv6 without class and label", Frame { first_word: 0x6000_0000, ..frame() }),
        go("IPv6 source without a route", frame().from("2001:db8:dead::1")),
        go("IPv6 NAT64 source", frame().from("64:ff9b::c000:201")),
        hairpin("IPv6 hairpin", frame(), SOURCE_TARGET, unchanged, Reason::ForwardedTx),
        hairpin("IPv6 hairpin, padded", frame().padding(3), SOURCE_TARGET, unchanged, Reason::ForwardedTx),
        hairpin("IPv6 hairpin by redirect", frame(), SOURCE_TARGET, no_tx, Reason::ForwardedRedirect),
        hairpin(
            "IPv6 hairpin, source without a route",
            frame().from("2001:db8:dead::1"),
            0,
            unchanged,
            Reason::ForwardedTx,
        ),
    ]
}

fn no_tx(data_plane: &mut DataPlane, _: Ports) {
    data_plane.set_port(Port { flags: ingress_port().flags & !PORT_TX, ..ingress_port() });
}

fn refused() -> Vec<Case> {
    let early = |name, frame: Vec<u8>, reason| Case {
        name,
        frame,
        setup: unchanged as Setup,
        reason,
        leaves: None,
        answer: Answer { port_number: 1, ..Answer::default() },
    };
    let case = |name, frame: Frame, reason| early(name, frame.build(), reason);
    let length = |length| Frame { length: Some(length), ..frame() };
    let mut only_ipv4 = case("IPv6 on a port that takes IPv4 only", frame(), Reason::PortNotReady);
    only_ipv4.setup =
        |d, _| d.set_port(Port { flags: ingress_port().flags & !PORT_INGRESS6, ..ingress_port() });
    let mut guarded = case("IPv6, a rule of the kernel could decide", frame(), Reason::KernelRule);
    guarded.setup = |d, _| d.set_port(Port { flags: ingress_port().flags | PORT_GUARDED6, ..ingress_port() });
    vec![
        only_ipv4,
        guarded,
        early("IPv6 header cut", frame().build()[..53].to_vec(), Reason::Truncated),
        early("IPv6 cut inside the payload", frame().build()[..71].to_vec(), Reason::BadHeader),
        case("IPv6 to another MAC", Frame { to: [2; 6], ..frame() }, Reason::NotForUs),
        case("IPv6 multicast frame", Frame { to: [0x33, 0x33, 0, 0, 0, 1], ..frame() }, Reason::NotForUs),
        case("IPv6 version 4", Frame { first_word: 0x4500_0000, ..frame() }, Reason::BadHeader),
        case("IPv6 payload beyond the frame", length(19), Reason::BadHeader),
        case("IPv6 payload length 0", length(0), Reason::Jumbogram),
        case("IPv6 hop-by-hop options", frame().next_header(0), Reason::HopByHop),
        case("IPv6 jumbogram", Frame { next_header: 0, ..length(0) }, Reason::HopByHop),
        case("IPv6 hop limit 1", frame().hop_limit(1), Reason::TtlExpired),
        case("IPv6 hop limit 0", frame().hop_limit(0), Reason::TtlExpired),
        case("IPv6 from ::", frame().from("::"), Reason::MartianSource),
        case("IPv6 from ::1", frame().from("::1"), Reason::MartianSource),
        case("IPv6 from v4-mapped", frame().from("::ffff:192.0.2.1"), Reason::MartianSource),
        case("IPv6 from link-local", frame().from("fe80::1"), Reason::MartianSource),
        case("IPv6 from multicast", frame().from("ff02::1"), Reason::MartianSource),
        case("IPv6 to ::", frame().to("::"), Reason::NotUnicast),
        case("IPv6 to ::1", frame().to("::1"), Reason::NotUnicast),
        case("IPv6 to v4-mapped", frame().to("::ffff:192.0.2.1"), Reason::NotUnicast),
        case("IPv6 to link-local", frame().to("fe80::1"), Reason::NotUnicast),
        case("IPv6 to multicast", frame().to("ff0e::1"), Reason::NotUnicast),
    ]
}

fn by_route(ports: Ports) -> Vec<Case> {
    let answer = Answer {
        port_number: 1,
        target: EGRESS_TARGET,
        source_target: 0,
        next_hop: EGRESS_ROW,
        egress_ifindex: ports.egress,
    };
    let hairpin =
        Answer { target: HAIRPIN_TARGET, next_hop: HAIRPIN_ROW, egress_ifindex: INGRESS_IFINDEX, ..answer };
    let case = |name, frame: Frame, setup: Setup, reason, answer| Case {
        name,
        frame: frame.build(),
        setup,
        reason,
        leaves: None,
        answer,
    };
    let mut cases: Vec<Case> = [1501, 1504, 1540, 1541]
        .into_iter()
        .map(|length| {
            case("IPv6 above the MTU", frame().packet_length(length), unchanged, Reason::TooBig, answer)
        })
        .collect();
    cases.extend([
        case(
            "IPv6 no route",
            frame().to("2001:db8:dead::1"),
            unchanged,
            Reason::NoRoute,
            Answer { port_number: 1, ..Answer::default() },
        ),
        case(
            "IPv6 next hop not live",
            frame(),
            |d, p| d.set_next_hop(EGRESS_ROW, NextHop { state: 0, ..egress_row(p) }),
            Reason::NextHopNotLive,
            Answer { egress_ifindex: 0, ..answer },
        ),
        case(
            "IPv6 hairpin, on-link source",
            frame().to(HAIRPIN),
            |d, _| d.set_target(SOURCE_TARGET, pass(Reason::Connected, ON_LINK, BY_INGRESS)),
            Reason::WouldRedirect,
            Answer { source_target: SOURCE_TARGET, ..hairpin },
        ),
        case(
            "IPv6 hairpin, own address as source",
            frame().to(HAIRPIN),
            |d, _| d.set_target(SOURCE_TARGET, pass(Reason::Local, 0, 0)),
            Reason::SourceInvalid,
            Answer { source_target: SOURCE_TARGET, ..hairpin },
        ),
        case(
            "IPv6 hairpin, view does not tell redirects",
            frame().to(HAIRPIN),
            |d, _| d.set_port(Port { flags: ingress_port().flags & !PORT_HAIRPIN6, ..ingress_port() }),
            Reason::WouldRedirect,
            hairpin,
        ),
    ]);
    cases
}

#[test]
fn ipv6_packets_leave_or_stay_as_they_should() {
    let Some((_keep, ports)) = network() else { return };
    for case in cases(ports) {
        check(&case, ports);
    }
}

/// The golden network's tables, for the router's ports.
fn tables(router: &Router) -> DataPlane {
    let [ingress, egress] = router.ports;
    let ports = Ports { egress, other: 0 };
    let mut data_plane = DataPlane::load().expect("loaded before");
    prepare(&mut data_plane, ports);
    data_plane.set_port(Port { ifindex: ingress, ..ingress_port() });
    data_plane.open_port(ingress);
    data_plane.set_next_hop(HAIRPIN_ROW, NextHop { ifindex: ingress, ..hairpin_row() });
    data_plane
}

/// Asks both about a frame. `false` when XDP leaves it to the kernel, where there is nothing to compare.
fn agree(data_plane: &DataPlane, router: &Router, name: &str, frame: &[u8]) -> bool {
    let (answer, run) = data_plane.probe(router.ports[0], frame);
    if run.verdict == verdict::PASS {
        return false;
    }
    let kernel = router.forward(frame, answer.egress_ifindex);
    assert_eq!(run.frame, kernel, "{name}: XDP left, the kernel right");
    true
}

#[test]
fn golden_ipv6_packets_leave_the_kernel_with_the_same_bytes() {
    if DataPlane::for_test().is_none() {
        return;
    }
    let router = Router::start_with_ipv6();
    let data_plane = tables(&router);
    let compared = forwarded(Ports { egress: router.ports[1], other: 0 })
        .iter()
        .filter(|case| agree(&data_plane, &router, case.name, &case.frame))
        .count();
    assert!(compared >= 18, "only {compared} packets were compared");
}

#[test]
fn random_ipv6_packets_leave_the_kernel_with_the_same_bytes() {
    const PACKETS: u32 = 4000;
    if DataPlane::for_test().is_none() {
        return;
    }
    let router = Router::start_with_ipv6();
    let data_plane = tables(&router);
    let seed = std::env::var("UNDERPASS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x1db8_u64);
    println!("UNDERPASS_SEED={seed}");
    let mut random = Random(seed);
    let mut compared = 0;
    for _ in 0..PACKETS {
        let frame = random.frame();
        compared += u32::from(agree(&data_plane, &router, "random", &frame.build()));
    }
    assert!(compared >= 1000, "only {compared} of {PACKETS} packets were compared");
}

/// Xorshift: reproducible, which is all that is needed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("8 bits")
    }

    /// Most of them forwardable.
    fn frame(&mut self) -> Frame {
        let host = self.below(0xffff);
        let source = match self.below(12) {
            0 => "fe80::1".to_owned(),
            1 => "::1".to_owned(),
            2 => format!("2001:db8:dead::{host:x}"),
            _ => format!("2001:db8:a:{host:x}::{host:x}"),
        };
        let destination = match self.below(12) {
            0 => "ff02::1".to_owned(),
            1 => "2001:db8:dead::2".to_owned(),
            2..=5 => format!("2001:db8:c::{host:x}"),
            _ => format!("2001:db8:b:{host:x}::1"),
        };
        // Hop-by-hop options are random here, and others are for the receiver alone.
        let next_header = [UDP, TCP, 58, 59, FRAGMENT, 43, 50, 60, 132, 0][self.below(10) as usize];
        let length = [41, 42, 60, 100, 1280, 1499, 1500, 1501, 1504, 1540][self.below(10) as usize];
        let mut frame = frame().from(&source).to(&destination).next_header(next_header).packet_length(length);
        frame.first_word = 0x6000_0000 | self.below(0x1000_0000);
        frame.hop_limit = [0, 1, 2, 64, 128, 255, 3, 4][self.below(8) as usize];
        frame.padding = if self.below(3) == 0 { self.below(60) as usize } else { 0 };
        for _ in 0..self.below(8) {
            let at = self.below(u32::try_from(frame.payload.len()).expect("short")) as usize;
            frame.payload[at] = self.byte();
        }
        frame
    }
}
