//! The flat table outgrows its map: a larger one takes its place under traffic.

use underpass::datapath::maps::{FibMaps, PrefixChange};
use underpass::datapath::probe::{Addresses, Flow, udp_frame};
use underpass_common::abi::FIB_BYTES;
use underpass_common::reason::Reason;

use crate::hairpin::forward_to;
use crate::rig::{Rig, index, mac};

/// Scattered /30, every one with a node of its own: 200,000 do not fit into the smallest class.
fn scattered(count: u32) -> Vec<PrefixChange> {
    let prefix = |n: u32| {
        ipnet::Ipv4Net::new((n.wrapping_mul(0x9e37_79b1) | 0x8000_0000).into(), 30).expect("a length")
    };
    let keys: std::collections::BTreeSet<_> = (0..count).map(|n| prefix(n).trunc()).collect();
    keys.into_iter().map(|prefix| ((0, prefix.into()), Some(2))).collect()
}

#[test]
fn table_grows_under_the_ports_and_keeps_its_answers() {
    let Some(rig) = Rig::raise() else { return };
    rig.attach_pass_program();
    let (own, server) = (mac(&rig.router, "e0"), mac(&rig.server, "s0"));
    rig.in_router(|| {
        let mut datapath = rig.load();
        let facts = datapath.attach(index("e0"), "e0");
        forward_to(&mut datapath, &facts, own, server);
        let before = rig.program("e0").expect("attached");
        let size = |datapath: &mut underpass::datapath::Datapath| {
            datapath.maps().usage().expect("the flat table").capacity
        };
        assert_eq!(size(&mut datapath), u64::from(FIB_BYTES[0]));
        let flow = Flow {
            source_mac: server,
            destination_mac: own,
            addresses: Addresses::V4(
                "10.0.0.2".parse().expect("an address"),
                "10.1.1.1".parse().expect("an address"),
            ),
            source_port: 4096,
            destination_port: 9,
        };
        let verdict = |datapath: &mut underpass::datapath::Datapath| {
            datapath.probe(index("e0"), &udp_frame(&flow)).expect("the probe runs").reason
        };
        assert_eq!(verdict(&mut datapath), Reason::ForwardedTx);

        let changes = scattered(200_000);
        let results = datapath.maps().set_prefixes(&changes);
        assert_eq!(results.len(), changes.len());
        for result in results {
            result.expect("there is a larger class");
        }
        let grown = size(&mut datapath);
        assert!(grown > u64::from(FIB_BYTES[0]), "{grown}");
        assert_eq!(verdict(&mut datapath), Reason::ForwardedTx, "the new programs, the old answer");
        let after = rig.program("e0").expect("attached");
        assert_ne!(before.1, after.1, "the port runs a new program");
        assert_eq!((&before.0, before.2), (&after.0, after.2));

        // A new agent finds the larger table, and no half-made one.
        drop(datapath);
        let mut datapath = rig.load();
        assert_eq!(size(&mut datapath), grown);
        let contents = datapath.maps().contents().expect("readable");
        assert!(contents.prefixes.len() > 150_000, "{}", contents.prefixes.len());
        assert_eq!(verdict(&mut datapath), Reason::ForwardedTx);
    });
}
