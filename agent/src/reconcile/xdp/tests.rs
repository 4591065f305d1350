//! Tables of situations; [`properties`] has random ones.

mod own;
mod properties;
mod world;

use std::collections::BTreeMap;

use underpass_common::nexthop::{
    NEXT_HOP_LIVE, NextHop as RawRow, PORT_EGRESS, PORT_GUARDED4, PORT_GUARDED6, PORT_TX,
};
use underpass_common::reason::Reason;

use self::world::{ROOMY, Way, World, address, forward, found, hop, net, pass};
use super::XdpReconciler;
use crate::datapath::maps::Capacity;
use crate::datapath::memory_maps::MemoryMaps;
use crate::fib::model::{NextHop, Resolution};

fn start(world: &World) -> (XdpReconciler, MemoryMaps) {
    let mut maps = MemoryMaps::new(ROOMY);
    let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
    let outcome = world.full(&mut xdp, &mut maps);
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    assert_eq!(maps.violations(), &[] as &[String]);
    (xdp, maps)
}

/// Row content of each bucket of the group that an address leads to.
fn flows(maps: &MemoryMaps, text: &str) -> Vec<RawRow> {
    let (_, id) = maps.lookup(0, address(text)).expect("a prefix");
    let target = maps.tables().targets[&id];
    maps.rows_of(&target).iter().map(|row| maps.tables().next_hops[row]).collect()
}

fn share(flows: &[RawRow], hop: &NextHop) -> usize {
    let Resolution::Live { destination_mac, .. } = world::live(hop) else { return 0 };
    flows.iter().filter(|row| row.destination_mac == destination_mac).count()
}

#[test]
fn prefixes_of_equal_content_share_a_target() {
    let mut world = World::new();
    for third in 0..50 {
        world.set(&format!("10.0.{third}.0/24"), forward(&[hop(3, 1), hop(3, 2)]));
    }
    world.set("10.9.0.0/16", forward(&[hop(3, 1)]));
    let (xdp, _) = start(&world);
    let totals = xdp.totals();
    assert_eq!((totals.prefixes, totals.prefixes_forwarding), (51, 51));
    assert_eq!((totals.targets, totals.next_hops, totals.next_hops_live), (2, 2, 2));
    assert!(totals.synced);
}

/// Two groups of 255 next hops take all buckets of [`ROOMY`].
#[test]
fn groups_without_buckets_are_left_to_the_kernel_until_there_are_some() {
    let mut world = World::new();
    let all: Vec<NextHop> =
        [3, 4].into_iter().flat_map(|port| (1..=128).map(move |n| hop(port, n))).collect();
    let without = |left_out: usize| {
        let hops = all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, hop)| *hop);
        forward(&hops.collect::<Vec<_>>())
    };
    for group in 0..4 {
        world.set(&format!("10.0.{group}.0/24"), without(group));
    }
    let (mut xdp, mut maps) = start(&world);
    let starved = |xdp: &XdpReconciler| -> Vec<usize> {
        let prefix = |group: &usize| xdp.prefix(0, net(&format!("10.0.{group}.0/24"))).expect("in the table");
        (0..4).filter(|group| prefix(group).pass == Some(Reason::TableFull)).collect()
    };
    assert_eq!(starved(&xdp), [2, 3]);
    assert!(!xdp.totals().synced);
    let problems = xdp.problems().join("\n");
    assert!(problems.contains("2 prefixes (10.0.2.0/24 first)"), "{problems}");
    assert!(problems.contains("hash-bucket table"), "{problems}");

    world.remove("10.0.0.0/24");
    world.full(&mut xdp, &mut maps);
    let left: Vec<_> = (1..4)
        .filter(|group| xdp.prefix(0, net(&format!("10.0.{group}.0/24"))).expect("there").pass.is_some())
        .collect();
    assert_eq!(left.len(), 1, "one of them got the room: {left:?}");
    world.remove("10.0.1.0/24");
    world.full(&mut xdp, &mut maps);
    assert!(xdp.totals().synced, "{:?}", xdp.problems());
    assert_eq!(share(&flows(&maps, "10.0.3.1"), &all[200]), 16);
    assert_eq!(maps.violations(), &[] as &[String]);
}

#[test]
fn port_that_only_sends_back_has_live_rows() {
    let mut world = World::new();
    let hops = [hop(3, 1), hop(4, 1)];
    world.set("10.0.0.0/24", forward(&hops));
    let (mut xdp, mut maps) = start(&world);
    for (egress, tx) in [(false, true), (true, true), (false, true), (false, false), (false, true)] {
        let facts = world.facts.get_mut(&3).expect("a port");
        (facts.egress, facts.tx) = (egress, tx);
        world.full(&mut xdp, &mut maps);
        let sends = maps.tables().ports[&3].flags & (PORT_EGRESS | PORT_TX);
        assert_eq!(sends, if egress { PORT_EGRESS } else { 0 } | if tx { PORT_TX } else { 0 });
        assert_eq!(share(&flows(&maps, "10.0.0.1"), &hops[0]) > 0, tx, "{egress} {tx}");
        assert_eq!(maps.violations(), &[] as &[String]);
        assert!(xdp.totals().synced);
    }
}

#[test]
fn neighbour_changes_rewrite_rows_and_buckets_but_no_prefix() {
    let mut world = World::new();
    let hops = [hop(3, 1), hop(3, 2), hop(4, 1)];
    for third in 0..20 {
        world.set(&format!("10.0.{third}.0/24"), forward(&hops));
    }
    let (mut xdp, mut maps) = start(&world);
    let before = flows(&maps, "10.0.0.1");
    let prefixes = maps.tables().prefixes.clone();

    world.kill(hops[0]);
    let outcome = world.refresh(&mut xdp, &mut maps, &hops[0]);
    let after = flows(&maps, "10.0.0.1");
    assert_eq!(share(&after, &hops[0]), 0);
    for (old, new) in before.iter().zip(&after) {
        assert!(old == new || share(&[*old], &hops[0]) == 1, "a flow of a live next hop moved");
    }
    assert_eq!(outcome.writes, 1 + share(&before, &hops[0]), "the row and its buckets");
    assert_eq!(outcome.grace_periods, 0);
    assert_eq!(xdp.unresolved(), [hops[0]]);

    world.kill(hops[1]);
    world.refresh(&mut xdp, &mut maps, &hops[1]);
    world.kill(hops[2]);
    world.refresh(&mut xdp, &mut maps, &hops[2]);
    assert_eq!(found(&maps, 0, address("10.0.0.1")).forward, Way::Dead);
    assert_eq!(xdp.totals().prefixes_forwarding, 0);
    let view = xdp.prefix(0, net("10.0.0.0/24")).expect("in the table");
    assert_eq!(view.pass, Some(Reason::NextHopNotLive));

    for hop in hops {
        world.revive(hop);
        world.refresh(&mut xdp, &mut maps, &hop);
    }
    let shares: Vec<_> = hops.iter().map(|hop| share(&flows(&maps, "10.0.0.1"), hop)).collect();
    assert!(shares.iter().all(|share| (21..=22).contains(share)), "{shares:?}");
    assert_eq!(maps.tables().prefixes, prefixes);
    assert_eq!(maps.violations(), &[] as &[String]);
}

#[test]
fn new_mac_stops_the_row_for_a_grace_period() {
    let mut world = World::new();
    world.set("10.0.0.0/24", forward(&[hop(3, 1)]));
    let (mut xdp, mut maps) = start(&world);
    let moved = Resolution::Live { destination_mac: [2, 7, 7, 7, 7, 7], source_mac: [2; 6] };
    world.resolutions.insert(hop(3, 1), moved);
    let outcome = world.refresh(&mut xdp, &mut maps, &hop(3, 1));
    assert_eq!((outcome.writes, outcome.grace_periods), (3, 1));
    let row = flows(&maps, "10.0.0.1")[0];
    assert_eq!((row.destination_mac, row.state), ([2, 7, 7, 7, 7, 7], NEXT_HOP_LIVE));
    assert_eq!(maps.violations(), &[] as &[String]);
    assert_eq!(
        xdp.row(1).map(|row| (row.next_hop, row.live, row.mac)),
        Some((hop(3, 1), true, Some([2, 7, 7, 7, 7, 7])))
    );
}

#[test]
fn route_changes_keep_the_flows_of_the_next_hops_that_stay() {
    let mut world = World::new();
    let hops: Vec<_> = (1..=4).map(|last| hop(3, last)).collect();
    world.set("10.0.0.0/24", forward(&hops[..3]));
    let (mut xdp, mut maps) = start(&world);
    let before = flows(&maps, "10.0.0.1");

    world.set("10.0.0.0/24", forward(&hops));
    world.apply(&mut xdp, &mut maps, &["10.0.0.0/24"]);
    let more = flows(&maps, "10.0.0.1");
    let moved = before.iter().zip(&more).filter(|(old, new)| old != new).count();
    assert_eq!((before.len(), more.len()), (64, 64));
    assert_eq!(moved, share(&more, &hops[3]), "only the new next hop gets flows");
    assert_eq!(moved, 16);

    world.set("10.0.0.0/24", forward(&hops[1..]));
    world.apply(&mut xdp, &mut maps, &["10.0.0.0/24"]);
    let fewer = flows(&maps, "10.0.0.1");
    let moved = more.iter().zip(&fewer).filter(|(old, new)| old != new).count();
    assert_eq!(moved, share(&more, &hops[0]), "only the flows of the removed next hop move");
    assert_eq!(maps.violations(), &[] as &[String]);
}

#[test]
fn single_next_hop_grows_into_a_group_without_moving_more_than_its_share() {
    let mut world = World::new();
    world.set("10.0.0.0/24", forward(&[hop(3, 1)]));
    let (mut xdp, mut maps) = start(&world);
    world.set("10.0.0.0/24", forward(&[hop(3, 1), hop(4, 1)]));
    world.apply(&mut xdp, &mut maps, &["10.0.0.0/24"]);
    let group = flows(&maps, "10.0.0.1");
    assert_eq!((group.len(), share(&group, &hop(3, 1)), share(&group, &hop(4, 1))), (32, 16, 16));
}

#[test]
fn next_hops_on_unmanaged_ports_are_left_out() {
    type Case = (&'static str, &'static [u32], Result<&'static [u32], Reason>);
    let cases: &[Case] = &[
        ("managed", &[3], Ok(&[3])),
        ("one of two", &[3, 9], Ok(&[3])),
        ("port that does not transmit", &[5], Err(Reason::EgressNotManaged)),
        ("port that is not ours", &[9], Err(Reason::EgressNotManaged)),
    ];
    for (name, ports, expected) in cases {
        let mut world = World::new();
        world.set_port(5, 3, false, 0);
        let hops: Vec<_> = ports.iter().map(|port| hop(*port, 1)).collect();
        world.set("10.0.0.0/24", forward(&hops));
        let (xdp, maps) = start(&world);
        let view = xdp.prefix(0, net("10.0.0.0/24")).expect("in the table");
        match expected {
            Ok(used) => {
                let rows: Vec<_> = view.rows.iter().map(|row| row.next_hop.port).collect();
                assert_eq!((view.pass, rows.as_slice()), (None, *used), "{name}");
            }
            Err(reason) => {
                assert_eq!(view.pass, Some(*reason), "{name}");
                let way = found(&maps, 0, address("10.0.0.1")).forward;
                assert_eq!(way, Way::Pass(*reason as u32), "{name}");
            }
        }
    }
}

#[test]
fn port_that_stops_transmitting_is_closed_behind_its_rows() {
    let mut world = World::new();
    world.set("10.0.0.0/24", forward(&[hop(3, 1), hop(4, 1)]));
    world.set("10.1.0.0/24", forward(&[hop(4, 1)]));
    let (mut xdp, mut maps) = start(&world);
    world.set_port(4, 2, false, 0);
    world.apply(&mut xdp, &mut maps, &[]);
    assert_eq!(share(&flows(&maps, "10.0.0.1"), &hop(4, 1)), 0);
    assert_eq!(found(&maps, 0, address("10.1.0.1")).forward, Way::Pass(Reason::EgressNotManaged as u32));
    world.set_port(4, 2, true, 0);
    world.apply(&mut xdp, &mut maps, &[]);
    assert_eq!(share(&flows(&maps, "10.0.0.1"), &hop(4, 1)), 16);
    assert_eq!(share(&flows(&maps, "10.1.0.1"), &hop(4, 1)), 1);
    assert_eq!(maps.violations(), &[] as &[String]);
}

#[test]
fn rules_of_the_kernel_close_a_port_and_open_it_again() {
    let mut world = World::new();
    world.set("10.0.0.0/24", forward(&[hop(4, 1)]));
    let (mut xdp, mut maps) = start(&world);
    let guards = |maps: &MemoryMaps| maps.tables().ports[&3].flags & (PORT_GUARDED4 | PORT_GUARDED6);
    for flags in [PORT_GUARDED4, PORT_GUARDED4 | PORT_GUARDED6, PORT_GUARDED6, 0] {
        world.guarded.insert(3, flags);
        world.apply(&mut xdp, &mut maps, &[]);
        assert_eq!(guards(&maps), flags);
        assert!(xdp.totals().synced && !xdp.is_stale());
    }
    assert_eq!(maps.violations(), &[] as &[String]);
}

#[test]
fn both_families_share_targets_and_rows() {
    let mut world = World::new();
    world.set("2001:db8::/32", forward(&[hop(3, 1)]));
    world.set("2001:db8:1::/48", pass(Reason::Local));
    world.set("10.0.0.0/24", forward(&[hop(3, 1)]));
    let (xdp, maps) = start(&world);
    assert_eq!(maps.tables().prefixes.len(), 3);
    assert_eq!(maps.tables().next_hops.len(), 1);
    let target = |text: &str| maps.lookup(0, text.parse::<std::net::IpAddr>().expect("an address"));
    assert_eq!(target("2001:db8::1").map(|(_, id)| id), target("10.0.0.1").map(|(_, id)| id));
    assert_eq!(target("2001:db8:1::1").map(|(prefix, _)| prefix), Some(net("2001:db8:1::/48")));
    assert_eq!(target("2001:db9::1"), None);
    assert!(xdp.totals().synced);
    assert_eq!(maps.violations(), &[] as &[String]);
}

#[test]
fn full_tables_are_told_with_the_remedy_and_recover() {
    let cases: &[(&str, Capacity, &str)] = &[
        ("targets", Capacity { targets: 3, ..ROOMY }, "target table"),
        ("rows", Capacity { next_hops: 3, ..ROOMY }, "next-hop table"),
        ("buckets", Capacity { buckets: 64, ..ROOMY }, "hash-bucket table"),
        ("prefixes", Capacity { prefixes: 2, ..ROOMY }, "prefix table"),
    ];
    for (name, capacity, expected) in cases {
        let mut world = World::new();
        for (at, last) in [1, 2, 3].into_iter().enumerate() {
            let hops = if *name == "buckets" { vec![hop(3, last), hop(4, last)] } else { vec![hop(3, last)] };
            world.set(&format!("10.{at}.0.0/16"), forward(&hops));
        }
        let mut maps = MemoryMaps::new(*capacity);
        let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
        world.full(&mut xdp, &mut maps);
        let totals = xdp.totals();
        assert_eq!((totals.prefixes_forwarding, totals.prefixes_left_out), (2, 1), "{name}");
        assert!(!totals.synced, "{name}");
        let problems = xdp.problems();
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert!(problems[0].contains(expected), "{name}: {}", problems[0]);
        assert!(problems[0].contains("narrow datapath.accelerate"), "{name}: {}", problems[0]);

        world.remove("10.0.0.0/16");
        world.apply(&mut xdp, &mut maps, &["10.0.0.0/16"]);
        let totals = xdp.totals();
        assert_eq!((totals.prefixes_forwarding, totals.prefixes_left_out), (2, 0), "{name}");
        assert!(totals.synced && xdp.problems().is_empty(), "{name}");
        assert_eq!(maps.violations(), &[] as &[String], "{name}");
    }
}

#[test]
fn prefix_that_has_no_room_turns_its_cover_to_the_kernel() {
    let mut world = World::new();
    world.set("10.0.0.0/8", forward(&[hop(3, 1)]));
    world.set("192.0.2.0/24", forward(&[hop(3, 1)]));
    let mut maps = MemoryMaps::new(Capacity { prefixes: 2, ..ROOMY });
    let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
    world.full(&mut xdp, &mut maps);

    world.set("10.1.0.0/16", forward(&[hop(4, 1)]));
    world.apply(&mut xdp, &mut maps, &["10.1.0.0/16"]);
    for text in ["10.1.0.1", "10.2.0.1"] {
        let way = found(&maps, 0, address(text)).forward;
        assert_eq!(way, Way::Pass(Reason::TableFull as u32), "{text}");
    }
    assert!(matches!(found(&maps, 0, address("192.0.2.1")).forward, Way::Forward(_)));

    world.remove("192.0.2.0/24");
    world.apply(&mut xdp, &mut maps, &["192.0.2.0/24"]);
    for text in ["10.1.0.1", "10.2.0.1"] {
        assert_eq!(found(&maps, 0, address(text)), world.expected(0, address(text)), "{text}");
    }
    assert!(xdp.totals().synced);
}

#[test]
fn failing_operation_stops_nothing_else_and_is_tried_again() {
    let mut world = World::new();
    for third in 0..30 {
        world.set(&format!("10.0.{third}.0/24"), forward(&[hop(3, 1)]));
    }
    let mut maps = MemoryMaps::new(ROOMY);
    maps.fail_every(Some(5));
    let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
    let outcome = world.full(&mut xdp, &mut maps);
    assert!(!outcome.failures.is_empty());
    assert!(xdp.totals().prefixes >= 20, "{:?}", xdp.totals());
    assert!(!xdp.totals().synced);
    maps.fail_every(None);
    let outcome = world.apply(&mut xdp, &mut maps, &[]);
    assert!(outcome.failures.is_empty());
    assert_eq!(xdp.totals().prefixes_forwarding, 30);
    assert!(xdp.totals().synced);
}

#[test]
fn only_what_still_forwards_by_old_content_is_stale() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 5] = [
        ("prefix removed", |world| world.remove("10.0.0.0/16")),
        ("prefix turned to the kernel", |world| world.set("10.0.0.0/16", pass(Reason::NotAccelerated))),
        ("prefix led elsewhere", |world| world.set("10.0.0.0/16", forward(&[hop(4, 2)]))),
        ("neighbour gone", |world| world.kill(hop(3, 1))),
        ("port gone", |world| world.remove_port(3)),
    ];
    for (name, change) in cases {
        let mut world = World::new();
        world.set("10.0.0.0/16", forward(&[hop(3, 1)]));
        let (_, mut maps) = start(&world);
        let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
        assert!(xdp.is_stale(), "{name}: an earlier agent's tables before the first comparison");
        world.full(&mut xdp, &mut maps);
        assert!(!xdp.is_stale(), "{name}: nothing changed yet");
        change(&mut world);
        maps.fail_every(Some(1));
        world.full(&mut xdp, &mut maps);
        assert!(xdp.is_stale(), "{name}: nothing could be written");
        maps.fail_every(None);
        world.apply(&mut xdp, &mut maps, &[]);
        assert!(!xdp.is_stale(), "{name}: written");
    }
}

#[test]
fn what_finds_no_room_is_not_stale() {
    let mut world = World::new();
    world.set("10.0.0.0/8", forward(&[hop(3, 1)]));
    let mut maps = MemoryMaps::new(Capacity { prefixes: 1, ..ROOMY });
    let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
    world.full(&mut xdp, &mut maps);
    world.set("10.1.0.0/16", forward(&[hop(4, 1)]));
    world.apply(&mut xdp, &mut maps, &["10.1.0.0/16"]);
    assert!(!xdp.totals().synced && !xdp.is_stale(), "{:?}", xdp.totals());
}

#[test]
fn restart_claims_equal_rows_by_what_leads_to_them() {
    // Two neighbours behind one MAC: their rows are equal, and must not be mixed up.
    let mut world = World::new();
    let same = Resolution::Live { destination_mac: [2, 5, 5, 5, 5, 5], source_mac: [2; 6] };
    for last in [1, 2] {
        world.resolutions.insert(hop(3, last), same);
    }
    world.set("10.2.0.0/16", forward(&[hop(3, 1)]));
    let (mut xdp, mut maps) = start(&world);
    world.set("10.1.0.0/16", forward(&[hop(3, 2)]));
    world.apply(&mut xdp, &mut maps, &["10.1.0.0/16"]);
    let mut again = XdpReconciler::adopt(&maps).expect("readable");
    assert_eq!(world.full(&mut again, &mut maps).writes, 0);
}

#[test]
fn restart_gives_back_what_nothing_uses() {
    let mut world = World::new();
    world.set("10.0.0.0/16", forward(&[hop(3, 1), hop(3, 2)]));
    world.set("10.1.0.0/16", forward(&[hop(3, 3)]));
    let (_, mut maps) = start(&world);
    world.remove("10.0.0.0/16");
    let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
    world.full(&mut xdp, &mut maps);
    let tables = maps.tables();
    assert_eq!((tables.next_hops.len(), tables.buckets.len()), (1, 0));
    let targets: BTreeMap<_, _> = tables.targets.iter().filter(|(id, _)| **id != 0).collect();
    assert_eq!(targets.len(), 1);
    assert_eq!(maps.violations(), &[] as &[String]);
}
