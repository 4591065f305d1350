//! Tables of facts. The records are what `ethtool -i`, `-k` and `-l` and `bpftool`-style netdev queries
//! tell of these drivers in their common set-up, before a program is attached.

mod abilities;

use super::super::facts::{AttachedProgram, Channels, Master, Offload, Offloads, Peer, Upper, offload};
use super::*;

const NATIVE_ONLY: Policy = Policy { generic: false, frags: false };
const FRAGS: Policy = Policy { generic: false, frags: true };
const GENERIC: Policy = Policy { generic: true, frags: false };

macro_rules! recorded {
    ($($name:ident: $file:literal;)+) => {
        $(fn $name() -> DriverFacts {
            serde_json::from_str(include_str!(concat!("recorded/", $file))).expect("a record of facts")
        })+
    };
}

recorded! {
    mlx5: "mlx5.json";
    i40e: "i40e.json";
    ixgbe: "ixgbe.json";
    ena: "ena.json";
    virtio_net: "virtio_net.json";
    bnxt: "bnxt.json";
    veth: "veth.json";
}

/// Changes to a record.
trait With: Sized {
    fn with(self, change: impl FnOnce(&mut DriverFacts)) -> DriverFacts;
    fn offload(self, name: &str, on: bool, fixed: bool) -> DriverFacts;
}

impl With for DriverFacts {
    fn with(mut self, change: impl FnOnce(&mut DriverFacts)) -> DriverFacts {
        change(&mut self);
        self
    }

    fn offload(self, name: &str, on: bool, fixed: bool) -> DriverFacts {
        self.with(|facts| {
            facts.offloads.get_or_insert_default().insert(name.to_owned(), Offload { on, fixed });
        })
    }
}

fn kind(kind: &str) -> DriverFacts {
    mlx5().with(|facts| facts.kind = Some(kind.to_owned()))
}

fn running(facts: DriverFacts, id: u32, mode: AttachMode) -> DriverFacts {
    facts.with(|facts| facts.attached.push(AttachedProgram { id, mode }))
}

/// The facts after our program was attached in the driver: those drivers transmit then.
fn attached(facts: DriverFacts) -> DriverFacts {
    let facts = facts.with(|facts| facts.xdp_features = facts.xdp_features.map(|bits| bits | 4 | 64));
    running(facts, 76, AttachMode::Native)
}

fn upper(facts: DriverFacts, name: &str, kind: &str) -> DriverFacts {
    facts.with(|facts| facts.uppers.push(Upper { name: name.to_owned(), kind: kind.to_owned() }))
}

fn master(kind: &str, name: &str, vlan_filtering: bool) -> DriverFacts {
    let master = Master { ifindex: 9, name: name.to_owned(), kind: Some(kind.to_owned()), vlan_filtering };
    mlx5().with(|facts| facts.master = Some(master))
}

/// A veth whose other end is in the same namespace and finishes its packets itself.
fn quiet_veth() -> DriverFacts {
    let offloads: Offloads =
        offload::ALL.iter().map(|name| ((*name).to_owned(), Offload { on: false, fixed: false })).collect();
    let channels = Some(Channels { rx: 4, tx: 4, ..Channels::default() });
    veth().with(|facts| {
        facts.max_mtu = VETH_MAX_MTU_WITHOUT_PROGRAM;
        facts.xdp_features = Some(0);
        facts.peer = Some(Peer { name: "e1".to_owned(), channels, offloads: Some(offloads) });
    })
}

/// What comes of the ladder: "native", "generic", or a part of the refusal.
fn check_rung(name: &str, facts: &DriverFacts, policy: Policy, ours: Option<u32>, expected: &str) {
    match (rung(facts, policy, ours), expected) {
        (Ok(Rung::Native), "native") | (Ok(Rung::Generic(_)), "generic") => {}
        (Err(refusal), part) if refusal.to_string().contains(part) => {}
        (got, _) => panic!("{name}: expected {expected:?}, got {got:?}"),
    }
}

#[test]
fn every_recorded_driver_runs_native_as_it_comes() {
    for facts in [mlx5(), i40e(), ixgbe(), ena(), virtio_net(), bnxt(), veth()] {
        for policy in [NATIVE_ONLY, FRAGS, GENERIC] {
            check_rung(&facts.name, &facts, policy, None, "native");
        }
    }
}

#[test]
fn set_up_that_the_driver_refuses_is_named_with_the_remedy() {
    let combined = |facts: DriverFacts, combined| {
        facts.with(|facts| facts.channels.get_or_insert_default().combined = combined)
    };
    let mtu = |facts: DriverFacts, mtu| facts.with(|facts| facts.mtu = mtu);
    let cases: &[(&str, DriverFacts, Policy, &str)] = &[
        (
            "mlx5 with LRO",
            mlx5().offload("rx-lro", true, false),
            NATIVE_ONLY,
            "`ethtool -K enp65s0f0np0 lro off`",
        ),
        ("LRO for ever", mlx5().offload("rx-lro", true, true), NATIVE_ONLY, "cannot be turned off"),
        ("mlx5 with GRO in hardware", mlx5().offload("rx-gro-hw", true, false), FRAGS, "rx-gro-hw off"),
        (
            "bnxt with GRO in hardware",
            bnxt().offload("rx-gro-hw", true, false),
            FRAGS,
            "`ethtool -K ens2f0np0 rx-gro-hw off`",
        ),
        (
            "virtio, guest offloads that stay",
            virtio_net().offload("rx-gro-hw", true, true),
            NATIVE_ONLY,
            "ctrl_guest_offloads=on",
        ),
        ("mlx5, one page", mtu(mlx5(), 3498), NATIVE_ONLY, "native"),
        (
            "mlx5, jumbo frames",
            mtu(mlx5(), 9000),
            NATIVE_ONLY,
            "above the 3498 bytes that fit into one buffer",
        ),
        ("mlx5, jumbo frames in pieces", mtu(mlx5(), 9000), FRAGS, "native"),
        ("ixgbe, jumbo frames in pieces", mtu(ixgbe(), 9000), FRAGS, "`ip link set eno1 mtu 3050`"),
        ("i40e, jumbo frames", mtu(i40e(), 9000), NATIVE_ONLY, "3046"),
        ("i40e, jumbo frames in pieces", mtu(i40e(), 9000), FRAGS, "native"),
        ("ena, jumbo frames of AWS", mtu(ena(), 9001), FRAGS, "`ip link set ens5 mtu 3498`"),
        ("virtio, jumbo frames", mtu(virtio_net(), 9000), NATIVE_ONLY, "3506"),
        ("bnxt, jumbo frames", mtu(bnxt(), 9000), NATIVE_ONLY, "3502"),
        ("ena, all channels", combined(ena(), 8), NATIVE_ONLY, "`ethtool -L ens5 combined 4`"),
        (
            "bnxt, separate channels",
            bnxt().with(|facts| {
                facts.channels =
                    Some(Channels { rx: 8, tx: 8, max_rx: 37, max_tx: 74, ..Channels::default() });
            }),
            NATIVE_ONLY,
            "`ethtool -L ens2f0np0 rx 0 tx 0 combined 8`",
        ),
        (
            "veth short of queues, peer in sight",
            quiet_veth(),
            NATIVE_ONLY,
            "it has 1 receive queues and its peer e1 has 4 transmit queues",
        ),
        (
            "veth short of queues",
            veth().with(|facts| facts.xdp_features = Some(0)),
            NATIVE_ONLY,
            "fewer receive queues than its peer",
        ),
        (
            "no native mode",
            ixgbe().with(|facts| facts.xdp_features = Some(0)),
            NATIVE_ONLY,
            "has no native XDP",
        ),
        ("features unknown", ixgbe().with(|facts| facts.xdp_features = None), NATIVE_ONLY, "native"),
        (
            "everything unknown",
            DriverFacts { ethernet: true, mtu: 9000, name: "eth0".to_owned(), ..DriverFacts::default() },
            NATIVE_ONLY,
            "native",
        ),
    ];
    for (name, facts, policy, expected) in cases {
        check_rung(name, facts, *policy, None, expected);
    }
}

#[test]
fn devices_on_top_of_others_and_their_ports_are_refused() {
    for refused in
        ["bond", "team", "bridge", "vlan", "macsec", "macvlan", "ipvlan", "dummy", "vrf", "vxlan", "netkit"]
    {
        check_rung(refused, &kind(refused), GENERIC, None, &format!("is a {refused} device, "));
        check_rung(refused, &kind(refused), GENERIC, None, "datapath.ports");
    }
    let cases: &[(&str, DriverFacts, &str)] = &[
        ("a bond", kind("bond"), "give each uplink an address and a route of its own"),
        ("a macvlan", kind("macvlan"), "name that device in datapath.ports instead"),
        ("a kind we do not know", kind("newdev"), "native"),
        ("loopback", mlx5().with(|facts| facts.loopback = true), "not an Ethernet interface"),
        ("a tun", kind("tun").with(|facts| facts.ethernet = false), "not an Ethernet interface"),
        ("a tap", kind("tun"), "native"),
        (
            "a bond's port",
            master("bond", "bond0", false),
            "a port of interface number 9 (bond bond0), by which",
        ),
        ("a team's port", master("team", "team0", false), "(team team0)"),
        ("a bridge's port", master("bridge", "br0", false), "(bridge br0), which switches its packets:"),
        ("a port of a filtering bridge", master("bridge", "br0", true), "filters them by VLAN"),
        ("a VRF's port", master("vrf", "blue", false), "whose routing table its packets are looked up in"),
        (
            "a port of what cannot be read",
            mlx5().with(|facts| facts.master = Some(Master { ifindex: 9, ..Master::default() })),
            "a port of interface number 9 (bridge, bond or VRF)",
        ),
    ];
    for (name, facts, expected) in cases {
        check_rung(name, facts, NATIVE_ONLY, None, expected);
    }
}

#[test]
fn foreign_programs_are_never_displaced() {
    use AttachMode::{Generic, Hardware, Native};
    let mut cases = Vec::new();
    for mode in [Native, Generic, Hardware] {
        let text = format!("already runs XDP program 77 in {} mode", mode.label());
        // By link or netlink, by libxdp's dispatcher: all of them are programs with an id.
        cases.push(("a foreign program", running(mlx5(), 77, mode), None, text.clone()));
        cases.push(("beside a defunct link of ours", running(mlx5(), 77, mode), Some(76), text.clone()));
        let beside = running(running(mlx5(), 76, Native), 77, mode);
        cases.push(("beside ours", beside, Some(76), text));
    }
    cases.push(("our own", running(mlx5(), 76, Native), Some(76), "native".to_owned()));
    let late = attached(mlx5()).offload("rx-lro", true, false);
    cases.push(("our own, LRO since", late, Some(76), "native".to_owned()));
    for (name, facts, ours, expected) in cases {
        for policy in [NATIVE_ONLY, GENERIC] {
            check_rung(name, &facts, policy, ours, &expected);
        }
    }
}

#[test]
fn generic_mode_only_where_it_is_allowed_and_exact() {
    let without_native = |facts: DriverFacts| facts.with(|facts| facts.xdp_features = Some(0));
    let plain = |facts: DriverFacts| {
        let facts = without_native(facts).offload("rx-gro", false, false);
        facts.offload("rx-vlan-hw-parse", false, false).offload("rx-vlan-stag-hw-parse", false, false)
    };
    let peer_offload = |name: &str| {
        quiet_veth().with(|facts| {
            let offloads = facts.peer.as_mut().and_then(|peer| peer.offloads.as_mut()).expect("a peer");
            offloads.insert(name.to_owned(), Offload { on: true, fixed: false });
        })
    };
    let cases: &[(&str, DriverFacts, Policy, &str)] = &[
        ("not allowed", plain(ixgbe()), NATIVE_ONLY, "has no native XDP"),
        ("nothing joins or strips", plain(ixgbe()), GENERIC, "generic"),
        (
            "as NICs come",
            without_native(ixgbe()),
            GENERIC,
            "has no native XDP; generic mode would not do what the kernel does: needs `ethtool -K eno1 gro off rxvlan off`",
        ),
        ("LRO", plain(ixgbe()).offload("rx-lro", true, false), GENERIC, "lro off"),
        ("GRO in hardware", plain(bnxt()).offload("rx-gro-hw", true, false), GENERIC, "rx-gro-hw off"),
        (
            "offloads unknown",
            plain(ixgbe()).with(|facts| facts.offloads = None),
            GENERIC,
            "offloads of eno1 are unknown",
        ),
        ("a tap", without_native(kind("tun")), GENERIC, "whose sender may leave packets unfinished"),
        ("a veth, peer out of sight", without_native(veth()), GENERIC, "in another namespace"),
        ("a veth whose peer finishes its packets", quiet_veth(), GENERIC, "generic"),
        ("a peer with TSO", peer_offload("tx-tcp-segmentation"), GENERIC, "`ethtool -K e1 tso off`"),
        (
            "a peer with partial checksums",
            peer_offload("tx-checksum-ip-generic"),
            GENERIC,
            "`ethtool -K e1 tx off`",
        ),
        ("a peer with hidden tags", peer_offload("tx-vlan-hw-insert"), GENERIC, "`ethtool -K e1 txvlan off`"),
        (
            "jumbo frames",
            plain(ixgbe()).with(|facts| {
                facts.xdp_features = Some(3);
                facts.mtu = 9000;
            }),
            GENERIC,
            "generic",
        ),
    ];
    for (name, facts, policy, expected) in cases {
        check_rung(name, facts, *policy, None, expected);
    }
}

#[test]
fn facts_survive_their_record() {
    for facts in [
        mlx5(),
        running(quiet_veth(), 7, AttachMode::Generic),
        upper(ena(), "v", "vlan"),
        master("vrf", "b", false),
    ] {
        let text = serde_json::to_string(&facts).expect("a record");
        assert_eq!(serde_json::from_str::<DriverFacts>(&text).expect("a record"), facts);
    }
}
