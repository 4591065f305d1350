//! IPv6, and IPv4 by IPv6 next hops.

use std::fmt::Write as _;

use underpass_tests::twin::Plan;

use crate::rig::{REDIRECT, Rig};

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
