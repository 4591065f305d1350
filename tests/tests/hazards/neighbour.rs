//! Next hops whose neighbour is missing, old or changes.

use underpass_tests::packet::forwarded;
use underpass_tests::twin::{Shot, port_mac};

use crate::rig::{REDIRECT, Rig, host_mac};

/// Without a resolved neighbour the kernel has to ask for it; the packet is left to it, and forwarded once the
/// answer is there.
#[test]
fn h02_unresolved_neighbours_are_the_kernels_until_they_answer() {
    let Some(mut rig) = Rig::with(
        "neighbour add 10.11.0.8 nud failed dev p1\nroute add 10.233.1.0/24 via 10.11.0.7\n\
         route add 10.233.2.0/24 via 10.11.0.8\n",
    ) else {
        return;
    };
    for (name, third) in [("missing", 1), ("failed", 2)] {
        let frame = rig.frame().destination([10, 233, third, 1].into()).build();
        assert_eq!(rig.check(name, &frame, "next_hop_not_live"), [], "{name}");
    }
    for (third, host) in [(1, 7), (2, 8)] {
        let to = [10, 233, third, 1].into();
        rig.ip(&format!(
            "neighbour replace 10.11.0.{host} lladdr 06:00:00:00:01:0{host} nud permanent dev p1\n"
        ));
        rig.wait_for(REDIRECT, |frame| frame.destination(to));
        let frame = rig.frame().destination(to).build();
        rig.check_forwarded("resolved", &frame, (1, host), REDIRECT);
    }
}

/// A stale entry stays in use for ever where nothing probes it; what counts is that a changed MAC address
/// arrives. Gratuitous ARP is followed at once. (A silent change is not seen before the kernel probes, which
/// it does only for packets of its own: managed neighbours are not in this version.)
#[test]
fn h03_stale_neighbours_forward_and_gratuitous_arp_moves_them() {
    const NEW: [u8; 6] = [6, 0, 0, 0, 1, 0x99];
    let Some(mut rig) = Rig::with(
        "neighbour add 10.11.0.9 lladdr 06:00:00:00:01:09 nud stale dev p1\n\
         route add 10.233.1.0/24 via 10.11.0.9\n",
    ) else {
        return;
    };
    let to = [10, 233, 1, 1].into();
    let frame = rig.frame().destination(to).build();
    rig.check_forwarded("stale", &frame, (1, 9), REDIRECT);

    let request = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
    let arp = [&[0xff; 6][..], &NEW, &request, &NEW, &[10, 11, 0, 9], &[0; 6], &[10, 11, 0, 9]].concat();
    rig.twin.send(&[Shot { port: 1, tag: 0, frame: arp }]).expect("sent");
    let mut moved = false;
    for _ in 0..100 {
        let frame = rig.frame().destination(to).build();
        let (kernel, fast, reasons) = rig.both(0, &frame);
        let expected = forwarded(&frame, port_mac(1), NEW);
        if kernel.len() == 1
            && kernel[0].frame == expected
            && kernel == fast
            && reasons.contains_key(REDIRECT)
        {
            moved = true;
            break;
        }
    }
    assert!(moved, "the row follows the neighbour");
    assert_ne!(NEW, host_mac(1, 9));
}

/// A next hop that goes down: the device is redirected to no more, and the kernel decides at once.
#[test]
fn h34_ports_that_go_down_or_vanish_take_their_routes_along() {
    let Some(mut rig) = Rig::with("route add 10.233.0.0/16 via 10.12.0.2\n") else { return };
    let frame = rig.frame().build();
    rig.check_forwarded("up", &frame, (1, 2), REDIRECT);
    rig.ip("link set p1 down\n");
    rig.wait_for(REDIRECT, |frame| frame);
    let frame = rig.frame().build();
    rig.check_forwarded("the shorter prefix", &frame, (2, 2), REDIRECT);
    rig.ip("link del p2\n");
    rig.wait_for("no_route", |frame| frame);
    let frame = rig.frame().build();
    assert_eq!(rig.check("no port left", &frame, "no_route").len(), 1, "network unreachable");
}

/// The kernel takes an interface's IPv4 routes away with it, without a word: rows must not outlive them, and
/// routes by a nexthop object go with the object.
#[test]
fn h50_routes_that_vanish_unannounced_are_not_used() {
    let Some(mut rig) = Rig::with("nexthop add id 7 via 10.12.0.2 dev p2\nroute add 10.233.7.0/24 nhid 7\n")
    else {
        return;
    };
    let frame = rig.frame().build();
    rig.check_forwarded("before", &frame, (1, 2), REDIRECT);
    // Down and up again: the address comes back with its subnet, the routes do not.
    rig.ip("link set p1 down\nlink set p1 up\n");
    rig.wait_for("no_route", |frame| frame);
    let frame = rig.frame().build();
    rig.check("after the interface was down", &frame, "no_route");
    rig.ip("neighbour replace 10.11.0.2 lladdr 06:00:00:00:01:02 nud permanent dev p1\n\
         route add 10.233.64.0/18 via 10.11.0.2\n");
    rig.wait_for(REDIRECT, |frame| frame);
    let frame = rig.frame().build();
    rig.check_forwarded("routed again", &frame, (1, 2), REDIRECT);

    let to = [10, 233, 7, 1].into();
    let frame = rig.frame().destination(to).build();
    rig.check_forwarded("by a nexthop object", &frame, (2, 2), REDIRECT);
    rig.ip("nexthop del id 7\n");
    rig.wait_for("no_route", |frame| frame.destination(to));
    let frame = rig.frame().destination(to).build();
    rig.check("the object is gone", &frame, "no_route");
}
