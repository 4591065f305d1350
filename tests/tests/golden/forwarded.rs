//! Packets that XDP forwards.

use underpass_common::abi::BUCKET_ENTRIES;
use underpass_common::nexthop::{PORT_OWN_SOURCES, PORT_SEND_REDIRECTS, PORT_TX, Port, Target, TargetKind};
use underpass_common::reason::Reason;
use underpass_tests::bpf::DataPlane;
use underpass_tests::packet::{FrameBuilder, Transport};

use crate::fixture::{
    ASYMMETRIC_SOURCE, ASYMMETRIC_TARGET, Answer, BY_INGRESS, CASE_TARGET, Case, EGRESS_ROW, EGRESS_TARGET,
    HAIRPIN, HAIRPIN_ROW, HAIRPIN_TARGET, INGRESS_VIEW, ON_LINK, Ports, SOURCE_TARGET, Setup, by_egress,
    by_ingress, check, frame, ingress_port, network, pass, prepare,
};

const UDP: Transport = Transport::UdpWithoutChecksum { source: 4000, destination: 53 };
const TCP: Transport = Transport::Tcp { source: 50_000, destination: 443 };
const ECHO: Transport = Transport::Echo { id: 77, sequence: 1 };

fn unchanged(_: &mut DataPlane, _: Ports) {}

/// A packet that leaves by the egress port.
fn redirected(name: &'static str, frame: &FrameBuilder, setup: Setup, ports: Ports) -> Case {
    let frame = frame.build();
    let answer = Answer {
        port_number: 1,
        target: EGRESS_TARGET,
        source_target: SOURCE_TARGET,
        next_hop: EGRESS_ROW,
        egress_ifindex: ports.egress,
    };
    Case { name, leaves: Some(by_egress(&frame)), frame, setup, reason: Reason::ForwardedRedirect, answer }
}

/// A packet that leaves by the port it came in on.
fn hairpin(name: &'static str, frame: FrameBuilder, setup: Setup, reason: Reason) -> Case {
    let frame = frame.destination(HAIRPIN).build();
    let answer = Answer {
        port_number: 1,
        target: HAIRPIN_TARGET,
        source_target: SOURCE_TARGET,
        next_hop: HAIRPIN_ROW,
        egress_ifindex: 1,
    };
    Case { name, leaves: Some(by_ingress(&frame)), frame, setup, reason, answer }
}

/// The frame whose header checksum is `check`, found by its identification.
fn with_checksum(check: u16) -> FrameBuilder {
    (0..=u16::MAX)
        .map(|id| frame().identification(id))
        .find(|frame| frame.build()[24..26] == check.to_be_bytes())
        .expect("the identification reaches every checksum but one")
}

/// All packets that must be forwarded.
pub fn cases(ports: Ports) -> Vec<Case> {
    let go = |name, frame: FrameBuilder| redirected(name, &frame, unchanged, ports);
    let mut cases = vec![
        go("udp", frame()),
        go("udp without checksum", frame().transport(UDP)),
        go("tcp", frame().transport(TCP)),
        go("icmp", frame().transport(ECHO)),
        go("another protocol (OSPF's number)", frame().transport(Transport::Raw(89))),
        go("header only", frame().transport(Transport::Raw(59)).payload(Vec::new()).padding(26)),
        go("DSCP and ECN kept", frame().tos(46, 3)),
        go("don't fragment", frame().dont_fragment(true)),
        go("may fragment", frame().dont_fragment(false)),
        go("first fragment", frame().fragment(0, true)),
        go("last fragment", frame().fragment(185, false)),
        go("TTL 2", frame().ttl(2)),
        go("TTL 255", frame().ttl(255)),
        go("as long as the MTU", frame().packet_length(1500)),
        go("padding trimmed", frame().transport(TCP).payload(Vec::new()).padding(6)),
        go("one byte of padding trimmed", frame().padding(1)),
        go("padding longer than the MTU trimmed", frame().padding(1600)),
        // 0xfeff + 0x0100 is 0xffff, the other zero: the kernel stores 0.
        go("checksum 0xfeff", with_checksum(0xfeff)),
        go("checksum 0xff00 (carry)", with_checksum(0xff00)),
        go("checksum 0xfffe (carry)", with_checksum(0xfffe)),
        go("checksum 0x0000", with_checksum(0x0000)),
        // The other zero is as right as 0 to `ip_fast_csum`.
        go("checksum 0xffff", with_checksum(0x0000).checksum_error(0xffff)),
        hairpin("hairpin", frame(), unchanged, Reason::ForwardedTx),
        hairpin("hairpin, padding trimmed", frame().padding(4), unchanged, Reason::ForwardedTx),
        hairpin("hairpin by redirect", frame(), no_tx, Reason::ForwardedRedirect),
        hairpin("hairpin, on-link source, no ICMP redirects", frame(), silent, Reason::ForwardedTx),
        redirected("on-link source, another port", &frame(), on_link, ports),
        redirected("strict reverse path by one of two ports", &frame(), two_ports, ports),
    ];
    let source = |name, source_target, setup| {
        let mut case = redirected(name, &frame().source(ASYMMETRIC_SOURCE), setup, ports);
        case.answer.source_target = source_target;
        case
    };
    cases.push(source("loose reverse path", ASYMMETRIC_TARGET, loose));
    cases.push(source("no reverse path filter", ASYMMETRIC_TARGET, unfiltered));
    let mut unknown = redirected(
        "no reverse path filter, no route to the source",
        &frame().source([100, 64, 0, 1].into()),
        unfiltered,
        ports,
    );
    unknown.answer.source_target = 0;
    cases.push(unknown);
    let mut unknown_hairpin = hairpin(
        "hairpin, no reverse path filter, no route to the source",
        frame().source([100, 64, 0, 1].into()),
        unfiltered,
        Reason::ForwardedTx,
    );
    unknown_hairpin.answer.source_target = 0;
    cases.push(unknown_hairpin);
    let mut unasked = redirected("only own sources are refused, and it is none", &frame(), unasked, ports);
    unasked.answer.source_target = 0;
    cases.push(unasked);
    cases.push(hairpin("a hairpin's source is looked up", frame(), own_sources, Reason::ForwardedTx));
    let mut group = redirected("group of one bucket", &frame(), one_bucket, ports);
    group.answer.target = CASE_TARGET;
    cases.push(group);
    cases
}

fn no_tx(data_plane: &mut DataPlane, _: Ports) {
    let port = ingress_port();
    data_plane.set_port(Port { flags: port.flags & !PORT_TX, ..port });
}

/// The source is on-link, and the port sends no redirects.
fn silent(data_plane: &mut DataPlane, ports: Ports) {
    on_link(data_plane, ports);
    let flags = ingress_port().flags & !PORT_SEND_REDIRECTS;
    data_plane.set_port(Port { flags, ..ingress_port() });
}

fn on_link(data_plane: &mut DataPlane, _: Ports) {
    data_plane.set_target(SOURCE_TARGET, pass(Reason::Connected, ON_LINK, BY_INGRESS));
}

fn two_ports(data_plane: &mut DataPlane, _: Ports) {
    data_plane.set_target(SOURCE_TARGET, pass(Reason::NotAccelerated, ON_LINK, BY_INGRESS | 1 << 63));
}

fn loose(data_plane: &mut DataPlane, _: Ports) {
    data_plane.set_port(Port { rp_filter: 2, ..ingress_port() });
}

fn unfiltered(data_plane: &mut DataPlane, _: Ports) {
    data_plane.set_port(Port { rp_filter: 0, ..ingress_port() });
}

/// The kernel does not check the reverse path.
fn own_sources(data_plane: &mut DataPlane, _: Ports) {
    let flags = ingress_port().flags | PORT_OWN_SOURCES;
    data_plane.set_port(Port { rp_filter: 0, flags, ..ingress_port() });
}

/// As [`own_sources`], with a source that no packet may have whom anybody asks about.
fn unasked(data_plane: &mut DataPlane, ports: Ports) {
    own_sources(data_plane, ports);
    data_plane.set_target(SOURCE_TARGET, pass(Reason::Refused, 0, 0));
    data_plane.add_own([192, 0, 2, 254].into());
}

fn one_bucket(data_plane: &mut DataPlane, _: Ports) {
    let kind = TargetKind::Group as u32;
    let group = Target { kind, index: BUCKET_ENTRIES - 1, mask: 0, source_flags: 0, source_ports: 0 };
    data_plane.set_target(CASE_TARGET, group);
    data_plane.set_bucket(BUCKET_ENTRIES - 1, EGRESS_ROW);
    data_plane.set_prefix(INGRESS_VIEW, "198.51.100.0/25".parse().expect("a prefix"), CASE_TARGET);
}

#[test]
fn forwarded_packets_leave_as_the_kernel_would_send_them() {
    let Some((_keep, ports)) = network() else { return };
    for case in cases(ports) {
        check(&case, ports);
    }
}

/// The bytes of one packet in full, so that no code stands between the eye and the wire.
#[test]
fn one_packet_byte_by_byte() {
    let Some((mut data_plane, ports)) = network() else { return };
    prepare(&mut data_plane, ports);
    #[rustfmt::skip]
    let before = [
        0x02, 0, 0, 0, 0, 0x01, /* from */ 0x06, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, /* IPv4 */ 0x08, 0x00,
        0x45, 0xb8, 0x00, 0x1d, 0xbe, 0xef, 0x40, 0x00, /* TTL */ 0x40, 0x11, /* sum */ 0x8e, 0xec,
        192, 0, 2, 1, 198, 51, 100, 7,
        /* UDP 4000 > 53, no checksum */ 0x0f, 0xa0, 0x00, 0x35, 0x00, 0x09, 0x00, 0x00, /* data */ 0x2a,
        /* padding */ 0, 0, 0,
    ];
    #[rustfmt::skip]
    let after = [
        0x06, 0x11, 0x22, 0x33, 0x44, 0x55, /* from */ 0x02, 0, 0, 0, 0, 0x02, /* IPv4 */ 0x08, 0x00,
        0x45, 0xb8, 0x00, 0x1d, 0xbe, 0xef, 0x40, 0x00, /* TTL */ 0x3f, 0x11, /* sum */ 0x8f, 0xec,
        192, 0, 2, 1, 198, 51, 100, 7,
        0x0f, 0xa0, 0x00, 0x35, 0x00, 0x09, 0x00, 0x00, 0x2a,
    ];
    let run = data_plane.forward(&before);
    assert_eq!(run.frame, after);
    assert_eq!(run.verdict, underpass_tests::bpf::verdict::REDIRECT);
}
