//! The filter of own addresses.

use underpass_common::nexthop::PORT_OWN_SOURCES;

use super::XdpReconciler;
use super::start;
use super::world::World;
use crate::datapath::memory_maps::MemoryMaps;
use crate::netlink::model::IfIndex;

fn relies(maps: &MemoryMaps, port: IfIndex) -> bool {
    maps.tables().ports[&port].flags & PORT_OWN_SOURCES != 0
}

#[test]
fn filter_follows_and_ports_rely_on_it() {
    let mut world = World::new();
    world.fib.own = [(3, 0b101), (9, 1)].into();
    let (mut xdp, mut maps) = start(&world);
    assert_eq!(maps.tables().own, world.fib.own);
    assert!(relies(&maps, 3));
    world.fib.own = [(3, 0b110)].into();
    world.apply(&mut xdp, &mut maps, &[]);
    assert_eq!(maps.tables().own, world.fib.own);
    world.fib.ports.get_mut(&3).expect("a port").own_sources = false;
    world.apply(&mut xdp, &mut maps, &[]);
    assert!(!relies(&maps, 3) && relies(&maps, 4));
    assert!(xdp.totals().synced);
}

#[test]
fn no_port_relies_on_a_filter_that_is_not_there() {
    for every in 1..8 {
        let mut world = World::new();
        let (mut xdp, mut maps) = start(&world);
        world.fib.own = [(3, 1), (4, 1), (5, 1)].into();
        maps.fail_every(Some(every));
        for _ in 0..4 {
            world.apply(&mut xdp, &mut maps, &[]);
            let complete = world.fib.own.iter().all(|word| maps.tables().own.contains_key(word.0));
            let relying = [3, 4, 5].iter().any(|port| relies(&maps, *port));
            assert!(complete || !relying || xdp.is_stale(), "every {every}th write fails");
        }
        maps.fail_every(None);
        world.apply(&mut xdp, &mut maps, &[]);
        assert_eq!(maps.tables().own, world.fib.own);
        assert!(relies(&maps, 3) && xdp.totals().synced && !xdp.is_stale());
    }
}

#[test]
fn restart_takes_the_filter_over() {
    let mut world = World::new();
    world.fib.own = [(3, 1)].into();
    let (_, mut maps) = start(&world);
    world.fib.own = [(4, 1)].into();
    let mut next = XdpReconciler::adopt(&maps).expect("memory");
    world.full(&mut next, &mut maps);
    assert_eq!(maps.tables().own, world.fib.own);
}
