//! Attaching, and what a port can do then.

use underpass::datapath::device::driver_facts;
use underpass::datapath::facts::{DriverFacts, Offload, Upper, offload};
use underpass::datapath::pins;

use crate::rig::{Rig, index, problem};

#[test]
fn program_is_attached_in_the_driver_by_a_pinned_link() {
    let Some(rig) = Rig::raise() else { return };
    rig.attach_pass_program();
    rig.in_router(|| {
        let mut datapath = rig.load();
        let e0 = index("e0");
        let facts = datapath.attach(e0, "e0");
        assert_eq!((facts.number, facts.attached), (1, true), "{facts:?}");
        assert_eq!((facts.ingress, facts.egress, facts.tx), (true, true, true), "{facts:?}");
        assert_eq!(facts.problem, None);
        assert_eq!(datapath.attached().expect("readable"), [e0]);
        assert!(pins::link(&pins::folder(&rig.bpffs()), e0).exists());
        let (name, _, mode) = rig.program("e0").expect("a program");
        assert_eq!((name.as_str(), mode), ("underpass", 1));
        datapath.detach(e0).expect("detached");
        assert_eq!(rig.program("e0"), None);
    });
}

#[test]
fn abilities_follow_the_peer_of_a_veth() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        let facts = datapath.attach(index("e0"), "e0");
        assert_eq!((facts.ingress, facts.egress, facts.tx), (true, false, false), "{facts:?}");
        assert!(problem(&facts).contains("the peer of e0"), "{facts:?}");

        rig.rack.run("ethtool", ["-K", "far0", "gro", "on"]).expect("a veth has GRO");
        let facts = datapath.refresh(&facts);
        assert_eq!((facts.egress, facts.tx), (true, false), "GRO takes redirects only: {facts:?}");

        rig.attach_pass_program();
        let facts = datapath.refresh(&facts);
        assert_eq!((facts.egress, facts.tx), (true, true), "{facts:?}");

        rig.rack.ip("link set far0 xdpdrv off\n").expect("detachable");
        let facts = datapath.refresh(&facts);
        assert_eq!((facts.egress, facts.tx), (true, false), "{facts:?}");
    });
}

#[test]
fn facts_are_those_of_the_device() {
    let Some(rig) = Rig::raise() else { return };
    rig.router
        .ip("link add mv0 link e0 type macvlan\nlink add g0 type veth peer name g1\n\
             tuntap add tap0 mode tap\ntuntap add tap1 mode tap vnet_hdr\nlink set e0 promisc on\n")
        .expect("devices");
    rig.in_router(|| {
        let facts = |name: &str| driver_facts(index(name)).expect("it exists");
        let e0 = facts("e0");
        assert_eq!((e0.driver.as_deref(), e0.kind.as_deref()), (Some("veth"), Some("veth")));
        assert_eq!((e0.mtu, e0.carrier, e0.promiscuous, e0.peer), (1500, true, true, None));
        assert_eq!(e0.uppers, [Upper { name: "mv0".to_owned(), kind: "macvlan".to_owned() }]);
        assert!(e0.cpus > 0);
        let channels = e0.channels.expect("a veth tells");
        assert_eq!((channels.rx, channels.tx), (1, 1));
        let offloads = e0.offloads.expect("a veth tells");
        assert_eq!(offloads[offload::LRO], Offload { on: false, fixed: true });
        assert_eq!(offloads[offload::GSO], Offload { on: true, fixed: false });
        rig.router.run("ethtool", ["-K", "e0", "gso", "off", "gro", "on"]).expect("a veth has them");
        let offloads = facts("e0").offloads.expect("a veth tells");
        assert_eq!(offloads[offload::GSO], Offload { on: false, fixed: false });
        assert_eq!(offloads[offload::GRO], Offload { on: true, fixed: false });
        let peer = facts("g0").peer.expect("in the same namespace");
        assert_eq!((peer.name.as_str(), peer.channels.expect("told").tx), ("g1", 1));
        assert_eq!(facts("tap0").tap_vnet_header, Some(false));
        assert_eq!(facts("tap1").tap_vnet_header, Some(true));

        let mut datapath = rig.load();
        let attached = datapath.attach(index("tap1"), "tap1");
        assert_eq!((attached.attached, attached.ingress), (true, false), "{attached:?}");
        assert!(problem(&attached).contains("vnet_hdr"), "{attached:?}");
        let recorded = attached.status().facts.expect("in the status");
        let text = serde_json::to_string(&recorded).expect("a record");
        assert_eq!(serde_json::from_str::<DriverFacts>(&text).expect("read back"), recorded);
    });
}
