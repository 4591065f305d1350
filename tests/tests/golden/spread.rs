//! Groups: packets spread over the members, a flow stays on one, fragments stay together.

use std::collections::BTreeMap;

use underpass_common::abi::Control;
use underpass_common::nexthop::{NextHop, Target, TargetKind};
use underpass_common::reason::Reason;
use underpass_tests::bpf::{DataPlane, INGRESS_IFINDEX};
use underpass_tests::packet::{FrameBuilder, Transport};

use crate::fixture::{CASE_TARGET, INGRESS_VIEW, Ports, egress_row, frame, network};

/// First bucket, number of buckets and first row of the group under test.
const FIRST_BUCKET: u32 = 4096;
const BUCKETS: u32 = 64;
const FIRST_ROW: u32 = 100;

/// Makes 198.51.100.0/26 a group of `members`, dealt out to the buckets in turn.
fn group(data_plane: &mut DataPlane, ports: Ports, members: u32) {
    for member in 0..members {
        let mut row = NextHop { source_mac: [2; 6], ..egress_row(ports) };
        row.destination_mac[5] = u8::try_from(member).expect("few members");
        data_plane.set_next_hop(FIRST_ROW + member, row);
    }
    for bucket in 0..BUCKETS {
        data_plane.set_bucket(FIRST_BUCKET + bucket, FIRST_ROW + bucket % members);
    }
    let kind = TargetKind::Group as u32;
    let target = Target { kind, index: FIRST_BUCKET, mask: BUCKETS - 1, source_flags: 0, source_ports: 0 };
    data_plane.set_target(CASE_TARGET, target);
    data_plane.set_prefix(INGRESS_VIEW, "198.51.100.0/26".parse().expect("a prefix"), CASE_TARGET);
}

/// Row that a packet is sent to, which must be one of the group and the same in frame and answer.
fn row_of(data_plane: &DataPlane, frame: &FrameBuilder) -> u32 {
    let (answer, run) = data_plane.probe(INGRESS_IFINDEX, &frame.build());
    assert_eq!(Reason::from_number(answer.reason), Some(Reason::ForwardedRedirect));
    assert_eq!(answer.next_hop - FIRST_ROW, u32::from(run.frame[5]), "the row is the one that was used");
    let bucket = FIRST_BUCKET + (answer.flow_hash & (BUCKETS - 1));
    assert!((FIRST_BUCKET..FIRST_BUCKET + BUCKETS).contains(&bucket));
    answer.next_hop
}

fn udp(source: u16, destination: u16) -> FrameBuilder {
    frame().transport(Transport::Udp { source, destination })
}

#[test]
fn flows_spread_evenly_and_stay() {
    let Some((mut data_plane, ports)) = network() else { return };
    for members in [2, 3, 5] {
        group(&mut data_plane, ports, members);
        let mut load = BTreeMap::new();
        for port in 0..4000u16 {
            let row = row_of(&data_plane, &udp(10_000 + port, 53));
            *load.entry(row).or_insert(0u32) += 1;
            if port % 100 == 0 {
                // Neither TTL, length nor marks of the packet move its flow.
                let same = udp(10_000 + port, 53).ttl(9).tos(46, 1).identification(port).packet_length(900);
                assert_eq!(row_of(&data_plane, &same), row);
            }
        }
        assert_eq!(load.len(), members as usize, "every member gets its share");
        for (row, packets) in load {
            let share = f64::from(packets) * f64::from(members) / 4000.0;
            assert!((0.85..1.15).contains(&share), "row {row} of {members}: {share:.2} of its share");
        }
    }
}

#[test]
fn fragments_of_a_packet_stay_together() {
    let Some((mut data_plane, ports)) = network() else { return };
    group(&mut data_plane, ports, 5);
    let mut rows = BTreeMap::new();
    for host in 1..40u8 {
        let packet = udp(4000, 53).source([192, 0, 2, host].into()).packet_length(600);
        // The first fragment carries the ports, the others bytes that could be taken for some.
        let first = row_of(&data_plane, &packet.clone().fragment(0, true));
        let inner = packet.clone().transport(Transport::Raw(17)).payload(vec![host; 576]);
        assert_eq!(row_of(&data_plane, &inner.clone().fragment(72, true)), first, "host {host}");
        assert_eq!(
            row_of(&data_plane, &inner.payload(vec![1; 30]).fragment(144, false)),
            first,
            "host {host}"
        );
        *rows.entry(first).or_insert(0) += 1;
    }
    assert!(rows.len() > 1, "different packets still spread: {rows:?}");
}

#[test]
fn ports_of_each_transport_count() {
    let Some((mut data_plane, ports)) = network() else { return };
    group(&mut data_plane, ports, 5);
    let rows = |transport: fn(u16) -> Transport| {
        let mut rows = BTreeMap::new();
        for port in 0..64 {
            *rows.entry(row_of(&data_plane, &frame().transport(transport(port)))).or_insert(0) += 1;
        }
        rows.len()
    };
    assert_eq!(rows(|port| Transport::Tcp { source: 1000 + port, destination: 80 }), 5);
    assert_eq!(rows(|port| Transport::Udp { source: 1000, destination: 80 + port }), 5);
    // ICMP has no ports: one pair of hosts is one flow, whatever the identifier.
    assert_eq!(rows(|id| Transport::Echo { id, sequence: id }), 1);
}

/// A member that dies takes only its own flows with it.
#[test]
fn losing_a_member_moves_only_its_flows() {
    let Some((mut data_plane, ports)) = network() else { return };
    group(&mut data_plane, ports, 4);
    let before: Vec<u32> = (0..500).map(|port| row_of(&data_plane, &udp(port, 53))).collect();
    let dead = FIRST_ROW + 2;
    for bucket in (2..BUCKETS).step_by(4) {
        data_plane.set_bucket(FIRST_BUCKET + bucket, FIRST_ROW + [0, 1, 3][bucket as usize % 3]);
    }
    for (port, row) in (0..500).zip(before) {
        let now = row_of(&data_plane, &udp(port, 53));
        assert_ne!(now, dead);
        assert!(now == row || row == dead, "flow {port} moved from {row} to {now}");
    }
}

/// What one router sends to one member, another one with the same group splits among all: only the
/// seeds of the two differ.
#[test]
fn routers_in_series_split_independently() {
    const FLOWS: u16 = 4000;
    let Some((mut data_plane, ports)) = network() else { return };
    group(&mut data_plane, ports, 4);
    let rows = |data_plane: &mut DataPlane, seed| {
        data_plane.set_control(Control { lease_until: u64::MAX, enabled: 1, flow_seed: seed });
        (0..FLOWS).map(|port| row_of(data_plane, &udp(10_000 + port, 53))).collect::<Vec<_>>()
    };
    let (first, second) = (rows(&mut data_plane, 1), rows(&mut data_plane, 2));
    assert_eq!(first, rows(&mut data_plane, 1), "a flow stays as long as the seed does");
    let mut load = BTreeMap::new();
    for (_, row) in first.iter().zip(&second).filter(|(first, _)| **first == FIRST_ROW) {
        *load.entry(*row).or_insert(0u32) += 1;
    }
    let sent: u32 = load.values().sum();
    for row in FIRST_ROW..FIRST_ROW + 4 {
        let share = f64::from(load.get(&row).copied().unwrap_or(0)) * 4.0 / f64::from(sent);
        assert!((0.8..1.2).contains(&share), "row {row}: {share:.2} of its share of {sent} flows");
    }
}
