//! The kernel as the oracle: what XDP forwards, the kernel forwards too, by the same port and with the
//! same bytes.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use underpass_common::nexthop::{NextHop, Port};
use underpass_tests::bpf::{DataPlane, verdict};
use underpass_tests::packet::{FrameBuilder, Transport};

use crate::fixture::{EGRESS_ROW, HAIRPIN_ROW, Ports, egress_row, frame, hairpin_row, ingress_port, prepare};
use crate::forwarded;
use crate::router::{Router, set_rp_filter};

/// The golden network's tables, for the router's ports.
fn tables(router: &Router, rp_filter: u8) -> DataPlane {
    let [ingress, egress] = router.ports;
    let ports = Ports { egress, other: 0 };
    let mut data_plane = DataPlane::load().expect("loaded before");
    prepare(&mut data_plane, ports);
    data_plane.set_port(Port { ifindex: ingress, rp_filter, ..ingress_port() });
    data_plane.open_port(ingress);
    data_plane.set_next_hop(HAIRPIN_ROW, NextHop { ifindex: ingress, ..hairpin_row() });
    data_plane.set_next_hop(EGRESS_ROW, egress_row(ports));
    set_rp_filter(rp_filter);
    data_plane
}

/// Asks both about a frame. `false` when XDP leaves it to the kernel, where there is nothing to compare.
fn agree(data_plane: &DataPlane, router: &Router, name: &str, frame: &[u8]) -> bool {
    let (answer, run) = data_plane.probe(router.ports[0], frame);
    if run.verdict == verdict::PASS {
        return false;
    }
    let kernel = router.forward(frame, answer.egress_ifindex);
    assert_eq!(run.frame, kernel, "{name}: XDP left, the kernel right");
    true
}

#[test]
fn golden_packets_leave_the_kernel_with_the_same_bytes() {
    if DataPlane::for_test().is_none() {
        return;
    }
    let router = Router::start();
    for rp_filter in [0, 1, 2] {
        let data_plane = tables(&router, rp_filter);
        let compared = forwarded::cases(Ports { egress: router.ports[1], other: 0 })
            .iter()
            .filter(|case| agree(&data_plane, &router, case.name, &case.frame))
            .count();
        assert!(compared >= 20, "only {compared} packets were compared with rp_filter={rp_filter}");
    }
}

/// Any frame, most of them forwardable.
fn any_frame() -> impl Strategy<Value = FrameBuilder> {
    let source = prop_oneof![
        8 => (0u8..).prop_map(|host| [192, 0, 2, host]),
        2 => (0u8..).prop_map(|host| [192, 0, 3, host]),
        1 => any::<[u8; 4]>(),
    ];
    let destination = prop_oneof![
        6 => (0u8..).prop_map(|host| [198, 51, 100, host]),
        3 => (0u8..).prop_map(|host| [203, 0, 113, host]),
        1 => any::<[u8; 4]>(),
    ];
    let transport = prop_oneof![
        (any::<u16>(), any::<u16>()).prop_map(|(source, destination)| Transport::Udp { source, destination }),
        (any::<u16>(), any::<u16>()).prop_map(|(source, destination)| Transport::Tcp { source, destination }),
        any::<u8>().prop_map(Transport::Raw),
    ];
    let fragment = prop_oneof![3 => Just(None), 1 => (0u16..8192, any::<bool>()).prop_map(Some)];
    (
        (source, destination, transport, fragment),
        (0u8..64, 0u8..4, any::<u16>(), 0u8.., any::<bool>()),
        (0usize..1500, prop_oneof![2 => Just(0usize), 1 => 1usize..64]),
    )
        .prop_map(|((source, destination, transport, fragment), ip, (length, padding))| {
            let (dscp, ecn, id, ttl, dont_fragment) = ip;
            let frame = frame()
                .source(source.into())
                .destination(destination.into())
                .transport(transport)
                .payload((0..length).map(|i| u8::try_from(i % 256).expect("below 256")).collect())
                .tos(dscp, ecn)
                .identification(id)
                .ttl(ttl)
                .dont_fragment(dont_fragment)
                .padding(padding);
            match fragment {
                Some((offset, more)) => frame.fragment(offset, more),
                None => frame,
            }
        })
}

#[test]
fn random_packets_leave_the_kernel_with_the_same_bytes() {
    if DataPlane::for_test().is_none() {
        return;
    }
    let router = Router::start();
    for rp_filter in [0, 1, 2] {
        let data_plane = tables(&router, rp_filter);
        let compared = Cell::new(0u32);
        let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        TestRunner::new_with_rng(config, rng)
            .run(&any_frame(), |frame| {
                compared
                    .set(compared.get() + u32::from(agree(&data_plane, &router, "random", &frame.build())));
                Ok(())
            })
            .expect("agreement");
        let compared = compared.get();
        assert!(compared > 400, "only {compared} of 1000 packets were compared with rp_filter={rp_filter}");
    }
}
