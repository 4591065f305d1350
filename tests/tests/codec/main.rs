//! Our reading of BGP messages against two other codecs, `netgauze-bgp-pkt` and `bgpkit-parser`: the same bytes say
//! the same to all three. Where the others differ, the difference is written down at their reader.

mod bgpkit;
mod encode;
mod netgauze;
mod open;
mod ours;
mod plan;
mod sent;

use proptest::prelude::*;

use plan::{Kind, Plan, Said};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Our own encoder's UPDATEs, read by all three.
    #[test]
    fn updates_say_the_same_to_all(plan in plan::any_plan()) {
        let bytes = encode::update(&plan);
        let comparable = |said: Said| if plan.kind.four_octet_as { said } else { said.joined() };
        let expected = comparable(plan.said());
        prop_assert_eq!(&comparable(ours::read(&bytes, plan.kind)), &expected, "ours");
        prop_assert_eq!(&comparable(netgauze::read(&bytes, plan.kind)), &expected, "netgauze");
        prop_assert_eq!(&comparable(bgpkit::read(&bytes, plan.kind)), &expected, "bgpkit");
    }

    /// UPDATEs that netgauze writes, read by us.
    #[test]
    fn updates_of_netgauze_are_read(plan in plan::any_plan()) {
        // It writes one width of AS numbers as it is told, and no AS4_PATH beside it.
        let plan = Plan { kind: Kind { four_octet_as: true, ..plan.kind }, ..plan };
        prop_assert_eq!(ours::read(&netgauze::write(&plan), plan.kind), plan.said());
    }
}
