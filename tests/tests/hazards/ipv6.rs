//! IPv6, and IPv4 by IPv6 next hops.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use underpass_tests::twin::{Plan, port_mac};

use crate::rig::{REDIRECT, Rig, host_mac};

const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa0, 0, 0, 0, 0, 9);
const DESTINATION: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x233, 0, 0, 0, 0, 0, 7);

/// The rig with IPv6: behind p0 `2001:db8:a0::/48`, behind p1 `fd00:233::/32`, neighbours as for IPv4.
fn raise(change: impl FnOnce(&mut Plan)) -> Option<Rig> {
    Rig::raise(|plan| {
        plan.ipv6 = true;
        for port in 0..3 {
            let _ = writeln!(
                plan.commands6,
                "address add 2001:db8:1{port}::1/64 dev p{port} nodad\n\
                 neighbour add 2001:db8:1{port}::2 lladdr 06:00:00:00:0{port}:02 nud permanent dev p{port}\n\
                 neighbour add fe80::2 lladdr 06:00:00:00:0{port}:02 nud permanent dev p{port}"
            );
            plan.own.push(format!("2001:db8:1{port}::1/128").parse().expect("a prefix"));
        }
        plan.commands6.push_str(
            "route add 2001:db8:a0::/48 via 2001:db8:10::2\nroute add fd00:233::/32 via 2001:db8:11::2\n",
        );
        plan.sections = plan.sections.replace("[\"10.233.0.0/16\"]", "[\"10.233.0.0/16\", \"fd00::/16\"]");
        change(plan);
    })
}

/// A packet of `length` bytes with these headers before its payload, `first` being the kind of the first. The
/// flow label is its tag.
fn packet(tag: u16, hop_limit: u8, (first, headers): (u8, &[u8]), length: usize) -> Vec<u8> {
    let mut frame = [&port_mac(0)[..], &host_mac(0, 2), &[0x86, 0xdd, 0x60, 0]].concat();
    frame.extend(tag.to_be_bytes());
    frame.extend(u16::try_from(length - 40).expect("short").to_be_bytes());
    frame.extend([first, hop_limit]);
    frame.extend(SOURCE.octets());
    frame.extend(DESTINATION.octets());
    frame.extend(headers);
    let payload = length - 40 - headers.len();
    frame.extend((0..payload).map(|at| u8::try_from(at % 251).expect("below 256")));
    frame
}

fn plain(tag: u16, length: usize) -> Vec<u8> {
    packet(tag, 64, (17, &[]), length)
}

/// The frame as it leaves by p1.
fn forwarded(frame: &[u8]) -> Vec<u8> {
    let mut frame = [&host_mac(1, 2)[..], &port_mac(1), &frame[12..]].concat();
    frame[21] -= 1;
    frame
}

/// An IPv4 route by an IPv6 next hop: the header stays IPv4, the neighbour is one of IPv6.
#[test]
fn h08_ipv4_routes_by_ipv6_next_hops() {
    let Some(mut rig) = raise(|_| ()) else { return };
    rig.ip("route add 10.233.200.0/24 via inet6 fe80::2 dev p1\n");
    let to = [10, 233, 200, 1].into();
    rig.wait_for(REDIRECT, |frame| frame.destination(to));
    let frame = rig.frame().destination(to).build();
    rig.check_forwarded("by fe80::2", &frame, (1, 2), REDIRECT);
}

/// The length in an IPv6 header leaves the header out: 40 bytes more count against the MTU, and the kernel
/// answers what is longer with "packet too big".
#[test]
fn h12_ipv6_lengths_count_the_header() {
    let Some(mut rig) = raise(|plan| plan.ports[0].mtu = 2000) else { return };
    for (tag, above) in (1..).zip([0, 1, 2, 4, 5, 39, 40, 41]) {
        let frame = plain(tag, 1500 + above);
        let reason = if above == 0 { REDIRECT } else { "too_big" };
        let outcome = rig.check(&format!("{above} bytes above the MTU"), &frame, reason);
        let [left] = outcome.as_slice() else { panic!("{above}: {outcome:?}") };
        if above == 0 {
            assert_eq!(left.frame, forwarded(&frame));
        } else {
            too_big(&left.frame, 1500);
        }
    }
}

/// Checks that a frame is "packet too big" with this MTU.
fn too_big(frame: &[u8], mtu: u32) {
    assert_eq!(frame[54], 2, "packet too big");
    assert_eq!(frame[58..62], mtu.to_be_bytes(), "with the MTU");
}

/// Hop-by-hop options are for every router; other extension headers are none of its business, however many there
/// are, and all fragments of a packet take one path.
#[test]
fn h17_hop_by_hop_options_are_the_kernels_other_headers_pass() {
    let Some(mut rig) = raise(|plan| {
        plan.commands6.push_str(
            "neighbour add 2001:db8:12::3 lladdr 06:00:00:00:02:03 nud permanent dev p2\n\
             route add fd00:333::/32 nexthop via 2001:db8:11::2 dev p1 nexthop via 2001:db8:12::2 dev p2 \
             nexthop via 2001:db8:12::3 dev p2\n",
        );
    }) else {
        return;
    };
    let alert = [17, 0, 5, 2, 0, 0, 1, 0];
    let unknown = [17, 0, 0xbe, 4, 0, 0, 0, 0];
    for (tag, (name, header)) in (1..).zip([("router alert", alert), ("unknown option", unknown)]) {
        let frame = packet(tag, 64, (0, &header), 100);
        assert_eq!(rig.check(name, &frame, "hop_by_hop").len(), 1, "{name}");
    }
    let destination = [17, 0, 1, 4, 0, 0, 0, 0];
    let routing = [17, 0, 253, 0, 0, 0, 0, 0];
    let first = [17, 0, 0, 1, 0, 0, 0, 9];
    let last = [17, 0, 1, 0, 0, 0, 0, 9];
    for (tag, (name, kind, header)) in (10..).zip([
        ("destination options", 60, destination),
        ("routing header, nothing left", 43, routing),
        ("first fragment", 44, first),
        ("last fragment", 44, last),
    ]) {
        let frame = packet(tag, 64, (kind, &header), 100);
        let outcome = rig.check(name, &frame, REDIRECT);
        assert_eq!(outcome[0].frame, forwarded(&frame), "{name}");
    }
    let mut chain = Vec::new();
    for next in [60, 60, 60, 60, 60, 60, 60, 17] {
        chain.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    let frame = packet(20, 64, (60, &chain), 200);
    let (kernel, fast, _) = rig.both(0, &frame);
    assert_eq!(kernel, fast, "a chain of eight");
    for (tag, ports) in (30..).step_by(2).zip(0..12u8) {
        let mut hops = Vec::new();
        for (tag, header) in [(tag, first), (tag + 1, last)] {
            let mut frame = packet(tag, 64, (44, &header), 100);
            // Only the first fragment has ports, and the flow label is that of the flow.
            frame[62..66].copy_from_slice(&[ports; 4]);
            frame[38..42].copy_from_slice(&[0xfd, 0, 3, 0x33]);
            let (outcome, reasons) = rig.chosen(0, &frame);
            assert_eq!(reasons.get(REDIRECT), Some(&1), "{reasons:?}");
            hops.push((outcome[0].port, outcome[0].frame[..6].to_vec()));
        }
        assert_eq!(hops[0], hops[1], "both fragments of flow {ports}");
    }
}

/// `net.ipv6.conf.X.mtu` may be below the device's MTU, and a route may have one too: what is longer is the
/// kernel's to refuse. (It heeds a route's MTU only where it is locked, or for IPv4 with `ip_forward_use_pmtu`;
/// Underpass leaves what is longer to it in any case.)
#[test]
fn h45_the_smallest_mtu_counts() {
    let Some(mut rig) = raise(|plan| {
        plan.sysctls.push(("ipv6.conf.p1.mtu".to_owned(), "1400".to_owned()));
        plan.sysctls.push(("ipv4.ip_forward_use_pmtu".to_owned(), "1".to_owned()));
        plan.commands.push_str("route add 10.233.2.0/24 mtu 1300 via 10.11.0.2\n");
        plan.commands6.push_str("route add fd00:444::/32 mtu 1350 via 2001:db8:11::2\n");
    }) else {
        return;
    };
    for (name, prefix, mtu, tag) in [("interface", 0x0233u16, 1400, 1), ("route", 0x0444, 1350, 10)] {
        for (tag, length) in [(tag, mtu), (tag + 1, mtu + 1), (tag + 2, 1500)] {
            let mut frame = plain(tag, length);
            frame[40..42].copy_from_slice(&prefix.to_be_bytes());
            let reason = if length == mtu { REDIRECT } else { "too_big" };
            let outcome = rig.check(&format!("{name}, {length} bytes"), &frame, reason);
            if length == mtu {
                assert_eq!(outcome[0].frame, forwarded(&frame), "{name}");
            } else if name == "interface" {
                too_big(&outcome[0].frame, u32::try_from(mtu).expect("short"));
            }
        }
    }
    let to = [10, 233, 2, 1].into();
    let frame = rig.frame().destination(to).packet_length(1300).build();
    rig.check_forwarded("IPv4 route", &frame, (1, 2), REDIRECT);
    let frame = rig.frame().destination(to).packet_length(1301).build();
    let outcome = rig.check("IPv4 route, longer", &frame, "too_big");
    assert_eq!(outcome[0].frame[34..36], [3, 4], "{outcome:?}");
}
