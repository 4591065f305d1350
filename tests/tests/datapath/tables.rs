//! The maps.

use ipnet::IpNet;
use underpass::datapath::maps::FibMaps;
use underpass_common::nexthop::{NEXT_HOP_LIVE, NextHop, Target, TargetKind};

use crate::rig::Rig;

#[test]
fn tables_read_back_as_written() {
    let Some(rig) = Rig::raise() else { return };
    rig.in_router(|| {
        let mut datapath = rig.load();
        let maps = datapath.maps();
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let row = NextHop { ifindex: 3, state: NEXT_HOP_LIVE, mtu: 1500, ..NextHop::default() };
        let group = Target { kind: TargetKind::Group as u32, index: 64, mask: 1, ..Target::default() };
        maps.set_next_hop(5, row).expect("written");
        maps.set_bucket(64, 5).expect("written");
        maps.set_bucket(65, 5).expect("written");
        maps.set_target(9, group).expect("written");
        for (view, prefix) in [(0, "0.0.0.0/0"), (0, "10.1.0.0/16"), (3, "10.1.0.0/16"), (3, "10.1.2.3/32")] {
            maps.set_prefix(view, net(prefix), 9).expect("written");
        }
        maps.delete_prefix(0, net("10.1.0.0/16")).expect("deleted");
        maps.delete_prefix(0, net("10.1.0.0/16")).expect("a missing prefix is no error");
        maps.set_prefix(0, net("2001:db8::/32"), 9).expect("written");
        let error = maps.set_prefix(128, net("10.2.0.0/16"), 9).expect_err("no such view");
        assert!(error.to_string().contains("10.2.0.0/16"), "{error}");
        assert!(maps.set_target(u32::MAX, group).is_err());
        maps.grace_period().expect("waited");

        let contents = maps.contents().expect("readable");
        assert_eq!(contents.next_hops, [(5, row)].into());
        assert_eq!(contents.buckets, [(64, 5), (65, 5)].into());
        assert_eq!(contents.targets, [(9, group)].into());
        let prefixes: Vec<_> = contents.prefixes.keys().map(|(view, net)| (*view, net.to_string())).collect();
        let expected = [(0, "0.0.0.0/0"), (0, "2001:db8::/32"), (3, "10.1.0.0/16"), (3, "10.1.2.3/32")];
        assert_eq!(prefixes, expected.map(|(view, net)| (view, net.to_owned())));
    });
}
