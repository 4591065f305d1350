//! What the kernel tells about an interface: a record that can be printed, stored and judged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `NETDEV_XDP_ACT_*` of include/uapi/linux/netdev.h.
pub mod xdp_feature {
    /// Driver mode with `XDP_PASS`, `XDP_DROP` and `XDP_TX`.
    pub const BASIC: u64 = 1;
    /// The driver carries out `XDP_REDIRECT`.
    pub const REDIRECT: u64 = 2;
    /// The driver transmits frames that are redirected to it.
    pub const NDO_XMIT: u64 = 4;
    /// The driver hands frames in several buffers to programs that take them.
    pub const RX_SG: u64 = 32;
    /// The driver transmits redirected frames in several buffers.
    pub const NDO_XMIT_SG: u64 = 64;
}

/// Names of offloads as the kernel has them (`netdev_features_strings` of net/ethtool/common.c);
/// `ethtool -k` prints some of them differently.
pub mod offload {
    /// `ethtool -K IF lro`.
    pub const LRO: &str = "rx-lro";
    /// `ethtool -K IF gro`.
    pub const GRO: &str = "rx-gro";
    /// `ethtool -K IF rx-gro-hw`.
    pub const GRO_HW: &str = "rx-gro-hw";
    /// `ethtool -K IF rxvlan`.
    pub const RX_VLAN: &str = "rx-vlan-hw-parse";
    /// `ethtool -K IF rx-vlan-stag-hw-parse`.
    pub const RX_VLAN_STAG: &str = "rx-vlan-stag-hw-parse";
    /// `ethtool -K IF rx-vlan-filter`.
    pub const RX_VLAN_FILTER: &str = "rx-vlan-filter";
    /// `ethtool -K IF txvlan`.
    pub const TX_VLAN: &str = "tx-vlan-hw-insert";
    /// `ethtool -K IF gso`.
    pub const GSO: &str = "tx-generic-segmentation";
    /// `ethtool -K IF tso`.
    pub const TSO: &str = "tx-tcp-segmentation";
    /// `ethtool -K IF tx`.
    pub const TX_CHECKSUM: &str = "tx-checksum-ip-generic";
    /// `ethtool -K IF tx-checksum-sctp`.
    pub const TX_CHECKSUM_SCTP: &str = "tx-checksum-sctp";
    /// `ethtool -K IF macsec-hw-offload`.
    pub const MACSEC: &str = "macsec-hw-offload";
    /// All that are read.
    pub const ALL: &[&str] = &[
        LRO,
        GRO,
        GRO_HW,
        RX_VLAN,
        RX_VLAN_STAG,
        RX_VLAN_FILTER,
        TX_VLAN,
        GSO,
        TSO,
        TX_CHECKSUM,
        TX_CHECKSUM_SCTP,
        MACSEC,
    ];
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the stack, after the packet buffer was allocated.
    Generic,
    /// In the device.
    Hardware,
}

impl AttachMode {
    /// For sentences and for `underpass status`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Hardware => "hardware",
        }
    }
}

/// A program that is attached to an interface (`IFLA_XDP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttachedProgram {
    /// The kernel's id of the program (`bpftool prog show id N`).
    pub id: u32,
    /// Where it runs.
    pub mode: AttachMode,
}

/// The bridge, bond or VRF that an interface is a port of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Master {
    /// Index.
    pub ifindex: u32,
    /// Name; empty when it cannot be read.
    pub name: String,
    /// `IFLA_INFO_KIND`.
    pub kind: Option<String>,
    /// A bridge that filters by VLAN.
    pub vlan_filtering: bool,
}

/// `ethtool -l`; 0 where the driver has no channels of the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Channels {
    /// Receive only.
    pub rx: u32,
    /// Transmit only.
    pub tx: u32,
    /// Both.
    pub combined: u32,
    /// Most that the device has of each.
    pub max_rx: u32,
    /// See `max_rx`.
    pub max_tx: u32,
    /// See `max_rx`.
    pub max_combined: u32,
}

/// One line of `ethtool -k`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// Active.
    pub on: bool,
    /// Cannot be changed ("\[fixed\]").
    pub fixed: bool,
}

/// `ethtool -k` by the kernel's names, as far as preflight asks: see [`offload::ALL`].
pub type Offloads = BTreeMap<String, Offload>;

/// A device on top of the interface, as far as it lies in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upper {
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND`.
    pub kind: String,
}

/// The other end of a veth, when it lies in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Name.
    pub name: String,
    /// Its channels.
    pub channels: Option<Channels>,
    /// Its offloads: what it leaves for "hardware" to do arrives undone.
    pub offloads: Option<Offloads>,
}

/// What the kernel tells about an interface. What it does not tell (`None`) forbids nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "a record of independent facts")]
pub struct DriverFacts {
    /// Index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND`, or `None` for a device with hardware of its own.
    pub kind: Option<String>,
    /// `ethtool -i`.
    pub driver: Option<String>,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// Has a six-byte hardware address.
    pub ethernet: bool,
    /// `IFF_LOWER_UP`.
    pub carrier: bool,
    /// Takes frames of all destinations, by whomever that was asked for.
    pub promiscuous: bool,
    /// `IFLA_MASTER`.
    pub master: Option<Master>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Largest MTU that the driver takes, in bytes; 0 when it sets no limit.
    pub max_mtu: u32,
    /// [`xdp_feature`] bits, or `None` on a kernel that does not report them (before 6.3).
    pub xdp_features: Option<u64>,
    /// XDP programs on the interface; the kernel allows one each in the device and outside of it.
    pub attached: Vec<AttachedProgram>,
    /// `ethtool -l`.
    pub channels: Option<Channels>,
    /// One more than the highest number that a CPU can have; 0 when unknown.
    pub cpus: u32,
    /// `ethtool -k`.
    pub offloads: Option<Offloads>,
    /// Devices on top of it.
    pub uppers: Vec<Upper>,
    /// Other end of a veth.
    pub peer: Option<Peer>,
    /// `IFLA_TUN_VNET_HDR` of a tun or tap device: frames come with offload headers.
    pub tap_vnet_header: Option<bool>,
}

impl DriverFacts {
    /// An offload by its kernel name, or `None` when it is unknown.
    pub fn offload(&self, name: &str) -> Option<Offload> {
        self.offloads.as_ref()?.get(name).copied()
    }

    /// Whether an offload is known to be on.
    pub fn has_on(&self, name: &str) -> bool {
        self.offload(name).is_some_and(|offload| offload.on)
    }

    /// Whether the kernel reports the [`xdp_feature`] bit.
    pub fn can(&self, feature: u64) -> bool {
        self.xdp_features.is_some_and(|features| features & feature != 0)
    }

    /// `IFLA_INFO_KIND` is this.
    pub fn is_kind(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// What could not be found out, for people; empty when all is known.
    pub fn unknown(&self) -> Vec<&'static str> {
        [
            (self.driver.is_none(), "driver"),
            (self.xdp_features.is_none(), "xdp features"),
            (self.offloads.is_none(), "offloads"),
            (self.channels.is_none() && self.kind.is_none(), "channels"),
            (self.is_kind("veth") && self.peer.is_none(), "peer (in another namespace)"),
        ]
        .into_iter()
        .filter_map(|(unknown, what)| unknown.then_some(what))
        .collect()
    }
}
