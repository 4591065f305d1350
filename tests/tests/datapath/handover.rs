//! From one agent to the next, and from one interface to the next of its name or number.

use aya::maps::{Array, Map, MapData};
use underpass::datapath::maps::FibMaps;
use underpass::datapath::{Datapath, pins};
use underpass_common::abi::{Control, map};
use underpass_common::nexthop::{PORT_EGRESS, PORT_INGRESS, Port};

use crate::rig::{Rig, index, problem};

#[test]
fn new_agent_adopts_maps_links_and_port_numbers() {
    let Some(rig) = Rig::raise() else { return };
    rig.router.ip("link add e1 type veth peer name e2\nlink set e1 up\n").expect("devices");
    rig.in_router(|| {
        let (e0, e1) = (index("e0"), index("e1"));
        let mut datapath = rig.load();
        datapath.attach(e1, "e1");
        let number = datapath.attach(e0, "e0").number;
        let port = Port { ifindex: e0, number, view: 7, flags: PORT_INGRESS, ..Port::default() };
        datapath.maps().set_port(port).expect("written");
        let before = rig.program("e0").expect("attached");
        drop(datapath);
        assert_eq!(rig.program("e0").as_ref(), Some(&before), "the link outlives the agent");

        let mut datapath = rig.load();
        assert_eq!(datapath.attached().expect("readable"), [e0, e1]);
        assert_eq!(datapath.maps().contents().expect("readable").ports, [(e0, port)].into());
        assert_eq!(datapath.attach(e0, "e0").number, number, "numbers are stable");
        let after = rig.program("e0").expect("attached");
        assert_ne!(after.1, before.1, "the new agent's program runs");
        assert_eq!((&after.0, after.2), (&before.0, before.2));

        // The interface dies while no agent runs, and another takes its name.
        drop(datapath);
        rig.router.ip("link del e1\nlink add e1 type veth peer name e2\n").expect("devices");
        let mut datapath = rig.load();
        assert_eq!(datapath.attached().expect("readable"), [e0], "the defunct link is dropped");
        assert!(datapath.attach(index("e1"), "e1").attached);
    });
}

#[test]
fn seed_of_the_flow_hash_stays_as_long_as_the_maps() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let folder = pins::folder(&rig.bpffs());
        let seed = || {
            let data = MapData::from_pin(pins::map(&folder, map::CONTROL)).expect("pinned");
            let control = Array::<_, Control>::try_from(Map::Array(data)).expect("the control map");
            control.get(&0, 0).expect("readable").flow_seed
        };
        drop(rig.load());
        let first = seed();
        assert_ne!(first, 0, "a node has a seed of its own");
        drop(rig.load());
        assert_eq!(seed(), first, "a restart moves no flow");
        pins::flush(&rig.bpffs()).expect("flushed");
        drop(rig.load());
        assert_ne!(seed(), first, "one in four thousand million runs fails here");
    });
}

#[test]
fn port_that_lost_its_program_is_attached_anew() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        let e0 = index("e0");
        let pin = pins::link(&pins::folder(&rig.bpffs()), e0);
        let facts = datapath.attach(e0, "e0");
        assert!(datapath.refresh(&facts).attached);
        std::fs::remove_file(pin).expect("an operator may");
        assert_eq!(rig.program("e0"), None);
        let facts = datapath.refresh(&facts);
        assert!(!facts.attached && problem(&facts).contains("no longer runs"), "{facts:?}");
        assert!(datapath.attach(e0, "e0").attached);

        // Another interface gets the index while nobody looks.
        rig.router.ip(&format!("link add e1 index {} type veth peer name e2\n", e0 + 900)).expect("devices");
        let (e1, facts) = (e0 + 900, datapath.attach(e0 + 900, "e1"));
        assert!(facts.attached, "{facts:?}");
        let anew = format!("link del e1\nlink add e1 index {e1} type veth peer name e2\n");
        rig.router.ip(&anew).expect("devices");
        assert!(!datapath.refresh(&facts).attached);
        assert!(datapath.attach(e1, "e1").attached);
        assert!(rig.program("e1").is_some());
    });
}

#[test]
fn interface_that_took_over_an_index_is_opened_anew() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let add = "link add e1 index 900 type veth peer name e2\n";
        rig.router.ip(add).expect("devices");
        let mut datapath = rig.load();
        let number = datapath.attach(900, "e1").number;
        let row = Port { ifindex: 900, number, flags: PORT_INGRESS | PORT_EGRESS, ..Port::default() };
        datapath.maps().set_port(row).expect("written");
        let ports = |datapath: &mut Datapath| datapath.maps().contents().expect("readable").ports;
        assert_eq!(ports(&mut datapath), [(900, row)].into());
        rig.router.ip(&format!("link del e1\n{add}")).expect("devices");
        let closed = Port { flags: PORT_INGRESS, ..row };
        assert_eq!(ports(&mut datapath), [(900, closed)].into(), "the kernel emptied the redirect map");
    });
}

#[test]
fn port_that_vanished_between_two_agents_leaves_number_and_slot() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        rig.router.ip("link add e1 index 900 type veth peer name e2\n").expect("devices");
        let mut datapath = rig.load();
        let number = datapath.attach(900, "e1").number;
        datapath.maps().set_port(Port { ifindex: 900, number, ..Port::default() }).expect("written");
        drop(datapath);
        rig.router.ip("link del e1\nlink add e1 index 1924 type veth peer name e2\n").expect("devices");
        let mut datapath = rig.load();
        assert_eq!(datapath.known().expect("readable"), [900].into());
        assert!(problem(&datapath.attach(1924, "e1")).contains("same table slot"));
        datapath.maps().clear_port(900).expect("cleared");
        datapath.detach(900).expect("given up");
        let facts = datapath.attach(1924, "e1");
        assert_eq!((facts.attached, facts.number), (true, number), "{facts:?}");
    });
}
