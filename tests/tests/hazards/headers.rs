//! What is in the frame.

use underpass_tests::packet::{FrameBuilder, Transport};

use crate::rig::{HAIRPIN, OWN, REDIRECT, Rig, SOURCE, TX};

/// TTL 0 and 1 expire here, and the kernel says so to the sender; others go down by exactly one, with the
/// checksum that the kernel writes, whatever carries over.
#[test]
fn h09_ttl_expires_in_the_kernel_and_falls_by_one() {
    let Some(mut rig) = Rig::with("") else { return };
    for ttl in [0, 1] {
        let frame = rig.frame().ttl(ttl).build();
        let outcome = rig.check(&format!("TTL {ttl}"), &frame, "ttl_expired");
        assert_eq!(outcome[0].frame[34..36], [11, 0], "time exceeded: {outcome:?}");
    }
    for ttl in [2, 3, 64, 128, 255] {
        let frame = rig.frame().ttl(ttl).build();
        rig.check_forwarded(&format!("TTL {ttl}"), &frame, (1, 2), REDIRECT);
    }
    // Identifications that put the checksum where adding 0x0100 carries or gives a zero.
    let wanted = [0xfeff_u16, 0xff00, 0xfeff, 0xfffe, 0x00ff, 0xfe00, 0xffff, 0x0000];
    let build = |rig: &mut Rig, id| rig.frame().identification(id).ttl(64).build();
    let mut seen = 0;
    for id in 1..=u16::MAX {
        let frame = build(&mut rig, id);
        let check = u16::from_be_bytes([frame[24], frame[25]]);
        if wanted.contains(&check) {
            rig.check_forwarded(&format!("checksum {check:04x}"), &frame, (1, 2), REDIRECT);
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen} of the checksums");
}

/// A frame that is passed up was not written to. (`check` compares what the stack sees with what was sent.)
#[test]
fn h10_frames_that_are_passed_up_are_untouched() {
    let Some(mut rig) = Rig::with("route add 10.233.1.0/24 via 10.11.0.7\n") else { return };
    let before = rig.twin.fast.reached_stack;
    let unresolved = |frame: FrameBuilder| frame.destination([10, 233, 1, 1].into());
    let cases = [
        ("padded, late refusal", unresolved(rig.frame()).padding(6).build(), "next_hop_not_live"),
        ("too big and padded", rig.frame().packet_length(1501).padding(3).build(), "too_big"),
        ("own source, padded", rig.frame().source(OWN).padding(9).build(), "source_invalid"),
        ("expired", rig.frame().ttl(1).padding(1).build(), "ttl_expired"),
        ("no route", rig.frame().destination([10, 233, 2, 1].into()).build(), "no_route"),
    ];
    for (name, frame, reason) in &cases {
        rig.check(name, frame, reason);
    }
    assert_eq!(rig.twin.fast.reached_stack - before, cases.len() as u64);
}

/// Options have to be processed; headers that lie about version or lengths are dropped and counted by the
/// kernel.
#[test]
fn h15_options_and_malformed_headers_are_the_kernels() {
    let Some(mut rig) = Rig::with("") else { return };
    for (name, options) in [
        ("no-operation", &[1, 1, 1, 0][..]),
        ("record route", &[7, 7, 4, 0, 0, 0, 0, 0]),
        ("router alert", &[0x94, 4, 0, 0]),
        ("source route", &[0x83, 7, 4, 10, 11, 0, 2, 0]),
        ("wrong length", &[7, 40, 4, 0]),
    ] {
        let frame = rig.frame().options(options).build();
        rig.check(name, &frame, "ip_options");
    }
    let mut changed = |name: &str, reason: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = rig.frame().build();
        change(&mut frame);
        rig.check(name, &frame, reason);
    };
    changed("version 6", "bad_header", &|frame| set(frame, 0, 0x65));
    changed("version 5", "bad_header", &|frame| set(frame, 0, 0x55));
    changed("header length 4", "bad_header", &|frame| set(frame, 0, 0x44));
    changed("header length 15", "ip_options", &|frame| set(frame, 0, 0x4f));
    changed("total length beyond the frame", "bad_header", &|frame| set(frame, 3, 47));
    changed("total length below the header", "bad_header", &|frame| set(frame, 3, 19));
    changed("total length 0", "bad_header", &|frame| set(frame, 3, 0));
    changed("wrong checksum", "bad_checksum", &|frame| frame[24] ^= 0x10);
    changed("cut in the payload", "bad_header", &|frame| frame.truncate(50));
    changed("cut in the header", "truncated", &|frame| frame.truncate(30));
}

/// Sets a byte of the IP header and makes the checksum right again.
fn set(frame: &mut [u8], at: usize, value: u8) {
    frame[14 + at] = value;
    frame[24..26].fill(0);
    let end = 14 + (usize::from(frame[14] & 15) * 4).clamp(20, frame.len() - 14);
    let words = frame[14..end].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let check = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
    frame[24..26].copy_from_slice(&check.to_be_bytes());
}

/// Fragments are forwarded like any packet, all of one packet by the same next hop, though only the first
/// has ports.
#[test]
fn h16_fragments_are_forwarded_by_one_path() {
    let Some(mut rig) = Rig::with(
        "route add 10.233.80.0/24 nexthop via 10.11.0.2 nexthop via 10.11.0.3 nexthop via 10.12.0.2 \
         nexthop via 10.12.0.3\n",
    ) else {
        return;
    };
    for flow in 0..20u8 {
        let mut path = None;
        for (offset, more) in [(0, true), (185, true), (370, false)] {
            let transport = if offset == 0 {
                Transport::Udp { source: 4000 + u16::from(flow), destination: 53 }
            } else {
                Transport::Raw(17)
            };
            let frame = rig.frame().source([100, 64, 1, flow].into()).destination([10, 233, 80, 1].into());
            let frame = frame.transport(transport).fragment(offset, more).build();
            let (fast, reasons) = rig.chosen(0, &frame);
            assert_eq!(reasons.get(REDIRECT), Some(&1), "{reasons:?}");
            let hop = (fast[0].port, fast[0].frame[..6].to_vec());
            assert_eq!(*path.get_or_insert_with(|| hop.clone()), hop, "flow {flow}, offset {offset}");
        }
    }
    let frame = rig.frame().fragment(185, true).build();
    rig.check_forwarded("one next hop", &frame, (1, 2), REDIRECT);
}

/// Only frames to the port's own MAC address are forwarded: not flooded ones, broadcasts, multicasts, nor
/// those to another port of the router.
#[test]
fn h18_frames_for_others_are_never_forwarded() {
    let Some(mut rig) = Rig::with("") else { return };
    for (name, to) in [
        ("another host", [6, 0, 0, 0, 0, 3]),
        ("another port of the router", [2, 0, 0, 0, 1, 1]),
        ("one bit off", [2, 0, 0, 0, 1, 0x80]),
        ("broadcast", [0xff; 6]),
        ("multicast", [1, 0, 0x5e, 0x69, 0x40, 7]),
        ("zero", [0; 6]),
    ] {
        let frame = rig.frame().destination_mac(to).build();
        assert_eq!(rig.check(name, &frame, "not_for_us"), [], "{name}");
    }
}

/// A VLAN tag may name another interface: tagged frames are the kernel's, which drops unknown VLANs and
/// forwards priority tags. (That a NIC strips tags before XDP sees them is a preflight matter.)
#[test]
fn h19_tagged_frames_are_the_kernels() {
    let Some(mut rig) = Rig::with("") else { return };
    let frame = rig.frame().vlan(5).build();
    assert_eq!(rig.check("VLAN 5", &frame, "vlan"), []);
    let frame = rig.frame().vlan(0).build();
    assert_eq!(rig.check("priority tag", &frame, "vlan").len(), 1, "the kernel forwards it");
    let mut frame = rig.frame().vlan(5).build();
    frame[12..14].copy_from_slice(&[0x88, 0xa8]);
    rig.check("802.1ad", &frame, "vlan");
}

/// What is for the router itself reaches it: ping, BGP with TTL 1 or 255, ARP, LLDP, LACP.
#[test]
fn h31_the_nodes_own_traffic_reaches_it() {
    let Some(mut rig) = Rig::with("") else { return };
    for ttl in [1, 64, 255] {
        let frame = rig.frame().destination(OWN).ttl(ttl).identification(u16::from(ttl));
        let echo = Transport::Echo { id: 1, sequence: u16::from(ttl) };
        let outcome = rig.check("ping", &frame.clone().transport(echo).build(), expected(ttl));
        assert_eq!(outcome.len(), 1, "a reply: {outcome:?}");
        let bgp = frame.transport(Transport::Tcp { source: 40_000, destination: 179 }).build();
        let (kernel, fast, _) = rig.both(0, &bgp);
        assert_eq!(kernel, fast, "BGP with TTL {ttl}");
    }
    for (name, kind, to) in [
        ("ARP", [0x08, 0x06], [0xff; 6]),
        ("LLDP", [0x88, 0xcc], [1, 0x80, 0xc2, 0, 0, 0x0e]),
        ("LACP", [0x88, 0x09], [1, 0x80, 0xc2, 0, 0, 2]),
    ] {
        let mut frame = rig.frame().destination_mac(to).build();
        frame[12..14].copy_from_slice(&kind);
        rig.check(name, &frame, "not_ip");
    }
}

/// The TTL is looked at before the destination: either way the packet is the kernel's.
fn expected(ttl: u8) -> &'static str {
    if ttl > 1 { "local" } else { "ttl_expired" }
}

/// Nothing else of a packet changes: DSCP, ECN, identification, fragment bits, the UDP checksum 0, payload.
#[test]
fn h40_everything_else_of_a_packet_stays_as_it_is() {
    let Some(mut rig) = Rig::with("") else { return };
    for (dscp, ecn) in [(0, 1), (0, 2), (0, 3), (46, 0), (63, 3)] {
        let frame = rig.frame().tos(dscp, ecn).build();
        rig.check_forwarded(&format!("DSCP {dscp}, ECN {ecn}"), &frame, (1, 2), REDIRECT);
    }
    let none = Transport::UdpWithoutChecksum { source: 1, destination: 2 };
    let frame = rig.frame().transport(none).build();
    rig.check_forwarded("no UDP checksum", &frame, (1, 2), REDIRECT);
    for protocol in [0, 4, 41, 47, 50, 51, 89, 132, 255] {
        let frame = rig.frame().transport(Transport::Raw(protocol)).build();
        rig.check_forwarded(&format!("protocol {protocol}"), &frame, (1, 2), REDIRECT);
    }
    let mut frame = rig.frame().build();
    set(&mut frame, 6, 0x80);
    let outcome = rig.check("reserved bit", &frame, REDIRECT);
    assert_eq!(outcome[0].frame[20], 0x80);
}

/// Ethernet pads short frames; the kernel takes the padding off, so a packet of 40 bytes that came in 60
/// leaves in 54.
#[test]
fn h41_padding_comes_off() {
    let Some(mut rig) = Rig::with("") else { return };
    let tcp = Transport::Tcp { source: 1, destination: 2 };
    let frame = rig.frame().transport(tcp.clone()).payload(Vec::new()).padding(6).build();
    assert_eq!(frame.len(), 60);
    let outcome = rig.check("a bare acknowledgement", &frame, REDIRECT);
    assert_eq!(outcome[0].frame.len(), 54);
    let frame = rig.frame().destination(HAIRPIN).transport(tcp).payload(Vec::new()).padding(6).build();
    let outcome = rig.check("by the port it came from", &frame, TX);
    assert_eq!(outcome[0].frame.len(), 54);
    let frame = rig.frame().packet_length(1500).padding(4).build();
    rig.check_forwarded("a full packet and a trailer", &frame, (1, 2), REDIRECT);
}

/// Three things that the kernel drops and a mere lookup does not see: a wrong header checksum, one of our own
/// addresses as source (whatever `rp_filter` says), and a subnet's broadcast address as source (without
/// `rp_filter` the kernel forwards it, so it decides).
#[test]
fn h44_wrong_checksums_and_forged_sources_are_the_kernels_to_drop() {
    for filter in ["0", "1", "2"] {
        let Some(mut rig) = Rig::raise(|plan| {
            plan.sysctls.push(("ipv4.conf.p0.rp_filter".to_owned(), filter.to_owned()));
            // Its address has no route, but is one of the machine.
            plan.commands += "link add idle type veth peer name idle0\naddress add 10.77.0.1/32 dev idle\n";
        }) else {
            return;
        };
        forged(&mut rig, filter == "0");
    }
}

fn forged(rig: &mut Rig, unfiltered: bool) {
    let frame = rig.frame().checksum_error(0x0001).build();
    assert_eq!(rig.check("checksum off by one", &frame, "bad_checksum"), []);
    let frame = rig.frame().checksum_error(0xffff).build();
    assert_eq!(rig.check("checksum complemented", &frame, "bad_checksum"), []);
    for (name, from) in [
        ("own address", [10, 10, 0, 1]),
        ("own address of another port", [10, 11, 0, 1]),
        ("own address of the loopback device", [10, 255, 0, 1]),
    ] {
        let frame = rig.frame().source(from.into()).build();
        assert_eq!(rig.check(name, &frame, "source_invalid"), [], "{name}");
    }
    if unfiltered {
        let frame = rig.frame().source([10, 77, 0, 1].into()).build();
        assert_eq!(rig.check("own address of an interface that is down", &frame, "source_invalid"), []);
    }
    for (name, from) in [
        ("broadcast address of the ingress subnet", [10, 10, 255, 255]),
        ("broadcast address of the egress subnet", [10, 11, 255, 255]),
    ] {
        let frame = rig.frame().source(from.into()).build();
        let outcome = rig.check(name, &frame, "source_invalid");
        assert_eq!(outcome.len(), usize::from(unfiltered), "{name}: {outcome:?}");
    }
    let frame = rig.frame().source(SOURCE).build();
    rig.check_forwarded("and a right one", &frame, (1, 2), REDIRECT);
}
