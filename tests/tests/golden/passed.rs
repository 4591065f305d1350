//! Packets that are left to the kernel, untouched.

use underpass_common::abi::Control;
use underpass_common::nexthop::{NextHop, PORT_EGRESS, PORT_INGRESS, Port, Target, TargetKind};
use underpass_common::reason::Reason;
use underpass_tests::bpf::{DataPlane, INGRESS_IFINDEX};
use underpass_tests::packet::FrameBuilder;

use crate::fixture::{
    ASYMMETRIC_SOURCE, ASYMMETRIC_TARGET, Answer, BY_INGRESS, CASE_TARGET, Case, EGRESS_ROW, EGRESS_TARGET,
    HAIRPIN, HAIRPIN_ROW, HAIRPIN_TARGET, INGRESS_VIEW, ON_LINK, Ports, SOURCE_TARGET, Setup, check,
    egress_port, egress_row, frame, ingress_port, network, pass,
};

fn unchanged(_: &mut DataPlane, _: Ports) {}

fn passed(name: &'static str, frame: Vec<u8>, setup: Setup, reason: Reason, answer: Answer) -> Case {
    Case { name, frame, setup, reason, leaves: None, answer }
}

/// Refused before any lookup.
fn early(name: &'static str, frame: Vec<u8>, reason: Reason) -> Case {
    passed(name, frame, unchanged, reason, Answer { port_number: 1, ..Answer::default() })
}

/// All packets that must be left alone.
pub fn cases(ports: Ports) -> Vec<Case> {
    let mut cases = controlled();
    cases.extend(by_frame());
    cases.extend(by_destination());
    cases.extend(by_egress(ports));
    cases.extend(by_source(ports));
    cases
}

/// Kill switch, lease, port.
fn controlled() -> Vec<Case> {
    let at_port = Answer { port_number: 1, ..Answer::default() };
    let nowhere = Answer::default();
    let case = |name, setup, reason, answer| passed(name, frame().build(), setup, reason, answer);
    vec![
        case("off", |d, _| control(d, u64::MAX, 0), Reason::Off, at_port),
        case("neither on nor off", |d, _| control(d, u64::MAX, 2), Reason::Off, at_port),
        case("off beats the lease", |d, _| control(d, 0, 0), Reason::Off, at_port),
        case("lease never given", |d, _| control(d, 0, 1), Reason::LeaseExpired, at_port),
        case(
            "off, and no port either",
            |d, _| {
                control(d, 0, 0);
                no_port(d);
            },
            Reason::Off,
            nowhere,
        ),
        case("no port", |d, _| no_port(d), Reason::NotAPort, nowhere),
        case(
            "the slot belongs to another port",
            |d, _| d.set_port(Port { ifindex: INGRESS_IFINDEX + 1024, ..ingress_port() }),
            Reason::NotAPort,
            nowhere,
        ),
        case(
            "port not ready",
            |d, _| d.set_port(Port { flags: ingress_port().flags & !PORT_INGRESS, ..ingress_port() }),
            Reason::PortNotReady,
            at_port,
        ),
    ]
}

fn control(data_plane: &mut DataPlane, lease_until: u64, enabled: u32) {
    data_plane.set_control(Control { lease_until, enabled, reserved: 0 });
}

/// Empties the slot of the ingress port.
fn no_port(data_plane: &mut DataPlane) {
    data_plane.set_port(Port { ifindex: INGRESS_IFINDEX + 1024, ..Port::default() });
}

/// What the headers alone decide.
fn by_frame() -> Vec<Case> {
    let arp = || {
        let mut arp = frame().destination_mac([0xff; 6]).build();
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        arp
    };
    // The byte of the IP header at `at` set, and the checksum made right again.
    let with_byte = |at: usize, value: u8| {
        let mut bytes = frame().build();
        bytes[14 + at] = value;
        let mut header: [u8; 20] = bytes[14..34].try_into().expect("20 bytes");
        header[10..12].fill(0);
        let sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let check = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
        bytes[24..26].copy_from_slice(&check.to_be_bytes());
        bytes
    };
    let typed = |ethertype: u16| {
        let mut bytes = frame().build();
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        bytes
    };
    let from = |address: [u8; 4]| frame().source(address.into()).build();
    let to = |address: [u8; 4]| frame().destination(address.into()).build();
    vec![
        early("Ethernet header only", frame().build()[..14].to_vec(), Reason::Truncated),
        early("IP header cut", frame().build()[..33].to_vec(), Reason::Truncated),
        early("another host's MAC", frame().destination_mac([2; 6]).build(), Reason::NotForUs),
        early("broadcast frame", frame().destination_mac([0xff; 6]).build(), Reason::NotForUs),
        early("multicast frame", frame().destination_mac([1, 0, 0x5e, 0, 0, 1]).build(), Reason::NotForUs),
        early("802.1Q", frame().vlan(5).build(), Reason::Vlan),
        early("802.1ad", typed(0x88a8), Reason::Vlan),
        early("ARP", arp(), Reason::NotIp),
        early("LLDP", typed(0x88cc), Reason::NotIp),
        early("IPv6", typed(0x86dd), Reason::Ipv6),
        early("version 6 behind the IPv4 type", with_byte(0, 0x65), Reason::BadHeader),
        early("header length 4", with_byte(0, 0x44), Reason::BadHeader),
        early("total length below the header", with_byte(3, 19), Reason::BadHeader),
        early("total length beyond the frame", with_byte(3, 47), Reason::BadHeader),
        early("cut inside the payload", frame().build()[..59].to_vec(), Reason::BadHeader),
        early("options", frame().options(&[7, 7, 4, 0, 0, 0, 0, 0]).build(), Reason::IpOptions),
        early("router alert", frame().options(&[0x94, 4, 0, 0]).build(), Reason::IpOptions),
        early("checksum off by one bit", frame().checksum_error(1).build(), Reason::BadChecksum),
        early("checksum complemented", frame().checksum_error(0xffff).build(), Reason::BadChecksum),
        early("to loopback", to([127, 0, 0, 1]), Reason::NotUnicast),
        early("to multicast", to([224, 0, 0, 5]), Reason::NotUnicast),
        early("to limited broadcast", to([255, 255, 255, 255]), Reason::NotUnicast),
        early("to 0/8", to([0, 1, 2, 3]), Reason::NotUnicast),
        early("to link-local", to([169, 254, 169, 254]), Reason::NotUnicast),
        early("from 0.0.0.0", from([0, 0, 0, 0]), Reason::MartianSource),
        early("from loopback", from([127, 1, 1, 1]), Reason::MartianSource),
        early("from multicast", from([224, 1, 1, 1]), Reason::MartianSource),
        early("from class E", from([250, 1, 1, 1]), Reason::MartianSource),
        early("from broadcast", from([255, 255, 255, 255]), Reason::MartianSource),
        early("TTL 1", frame().ttl(1).build(), Reason::TtlExpired),
        early("TTL 0", frame().ttl(0).build(), Reason::TtlExpired),
    ]
}

/// What the destination's target says.
fn by_destination() -> Vec<Case> {
    let answer = |target| Answer { port_number: 1, target, ..Answer::default() };
    let case = |name, setup, reason, target| passed(name, frame().build(), setup, reason, answer(target));
    let beyond = [198, 51, 101, 1].into();
    let mut cases = vec![
        passed("no route", frame().destination(beyond).build(), unchanged, Reason::NoRoute, answer(0)),
        case(
            "not accelerated",
            |d, _| refuse(d, Reason::NotAccelerated),
            Reason::NotAccelerated,
            CASE_TARGET,
        ),
        case("local", |d, _| refuse(d, Reason::Local), Reason::Local, CASE_TARGET),
        case("connected", |d, _| refuse(d, Reason::Connected), Reason::Connected, CASE_TARGET),
        case("blackhole", |d, _| refuse(d, Reason::Refused), Reason::Refused, CASE_TARGET),
        case("unsupported", |d, _| refuse(d, Reason::Unsupported), Reason::Unsupported, CASE_TARGET),
        case("service", |d, _| refuse(d, Reason::Service), Reason::Service, CASE_TARGET),
        case(
            "no managed egress",
            |d, _| refuse(d, Reason::EgressNotManaged),
            Reason::EgressNotManaged,
            CASE_TARGET,
        ),
        // A PASS row must never send a frame, whatever it says.
        case(
            "PASS row says TX",
            |d, _| refuse(d, Reason::ForwardedTx),
            Reason::TableInconsistent,
            CASE_TARGET,
        ),
        case(
            "PASS row says redirect",
            |d, _| refuse(d, Reason::ForwardedRedirect),
            Reason::TableInconsistent,
            CASE_TARGET,
        ),
        case("PASS row says nonsense", |d, _| target(d, 0, 4711, 0), Reason::TableInconsistent, CASE_TARGET),
        case("unknown kind of target", |d, _| target(d, 3, 1, 0), Reason::TableInconsistent, CASE_TARGET),
        case("target out of range", |d, _| route(d, 65_536), Reason::TableInconsistent, 65_536),
        case(
            "bucket out of range",
            |d, _| target(d, TargetKind::Group as u32, 262_144, 0),
            Reason::TableInconsistent,
            CASE_TARGET,
        ),
    ];
    let mut row = case(
        "row out of range",
        |d, _| target(d, TargetKind::NextHop as u32, 65_536, 0),
        Reason::TableInconsistent,
        CASE_TARGET,
    );
    row.answer.next_hop = 65_536;
    cases.push(row);
    cases.push(case(
        "empty bucket: row 0 is never live",
        |d, _| target(d, TargetKind::Group as u32, 0, 1),
        Reason::NextHopNotLive,
        CASE_TARGET,
    ));
    // The more specific prefix of another view does not count.
    cases.push(passed(
        "no route in this port's view",
        frame().destination([192, 0, 5, 1].into()).build(),
        |d, _| d.set_prefix(INGRESS_VIEW + 1, "192.0.5.0/24".parse().expect("a prefix"), EGRESS_TARGET),
        Reason::NoRoute,
        answer(0),
    ));
    cases
}

/// Routes the golden destination to a target.
fn route(data_plane: &mut DataPlane, id: u32) {
    data_plane.set_prefix(INGRESS_VIEW, "198.51.100.0/26".parse().expect("a prefix"), id);
}

/// Routes it to a target of its own.
fn target(data_plane: &mut DataPlane, kind: u32, index: u32, mask: u32) {
    data_plane.set_target(CASE_TARGET, Target { kind, index, mask, source_flags: 0, source_ports: 0 });
    route(data_plane, CASE_TARGET);
}

/// Routes it to a PASS target.
fn refuse(data_plane: &mut DataPlane, reason: Reason) {
    target(data_plane, TargetKind::Pass as u32, reason as u32, 0);
}

/// What the next hop and its port say.
fn by_egress(ports: Ports) -> Vec<Case> {
    let chosen = Answer {
        port_number: 1,
        target: EGRESS_TARGET,
        source_target: 0,
        next_hop: EGRESS_ROW,
        egress_ifindex: ports.egress,
    };
    let not_live = Answer { egress_ifindex: 0, ..chosen };
    let checked = Answer { source_target: SOURCE_TARGET, ..chosen };
    let case = |name, frame: &FrameBuilder, setup: Setup, reason, answer| {
        passed(name, frame.build(), setup, reason, answer)
    };
    let long = frame().packet_length(1501);
    vec![
        case(
            "next hop not live",
            &frame(),
            |d, p| d.set_next_hop(EGRESS_ROW, NextHop { state: 0, ..egress_row(p) }),
            Reason::NextHopNotLive,
            not_live,
        ),
        case("one byte above the MTU", &long, unchanged, Reason::TooBig, chosen),
        case(
            "above the MTU, may fragment",
            &long.clone().dont_fragment(false),
            unchanged,
            Reason::TooBig,
            chosen,
        ),
        case("GRO aggregate", &frame().packet_length(3400), unchanged, Reason::TooBig, chosen),
        case(
            "smaller route MTU",
            &frame().packet_length(1401),
            |d, p| d.set_next_hop(EGRESS_ROW, NextHop { mtu: 1400, ..egress_row(p) }),
            Reason::TooBig,
            chosen,
        ),
        case(
            "egress port has no row",
            &frame(),
            |d, p| d.set_port(Port { ifindex: p.egress + 1024, ..egress_port(p) }),
            Reason::EgressNotManaged,
            chosen,
        ),
        case(
            "egress port does not transmit XDP frames",
            &frame(),
            |d, p| d.set_port(Port { flags: PORT_INGRESS, ..egress_port(p) }),
            Reason::EgressNotManaged,
            checked,
        ),
        Case {
            answer: Answer { egress_ifindex: ports.other, ..checked },
            ..case(
                "egress port missing from the redirect map",
                &frame(),
                |d, p| {
                    d.set_port(Port { ifindex: p.other, ..egress_port(p) });
                    d.set_next_hop(EGRESS_ROW, NextHop { ifindex: p.other, ..egress_row(p) });
                },
                Reason::EgressNotManaged,
                checked,
            )
        },
        Case {
            answer: Answer {
                target: HAIRPIN_TARGET,
                next_hop: HAIRPIN_ROW,
                egress_ifindex: INGRESS_IFINDEX,
                ..checked
            },
            ..case(
                "hairpin without XDP_TX nor redirect",
                &frame().destination(HAIRPIN),
                |d, _| {
                    let flags = PORT_INGRESS & !PORT_EGRESS;
                    d.set_port(Port { flags, ..ingress_port() });
                },
                Reason::EgressNotManaged,
                checked,
            )
        },
    ]
}

/// What the source says.
fn by_source(ports: Ports) -> Vec<Case> {
    let unknown = frame().source([100, 64, 0, 1].into());
    let asymmetric = frame().source(ASYMMETRIC_SOURCE);
    let forward = |source_target| Answer {
        port_number: 1,
        target: EGRESS_TARGET,
        source_target,
        next_hop: EGRESS_ROW,
        egress_ifindex: ports.egress,
    };
    let hairpin = |source_target| Answer {
        target: HAIRPIN_TARGET,
        next_hop: HAIRPIN_ROW,
        egress_ifindex: INGRESS_IFINDEX,
        ..forward(source_target)
    };
    let case = |name, frame: &FrameBuilder, setup: Setup, reason, answer| {
        passed(name, frame.build(), setup, reason, answer)
    };
    vec![
        case("own address as source", &frame(), |d, _| own(d), Reason::SourceInvalid, forward(SOURCE_TARGET)),
        case(
            "own address as source, no filter",
            &frame(),
            |d, _| {
                own(d);
                d.set_port(Port { rp_filter: 0, ..ingress_port() });
            },
            Reason::SourceInvalid,
            forward(SOURCE_TARGET),
        ),
        case(
            "target of the source out of range",
            &frame(),
            |d, p| {
                let view = egress_port(p).view;
                d.set_prefix(view, "192.0.2.0/25".parse().expect("a prefix"), u32::MAX);
            },
            Reason::TableInconsistent,
            forward(u32::MAX),
        ),
        case(
            "strict, another port",
            &asymmetric,
            unchanged,
            Reason::SourceReversePath,
            forward(ASYMMETRIC_TARGET),
        ),
        case("strict, no route", &unknown, unchanged, Reason::SourceReversePath, forward(0)),
        case(
            "loose, no route",
            &unknown,
            |d, _| d.set_port(Port { rp_filter: 2, ..ingress_port() }),
            Reason::SourceReversePath,
            forward(0),
        ),
        case(
            "hairpin, on-link source",
            &frame().destination(HAIRPIN),
            |d, _| d.set_target(SOURCE_TARGET, pass(Reason::Connected, ON_LINK, BY_INGRESS)),
            Reason::WouldRedirect,
            hairpin(SOURCE_TARGET),
        ),
        // The kernel looks for a less preferred route by the ingress port: on-link or not is not known.
        case(
            "hairpin, source by another port, no filter",
            &asymmetric.destination(HAIRPIN),
            |d, _| d.set_port(Port { rp_filter: 0, ..ingress_port() }),
            Reason::WouldRedirect,
            hairpin(ASYMMETRIC_TARGET),
        ),
        case(
            "source looked up in the egress port's view",
            &frame(),
            |d, p| {
                d.set_target(CASE_TARGET, pass(Reason::Local, 0, 0));
                let view = egress_port(p).view;
                d.set_prefix(view, "192.0.2.1/32".parse().expect("a prefix"), CASE_TARGET);
            },
            Reason::SourceInvalid,
            forward(CASE_TARGET),
        ),
    ]
}

/// The source's prefix is no valid source.
fn own(data_plane: &mut DataPlane) {
    data_plane.set_target(SOURCE_TARGET, pass(Reason::Local, 0, BY_INGRESS));
}

#[test]
fn packets_for_the_kernel_stay_untouched() {
    let Some((_keep, ports)) = network() else { return };
    for case in cases(ports) {
        check(&case, ports);
    }
}
