//! What attached ports may be used for.

use super::*;

type Case = (&'static str, DriverFacts, AttachMode, Policy, (bool, bool, bool), Option<&'static str>);

fn check_abilities(cases: &[Case]) {
    for (name, facts, mode, policy, (ingress, egress, tx), problem) in cases {
        let got = abilities(facts, *mode, *policy);
        assert_eq!((got.ingress, got.egress, got.tx), (*ingress, *egress, *tx), "{name}: {got:?}");
        match (problem, &got.problem) {
            (None, None) => {}
            (Some(part), Some(text)) => assert!(text.contains(part), "{name}: {text}"),
            _ => panic!("{name}: expected {problem:?}, got {:?}", got.problem),
        }
    }
}

#[test]
fn abilities_follow_the_driver() {
    use AttachMode::Native;
    let all = (true, true, true);
    let cpus = |facts: DriverFacts, cpus| facts.with(|facts| facts.cpus = cpus);
    let features = |facts: DriverFacts, bits| facts.with(|facts| facts.xdp_features = Some(bits));
    let jumbo = |facts: DriverFacts| facts.with(|facts| facts.mtu = 9000);
    check_abilities(&[
        ("mlx5", attached(mlx5()), Native, FRAGS, all, None),
        ("i40e", attached(i40e()), Native, FRAGS, all, None),
        ("ixgbe", attached(ixgbe()), Native, NATIVE_ONLY, all, None),
        ("ena", attached(ena()), Native, NATIVE_ONLY, all, None),
        ("virtio", attached(virtio_net()), Native, NATIVE_ONLY, all, None),
        ("bnxt", attached(bnxt()), Native, NATIVE_ONLY, all, None),
        (
            "no transmission",
            features(i40e(), 3),
            Native,
            NATIVE_ONLY,
            (true, false, true),
            Some("does not transmit"),
        ),
        (
            "no redirect",
            features(i40e(), 1),
            Native,
            NATIVE_ONLY,
            (false, false, true),
            Some("cannot redirect"),
        ),
        (
            "an old kernel",
            mlx5().with(|facts| facts.xdp_features = None),
            Native,
            NATIVE_ONLY,
            (false, false, false),
            Some("6.3"),
        ),
        (
            "a port of a bridge since",
            attached(master("bridge", "br0", false)),
            Native,
            NATIVE_ONLY,
            (false, false, false),
            Some("a port of interface number 9"),
        ),
        (
            "mlx5 with fewer channels than CPUs",
            cpus(attached(mlx5()), 32),
            Native,
            NATIVE_ONLY,
            (true, false, true),
            Some("`ethtool -L enp65s0f0np0 combined 32`"),
        ),
        (
            "i40e with more CPUs than it has channels",
            cpus(attached(i40e()), 64),
            Native,
            NATIVE_ONLY,
            (true, false, true),
            Some("at most 16 channels"),
        ),
        ("ixgbe shares queues", cpus(attached(ixgbe()), 128), Native, NATIVE_ONLY, all, None),
        ("jumbo frames in pieces", jumbo(attached(mlx5())), Native, FRAGS, all, None),
        (
            "jumbo frames in pieces, not sent",
            features(jumbo(attached(mlx5())), 1 | 2 | 4 | 32),
            Native,
            FRAGS,
            (true, false, true),
            Some("in several buffers"),
        ),
        (
            "LRO since",
            attached(mlx5()).offload("rx-lro", true, false),
            Native,
            FRAGS,
            (false, true, true),
            Some("lro off"),
        ),
    ]);
}

#[test]
fn hidden_tags_keep_packets_in_the_kernel() {
    use AttachMode::Native;
    let left = (false, true, true);
    let all = (true, true, true);
    let stripping = |on| attached(mlx5()).offload("rx-vlan-hw-parse", on, false);
    let promiscuous = |facts: DriverFacts| facts.with(|facts| facts.promiscuous = true);
    let vlan = |facts| upper(facts, "eth0.7", "vlan");
    let quiet = attached(quiet_veth().with(|facts| {
        facts.xdp_features = Some(3);
        facts.max_mtu = 3506;
    }));
    check_abilities(&[
        ("filtered by VLAN", stripping(true), Native, NATIVE_ONLY, all, None),
        (
            "a VLAN on top",
            vlan(stripping(true)),
            Native,
            NATIVE_ONLY,
            left,
            Some(
                "eth0.7 is on top of it, and the device takes tags off before XDP sees them: `ethtool -K enp65s0f0np0 rxvlan off`",
            ),
        ),
        ("a VLAN on top, tags in the frame", vlan(stripping(false)), Native, NATIVE_ONLY, all, None),
        ("promiscuous", promiscuous(stripping(true)), Native, NATIVE_ONLY, left, Some("it is promiscuous")),
        ("promiscuous, tags in the frame", promiscuous(stripping(false)), Native, NATIVE_ONLY, all, None),
        (
            "no filter",
            stripping(true).offload("rx-vlan-filter", false, false),
            Native,
            NATIVE_ONLY,
            left,
            Some("does not filter by VLAN"),
        ),
        (
            "service tags",
            vlan(stripping(false).offload("rx-vlan-stag-hw-parse", true, false)),
            Native,
            NATIVE_ONLY,
            left,
            Some("rx-vlan-stag-hw-parse off"),
        ),
        ("a veth with a VLAN on top", vlan(attached(veth())), Native, NATIVE_ONLY, left, Some("eth0.7")),
        ("a veth, the peer inserts tags", vlan(quiet), Native, NATIVE_ONLY, all, None),
        (
            "MACsec in the device",
            upper(attached(mlx5()).offload("macsec-hw-offload", true, false), "macsec0", "macsec"),
            Native,
            NATIVE_ONLY,
            left,
            Some("the device decrypts for macsec0"),
        ),
        ("MACsec in the stack", upper(attached(mlx5()), "macsec0", "macsec"), Native, NATIVE_ONLY, all, None),
        ("a macvlan on top", upper(attached(mlx5()), "mv0", "macvlan"), Native, NATIVE_ONLY, all, None),
        (
            "an ipvlan on top",
            upper(attached(mlx5()), "iv0", "ipvlan"),
            Native,
            NATIVE_ONLY,
            left,
            Some("iv0"),
        ),
        (
            "a tap with offload headers",
            attached(kind("tun")).with(|facts| facts.tap_vnet_header = Some(true)),
            Native,
            NATIVE_ONLY,
            left,
            Some("vnet_hdr"),
        ),
    ]);
}

#[test]
fn abilities_of_a_veth_follow_its_peer() {
    use AttachMode::Native;
    let veth = |max_mtu, bits| {
        veth().with(|facts| {
            facts.max_mtu = max_mtu;
            facts.xdp_features = Some(bits);
        })
    };
    let all = (true, true, true);
    check_abilities(&[
        ("program on the peer", veth(3506, 7), Native, NATIVE_ONLY, all, None),
        ("program with fragments", veth(73_138, 7), Native, NATIVE_ONLY, all, None),
        ("GRO on the peer", veth(65_535, 7), Native, NATIVE_ONLY, (true, true, false), None),
        ("plain peer", veth(65_535, 3), Native, NATIVE_ONLY, (true, false, false), Some("the peer of e0")),
    ]);
}

#[test]
fn abilities_in_generic_mode() {
    use AttachMode::Generic;
    let nic = ixgbe().offload("rx-gro", false, false).offload("rx-vlan-hw-parse", false, false);
    let since = nic.clone().offload("rx-gro", true, false);
    let veth = |bits| quiet_veth().with(|facts| facts.xdp_features = Some(bits));
    check_abilities(&[
        ("a NIC hairpins", nic, Generic, GENERIC, (true, false, true), Some("takes no redirected frames")),
        ("GRO since", since, Generic, GENERIC, (false, false, true), Some("`ethtool -K eno1 gro off`")),
        ("a veth", veth(4), Generic, GENERIC, (true, true, true), None),
        ("a veth with a plain peer", veth(0), Generic, GENERIC, (true, false, true), Some("the peer of e0")),
    ]);
}

#[test]
fn what_is_unknown_is_said() {
    let facts = mlx5().with(|facts| {
        facts.offloads = None;
        facts.channels = None;
    });
    let got = abilities(&attached(facts), AttachMode::Native, NATIVE_ONLY);
    assert_eq!(got.problem, None);
    assert_eq!(got.notes, ["not known and taken for suitable: offloads, channels"]);
    let got =
        abilities(&attached(virtio_net().with(|facts| facts.cpus = 8)), AttachMode::Native, NATIVE_ONLY);
    assert!(got.notes[0].contains("shares transmit queues"), "{got:?}");
    let got = abilities(&attached(mlx5()), AttachMode::Native, NATIVE_ONLY);
    assert_eq!(got.notes, [] as [&str; 0]);
}
