//! The small network that the golden packets run in, and the check of one case.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use underpass_common::abi::{Control, Counter};
use underpass_common::nexthop::{
    NEXT_HOP_LIVE, NextHop, PORT_EGRESS, PORT_HAIRPIN6, PORT_INGRESS, PORT_INGRESS6, PORT_SEND_REDIRECTS,
    PORT_TX, Port, SOURCE_ON_LINK, SOURCE_VALID, Target, TargetKind,
};
use underpass_common::reason::Reason;
use underpass_tests::bpf::{self, DataPlane, INGRESS_IFINDEX, verdict};
use underpass_tests::packet::{FrameBuilder, forwarded};

/// Interface indexes of the ports.
#[derive(Clone, Copy, Default)]
pub struct Ports {
    /// Where packets leave that are redirected.
    pub egress: u32,
    /// One more.
    pub other: u32,
}

/// MAC of the port that frames come in on, of the one that they leave by, and of neighbours.
pub const INGRESS_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
pub const EGRESS_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
pub const NEIGHBOUR_MAC: [u8; 6] = [0x06, 0x11, 0x22, 0x33, 0x44, 0x55];
pub const LEAF_MAC: [u8; 6] = [0x06, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];

/// Views of the three ports.
pub const INGRESS_VIEW: u32 = 1;
pub const EGRESS_VIEW: u32 = 77;

/// 198.51.100.0/24 leaves by the egress port, 203.0.113.0/24 by the port it came from; sources in
/// 192.0.2.0/24 are routed back by the ingress port, those in 192.0.3.0/24 by the egress port.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const ASYMMETRIC_SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 3, 1);
pub const DESTINATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const HAIRPIN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// Targets and rows of that network; cases use higher numbers for their own.
pub const EGRESS_TARGET: u32 = 1;
pub const HAIRPIN_TARGET: u32 = 2;
pub const SOURCE_TARGET: u32 = 3;
pub const ASYMMETRIC_TARGET: u32 = 4;
pub const CASE_TARGET: u32 = 5;
pub const EGRESS_ROW: u32 = 1;
pub const HAIRPIN_ROW: u32 = 2;
pub const MTU: u32 = 1500;

/// What a case changes before its packet comes.
pub type Setup = fn(&mut DataPlane, Ports);

/// One golden packet.
pub struct Case {
    pub name: &'static str,
    pub frame: Vec<u8>,
    pub setup: Setup,
    pub reason: Reason,
    /// The frame that leaves, or `None` when it must be as it was.
    pub leaves: Option<Vec<u8>>,
    /// What the probe says besides.
    pub answer: Answer,
}

/// Port number, target, row and egress port of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub port_number: u32,
    pub target: u32,
    pub source_target: u32,
    pub next_hop: u32,
    pub egress_ifindex: u32,
}

/// A frame from the leaf to [`DESTINATION`].
pub fn frame() -> FrameBuilder {
    FrameBuilder::new(LEAF_MAC, INGRESS_MAC, SOURCE, DESTINATION)
}

/// The row of the port that test runs come in on.
pub fn ingress_port() -> Port {
    Port {
        ifindex: INGRESS_IFINDEX,
        number: 1,
        view: INGRESS_VIEW,
        flags: PORT_INGRESS | PORT_INGRESS6 | PORT_HAIRPIN6 | PORT_EGRESS | PORT_TX | PORT_SEND_REDIRECTS,
        mac: INGRESS_MAC,
        rp_filter: 1,
        reserved: 0,
    }
}

/// The row of the port that packets to [`DESTINATION`] leave by.
pub fn egress_port(ports: Ports) -> Port {
    Port {
        ifindex: ports.egress,
        number: 2,
        view: EGRESS_VIEW,
        flags: PORT_EGRESS,
        mac: EGRESS_MAC,
        rp_filter: 0,
        reserved: 0,
    }
}

/// The next hop of [`DESTINATION`].
pub fn egress_row(ports: Ports) -> NextHop {
    NextHop {
        ifindex: ports.egress,
        state: NEXT_HOP_LIVE,
        destination_mac: NEIGHBOUR_MAC,
        source_mac: EGRESS_MAC,
        mtu: MTU,
        reserved: [0; 2],
    }
}

/// The next hop of [`HAIRPIN`].
pub fn hairpin_row() -> NextHop {
    NextHop {
        ifindex: INGRESS_IFINDEX,
        destination_mac: LEAF_MAC,
        source_mac: INGRESS_MAC,
        ..egress_row(Ports::default())
    }
}

/// A target of one next hop.
pub fn single(next_hop: u32, source_flags: u32, source_ports: u64) -> Target {
    Target { kind: TargetKind::NextHop as u32, index: next_hop, mask: 0, source_flags, source_ports }
}

/// A target that leaves packets to the kernel, and is fit as a source or not.
pub fn pass(reason: Reason, source_flags: u32, source_ports: u64) -> Target {
    Target { kind: TargetKind::Pass as u32, index: reason as u32, mask: 0, source_flags, source_ports }
}

/// Bit of the ingress port in `source_ports`.
pub const BY_INGRESS: u64 = 1 << 1;
/// Bit of the egress port.
pub const BY_EGRESS: u64 = 1 << 2;
/// Flags of a routed and of an on-link source.
pub const ROUTED: u32 = SOURCE_VALID;
pub const ON_LINK: u32 = SOURCE_VALID | SOURCE_ON_LINK;

/// Loads a fresh copy of everything with the network set up, or `None` without the privilege.
///
/// Moves the calling thread into a network namespace of its own.
pub fn network() -> Option<(DataPlane, Ports)> {
    let mut data_plane = DataPlane::for_test()?;
    let [egress, other] = bpf::enter_namespace_with_ports().expect("a namespace with two ports");
    let ports = Ports { egress, other };
    prepare(&mut data_plane, ports);
    Some((data_plane, ports))
}

/// Fills the maps with the network.
pub fn prepare(data_plane: &mut DataPlane, ports: Ports) {
    data_plane.set_control(Control { lease_until: u64::MAX, enabled: 1, flow_seed: 0 });
    data_plane.set_port(ingress_port());
    data_plane.set_port(egress_port(ports));
    data_plane.open_port(INGRESS_IFINDEX);
    data_plane.open_port(ports.egress);
    data_plane.set_next_hop(EGRESS_ROW, egress_row(ports));
    data_plane.set_next_hop(HAIRPIN_ROW, hairpin_row());
    data_plane.set_target(EGRESS_TARGET, single(EGRESS_ROW, ROUTED, BY_EGRESS));
    data_plane.set_target(HAIRPIN_TARGET, single(HAIRPIN_ROW, ROUTED, BY_INGRESS));
    data_plane.set_target(SOURCE_TARGET, pass(Reason::NotAccelerated, ROUTED, BY_INGRESS));
    data_plane.set_target(ASYMMETRIC_TARGET, pass(Reason::NotAccelerated, ROUTED, BY_EGRESS));
    for (view, prefix, target) in [
        (INGRESS_VIEW, "198.51.100.0/24", EGRESS_TARGET),
        (INGRESS_VIEW, "203.0.113.0/24", HAIRPIN_TARGET),
        // Sources are looked up in the view of the port that the packet leaves by.
        (EGRESS_VIEW, "192.0.2.0/24", SOURCE_TARGET),
        (INGRESS_VIEW, "192.0.2.0/24", SOURCE_TARGET),
        (INGRESS_VIEW, "2001:db8:b::/48", EGRESS_TARGET),
        (INGRESS_VIEW, "2001:db8:c::/48", HAIRPIN_TARGET),
        (INGRESS_VIEW, "2001:db8:a::/48", SOURCE_TARGET),
        (EGRESS_VIEW, "192.0.3.0/24", ASYMMETRIC_TARGET),
        (INGRESS_VIEW, "192.0.3.0/24", ASYMMETRIC_TARGET),
    ] {
        data_plane.set_prefix(view, prefix.parse().expect("a prefix"), target);
    }
}

/// The frame as it leaves by the egress port.
pub fn by_egress(frame: &[u8]) -> Vec<u8> {
    forwarded(frame, EGRESS_MAC, NEIGHBOUR_MAC)
}

/// The frame as it leaves by the port that it came in on.
pub fn by_ingress(frame: &[u8]) -> Vec<u8> {
    forwarded(frame, INGRESS_MAC, LEAF_MAC)
}

/// Runs one case on a fresh data plane and checks everything about it.
pub fn check(case: &Case, ports: Ports) {
    let Case { name, frame, reason, .. } = case;
    let mut data_plane = DataPlane::load().expect("loaded before");
    prepare(&mut data_plane, ports);
    (case.setup)(&mut data_plane, ports);
    let expected = case.leaves.as_ref().unwrap_or(frame);
    let expected_verdict = match reason {
        Reason::ForwardedTx => verdict::TX,
        Reason::ForwardedRedirect => verdict::REDIRECT,
        _ => verdict::PASS,
    };

    let (header, probed) = data_plane.probe(INGRESS_IFINDEX, frame);
    assert_eq!(header.answered, 1, "{name}: the probe answers");
    assert_eq!(Reason::from_number(header.reason), Some(*reason), "{name}: reason by the probe");
    assert_eq!(probed.verdict, expected_verdict, "{name}: verdict of the probe");
    assert_eq!(hex(&probed.frame), hex(expected), "{name}: frame behind the probe header");
    assert_ne!(header.jiffies, 0, "{name}: the clock is told whatever the verdict");
    let answer = Answer {
        port_number: case.answer.port_number,
        target: header.target,
        source_target: header.source_target,
        next_hop: header.next_hop,
        egress_ifindex: header.egress_ifindex,
    };
    assert_eq!(answer, case.answer, "{name}: answer of the probe");
    if let Some(leaves) = &case.leaves {
        assert_eq!(header.destination_mac, leaves[..6], "{name}: destination MAC in the answer");
        assert_eq!(header.source_mac, leaves[6..12], "{name}: source MAC in the answer");
    }

    let run = data_plane.forward(frame);
    assert_eq!(run.verdict, expected_verdict, "{name}: verdict");
    assert_eq!(hex(&run.frame), hex(expected), "{name}: frame");
    // The probe has counted nothing: one packet, not two.
    let counted = Counter { packets: 1, bytes: frame.len() as u64 };
    let counters = BTreeMap::from([((case.answer.port_number, *reason), counted)]);
    assert_eq!(data_plane.counters(), counters, "{name}: counters");
}

/// Bytes for people, so that a failed comparison can be read.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
