//! Packets near the MTU.

use underpass_tests::twin::Outcome;

use crate::rig::{REDIRECT, Rig};

/// Whether the kernel answered with "fragmentation needed" and this MTU.
fn frag_needed(outcome: &Outcome, mtu: u16) -> bool {
    matches!(outcome.as_slice(), [left] if left.frame[34..36] == [3, 4]
        && left.frame[40..42] == mtu.to_be_bytes())
}

/// A packet longer than the MTU of port or route: the kernel answers, or cuts it where it may. (Devices on
/// top of others, whose MTU may be smaller, are no ports.)
#[test]
fn h11_packets_above_the_mtu_are_the_kernels() {
    let Some(mut rig) = Rig::raise(|plan| {
        plan.ports[2].mtu = 1400;
        plan.commands.push_str(
            "route add 10.233.1.0/24 via 10.12.0.2\nroute add 10.233.2.0/24 mtu 1300 via 10.11.0.2\n\
             route add 10.233.3.0/24 mtu lock 1300 via 10.11.0.2\n",
        );
    }) else {
        return;
    };
    for (name, third, mtu, by) in [("port", 64, 1500, 1), ("smaller port", 1, 1400, 2), ("route", 2, 1300, 1)]
    {
        let to = [10, 233, third, 1].into();
        let frame = rig.frame().destination(to).packet_length(mtu).build();
        rig.check_forwarded(&format!("{name}, as long as the MTU"), &frame, (by, 2), REDIRECT);
        let frame = rig.frame().destination(to).packet_length(mtu + 1).build();
        let outcome = rig.check(&format!("{name}, longer, not to be cut"), &frame, "too_big");
        // Without `ip_forward_use_pmtu` the kernel heeds a route's MTU only when it is locked.
        let told = u16::try_from(mtu).expect("short");
        assert!(name == "route" || frag_needed(&outcome, told), "{name}: {outcome:?}");
        let frame = rig.frame().destination(to).dont_fragment(false).packet_length(mtu + 1).build();
        let outcome = rig.check(&format!("{name}, longer, may be cut"), &frame, "too_big");
        assert!(name == "route" || outcome.len() == 2, "{name}: two fragments: {outcome:?}");
    }
    // Locked metrics are not followed.
    for (length, answered) in [(1300, false), (1301, true)] {
        let frame = rig.frame().destination([10, 233, 3, 1].into()).packet_length(length).build();
        let outcome = rig.check("locked", &frame, "unsupported");
        assert_eq!(frag_needed(&outcome, 1300), answered, "{outcome:?}");
    }
}

/// The redirect helper lets frames pass that are up to four bytes above the MTU (room for a tag): the check
/// has to be made before it.
#[test]
fn h13_up_to_four_bytes_above_the_mtu_are_too_many() {
    let Some(mut rig) = Rig::raise(|plan| plan.ports[0].mtu = 2000) else { return };
    for above in 1..=6 {
        let frame = rig.frame().packet_length(1500 + above).build();
        let outcome = rig.check(&format!("{above} bytes above"), &frame, "too_big");
        assert!(frag_needed(&outcome, 1500), "{outcome:?}");
    }
}

/// A peer without segmentation, or a NIC that merges segments, hands over packets far above the egress MTU:
/// the stack knows how to cut them.
#[test]
fn h14_aggregates_above_the_mtu_are_the_kernels() {
    let Some(mut rig) = Rig::raise(|plan| plan.ports[0].mtu = 3000) else { return };
    for length in [2960, 3000] {
        let frame = rig.frame().packet_length(length).build();
        assert!(frag_needed(&rig.check("not to be cut", &frame, "too_big"), 1500));
        let frame = rig.frame().dont_fragment(false).packet_length(length).build();
        assert!(rig.check("may be cut", &frame, "too_big").len() >= 2);
    }
}
