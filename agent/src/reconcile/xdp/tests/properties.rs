//! Random sequences of changes: the tables end where a rebuild from nothing ends, and no single write
//! on the way misleads a packet.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use underpass_common::fib::ViewId;
use underpass_common::nexthop::{NEXT_HOP_LIVE, NextHop, TargetKind};
use underpass_common::reason::Reason;

use super::world::{Observed, ROOMY, Way, World, address, found, hop, live, net};
use crate::datapath::maps::{Capacity, Contents};
use crate::datapath::memory_maps::MemoryMaps;
use crate::fib::compile::FibDelta;
use crate::fib::model::{Forward, Resolution, Source, Target};
use crate::netlink::model::Delta;
use crate::reconcile::xdp::XdpReconciler;

const PREFIXES: [&str; 9] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.0.0/24",
    "10.1.1.0/24",
    "10.1.1.1/32",
    "10.2.0.0/16",
    "10.2.2.0/24",
    "2001:db8::/32",
];
const ADDRESSES: [&str; 8] =
    ["192.0.2.1", "10.9.0.1", "10.1.9.1", "10.1.0.1", "10.1.1.1", "10.1.1.2", "10.2.0.1", "10.2.2.1"];

fn addresses() -> Vec<(ViewId, Ipv4Addr)> {
    (0..2).flat_map(|view| ADDRESSES.map(|text| (view, address(text)))).collect()
}

#[derive(Clone, Debug)]
enum Change {
    Prefix(ViewId, usize, Option<Target>),
    Neighbour(u32, u8, Resolution),
    Port(u32, Option<(u32, bool, ViewId)>),
}

#[derive(Clone, Debug)]
enum Step {
    /// Changes of the compiled table, applied at once.
    Apply(Vec<Change>),
    /// A neighbour changes and the rows are refreshed before the table is.
    Refresh(u32, u8, Resolution),
    /// The agent starts anew over the same maps.
    Restart,
    /// Every n-th write fails from now on.
    Faults(Option<usize>),
}

fn target() -> impl Strategy<Value = Target> {
    let hops = prop::collection::btree_map((3u32..=5, 1u8..=3), 1u16..=3, 1..4);
    let hops = hops.prop_map(|hops| {
        let hops = hops.into_iter().map(|((port, last), weight)| (hop(port, last), weight));
        Forward::NextHops(hops.collect())
    });
    let reasons = prop::sample::select(vec![Reason::Local, Reason::Connected, Reason::Refused]);
    let forward = prop_oneof![4 => hops, 1 => reasons.prop_map(Forward::Pass)];
    let interfaces = prop::collection::btree_set(3u32..=6, 0..3);
    (forward, any::<bool>(), any::<bool>(), interfaces).prop_map(|(forward, valid, on_link, interfaces)| {
        Target { forward, source: Source { valid, on_link, interfaces } }
    })
}

fn resolution() -> impl Strategy<Value = (u32, u8, Resolution)> {
    (3u32..=5, 1u8..=3, 0u8..5).prop_map(|(port, last, kind)| {
        let resolution = match kind {
            0 => Resolution::Unresolved,
            1 => Resolution::PortDown,
            2 => Resolution::Live { destination_mac: [6, 6, 6, 6, 6, last], source_mac: [2; 6] },
            _ => live(&hop(port, last)),
        };
        (port, last, resolution)
    })
}

fn change() -> impl Strategy<Value = Change> {
    let prefix = (0u32..2, 0..PREFIXES.len(), prop::option::weighted(0.7, target()))
        .prop_map(|(view, prefix, target)| Change::Prefix(view, prefix, target));
    let neighbour = resolution().prop_map(|(port, last, to)| Change::Neighbour(port, last, to));
    let facts = prop::option::weighted(0.8, (0u32..3, prop::bool::weighted(0.7), 0u32..2));
    let port = (3u32..=5, facts).prop_map(|(ifindex, facts)| {
        // Numbers of different ports never collide: each port has three of its own.
        Change::Port(ifindex, facts.map(|(n, egress, view)| (ifindex * 3 + n, egress, view)))
    });
    prop_oneof![8 => prefix, 2 => neighbour, 1 => port]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(change(), 1..6).prop_map(Step::Apply),
        3 => resolution().prop_map(|(port, last, to)| Step::Refresh(port, last, to)),
        1 => Just(Step::Restart),
        1 => prop::option::of(2usize..8).prop_map(Step::Faults),
    ]
}

impl Change {
    fn make(&self, world: &mut World, delta: &mut FibDelta) {
        match self {
            Self::Prefix(view, prefix, target) => {
                let key = (*view, net(PREFIXES[*prefix]));
                match target {
                    Some(target) => world.fib.prefixes.insert(key, target.clone().into()),
                    None => world.fib.prefixes.remove(&key),
                };
                delta.prefixes.insert(key, ());
            }
            Self::Neighbour(port, last, to) => {
                world.resolutions.insert(hop(*port, *last), *to);
            }
            Self::Port(ifindex, Some((number, egress, view))) => {
                world.set_port(*ifindex, *number, *egress, *view);
            }
            Self::Port(ifindex, None) => world.remove_port(*ifindex),
        }
    }
}

/// Plays the steps and returns where it ends, faults off and everything tried again.
fn play(steps: &[Step], capacity: Capacity) -> (World, MemoryMaps, XdpReconciler) {
    let addresses = addresses();
    let mut world = World::new();
    let mut maps = MemoryMaps::new(capacity);
    let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
    world.full(&mut xdp, &mut maps);
    for step in steps {
        let old = world.clone();
        let synced = xdp.totals().synced;
        let mut delta = FibDelta::default();
        let mut refreshed = Delta::default();
        match step {
            Step::Apply(changes) => changes.iter().for_each(|change| change.make(&mut world, &mut delta)),
            Step::Refresh(port, last, to) => {
                Change::Neighbour(*port, *last, *to).make(&mut world, &mut delta);
                refreshed.neighbours.insert((*port, hop(*port, *last).neighbour));
            }
            Step::Restart => {
                xdp = XdpReconciler::adopt(&maps).expect("readable");
                delta.full = true;
            }
            Step::Faults(every) => maps.fail_every(*every),
        }
        if let Step::Apply(changes) = step {
            // As the agent does: neighbours first, then the table.
            for change in changes {
                if let Change::Neighbour(port, last, _) = change {
                    refreshed.neighbours.insert((*port, hop(*port, *last).neighbour));
                }
            }
        }
        let mut observed = Observed::new(&mut maps, &old, &world, &addresses);
        world.with(|environment| {
            if !refreshed.is_empty() {
                xdp.refresh_rows(&mut observed, &refreshed, environment);
            }
            xdp.apply(&mut observed, &world.fib, &delta, environment);
        });
        // What could not be written before is older than the old table.
        assert!(!synced || observed.strays.is_empty(), "after {step:?}: {}", observed.strays[0]);
        assert_eq!(maps.violations().first(), None, "after {step:?}");
    }
    maps.fail_every(None);
    for _ in 0..3 {
        let outcome = world.apply(&mut xdp, &mut maps, &[]);
        assert!(outcome.failures.iter().all(is_full), "{:?}", outcome.failures);
    }
    assert_eq!(maps.violations().first(), None, "at the end");
    (world, maps, xdp)
}

fn is_full(error: &crate::datapath::maps::MapError) -> bool {
    error.source.raw_os_error() == Some(libc::ENOSPC)
}

fn is_live(row: &NextHop) -> bool {
    row.state == NEXT_HOP_LIVE
}

/// What packets take: live rows, and prefixes, targets and buckets that lead to one.
fn taken(tables: &Contents) -> Contents {
    let mut tables = tables.clone();
    tables.next_hops.retain(|_, row| is_live(row));
    let buckets = tables.buckets.clone();
    let leads_to_live = |first: u32, last: u32| {
        buckets.range(first..=last).any(|(_, row)| tables.next_hops.contains_key(row))
    };
    tables.targets.retain(|_, target| match target.kind {
        kind if kind == TargetKind::NextHop as u32 => tables.next_hops.contains_key(&target.index),
        kind if kind == TargetKind::Group as u32 => leads_to_live(target.index, target.index + target.mask),
        _ => false,
    });
    tables.prefixes.retain(|_, id| tables.targets.contains_key(id));
    tables.buckets.retain(|bucket, _| {
        let mut groups = tables.targets.values().filter(|target| target.kind == TargetKind::Group as u32);
        groups.any(|group| (group.index..=group.index + group.mask).contains(bucket))
    });
    tables
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn increments_end_where_a_rebuild_ends(steps in prop::collection::vec(step(), 1..30)) {
        let (world, maps, xdp) = play(&steps, ROOMY);
        prop_assert!(xdp.totals().synced, "{:?} {:?}", xdp.problems(), xdp.totals());
        let mut rebuilt = MemoryMaps::new(ROOMY);
        let mut fresh = XdpReconciler::adopt(&rebuilt).expect("readable");
        world.full(&mut fresh, &mut rebuilt);
        for (view, address) in addresses() {
            let expected = world.expected(view, address);
            prop_assert_eq!(&found(&maps, view, address), &expected, "{} {}", view, address);
            prop_assert_eq!(&found(&rebuilt, view, address), &expected, "rebuilt {} {}", view, address);
        }
        prop_assert_eq!(xdp.totals(), fresh.totals());
        let ports: Vec<_> = maps.tables().ports.keys().copied().collect();
        prop_assert_eq!(ports, world.fib.ports.keys().copied().collect::<Vec<_>>());
    }

    #[test]
    fn restart_writes_nothing_that_is_right(steps in prop::collection::vec(step(), 1..20)) {
        let (world, mut maps, _) = play(&steps, ROOMY);
        // What rests is emptied by the first agent that waits for a grace period: let one do so.
        let mut xdp = XdpReconciler::adopt(&maps).expect("readable");
        world.full(&mut xdp, &mut maps);
        let before = maps.tables().clone();
        let mut again = XdpReconciler::adopt(&maps).expect("readable");
        let outcome = world.full(&mut again, &mut maps);
        // Which dead next hop a dead row stood for cannot always be told: those may move. Nothing that
        // packets take does.
        if before.next_hops.values().all(is_live) {
            prop_assert_eq!(outcome.writes, 0, "{:?} -> {:?}", before, maps.tables());
        }
        prop_assert_eq!(taken(&before), taken(maps.tables()));
        prop_assert_eq!(again.totals(), xdp.totals());
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_kernel(
        steps in prop::collection::vec(step(), 1..20),
        prefixes in 2usize..8,
        targets in 2u32..6,
        buckets in 1u32..4,
        next_hops in 2u32..5,
    ) {
        let capacity = Capacity { prefixes, targets, buckets: buckets * 32, next_hops };
        let (world, maps, xdp) = play(&steps, capacity);
        let mut left_out = BTreeSet::new();
        for (view, address) in addresses() {
            let found = found(&maps, view, address);
            let expected = world.expected(view, address);
            if found != expected {
                let fewer = match (&found.forward, &expected.forward) {
                    (Way::Forward(found), Way::Forward(expected)) => found.is_subset(expected),
                    (Way::Forward(_), _) => false,
                    (Way::Miss | Way::Pass(_) | Way::Dead, _) => true,
                };
                prop_assert!(fewer, "{} {}: {:?}", view, address, found);
                prop_assert!([0, expected.source_flags].contains(&found.source_flags));
                left_out.insert((view, address));
            }
        }
        if !left_out.is_empty() {
            prop_assert!(!xdp.totals().synced);
            prop_assert!(!xdp.problems().is_empty(), "{:?}", left_out);
        }
    }
}
