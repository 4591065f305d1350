use super::*;
use crate::reconcile::kernel::memory::{AddMode, MemoryKernel};

const OURS: Ownership = Ownership { table: 254, protocol: 210, metric: 200 };
const V4: &str = "10.9.0.0/26";
const V6: &str = "fd00:9::/64";

fn kernel() -> MemoryKernel {
    MemoryKernel::new(vec![("10.0.0.1/16".parse().unwrap(), 1), ("fd00::1/64".parse().unwrap(), 1)])
}

fn own_route(prefix: &str, protocol: u8, metric: u32, next_hops: &[&str]) -> OwnRoute {
    OwnRoute {
        table: 254,
        protocol,
        metric,
        prefix: prefix.parse().unwrap(),
        next_hops: next_hops.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn wanted(next_hops: &[&str]) -> SelectedRoute {
    SelectedRoute { next_hops: next_hops.iter().map(|text| text.parse().unwrap()).collect() }
}

/// An operation as "add", "replace" or "delete" with what comes and "-" what goes, metrics only where
/// they are not ours.
fn describe(op: &Op) -> String {
    let gateways = |list: &[RouteNextHop]| {
        let list: Vec<String> = list.iter().filter_map(|hop| hop.gateway).map(|g| g.to_string()).collect();
        list.join(" ")
    };
    let old = |routes: &[Route]| {
        let one = |route: &Route| match route.metric {
            200 => format!(" - {}", gateways(&route.next_hops)),
            metric => format!(" - {} metric {metric}", gateways(&route.next_hops)),
        };
        routes.iter().map(one).collect::<Vec<String>>().concat()
    };
    let new = |route: &OwnRoute| {
        let list: Vec<String> = route.next_hops.iter().map(ToString::to_string).collect();
        list.join(" ")
    };
    match op {
        Op::Add(route) => format!("add {}", new(route)),
        Op::Replace { new: route, old: routes } => format!("replace {}{}", new(route), old(routes)),
        Op::Delete { routes, .. } => format!("delete{}", old(routes)),
    }
}

struct Case<'a> {
    name: &'a str,
    prefix: &'a str,
    /// Protocol, metric and next hops, added one after the other.
    actual: &'a [(u8, u32, &'a [&'a str])],
    desired: Option<&'a [&'a str]>,
    expected: Option<&'a str>,
    /// Protocol that is in the way.
    blocked: Option<u8>,
}

const NOTHING: Case<'static> =
    Case { name: "", prefix: V4, actual: &[], desired: None, expected: None, blocked: None };

#[test]
fn one_prefix() {
    let cases = [
        Case { name: "nothing wanted, nothing there", ..NOTHING },
        Case { name: "new", desired: Some(&["10.0.0.2"]), expected: Some("add 10.0.0.2"), ..NOTHING },
        Case {
            name: "in place",
            actual: &[(210, 200, &["10.0.0.2", "10.0.0.3"])],
            desired: Some(&["10.0.0.2", "10.0.0.3"]),
            ..NOTHING
        },
        Case {
            name: "the kernel's order of next hops plays no part",
            actual: &[(210, 200, &["10.0.0.3", "10.0.0.2"])],
            desired: Some(&["10.0.0.2", "10.0.0.3"]),
            ..NOTHING
        },
        Case {
            name: "one to several",
            actual: &[(210, 200, &["10.0.0.2"])],
            desired: Some(&["10.0.0.2", "10.0.0.3"]),
            expected: Some("replace 10.0.0.2 10.0.0.3 - 10.0.0.2"),
            ..NOTHING
        },
        Case {
            name: "not wanted any more",
            actual: &[(210, 200, &["10.0.0.2"])],
            expected: Some("delete - 10.0.0.2"),
            ..NOTHING
        },
        Case { name: "not ours", actual: &[(12, 0, &["10.0.0.2"])], ..NOTHING },
        Case {
            name: "beside a foreign one with another metric",
            actual: &[(12, 0, &["10.0.0.9"])],
            desired: Some(&["10.0.0.2"]),
            expected: Some("add 10.0.0.2"),
            ..NOTHING
        },
        Case {
            name: "a foreign one has the key",
            actual: &[(12, 200, &["10.0.0.9"])],
            desired: Some(&["10.0.0.2"]),
            blocked: Some(12),
            ..NOTHING
        },
        Case {
            name: "a foreign one has the key, ours has an old metric",
            actual: &[(210, 50, &["10.0.0.2"]), (12, 200, &["10.0.0.9"])],
            desired: Some(&["10.0.0.2"]),
            expected: Some("delete - 10.0.0.2 metric 50"),
            blocked: Some(12),
            ..NOTHING
        },
        Case {
            name: "a foreign one in front of ours",
            actual: &[(12, 200, &["10.0.0.9"]), (210, 200, &["10.0.0.2"])],
            desired: Some(&["10.0.0.3"]),
            expected: Some("replace 10.0.0.3 - 10.0.0.2"),
            blocked: Some(12),
            ..NOTHING
        },
        Case {
            name: "a foreign one behind ours",
            actual: &[(210, 200, &["10.0.0.2"]), (12, 200, &["10.0.0.9"])],
            desired: Some(&["10.0.0.2"]),
            ..NOTHING
        },
        Case {
            name: "the metric was another one before the restart",
            actual: &[(210, 50, &["10.0.0.2"])],
            desired: Some(&["10.0.0.2"]),
            expected: Some("replace 10.0.0.2 - 10.0.0.2 metric 50"),
            ..NOTHING
        },
        Case {
            name: "stopped between the two steps of a replacement",
            actual: &[(210, 200, &["10.0.0.2"]), (210, 200, &["10.0.0.3"])],
            desired: Some(&["10.0.0.3"]),
            expected: Some("delete - 10.0.0.2"),
            ..NOTHING
        },
        Case {
            name: "IPv6 new",
            prefix: V6,
            desired: Some(&["fd00::2", "fd00::3"]),
            expected: Some("add fd00::2 fd00::3"),
            ..NOTHING
        },
        Case {
            name: "IPv6 in place",
            prefix: V6,
            actual: &[(210, 200, &["fd00::3"]), (210, 200, &["fd00::2"])],
            desired: Some(&["fd00::2", "fd00::3"]),
            ..NOTHING
        },
        Case {
            name: "IPv6 one comes",
            prefix: V6,
            actual: &[(210, 200, &["fd00::2"])],
            desired: Some(&["fd00::2", "fd00::3"]),
            expected: Some("replace fd00::3"),
            ..NOTHING
        },
        Case {
            name: "IPv6 one goes",
            prefix: V6,
            actual: &[(210, 200, &["fd00::2", "fd00::3"])],
            desired: Some(&["fd00::3"]),
            expected: Some("delete - fd00::2"),
            ..NOTHING
        },
        Case {
            name: "IPv6 some come, some go",
            prefix: V6,
            actual: &[(210, 200, &["fd00::2", "fd00::3"])],
            desired: Some(&["fd00::3", "fd00::4"]),
            expected: Some("replace fd00::4 - fd00::2"),
            ..NOTHING
        },
        Case {
            name: "IPv6 old metric",
            prefix: V6,
            actual: &[(210, 50, &["fd00::2"])],
            desired: Some(&["fd00::2"]),
            expected: Some("replace fd00::2 - fd00::2 metric 50"),
            ..NOTHING
        },
        Case {
            name: "IPv6 not wanted any more",
            prefix: V6,
            actual: &[(210, 200, &["fd00::2", "fd00::3"])],
            expected: Some("delete - fd00::2 fd00::3"),
            ..NOTHING
        },
        Case {
            name: "IPv6 a foreign one has the key",
            prefix: V6,
            actual: &[(12, 200, &["fd00::9"])],
            desired: Some(&["fd00::2"]),
            blocked: Some(12),
            ..NOTHING
        },
    ];
    for case in cases {
        let mut kernel = kernel();
        for (protocol, metric, next_hops) in case.actual {
            kernel.add(&own_route(case.prefix, *protocol, *metric, next_hops), AddMode::Append).unwrap();
        }
        let prefix = case.prefix.parse().unwrap();
        let desired = case.desired.map(wanted);
        let found = plan_prefix(prefix, desired.as_ref(), &kernel.state(), OURS, true);
        assert_eq!(found.op.as_ref().map(describe).as_deref(), case.expected, "{}", case.name);
        assert_eq!(found.blocked.map(|blocked| blocked.protocol), case.blocked, "{}", case.name);
        assert!(found.left_out.is_empty(), "{}", case.name);
        let kept = plan_prefix(prefix, None, &kernel.state(), OURS, false).op;
        assert_eq!(kept, None, "{}: nothing goes before the RIB is complete", case.name);
    }
}

/// Routes with our protocol number that we would not write.
#[test]
fn odd_routes_of_ours_are_replaced() {
    type Change = (&'static str, fn(&mut Route));
    let changes: [Change; 7] = [
        ("weight", |route| route.next_hops[0].weight = 2),
        ("onlink", |route| route.next_hops[0].on_link = true),
        ("encapsulation", |route| route.next_hops[0].encapsulated = true),
        ("interface that does not lead there", |route| route.next_hops[0].ifindex = 7),
        ("MTU", |route| route.mtu = Some(1400)),
        ("source address", |route| route.preferred_source = Some("10.0.0.1".parse().unwrap())),
        ("type", |route| route.kind = RouteType::Blackhole),
    ];
    let prefix: IpNet = V4.parse().unwrap();
    for (name, change) in changes {
        let mut kernel = kernel();
        kernel.add(&own_route(V4, 210, 200, &["10.0.0.2"]), AddMode::Exclusive).unwrap();
        let mut state = kernel.state();
        let desired = wanted(&["10.0.0.2"]);
        assert_eq!(plan_prefix(prefix, Some(&desired), &state, OURS, true).op, None, "{name}");
        let key = state.routes.iter().next().unwrap().key();
        state.routes.edit(key, |routes| change(&mut routes[0]));
        let op = plan_prefix(prefix, Some(&desired), &state, OURS, true).op;
        assert_eq!(op.as_ref().map(Op::label), Some("replace"), "{name}");
    }
}

#[test]
fn next_hops_that_nothing_leads_to() {
    let cases: [(&str, &[&str], &str, &[&str]); 3] = [
        ("some", &["10.0.0.2", "10.77.0.2"], "add 10.0.0.2", &["10.77.0.2"]),
        ("all: the kernel will say why", &["10.77.0.2", "10.77.0.3"], "add 10.77.0.2 10.77.0.3", &[]),
        ("none", &["10.0.0.2", "10.0.0.3"], "add 10.0.0.2 10.0.0.3", &[]),
    ];
    for (name, next_hops, expected, left_out) in cases {
        let found = plan_prefix(V4.parse().unwrap(), Some(&wanted(next_hops)), &kernel().state(), OURS, true);
        assert_eq!(found.op.as_ref().map(describe).as_deref(), Some(expected), "{name}");
        let found: Vec<String> = found.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(found, left_out, "{name}");
    }
}

#[test]
fn a_next_hop_is_reached_by_address_or_by_route() {
    let mut kernel = kernel();
    kernel.connected.push(("10.77.0.1/24".parse().unwrap(), 2));
    kernel.add(&own_route("10.88.0.0/24", 2, 0, &["10.0.0.2"]), AddMode::Append).unwrap();
    let mut state = kernel.state();
    let routed = state.routes.iter().next().unwrap().key();
    state.routes.edit(routed, |routes| routes[0].next_hops[0].gateway = None);
    let cases: [(&str, &[IfIndex]); 5] =
        [("10.0.0.2", &[1]), ("10.77.0.2", &[2]), ("10.88.0.7", &[1]), ("10.99.0.1", &[]), ("fd00::9", &[1])];
    for (next_hop, expected) in cases {
        assert_eq!(on_link::interfaces_to(&state, next_hop.parse().unwrap()), expected, "{next_hop}");
    }
    state.links.get_mut(&1).unwrap().carrier = false;
    state.links.get_mut(&2).unwrap().up = false;
    for (next_hop, _) in cases {
        assert_eq!(
            on_link::interfaces_to(&state, next_hop.parse().unwrap()),
            [0; 0],
            "{next_hop} without link"
        );
    }
}

#[test]
fn everything_wanted_or_ours() {
    let mut kernel = kernel();
    for (prefix, protocol) in [("10.9.1.0/26", 210), ("10.9.2.0/26", 210), ("10.9.3.0/26", 12)] {
        kernel.add(&own_route(prefix, protocol, 200, &["10.0.0.2"]), AddMode::Append).unwrap();
    }
    let desired: BTreeMap<IpNet, SelectedRoute> = ["10.9.0.0/26", "10.9.1.0/26"]
        .into_iter()
        .map(|prefix| (prefix.parse().unwrap(), wanted(&["10.0.0.2"])))
        .collect();
    let described = |ops: Vec<Op>| -> Vec<String> {
        ops.iter().map(|op| format!("{} {}", op.label(), op.prefix())).collect()
    };
    let state = kernel.state();
    assert_eq!(described(plan(&desired, &state, OURS, true)), ["add 10.9.0.0/26", "delete 10.9.2.0/26"]);
    assert_eq!(described(plan(&desired, &state, OURS, false)), ["add 10.9.0.0/26"]);
    assert_eq!(described(flush(&state, OURS)), ["delete 10.9.1.0/26", "delete 10.9.2.0/26"]);
}
