//! The benchmark's rivals do the same work as the forwarding program: same bytes, same verdicts, only the
//! lookup differs.

use underpass_common::nexthop::Port;
use underpass_common::reason::Reason;
use underpass_tests::bpf::{DataPlane, INGRESS_IFINDEX, verdict};

use crate::fixture::{Case, Ports, by_egress, frame, ingress_port, prepare};
use crate::ipv6;
use crate::router::Router;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("RIVALS_OBJECT"));

/// The rivals with the golden network's ports and rows, on a router whose kernel has its routes.
fn rivals() -> Option<(DataPlane, Router)> {
    rivals_with(Router::start)
}

fn rivals_with(start: fn() -> Router) -> Option<(DataPlane, Router)> {
    DataPlane::for_test()?;
    let router = start();
    let mut data_plane =
        DataPlane::load_object(OBJECT, &["rival_fib", "rival_floor", "rival_pass"]).expect("loads");
    prepare(&mut data_plane, Ports { egress: router.ports[1], other: 0 });
    // Test runs come in on the loopback device.
    std::fs::write("/proc/sys/net/ipv4/conf/lo/forwarding", "1").expect("a sysctl");
    Some((data_plane, router))
}

#[test]
fn rivals_forward_what_the_program_forwards() {
    let Some((data_plane, _router)) = rivals() else { return };
    for (name, frame) in [
        ("udp", frame().build()),
        ("padded", frame().padding(4).build()),
        ("as long as the MTU", frame().packet_length(1500).build()),
        ("fragment", frame().fragment(3, true).build()),
    ] {
        for program in ["rival_fib", "rival_floor"] {
            let run = data_plane.run(program, &frame);
            assert_eq!(run.verdict, verdict::REDIRECT, "{name} by {program}");
            assert_eq!(run.frame, by_egress(&frame), "{name} by {program}");
        }
    }
    let forwarded = data_plane.counters()[&(1, Reason::ForwardedRedirect)];
    assert_eq!(forwarded.packets, 8);
}

#[test]
fn rivals_forward_ipv6_as_the_program_does() {
    let Some((data_plane, router)) = rivals_with(Router::start_with_ipv6) else { return };
    std::fs::write("/proc/sys/net/ipv6/conf/lo/forwarding", "1").expect("a sysctl");
    let ports = Ports { egress: router.ports[1], other: 0 };
    let (redirected, passed): (Vec<_>, Vec<_>) = ipv6::cases(ports)
        .into_iter()
        .filter(|case| case.reason == Reason::ForwardedRedirect || case.answer.target == 0)
        .partition(|case| case.reason == Reason::ForwardedRedirect);
    let by_egress = |case: &&Case| case.answer.egress_ifindex == ports.egress;
    assert!(redirected.iter().filter(by_egress).count() > 10);
    for case in redirected.iter().filter(by_egress) {
        for program in ["rival_fib", "rival_floor"] {
            let run = data_plane.run(program, &case.frame);
            assert_eq!(run.verdict, verdict::REDIRECT, "{} by {program}", case.name);
            assert_eq!(Some(&run.frame), case.leaves.as_ref(), "{} by {program}", case.name);
        }
    }
    // What the header alone decides, on ports as they are.
    let headers = [Reason::BadHeader, Reason::TtlExpired, Reason::NotUnicast, Reason::HopByHop];
    let mut checked = 0;
    for case in passed.iter().filter(|case| headers.contains(&case.reason)) {
        for program in ["rival_fib", "rival_floor"] {
            let run = data_plane.run(program, &case.frame);
            assert_eq!((run.verdict, &run.frame), (verdict::PASS, &case.frame), "{} by {program}", case.name);
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

#[test]
fn rivals_make_the_same_checks() {
    let Some((mut data_plane, _router)) = rivals() else { return };
    for (name, frame) in [
        ("TTL", frame().ttl(1).build()),
        ("length", frame().packet_length(1501).build()),
        ("checksum", frame().checksum_error(2).build()),
        ("options", frame().options(&[1, 1, 1, 1]).build()),
        ("MAC", frame().destination_mac([2; 6]).build()),
        ("tag", frame().vlan(7).build()),
        ("martian", frame().source([127, 0, 0, 1].into()).build()),
    ] {
        for program in ["rival_fib", "rival_floor"] {
            let run = data_plane.run(program, &frame);
            assert_eq!(run.verdict, verdict::PASS, "{name} by {program}");
            assert!(run.frame == frame, "{name} by {program}: the frame has changed");
        }
    }
    data_plane.set_port(Port { ifindex: INGRESS_IFINDEX + 1024, ..ingress_port() });
    let frame = frame().build();
    for program in ["rival_fib", "rival_floor", "rival_pass"] {
        assert_eq!(data_plane.run(program, &frame).verdict, verdict::PASS, "{program}");
    }
}

#[test]
fn kernel_lookup_knows_what_the_kernel_knows() {
    let Some((data_plane, _router)) = rivals() else { return };
    for (name, destination) in [("no route", [100, 64, 1, 1]), ("no neighbour", [10, 0, 2, 77])] {
        let frame = frame().destination(destination.into()).build();
        let run = data_plane.run("rival_fib", &frame);
        assert_eq!((run.verdict, run.frame), (verdict::PASS, frame), "{name}");
    }
    let reasons: Vec<Reason> = data_plane.counters().keys().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, [Reason::NoRoute, Reason::NextHopNotLive]);
}
