use underpass_common::reason::Reason;

use super::*;

const CAPACITY: Capacity = Capacity { prefixes: 2, targets: 8, buckets: 8, next_hops: 8 };

fn row(last: u8, state: u32) -> NextHop {
    NextHop {
        ifindex: 3,
        state,
        destination_mac: [2, 0, 0, 0, 0, last],
        source_mac: [2, 0, 0, 0, 1, 0],
        mtu: 1500,
        ..NextHop::default()
    }
}

fn single(index: u32) -> Target {
    Target { kind: TargetKind::NextHop as u32, index, ..Target::default() }
}

fn pass() -> Target {
    Target { index: Reason::Local as u32, ..Target::default() }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// A table with one forwarded prefix: 10.0.0.0/8 by target 1 and row 1.
fn forwarding() -> MemoryMaps {
    let mut maps = MemoryMaps::new(CAPACITY);
    maps.set_port(Port { ifindex: 3, number: 1, flags: PORT_EGRESS, ..Port::default() }).expect("port");
    maps.set_next_hop(1, row(1, 1)).expect("row");
    maps.set_target(1, single(1)).expect("target");
    maps.set_prefix(0, net("10.0.0.0/8"), 1).expect("prefix");
    assert_eq!(maps.violations(), &[] as &[String]);
    maps
}

#[test]
fn wrong_orders_are_noticed() {
    type Step = fn(&mut MemoryMaps) -> Result<(), MapError>;
    let cases: &[(&str, &[Step], bool)] = &[
        ("dead row", &[|m| m.set_next_hop(1, row(1, 0))], true),
        ("new mac while live", &[|m| m.set_next_hop(1, row(2, 1))], false),
        (
            "new mac while packets may have seen it live",
            &[|m| m.set_next_hop(1, row(1, 0)), |m| m.set_next_hop(1, row(2, 0))],
            false,
        ),
        (
            "new mac after a grace period",
            &[
                |m| m.set_next_hop(1, row(1, 0)),
                MemoryMaps::grace_period,
                |m| m.set_next_hop(1, row(2, 0)),
                |m| m.set_next_hop(1, row(2, 1)),
            ],
            true,
        ),
        ("row freed in use", &[|m| m.set_next_hop(1, NextHop::default())], false),
        ("empty target", &[|m| m.set_prefix(0, net("10.1.0.0/16"), 5)], false),
        ("empty row", &[|m| m.set_target(2, single(7))], false),
        ("target turned around", &[|m| m.set_next_hop(2, row(2, 1)), |m| m.set_target(1, single(2))], false),
        (
            "target stopped, then turned around",
            &[
                |m| m.set_next_hop(2, row(2, 1)),
                |m| m.set_target(1, Target { kind: 0, ..single(1) }),
                MemoryMaps::grace_period,
                |m| m.set_target(1, single(2)),
            ],
            true,
        ),
        (
            "target reused at once",
            &[|m| m.delete_prefix(0, net("10.0.0.0/8")), |m| m.set_target(1, pass())],
            false,
        ),
        (
            "target reused after a grace period",
            &[
                |m| m.delete_prefix(0, net("10.0.0.0/8")),
                MemoryMaps::grace_period,
                |m| m.set_target(1, pass()),
            ],
            true,
        ),
        ("port closed under a row", &[|m| m.clear_port(3)], false),
        ("port closed behind a row", &[|m| m.set_next_hop(1, row(1, 0)), |m| m.clear_port(3)], true),
    ];
    for (name, steps, fine) in cases {
        let mut maps = forwarding();
        for step in *steps {
            step(&mut maps).expect("the operation itself works");
        }
        assert_eq!(maps.violations().is_empty(), *fine, "{name}: {:?}", maps.violations());
    }
}

#[test]
fn limits_are_those_of_the_kernel() {
    let mut maps = forwarding();
    maps.set_prefix(0, net("10.1.0.0/16"), 1).expect("there is room for two");
    let error = maps.set_prefix(0, net("10.2.0.0/16"), 1).expect_err("full");
    assert_eq!(error.source.raw_os_error(), Some(libc::ENOSPC));
    maps.set_prefix(0, net("10.1.0.0/16"), 1).expect("replacing needs no room");
    assert!(maps.set_target(8, pass()).is_err());
    assert!(maps.set_prefix(0, net("2001:db8::/32"), 1).is_err());
    maps.delete_prefix(0, net("10.3.0.0/16")).expect("a missing prefix is no error");
    assert_eq!(
        maps.lookup(0, "10.1.2.3".parse::<IpAddr>().expect("an address")),
        Some((net("10.1.0.0/16"), 1))
    );
}
