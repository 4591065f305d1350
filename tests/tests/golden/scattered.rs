//! Frames that lie in several buffers: a test run puts what does not fit into a page into more of them.

use underpass_common::nexthop::{NextHop, PORT_EGRESS_FRAGMENTS, Port};
use underpass_common::reason::Reason;
use underpass_tests::bpf::{DataPlane, verdict};

use crate::fixture::{EGRESS_ROW, Ports, by_egress, egress_port, egress_row, frame, network, prepare};

/// The golden network with next hops for jumbo frames.
fn jumbo(data_plane: &mut DataPlane, ports: Ports, flags: u32) {
    prepare(data_plane, ports);
    data_plane.set_next_hop(EGRESS_ROW, NextHop { mtu: 9000, ..egress_row(ports) });
    let port = egress_port(ports);
    data_plane.set_port(Port { flags: port.flags | flags, ..port });
}

#[test]
fn frames_in_several_buffers_leave_where_the_driver_sends_them() {
    let Some((mut data_plane, ports)) = network() else { return };
    let frame = frame().packet_length(9000).build();
    jumbo(&mut data_plane, ports, PORT_EGRESS_FRAGMENTS);
    let run = data_plane.forward(&frame);
    assert_eq!(run.verdict, verdict::REDIRECT);
    assert!(run.frame == by_egress(&frame), "the bytes differ");
    jumbo(&mut data_plane, ports, 0);
    let run = data_plane.forward(&frame);
    assert_eq!(run.verdict, verdict::PASS);
    assert!(run.frame == frame, "the frame has changed");
    let counters = data_plane.counters();
    assert_eq!(counters[&(1, Reason::MultiBuffer)].packets, 1);
    assert_eq!(counters[&(1, Reason::MultiBuffer)].bytes, 9014);
    assert_eq!(counters[&(1, Reason::ForwardedRedirect)].bytes, 9014);
}

/// The packet ends before the end of the first buffer, exactly there (3,520 bytes on a kernel with pages of
/// 4 KiB), or behind it: padding comes off wherever it lies.
#[test]
fn padding_comes_off_in_whatever_buffer_it_is() {
    let Some((mut data_plane, ports)) = network() else { return };
    jumbo(&mut data_plane, ports, PORT_EGRESS_FRAGMENTS);
    for length in 3480..=3540 {
        let padded = frame().packet_length(length).padding(100).build();
        let run = data_plane.forward(&padded);
        assert_eq!(run.verdict, verdict::REDIRECT, "{length}");
        let trimmed = by_egress(&frame().packet_length(length).build());
        assert_eq!(run.frame.len(), trimmed.len(), "{length}");
        assert!(run.frame == trimmed, "{length}: the bytes differ");
    }
}
