//! What only hardware does: decided from recorded facts, before and after a program is attached.

use underpass::datapath::facts::{
    AttachMode, AttachedProgram, Channels, DriverFacts, Offload, Upper, offload,
};
use underpass::datapath::preflight::{Policy, Rung, abilities, rung};

/// The facts of a driver in its common set-up.
fn recorded(name: &str) -> DriverFacts {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/src/datapath/preflight/recorded");
    let text = std::fs::read_to_string(format!("{folder}/{name}.json")).expect("a record");
    serde_json::from_str(&text).expect("facts")
}

/// Drivers send redirected frames by the queue of the CPU and drop those of CPUs without one, want spare queues
/// for XDP, or transmit only while a program is attached: such a port is refused or not redirected to, with the
/// remedy.
#[test]
fn h27_queues_that_drivers_need_for_xdp_are_checked() {
    let policy = Policy::default();
    let attached = |mut facts: DriverFacts| {
        facts.attached.push(AttachedProgram { id: 7, mode: AttachMode::Native });
        facts.xdp_features = facts.xdp_features.map(|bits| bits | 4);
        facts
    };
    // mlx5: fewer channels than CPUs.
    let mut facts = attached(recorded("mlx5"));
    assert!(abilities(&facts, AttachMode::Native, policy).egress);
    facts.cpus = facts.channels.expect("recorded").combined + 1;
    let got = abilities(&facts, AttachMode::Native, policy);
    assert!(!got.egress, "{got:?}");
    assert!(got.problem.is_some_and(|problem| problem.contains("channels")));

    // ena: a transmit queue for XDP beside each channel.
    let mut facts = recorded("ena");
    assert!(rung(&facts, policy, None).is_ok());
    let channels = facts.channels.expect("recorded");
    facts.channels = Some(Channels { combined: channels.max_combined, ..channels });
    let refusal = rung(&facts, policy, None).expect_err("no room for XDP's queues").to_string();
    assert!(refusal.contains("ethtool -L"), "{refusal}");

    // ixgbe, i40e: no transmission without a program.
    let mut facts = recorded("i40e");
    facts.xdp_features = Some(3);
    assert!(!abilities(&facts, AttachMode::Native, policy).egress);
}

/// A frame that does not fit into one buffer: refused where the program or the driver takes only one, and not
/// redirected to a port whose driver sends only one.
#[test]
fn h28_jumbo_frames_need_a_driver_that_takes_and_sends_them_in_pieces() {
    let frags = Policy { frags: true, ..Policy::default() };
    let jumbo = |name: &str| DriverFacts { mtu: 9000, ..recorded(name) };
    let refusal = rung(&jumbo("mlx5"), Policy::default(), None).expect_err("one buffer").to_string();
    assert!(refusal.contains("ip link set"), "{refusal}");
    assert_eq!(rung(&jumbo("mlx5"), frags, None), Ok(Rung::Native));
    let refusal = rung(&jumbo("ixgbe"), frags, None).expect_err("a driver without pieces").to_string();
    assert!(refusal.contains("ip link set"), "{refusal}");

    let mut facts = jumbo("mlx5");
    facts.attached.push(AttachedProgram { id: 7, mode: AttachMode::Native });
    // Basic, redirect, NDO_XMIT, RX_SG; with NDO_XMIT_SG (`enum netdev_xdp_act`) as well.
    facts.xdp_features = Some(1 | 2 | 4 | 32);
    let one = abilities(&facts, AttachMode::Native, frags);
    assert!(one.ingress && !one.egress, "{one:?}");
    assert!(one.problem.is_some_and(|problem| problem.contains("in several buffers")));
    facts.xdp_features = Some(1 | 2 | 4 | 32 | 64);
    assert!(abilities(&facts, AttachMode::Native, frags).egress);
}

/// A NIC that strips tags hands the frames of a VLAN to XDP as if they had none: with a VLAN on top of the port
/// nothing that comes in there is forwarded until that is turned off.
#[test]
fn h19_ports_whose_tags_are_stripped_are_left_to_the_kernel() {
    let strip = |on| {
        let mut facts = recorded("mlx5");
        facts.attached.push(AttachedProgram { id: 7, mode: AttachMode::Native });
        let offloads = facts.offloads.get_or_insert_default();
        for name in [offload::RX_VLAN, offload::RX_VLAN_STAG] {
            offloads.insert(name.to_owned(), Offload { on, fixed: false });
        }
        facts.uppers.push(Upper { name: "eth0.5".to_owned(), kind: "vlan".to_owned() });
        abilities(&facts, AttachMode::Native, Policy::default())
    };
    let stripped = strip(true);
    assert!(!stripped.ingress, "{stripped:?}");
    assert!(stripped.problem.is_some_and(|problem| problem.contains("rxvlan off")));
    assert!(strip(false).ingress);
}
