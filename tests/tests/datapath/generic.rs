//! The ladder below native mode: generic mode where it is allowed and exact.

use anyhow::ensure;
use underpass::datapath::facts::AttachMode;
use underpass_common::reason::Reason;
use underpass_tests::packet::{FrameBuilder, forwarded};
use underpass_tests::wait;

use crate::hairpin::forward_to;
use crate::rig::{Rig, SOON, index, mac, problem};
use crate::wire::Wire;

/// A veth with both ends in the router's namespace.
const DEVICES: &str = "link add g0 numrxqueues 2 type veth peer name g1 numtxqueues 2\n\
                       link set g0 up\nlink set g1 up\n";
/// What the far end of a veth must not leave undone.
const QUIET: [&str; 12] =
    ["-K", "g1", "tx", "off", "tx-checksum-sctp", "off", "tso", "off", "gso", "off", "txvlan", "off"];
/// `mode` of `ip -json link`.
const DRIVER: u64 = 1;
const GENERIC: u64 = 2;

/// The driver of `g0` refuses programs: the far end sends by more queues than it receives by.
fn raise() -> Option<Rig> {
    let rig = Rig::raise()?;
    rig.router.ip(DEVICES).expect("devices");
    rig.router.run("ethtool", ["-L", "g1", "tx", "2"]).expect("two queues");
    rig.router.run("ethtool", ["-L", "g0", "rx", "1"]).expect("a queue less");
    Some(rig)
}

#[test]
fn generic_mode_needs_leave_and_a_peer_that_finishes_its_packets() {
    let Some(rig) = raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        let facts = datapath.attach(index("g0"), "g0");
        assert!(problem(&facts).contains("`ethtool -L g1 tx 1`"), "{facts:?}");
        assert!(!problem(&facts).contains("generic"), "{facts:?}");

        datapath.allow_generic(true);
        let facts = datapath.attach(index("g0"), "g0");
        let expected = "needs `ethtool -K g1 tx off tx-checksum-sctp off tso off gso off txvlan off`";
        assert!(problem(&facts).contains(expected), "{facts:?}");
        assert_eq!((facts.attached, rig.program("g0")), (false, None));

        rig.router.run("ethtool", QUIET).expect("a veth has them");
        let facts = datapath.attach(index("g0"), "g0");
        assert_eq!((facts.attached, facts.mode), (true, Some(AttachMode::Generic)), "{facts:?}");
        assert_eq!((facts.ingress, facts.egress, facts.tx), (true, false, true), "{facts:?}");
        assert_eq!(rig.program("g0").expect("a program").2, GENERIC);
        assert!(facts.notes.iter().any(|note| note.contains("generic mode")), "{facts:?}");

        rig.router.run("ethtool", ["-K", "g1", "tx", "on"]).expect("a veth has it");
        let facts = datapath.refresh(&facts);
        assert_eq!((facts.attached, facts.ingress), (true, false), "{facts:?}");
        assert!(problem(&facts).contains("packets from g0 are left to the kernel: needs"), "{facts:?}");
    });
}

#[test]
fn generic_mode_forwards_byte_for_byte() {
    let Some(rig) = raise() else { return };
    rig.router.run("ethtool", QUIET).expect("a veth has them");
    // The far end may send what is too long for the near one.
    rig.router.ip("link set g1 mtu 1600\n").expect("a veth takes it");
    let (own, far, server) = (mac(&rig.router, "g0"), mac(&rig.router, "g1"), [2, 0, 0, 0, 0, 9]);
    rig.in_router(|| {
        let mut datapath = rig.load();
        datapath.allow_generic(true);
        let facts = datapath.attach(index("g0"), "g0");
        assert_eq!(facts.mode, Some(AttachMode::Generic), "{facts:?}");
        forward_to(&mut datapath, &facts, own, server);
        let wire = Wire::open("g1");
        let frame = FrameBuilder::new(far, own, [10, 0, 0, 2].into(), [10, 1, 1, 1].into());
        let frames = [
            ("as it comes", frame.clone()),
            ("large", frame.clone().payload(vec![0x5a; 1400])),
            ("padded", frame.clone().payload(Vec::new()).padding(18)),
            ("fragment", frame.clone().fragment(64, true)),
        ];
        for (name, frame) in &frames {
            let frame = frame.build();
            wire.send(&frame);
            assert_eq!(wire.receive_from(own), forwarded(&frame, own, server), "{name}");
        }
        let tx = |reason| (facts.number, reason);
        let counted = |reason| {
            let counters = datapath.counters().expect("readable");
            counters.get(&tx(reason)).map_or(0, |counter| counter.packets)
        };
        assert_eq!(counted(Reason::ForwardedTx), 4);
        for (reason, frame) in
            [(Reason::Vlan, frame.clone().vlan(7)), (Reason::TooBig, frame.payload(vec![0; 1473]))]
        {
            wire.send(&frame.build());
            wait::until("it is counted", SOON, || {
                ensure!(counted(reason) == 1, "{:?}", datapath.counters());
                Ok(())
            })
            .expect("left to the kernel");
        }
    });
}

#[test]
fn port_that_can_run_native_again_is_lifted_by_the_next_attach() {
    let Some(rig) = raise() else { return };
    rig.router.run("ethtool", QUIET).expect("a veth has them");
    rig.in_router(|| {
        let mut datapath = rig.load();
        datapath.allow_generic(true);
        assert_eq!(datapath.attach(index("g0"), "g0").mode, Some(AttachMode::Generic));
        drop(datapath);
        assert_eq!(rig.program("g0").expect("it outlives the agent").2, GENERIC);

        let mut datapath = rig.load();
        let facts = datapath.attach(index("g0"), "g0");
        assert_eq!((facts.attached, rig.program("g0")), (false, None), "no longer allowed: {facts:?}");
        datapath.allow_generic(true);
        assert_eq!(datapath.attach(index("g0"), "g0").mode, Some(AttachMode::Generic));
        drop(datapath);

        let mut datapath = rig.load();
        datapath.allow_generic(true);
        assert_eq!(datapath.attach(index("g0"), "g0").mode, Some(AttachMode::Generic), "swapped in");
        rig.router.run("ethtool", ["-L", "g0", "rx", "2"]).expect("the second queue");
        let facts = datapath.attach(index("g0"), "g0");
        assert_eq!((facts.mode, facts.attached), (Some(AttachMode::Native), true), "{facts:?}");
        assert_eq!(rig.program("g0").expect("a program").2, DRIVER);
        assert!(datapath.refresh(&facts).attached);
    });
}
