//! What a port can do for XDP, decided from facts before and after attaching. Pure.

/// `NETDEV_XDP_ACT_*` of include/uapi/linux/netdev.h.
pub mod xdp_feature {
    /// Driver mode with `XDP_PASS`, `XDP_DROP` and `XDP_TX`.
    pub const BASIC: u64 = 1;
    /// The driver carries out `XDP_REDIRECT`.
    pub const REDIRECT: u64 = 2;
    /// The driver transmits frames that are redirected to it.
    pub const NDO_XMIT: u64 = 4;
}

/// Largest MTU of a veth whose peer runs no XDP program in the driver (`ETH_MAX_MTU`).
///
/// `veth_xdp_set` lowers the *peer's* limit when a program is attached and sets it back to this
/// when it is removed (drivers/net/veth.c): the one trace of the peer's program that can be seen
/// from this end, also across a namespace boundary. GRO on the peer sets `NDO_XMIT` just as a
/// program does, but leaves the limit alone.
const VETH_MAX_MTU_WITHOUT_PROGRAM: u32 = 65_535;

/// Kinds of devices on top of others: XDP runs, if at all, on what is below, and the interface index
/// that the program sees is another than the one the kernel routes by.
const REFUSED_KINDS: &[&str] = &[
    "bond",
    "bareudp",
    "bridge",
    "dummy",
    "erspan",
    "geneve",
    "gre",
    "gretap",
    "ifb",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "ipvlan",
    "ipvtap",
    "macsec",
    "macvlan",
    "macvtap",
    "netkit",
    "sit",
    "team",
    "vcan",
    "vlan",
    "vrf",
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
    "xfrm",
];

/// How a program is attached (`IFLA_XDP_ATTACHED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the stack, after the packet buffer was allocated.
    Generic,
    /// In the device.
    Hardware,
    /// In several of them.
    Multiple,
}

/// A program that is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// The kernel's id of the program (`bpftool prog show id N`); 0 when several are attached.
    pub id: u32,
    /// Where it runs.
    pub mode: AttachMode,
}

/// What the kernel tells about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverFacts {
    /// Index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND`, or `None` for a device with hardware of its own.
    pub kind: Option<String>,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// Has a six-byte hardware address.
    pub ethernet: bool,
    /// `IFLA_MASTER`: the bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Largest MTU that the driver takes, in bytes; 0 when it sets no limit.
    pub max_mtu: u32,
    /// [`xdp_feature`] bits, or `None` on a kernel that does not report them (before 6.3).
    pub xdp_features: Option<u64>,
    /// XDP program on the interface.
    pub attached: Option<AttachedProgram>,
}

/// Why a program cannot be attached to a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A virtual device on top of another.
    #[error("{name} is a {kind} device: name the port below it in datapath.ports instead")]
    Kind {
        /// Interface.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// Loopback, or a device without Ethernet addresses.
    #[error("{name} is not an Ethernet interface: take it out of datapath.ports")]
    NotEthernet {
        /// Interface.
        name: String,
    },
    /// A port of a bridge, bond or VRF: the kernel routes by the master, not by the port.
    #[error(
        "{name} is a port of interface number {master} (bridge, bond or VRF), which decides about its \
         packets: take {name} out of datapath.ports"
    )]
    Enslaved {
        /// Interface.
        name: String,
        /// Its master.
        master: u32,
    },
    /// Somebody else's program.
    #[error(
        "{name} already runs XDP program {id} in {mode} mode, which is not ours and is left alone: \
         see `bpftool prog show id {id}`, detach it or take {name} out of datapath.ports"
    )]
    Occupied {
        /// Interface.
        name: String,
        /// Program id.
        id: u32,
        /// "driver", "generic", "hardware" or "multiple".
        mode: &'static str,
    },
    /// No native mode.
    #[error(
        "the driver of {name} has no native XDP{why}: generic mode is slower than the kernel and \
         not used; take {name} out of datapath.ports"
    )]
    NoNativeXdp {
        /// Interface.
        name: String,
        /// What takes it away, if that is known.
        why: &'static str,
    },
}

/// What an attached port can be used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Packets from it may be forwarded.
    pub ingress: bool,
    /// Frames may be redirected to it.
    pub egress: bool,
    /// `XDP_TX` works on it.
    pub tx: bool,
    /// What is missing and how to get it.
    pub problem: Option<String>,
}

/// Whether the program may be attached: `ours` is the id of the program that a link of ours runs on
/// the interface, if there is one.
///
/// # Errors
/// Why not, with the remedy.
pub fn may_attach(facts: &DriverFacts, ours: Option<u32>) -> Result<(), Refusal> {
    let name = || facts.name.clone();
    if let Some(kind) = facts.kind.as_deref().filter(|kind| REFUSED_KINDS.contains(kind)) {
        return Err(Refusal::Kind { name: name(), kind: kind.to_owned() });
    }
    if facts.loopback || !facts.ethernet {
        return Err(Refusal::NotEthernet { name: name() });
    }
    if let Some(master) = facts.master {
        return Err(Refusal::Enslaved { name: name(), master });
    }
    if let Some(program) = facts.attached
        && (Some(program.id) != ours || program.mode != AttachMode::Native)
    {
        let mode = match program.mode {
            AttachMode::Native => "driver",
            AttachMode::Generic => "generic",
            AttachMode::Hardware => "hardware",
            AttachMode::Multiple => "multiple",
        };
        return Err(Refusal::Occupied { name: name(), id: program.id, mode });
    }
    if facts.xdp_features.is_some_and(|features| features & xdp_feature::BASIC == 0) {
        let why = if facts.kind.as_deref() == Some("veth") {
            " as long as it has fewer receive queues than its peer has transmit queues"
        } else {
            ""
        };
        return Err(Refusal::NoNativeXdp { name: name(), why });
    }
    Ok(())
}

/// What the port can do, from facts read *after* the program was attached: several drivers transmit
/// redirected frames only while they run a program themselves.
pub fn abilities(facts: &DriverFacts) -> Abilities {
    let name = &facts.name;
    let Some(features) = facts.xdp_features else {
        return Abilities {
            problem: Some(format!(
                "the kernel does not tell what the driver of {name} can do (Linux 6.3 does): it is not used"
            )),
            ..Abilities::default()
        };
    };
    if let Some(master) = facts.master {
        let name = name.clone();
        let problem = Some(Refusal::Enslaved { name, master }.to_string());
        return Abilities { problem, ..Abilities::default() };
    }
    let has = |bit| features & bit != 0;
    let veth = facts.kind.as_deref() == Some("veth");
    let egress = has(xdp_feature::NDO_XMIT);
    let tx = if veth {
        // veth_xdp_flush wakes the peer only when that runs a program; with GRO alone XDP_TX loses
        // the frames.
        egress && facts.max_mtu != VETH_MAX_MTU_WITHOUT_PROGRAM
    } else {
        has(xdp_feature::BASIC)
    };
    let ingress = has(xdp_feature::REDIRECT);
    let problem = if !ingress {
        Some(format!("the driver of {name} cannot redirect: packets from it are left to the kernel"))
    } else if egress {
        None
    } else if veth {
        Some(format!(
            "the peer of {name} takes no XDP frames: attach an XDP program that passes everything to \
             the peer, or turn GRO on there; until then nothing is forwarded to {name}"
        ))
    } else {
        Some(format!("the driver of {name} does not transmit XDP frames: nothing is forwarded to it"))
    };
    Abilities { ingress, egress, tx, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIC: u64 = 7;

    fn facts() -> DriverFacts {
        DriverFacts {
            ifindex: 5,
            name: "eth0".into(),
            kind: None,
            loopback: false,
            ethernet: true,
            master: None,
            mtu: 1500,
            max_mtu: 9000,
            xdp_features: Some(NIC),
            attached: None,
        }
    }

    fn veth(max_mtu: u32, features: u64) -> DriverFacts {
        DriverFacts { kind: Some("veth".into()), max_mtu, xdp_features: Some(features), ..facts() }
    }

    #[test]
    fn attaching_is_refused_with_the_remedy() {
        let program = |id, mode| Some(AttachedProgram { id, mode });
        let cases: &[(&str, DriverFacts, Option<u32>, Option<&str>)] = &[
            ("a plain port", facts(), None, None),
            ("a veth", veth(3506, NIC), None, None),
            ("unknown features", DriverFacts { xdp_features: None, ..facts() }, None, None),
            (
                "a bridge",
                DriverFacts { kind: Some("bridge".into()), ..facts() },
                None,
                Some("eth0 is a bridge device"),
            ),
            (
                "a bond",
                DriverFacts { kind: Some("bond".into()), ..facts() },
                None,
                Some("name the port below it"),
            ),
            ("a vlan", DriverFacts { kind: Some("vlan".into()), ..facts() }, None, Some("vlan")),
            ("loopback", DriverFacts { loopback: true, ..facts() }, None, Some("not an Ethernet")),
            ("a tunnel", DriverFacts { ethernet: false, ..facts() }, None, Some("not an Ethernet")),
            (
                "a bridge port",
                DriverFacts { master: Some(9), ..facts() },
                None,
                Some("a port of interface number 9"),
            ),
            (
                "a foreign program",
                DriverFacts { attached: program(77, AttachMode::Native), ..facts() },
                None,
                Some("already runs XDP program 77 in driver mode"),
            ),
            (
                "a foreign program where our link is defunct",
                DriverFacts { attached: program(77, AttachMode::Native), ..facts() },
                Some(76),
                Some("program 77"),
            ),
            (
                "a generic program",
                DriverFacts { attached: program(78, AttachMode::Generic), ..facts() },
                None,
                Some("in generic mode"),
            ),
            (
                "our own program",
                DriverFacts { attached: program(76, AttachMode::Native), ..facts() },
                Some(76),
                None,
            ),
            ("no native mode", DriverFacts { xdp_features: Some(0), ..facts() }, None, Some("no native XDP")),
            ("a veth short of queues", veth(65_535, 0), None, Some("receive queues")),
        ];
        for (name, facts, ours, expected) in cases {
            let got = may_attach(facts, *ours);
            match (expected, &got) {
                (None, Ok(())) => {}
                (Some(part), Err(refusal)) => {
                    assert!(refusal.to_string().contains(part), "{name}: {refusal}");
                }
                _ => panic!("{name}: expected {expected:?}, got {got:?}"),
            }
        }
    }

    #[test]
    fn abilities_follow_driver_and_peer() {
        type Case = (&'static str, DriverFacts, (bool, bool, bool), Option<&'static str>);
        let cases: &[Case] = &[
            ("a nic", facts(), (true, true, true), None),
            (
                "a nic that does not transmit",
                DriverFacts { xdp_features: Some(3), ..facts() },
                (true, false, true),
                Some("does not transmit"),
            ),
            (
                "a nic that does not redirect",
                DriverFacts { xdp_features: Some(1), ..facts() },
                (false, false, true),
                Some("cannot redirect"),
            ),
            (
                "an old kernel",
                DriverFacts { xdp_features: None, ..facts() },
                (false, false, false),
                Some("6.3"),
            ),
            (
                "a bridge port",
                DriverFacts { master: Some(9), ..facts() },
                (false, false, false),
                Some("a port of interface number 9"),
            ),
            ("a veth, program on the peer", veth(3506, NIC), (true, true, true), None),
            ("a veth, program with fragments", veth(73_138, NIC), (true, true, true), None),
            ("a veth, GRO on the peer", veth(65_535, NIC), (true, true, false), None),
            ("a veth, plain peer", veth(65_535, 3), (true, false, false), Some("the peer of eth0")),
        ];
        for (name, facts, (ingress, egress, tx), problem) in cases {
            let got = abilities(facts);
            assert_eq!((got.ingress, got.egress, got.tx), (*ingress, *egress, *tx), "{name}");
            match (problem, &got.problem) {
                (None, None) => {}
                (Some(part), Some(text)) => assert!(text.contains(part), "{name}: {text}"),
                _ => panic!("{name}: expected {problem:?}, got {:?}", got.problem),
            }
        }
    }
}
