//! What ports and other devices can do.

use crate::rig::{DESTINATION, HAIRPIN, OWN, REDIRECT, Rig, TX};
use underpass_tests::packet::Transport;
use underpass_tests::twin::Shot;

/// A route may lead to a bridge, a tunnel or the loopback device, none of which transmits XDP frames.
#[test]
fn h20_routes_to_other_devices_are_the_kernels() {
    let Some(mut rig) = Rig::with(
        "link add br0 type bridge\naddress add 10.50.0.1/24 dev br0\nlink set br0 up\n\
         link add vx0 type vxlan id 7 remote 10.11.0.2 dstport 4789\nlink set vx0 up\n\
         neighbour add 10.50.0.2 lladdr 06:00:00:00:09:02 nud permanent dev br0\n\
         route add 10.233.1.0/24 via 10.50.0.2\nroute add 10.233.2.0/24 dev vx0\n\
         route add 10.233.3.0/24 dev lo\n\
         route add 10.233.4.0/24 nexthop via 10.50.0.2 nexthop via 10.11.0.2\n",
    ) else {
        return;
    };
    for (name, third) in [("bridge", 1), ("vxlan", 2), ("loopback", 3)] {
        let frame = rig.frame().destination([10, 233, third, 1].into()).build();
        let (_, _, reasons) = rig.both(0, &frame);
        assert_eq!(reasons.get("egress_not_managed"), Some(&1), "{name}: {reasons:?}");
    }
    // Of several next hops those are used that can be.
    let frame = rig.frame().destination([10, 233, 4, 1].into()).build();
    let (outcome, reasons) = rig.chosen(0, &frame);
    assert_eq!((outcome.len(), reasons.get(REDIRECT)), (1, Some(&1)), "{outcome:?} {reasons:?}");
}

/// A redirect to a device that does not take XDP frames fails after the program has returned, and the packet
/// is lost: such a device is never in the redirect map.
#[test]
fn h21_devices_without_xdp_transmission_are_never_redirected_to() {
    let Some(mut rig) = Rig::with("") else { return };
    rig.twin.fast.wire.ip("link set f1 xdpdrv off\n").expect("detachable");
    rig.wait_for_port("p1", |port| !port.egress && port.problem.is_some());
    for _ in 0..20 {
        let frame = rig.frame().build();
        assert_eq!(rig.check("not ready", &frame, "egress_not_managed").len(), 1, "the kernel forwards it");
    }
}

/// A veth transmits XDP frames only when its peer polls for them (a program or GRO), and `XDP_TX` only towards
/// a program; it can change at any time.
#[test]
fn h22_veths_transmit_as_their_peer_allows() {
    let Some(mut rig) = Rig::with("") else { return };
    let to_self = |rig: &mut Rig| rig.frame().destination(HAIRPIN).build();
    let frame = to_self(&mut rig);
    rig.check_forwarded("program", &frame, (0, 2), TX);

    let far = rig.twin.fast.wire.clone();
    far.run("ethtool", ["-K", "f0", "gro", "on"]).expect("a veth has GRO");
    far.ip("link set f0 xdpdrv off\n").expect("detachable");
    rig.wait_for_port("p0", |port| port.egress && !port.tx);
    for _ in 0..50 {
        let frame = to_self(&mut rig);
        rig.check_forwarded("GRO only", &frame, (0, 2), REDIRECT);
    }

    far.run("ethtool", ["-K", "f0", "gro", "off"]).expect("a veth has GRO");
    rig.wait_for_port("p0", |port| !port.egress && !port.tx);
    let frame = to_self(&mut rig);
    assert_eq!(rig.check("neither", &frame, "egress_not_managed").len(), 1);
    let frame = rig.frame().build();
    rig.check_forwarded("by another port all the same", &frame, (1, 2), REDIRECT);
}

/// A veth refuses XDP when its peer has more transmit queues than it has receive queues, or too large an MTU:
/// the port is left to the kernel, with the reason, and taken when that has changed.
#[test]
fn h23_veths_that_refuse_xdp_are_left_to_the_kernel() {
    let Some(rig) = Rig::with("") else { return };
    let (near, far) = (&rig.twin.fast.netns, &rig.twin.fast.wire);
    near.ip(&format!(
        "link add p8 numrxqueues 1 numtxqueues 1 type veth \
         peer name f8 numrxqueues 2 numtxqueues 2 netns {}\nlink set p8 up\n",
        far.name()
    ))
    .expect("a veth");
    far.ip("link set f8 up\n").expect("its peer");
    rig.wait_for_port("p8", |port| !port.attached && port.problem.is_some());
    assert_eq!(near.xdp_program("p8").expect("it exists"), None);
    far.run("ethtool", ["-L", "f8", "rx", "1", "tx", "1"]).expect("fewer queues");
    rig.wait_for_port("p8", |port| port.attached);
}

/// Packets from a local pod's veth may carry checksums that are not computed yet; XDP would send them out
/// like that. Only the ports that the operator names run the program.
#[test]
fn h24_pods_veths_are_not_touched() {
    let Some(rig) =
        Rig::with("link add cali0 type veth peer name eth7\nlink set cali0 up\nlink set eth7 up\n")
    else {
        return;
    };
    let near = &rig.twin.fast.netns;
    assert!(near.xdp_program("p0").expect("it exists").is_some());
    for name in ["cali0", "eth7"] {
        assert_eq!(near.xdp_program(name).expect("it exists"), None, "{name}");
    }
}

/// With XDP a received packet loses what the NIC knew about its checksum; the stack then computes it, and
/// finds the same packets wrong.
#[test]
fn h25_checksums_of_passed_packets_are_verified_by_the_stack() {
    let Some(mut rig) = Rig::with("") else { return };
    for (name, wrong) in [("right", 0), ("wrong", 0x5a)] {
        let mut frame = rig.frame().destination(OWN).build();
        frame[41] ^= wrong;
        let before = (rig.twin.plain.counts().expect("counters"), rig.twin.fast.counts().expect("counters"));
        let outcome = rig.check(name, &frame, "local");
        assert_eq!(outcome.len(), usize::from(wrong == 0), "port unreachable, or nothing: {outcome:?}");
        for (router, before) in [(&rig.twin.plain, before.0), (&rig.twin.fast, before.1)] {
            let added = router.counts().expect("counters").since(&before);
            assert_eq!(added.get("Udp.InCsumErrors"), u64::from(wrong != 0), "{name}");
        }
    }
}

/// A veth copies a packet that it shares with others before XDP may write to it. The rig's frames are such:
/// a packet socket at the far end holds them when the program rewrites them.
#[test]
fn h26_shared_packets_are_copied_before_they_are_rewritten() {
    let Some(mut rig) = Rig::with("") else { return };
    for length in [46, 500, 1500] {
        let frame = rig.frame().packet_length(length).build();
        let kept = frame.clone();
        rig.check_forwarded("shared", &frame, (1, 2), REDIRECT);
        assert_eq!(frame, kept);
        let frame = rig.frame().ttl(1).packet_length(length).build();
        rig.check("shared and passed", &frame, "ttl_expired");
    }
}

/// Bridge, macvlan and what is a port of them: the program would see the lower device's frames, or send none.
/// They are refused as ports, with the reason.
#[test]
fn h48_devices_on_top_of_others_are_refused_as_ports() {
    let Some(mut rig) = Rig::with("") else { return };
    let near = &rig.twin.fast.netns;
    near.ip("link add p5 type bridge\nlink add p6 type veth peer name q6\nlink set p6 master p5\n\
         link add p7 link p2 type macvlan\nlink set p5 up\nlink set p6 up\nlink set p7 up\n")
        .expect("devices");
    for (name, reason) in [("p5", "bridge"), ("p6", "port of"), ("p7", "macvlan")] {
        rig.wait_for_port(name, |port| {
            !port.attached && port.problem.as_ref().is_some_and(|problem| problem.contains(reason))
        });
        assert_eq!(rig.twin.fast.netns.xdp_program(name).expect("it exists"), None, "{name}");
    }
    let frame = rig.frame().destination(DESTINATION).build();
    rig.check_forwarded("the other ports go on", &frame, (1, 2), REDIRECT);
}

/// XDP packets are in no counter of the stack; the program's own count every one, once, with its bytes.
#[test]
fn h37_counters_tell_every_packet_once() {
    let Some(mut rig) = Rig::with("") else { return };
    let mut shots = Vec::new();
    let mut bytes = 0;
    for tag in 1..=100u16 {
        let to = if tag <= 60 { DESTINATION } else { HAIRPIN };
        let frame = rig.frame().destination(to).transport(Transport::Raw(17)).identification(tag);
        let frame = frame.packet_length(40 + usize::from(tag)).padding(usize::from(tag % 3)).build();
        bytes += frame.len() as u64;
        shots.push(Shot { port: 0, tag: u32::from(tag), frame });
    }
    let before = (rig.twin.plain.counts().expect("counters"), rig.twin.fast.counts().expect("counters"));
    let client = rig.twin.agent().client().clone();
    let rows = |reason: &str| {
        let rows = client.counters().expect("counters").counters;
        let row = rows.into_iter().find(|row| row.interface == "p0" && row.reason == reason);
        row.map_or((0, 0), |row| (row.packets, row.bytes))
    };
    assert_eq!((rows(REDIRECT), rows(TX)), ((0, 0), (0, 0)));
    rig.twin.send(&shots).expect("sent");
    assert_eq!(rig.twin.differing(&shots).expect("settled"), [] as [u32; 0]);
    let (redirected, hairpins) = (rows(REDIRECT), rows(TX));
    assert_eq!((redirected.0, hairpins.0, redirected.1 + hairpins.1), (60, 40, bytes));
    let kernel = rig.twin.plain.counts().expect("counters").since(&before.0);
    let fast = rig.twin.fast.counts().expect("counters").since(&before.1);
    assert_eq!((kernel.get("Ip.ForwDatagrams"), fast.get("Ip.ForwDatagrams")), (100, 0));
}
