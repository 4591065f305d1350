//! Which route a packet takes, and which sources are accepted.

use std::collections::BTreeMap;

use underpass_tests::packet::Transport;
use underpass_tests::twin::Shot;

use crate::rig::{DESTINATION, HAIRPIN, NEIGHBOUR, OWN, REDIRECT, Rig, SOURCE, TX, host_mac};

/// A lookup ends in many ways besides a next hop (blackhole, unreachable, prohibit, throw, no route); the
/// kernel drops the packet or answers with ICMP, so each of them is left to it.
#[test]
fn h01_every_other_end_of_a_lookup_is_the_kernels() {
    let routes = "route add blackhole 10.233.1.0/24\nroute add unreachable 10.233.2.0/24\n\
                  route add prohibit 10.233.3.0/24\nroute add throw 10.233.4.0/24\n";
    let Some(mut rig) = Rig::with(routes) else { return };
    for (name, third, reason, answers) in [
        ("blackhole", 1, "refused", false),
        ("unreachable", 2, "refused", true),
        ("prohibit", 3, "refused", true),
        ("throw", 4, "no_route", true),
        ("no route", 5, "no_route", true),
    ] {
        let frame = rig.frame().destination([10, 233, third, 1].into()).build();
        let outcome = rig.check(name, &frame, reason);
        assert_eq!(!outcome.is_empty(), answers, "{name}: {outcome:?}");
    }
}

/// Own addresses, broadcast and multicast are delivered or dropped, never forwarded by `ip_forward`.
#[test]
fn h04_local_broadcast_and_multicast_destinations_reach_the_stack() {
    let Some(mut rig) = Rig::with("") else { return };
    let echo = Transport::Echo { id: 7, sequence: 1 };
    let frame = rig.frame().destination(OWN).transport(echo).identification(1).build();
    let outcome = rig.check("own address", &frame, "local");
    assert_eq!(outcome.len(), 1, "an echo reply: {outcome:?}");
    for (name, to, reason) in [
        ("own address on another port", [10, 11, 0, 1], "local"),
        ("own address on the loopback device", [10, 255, 0, 1], "local"),
        ("subnet broadcast", [10, 10, 255, 255], "local"),
        ("another port's subnet broadcast", [10, 11, 255, 255], "local"),
        ("limited broadcast", [255, 255, 255, 255], "not_unicast"),
        ("multicast", [224, 0, 0, 5], "not_unicast"),
        ("loopback", [127, 0, 0, 1], "not_unicast"),
        ("0/8", [0, 0, 0, 1], "not_unicast"),
    ] {
        let frame = rig.frame().destination(to.into()).build();
        rig.check(name, &frame, reason);
    }
}

/// A port with `forwarding` off forwards nothing; the kernel drops what comes in there.
#[test]
fn h05_a_port_that_does_not_forward_leaves_all_to_the_kernel() {
    let Some(mut rig) = Rig::raise(|plan| {
        plan.sysctls.push(("ipv4.conf.p0.forwarding".to_owned(), "0".to_owned()));
    }) else {
        return;
    };
    let frame = rig.frame().build();
    assert_eq!(rig.check("forwarding off", &frame, "port_not_ready"), []);
    let frame = rig.frame_for(1).source([100, 65, 0, 1].into()).destination(HAIRPIN).build();
    assert_eq!(rig.check_on(1, "out by that port", &frame, REDIRECT).len(), 1, "the ingress port decides");
}

/// A forwarding lookup does not check the source; the kernel refuses martian and own sources always, and with
/// `rp_filter` those that it would not reach by the ingress port.
#[test]
fn h06_sources_are_checked_as_by_the_kernel() {
    for (filter, asymmetric, unknown) in [
        ("0", REDIRECT, REDIRECT),
        ("1", "source_reverse_path", "source_reverse_path"),
        ("2", REDIRECT, "source_reverse_path"),
    ] {
        let Some(mut rig) = Rig::raise(|plan| {
            plan.sysctls.push(("ipv4.conf.p0.rp_filter".to_owned(), filter.to_owned()));
            plan.commands.push_str("route add 100.66.0.0/16 via 10.12.0.2\n");
        }) else {
            return;
        };
        for (name, from, reason) in [
            ("by this port", [100, 64, 0, 1], REDIRECT),
            ("by another port", [100, 66, 0, 1], asymmetric),
            ("no route", [203, 0, 113, 1], unknown),
            ("0/8", [0, 0, 0, 1], "martian_source"),
            ("loopback", [127, 0, 0, 1], "martian_source"),
            ("multicast", [224, 0, 0, 1], "martian_source"),
            ("broadcast", [255, 255, 255, 255], "martian_source"),
            ("own address", [10, 10, 0, 1], "source_invalid"),
            ("another own address", [10, 12, 0, 1], "source_invalid"),
        ] {
            let frame = rig.frame().source(from.into()).build();
            rig.check(&format!("{name}, rp_filter={filter}"), &frame, reason);
        }
    }
}

/// IP rules choose the table by ingress port, destination, source or mark; a lookup that skips them takes
/// the wrong route. (VRFs are not built into the kernel that tests run on.)
#[test]
fn h32_rules_are_walked_as_by_the_kernel() {
    let rules = "route add 10.233.64.0/18 via 10.12.0.2 table 100\n\
                 route add 10.233.65.0/24 via 10.12.0.3 table 101\n\
                 rule add preference 100 iif p0 to 10.233.64.0/24 lookup 100\n\
                 rule add preference 101 iif p1 lookup 101\n\
                 rule add preference 102 from 100.64.77.0/24 lookup 101\n\
                 rule add preference 103 fwmark 1 lookup 101\n\
                 rule add preference 104 lookup main suppress_prefixlength 17\n\
                 rule add preference 105 to 10.233.128.0/24 goto 200\n\
                 rule add preference 106 to 10.233.128.0/24 prohibit\n\
                 rule add preference 200 lookup main\n";
    let Some(mut rig) = Rig::with(rules) else { return };
    let frame = rig.frame().build();
    rig.check_forwarded("iif and to", &frame, (2, 2), REDIRECT);
    let frame = rig.frame().destination([10, 233, 66, 1].into()).build();
    rig.check_forwarded("no rule but main's", &frame, (1, 2), REDIRECT);
    let frame = rig.frame().destination(HAIRPIN).build();
    rig.check_forwarded("goto", &frame, (0, 2), TX);
    // With the source, the outcome differs: both are compiled, and the packet is the kernel's.
    for from in [SOURCE, [100, 64, 77, 1].into()] {
        let frame = rig.frame().source(from).destination([10, 233, 65, 1].into()).build();
        assert_eq!(rig.check("a rule by source", &frame, "unsupported").len(), 1);
    }
}

/// Routes with an encapsulation need work that the fast path does not do.
#[test]
fn h33_encapsulated_routes_are_the_kernels() {
    let Some(mut rig) = Rig::with(
        "link add vx0 type vxlan external dstport 4789\nlink set vx0 up\n\
         route add 10.233.210.0/24 encap ip id 5 dst 10.11.0.2 dev vx0\n",
    ) else {
        return;
    };
    let frame = rig.frame().destination([10, 233, 210, 1].into()).build();
    let (_, _, reasons) = rig.both(0, &frame);
    assert_eq!(reasons, BTreeMap::from([("unsupported".to_owned(), 1)]));
}

/// A packet that leaves by its ingress port: from an on-link source the kernel sends an ICMP redirect too,
/// from a routed one it only forwards.
#[test]
fn h35_hairpins_of_on_link_sources_make_the_kernel_send_redirects() {
    let Some(mut rig) = Rig::raise(|plan| {
        plan.sysctls.push(("ipv4.conf.p0.send_redirects".to_owned(), "1".to_owned()));
    }) else {
        return;
    };
    let frame = rig.frame().source(NEIGHBOUR).destination(HAIRPIN).build();
    let outcome = rig.check("on-link source", &frame, "would_redirect");
    assert_eq!(outcome.len(), 2, "forwarded, and a redirect: {outcome:?}");
    assert!(outcome.iter().any(|left| left.frame[14 + 9] == 1 && left.frame[34] == 5), "{outcome:?}");
    let frame = rig.frame().destination(HAIRPIN).build();
    rig.check_forwarded("routed source", &frame, (0, 2), TX);
    // The kernel does not announce the setting; it is read again every few seconds.
    for (value, reason) in [("0", TX), ("1", "would_redirect")] {
        for router in [&rig.twin.plain, &rig.twin.fast] {
            let setting = [("ipv4.conf.all.send_redirects", "0"), ("ipv4.conf.p0.send_redirects", value)];
            router.netns.sysctl(&setting).expect("a sysctl");
        }
        let host = if value == "0" { 77 } else { 78 };
        rig.wait_for(reason, |frame| frame.source([10, 10, 0, host].into()).destination(HAIRPIN));
    }
}

/// Some routes are chosen by more than the longest prefix: a TOS, or a local prefix that covers a longer one
/// of main, which counts in another order once the tables are apart.
#[test]
fn h47_routes_with_a_tos_and_covered_by_local_ones() {
    let routes = "route add 10.233.71.0/24 tos 0x10 via 10.12.0.2\n\
                  route add local 10.233.72.0/24 dev lo\n\
                  route add 10.233.72.128/25 via 10.12.0.2\n\
                  rule add preference 500 to 192.0.2.0/24 lookup 100\n";
    let Some(mut rig) = Rig::raise(|plan| {
        plan.commands.push_str(routes);
        plan.own.push("10.233.72.0/24".parse().expect("a prefix"));
    }) else {
        return;
    };
    let to = |frame: underpass_tests::packet::FrameBuilder, third, host| {
        frame.destination([10, 233, third, host].into())
    };
    let frame = to(rig.frame(), 71, 1).tos(4, 0).build();
    assert_eq!(rig.check("with the TOS", &frame, "unsupported")[0].port, 2);
    let frame = to(rig.frame(), 71, 1).build();
    assert_eq!(rig.check("without the TOS", &frame, "unsupported")[0].port, 1);
    for (name, host) in [("local only", 1), ("local, and a longer prefix of main", 200)] {
        let frame = to(rig.frame(), 72, host).build();
        rig.check(name, &frame, "local");
    }
    let frame = to(rig.frame(), 73, 1).build();
    rig.check_forwarded("beside them", &frame, (1, 2), REDIRECT);
}

/// Several next hops: all of them are used, a flow stays on one, and so do the fragments of a packet.
#[test]
fn h07_flows_spread_over_all_next_hops_and_stay_where_they_are() {
    let Some(mut rig) = Rig::with(
        "route add 10.233.80.0/24 nexthop via 10.11.0.2 nexthop via 10.11.0.3 nexthop via 10.12.0.2\n",
    ) else {
        return;
    };
    let hops = [host_mac(1, 2), host_mac(1, 3), host_mac(2, 2)];
    let mut chosen: BTreeMap<(u16, u16), [u8; 6]> = BTreeMap::new();
    let mut used: BTreeMap<[u8; 6], u32> = BTreeMap::new();
    for round in 0..2u16 {
        let flows: Vec<(u16, u16)> = (0..300)
            .map(|flow| if flow % 2 == 0 { (4000 + flow, 53) } else { (4000, 9000 + flow) })
            .collect();
        let shots: Vec<Shot> = flows
            .iter()
            .zip(1..)
            .map(|((source, destination), tag)| {
                let transport = Transport::Udp { source: *source, destination: *destination };
                let frame = rig.frame().source(SOURCE).destination([10, 233, 80, 1].into());
                let frame = frame.transport(transport);
                Shot { port: 0, tag, frame: frame.identification(u16::try_from(tag).expect("few")).build() }
            })
            .collect();
        let before = rig.twin.reasons().expect("counters");
        rig.twin.forget();
        rig.twin.send(&shots).expect("sent");
        let added = rig.twin.reasons().expect("counters").since(&before);
        assert_eq!(added, BTreeMap::from([(REDIRECT.to_owned(), 300)]));
        for (flow, shot) in flows.iter().zip(&shots) {
            let outcome = rig.twin.fast.outcome(shot.tag);
            let [left] = outcome.as_slice() else { panic!("flow {flow:?}: {outcome:?}") };
            let mac: [u8; 6] = left.frame[..6].try_into().expect("six bytes");
            assert!(hops.contains(&mac), "flow {flow:?} left to {mac:02x?}");
            assert_eq!(*chosen.entry(*flow).or_insert(mac), mac, "flow {flow:?} in round {round}");
            *used.entry(mac).or_default() += 1;
        }
    }
    for hop in hops {
        let share = used.get(&hop).copied().unwrap_or(0);
        assert!((120..=280).contains(&share), "{share} of 600 to {hop:02x?}");
    }
}

/// Service addresses that kube-proxy terminates here are the kernel's, even where a route that covers them
/// leads elsewhere.
#[test]
fn h30_service_ranges_are_the_kernels_whatever_covers_them() {
    let Some(mut rig) = Rig::raise(|plan| {
        plan.sections.push_str("service_ranges = [\"10.233.64.0/20\"]\n");
    }) else {
        return;
    };
    let frame = rig.frame().build();
    assert_eq!(rig.check("a service", &frame, "service")[0].port, 1, "no kube-proxy: the kernel forwards it");
    let frame = rig.frame().destination([10, 233, 80, 1].into()).build();
    rig.check_forwarded("beside the range", &frame, (1, 2), REDIRECT);
}

/// With all next hops without carrier, `ignore_routes_with_linkdown` decides whether the kernel falls back to
/// a shorter prefix or keeps the dead next hop.
#[test]
fn h46_next_hops_without_carrier_follow_ignore_routes_with_linkdown() {
    for (ignore, port) in [("1", Some(2)), ("0", None)] {
        let Some(mut rig) = Rig::raise(|plan| {
            plan.commands.push_str("route add 10.233.0.0/16 via 10.12.0.2\n");
            plan.sysctls.push(("ipv4.conf.p1.ignore_routes_with_linkdown".to_owned(), ignore.to_owned()));
        }) else {
            return;
        };
        let frame = rig.frame().build();
        rig.check_forwarded("with carrier", &frame, (1, 2), REDIRECT);
        rig.twin.plain.wire.ip("link set f1 down\n").expect("a far end");
        rig.twin.fast.wire.ip("link set f1 down\n").expect("a far end");
        let reason = if port.is_some() { REDIRECT } else { "next_hop_not_live" };
        rig.wait_for(reason, |frame| frame.destination(DESTINATION));
        let frame = rig.frame().build();
        let outcome = rig.check(&format!("without carrier, ignored: {ignore}"), &frame, reason);
        assert_eq!(outcome.first().map(|left| left.port), port, "{outcome:?}");
    }
}
