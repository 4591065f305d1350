//! Ports that are left alone.

use underpass::datapath::{Datapath, Engine};
use underpass_tests::xdp::PassProgram;

use crate::rig::{Rig, index, problem};

#[test]
fn foreign_program_is_named_and_left_alone() {
    let Some(rig) = Rig::raise() else { return };
    let pass = PassProgram::load(&rig.lab).expect("the pass program loads");
    pass.attach(&rig.router, "e0").expect("a veth runs XDP");
    rig.in_router(|| {
        let before = rig.program("e0").expect("the foreign program");
        let mut datapath = rig.load();
        let facts = datapath.attach(index("e0"), "e0");
        assert_eq!((facts.number, facts.attached, facts.egress), (0, false, false));
        let text = problem(&facts);
        assert!(text.contains(&format!("e0 already runs XDP program {}", before.1)), "{text}");
        assert_eq!(rig.program("e0"), Some(before));
        assert_eq!(datapath.attached().expect("readable"), [] as [u32; 0]);

        rig.router.ip("link set e0 xdpdrv off\n").expect("detachable");
        assert!(datapath.attach(index("e0"), "e0").attached, "free again");
    });
}

#[test]
fn devices_on_top_of_others_are_refused() {
    let Some(rig) = Rig::raise() else { return };
    rig.router
        .ip("link add br0 type bridge\nlink add e1 type veth peer name e2\nlink set e1 master br0\n\
             link add mv0 link e0 type macvlan\n\
             link add vx0 type vxlan id 7 dev e0 dstport 4789\nlink add ifb7 type ifb\n\
             tuntap add tun0 mode tun\n")
        .expect("devices");
    rig.in_router(|| {
        let mut datapath = rig.load();
        for (name, expected) in [
            ("br0", "is a bridge device"),
            ("mv0", "is a macvlan device"),
            ("vx0", "is a vxlan device"),
            ("ifb7", "is a ifb device"),
            ("tun0", "not an Ethernet interface"),
            ("e1", "(bridge br0), which switches its packets"),
            ("lo", "not an Ethernet interface"),
        ] {
            let facts = datapath.attach(index(name), name);
            assert!(problem(&facts).contains(expected), "{name}: {facts:?}");
            assert!(problem(&facts).contains("datapath.ports"), "{name}: {facts:?}");
            assert_eq!(rig.program(name), None, "{name}");
        }
        let facts = datapath.attach(4_000_000, "gone0");
        assert!(problem(&facts).contains("4000000"), "{facts:?}");
    });
}

#[test]
fn programs_of_other_owners_stay_whatever_their_way_of_attaching() {
    let Some(rig) = Rig::raise() else { return };
    let pass = PassProgram::load(&rig.lab).expect("the pass program loads");
    rig.in_router(|| {
        let e0 = index("e0");
        // By a link, as libxdp's dispatcher attaches: here that of another agent.
        let mut other = Datapath::load(&rig.lab.bpffs().join("other"), Engine::Flat).expect("loads");
        assert!(other.attach(e0, "e0").attached);
        let before = rig.program("e0").expect("the other agent's");
        let mut datapath = rig.load();
        datapath.allow_generic(true);
        let facts = datapath.attach(e0, "e0");
        assert!(problem(&facts).contains("in native mode, which is not ours"), "{facts:?}");
        assert_eq!(rig.program("e0"), Some(before));
        other.detach(e0).expect("detached");

        // In generic mode, by netlink.
        let pin = pass.pin().display();
        rig.router.ip(&format!("link set e0 xdpgeneric pinned {pin}\n")).expect("any device has it");
        let before = rig.program("e0").expect("the generic program");
        let facts = datapath.attach(e0, "e0");
        assert!(problem(&facts).contains("in generic mode, which is not ours"), "{facts:?}");
        assert_eq!(rig.program("e0"), Some(before));
        rig.router.ip("link set e0 xdpgeneric off\n").expect("detachable");

        // Neither can others displace ours, which is attached by a link and not by netlink.
        let facts = datapath.attach(e0, "e0");
        let ours = rig.program("e0").expect("ours");
        for command in [
            format!("link set e0 xdpdrv pinned {pin}\n"),
            format!("link set e0 xdpgeneric pinned {pin}\n"),
            "link set e0 xdpdrv off\n".to_owned(),
        ] {
            rig.router.ip(&command).expect_err("a link is its owner's");
            assert_eq!(rig.program("e0").as_ref(), Some(&ours), "{command}");
        }
        assert!(datapath.refresh(&facts).attached);
    });
}

#[test]
fn one_bad_port_leaves_the_others_working() {
    let Some(rig) = Rig::raise() else { return };
    rig.attach_pass_program();
    rig.router
        .ip("link add br0 type bridge\nlink add e1 type veth peer name e2\nlink set e1 master br0\n")
        .expect("devices");
    rig.in_router(|| {
        let mut datapath = rig.load();
        assert!(!datapath.attach(index("e1"), "e1").attached);
        let facts = datapath.attach(index("e0"), "e0");
        assert_eq!((facts.attached, facts.number, facts.problem.as_deref()), (true, 1, None), "{facts:?}");
    });
}
