//! Why a packet was forwarded or left to the kernel.
//!
//! One enum is the counter index, the metric label, the CLI text and the documentation table.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $label:literal;)+) => {
        /// The outcome for one packet. The discriminants are stored in maps: append, never renumber
        /// without a new [`crate::abi::ABI_VERSION`].
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Label in metrics, in the CLI and in JSON.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// One sentence for the operator.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The reason with this number, or `None`.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// Forwarded by `XDP_TX`: it leaves by the port it came in on.
    ForwardedTx = 0, "forwarded_tx";
    /// Forwarded by redirect to another port.
    ForwardedRedirect = 1, "forwarded_redirect";
    /// The kill switch is off (`underpass off`).
    Off = 2, "off";
    /// The agent has not renewed its lease.
    LeaseExpired = 3, "lease_expired";
    /// The packet came in on a port that is not managed.
    NotAPort = 4, "not_a_port";
    /// The port is managed, but packets from it are not accelerated.
    PortNotReady = 5, "port_not_ready";
    /// The frame, or the first of its buffers, is shorter than its headers.
    Truncated = 6, "truncated";
    /// The Ethernet destination is not the port's own address.
    NotForUs = 7, "not_for_us";
    /// 802.1Q or 802.1ad tag.
    Vlan = 8, "vlan";
    /// Not IP (ARP, LLDP, ...).
    NotIp = 9, "not_ip";
    /// IPv6 hop-by-hop options: the kernel has to process them.
    HopByHop = 10, "hop_by_hop";
    /// Wrong IP version or header length, or a length that the frame does not hold.
    BadHeader = 11, "bad_header";
    /// IPv4 options: the kernel has to process them.
    IpOptions = 12, "ip_options";
    /// Wrong IPv4 header checksum: the kernel drops and counts it.
    BadChecksum = 13, "bad_checksum";
    /// The destination is multicast, broadcast, loopback, link-local or otherwise never forwarded to.
    NotUnicast = 14, "not_unicast";
    /// The source is multicast, broadcast, loopback, link-local or otherwise not one of a forwarded packet.
    MartianSource = 15, "martian_source";
    /// TTL or hop limit of 0 or 1: the kernel sends ICMP time exceeded.
    TtlExpired = 16, "ttl_expired";
    /// No prefix of the table matches the destination.
    NoRoute = 17, "no_route";
    /// The destination is outside the `accelerate` ranges.
    NotAccelerated = 18, "not_accelerated";
    /// The destination is a local address, a broadcast address or a local pod.
    Local = 19, "local";
    /// The destination lies in a connected subnet and is no resolved neighbour.
    Connected = 20, "connected";
    /// The route is a blackhole, unreachable or prohibit route.
    Refused = 21, "refused";
    /// The route needs something that the fast path does not do (encapsulation, TOS, `from` rules).
    Unsupported = 22, "unsupported";
    /// The destination lies in a service range that is left to kube-proxy.
    Service = 23, "service";
    /// Every next hop of the route leaves by an interface that is not a managed port.
    EgressNotManaged = 24, "egress_not_managed";
    /// The next hop's neighbour is not resolved, or its port is down.
    NextHopNotLive = 25, "next_hop_not_live";
    /// The packet is longer than the next hop's MTU.
    TooBig = 26, "too_big";
    /// The source is one of our own addresses, a broadcast address or a refused prefix.
    SourceInvalid = 27, "source_invalid";
    /// No route back to the source by the ingress port, and `rp_filter` asks for one.
    SourceReversePath = 28, "source_reverse_path";
    /// The packet leaves by its ingress port and the source is on-link: the kernel sends a redirect.
    WouldRedirect = 29, "would_redirect";
    /// The frame's padding could not be trimmed.
    PaddingNotTrimmed = 30, "padding_not_trimmed";
    /// The tables contradict each other (a target or row index out of range).
    TableInconsistent = 31, "table_inconsistent";
    /// The destination or the source is covered by a prefix that did not fit into the tables.
    TableFull = 32, "table_full";
    /// A rule of the kernel (netfilter, XFRM, tc) could decide about packets from this port.
    KernelRule = 33, "kernel_rule";
    /// IPv6 payload length of 0: a jumbogram, or nothing but headers.
    Jumbogram = 34, "jumbogram";
    /// The frame lies in several buffers, which the egress port does not transmit.
    MultiBuffer = 35, "multi_buffer";
}

impl Reason {
    /// Whether the packet was forwarded by XDP.
    pub const fn is_forwarded(self) -> bool {
        matches!(self, Self::ForwardedTx | Self::ForwardedRedirect)
    }
}

const _: () = assert!(Reason::ALL.len() <= crate::abi::REASON_SLOTS as usize);

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::*;

    #[test]
    fn documentation_lists_every_reason() {
        let page = include_str!("../../docs/packet-path.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.label(), reason.description());
            assert!(page.lines().any(|line| line == row), "docs/packet-path.md lacks: {row}");
        }
    }

    #[test]
    fn numbers_are_dense_and_labels_differ() {
        for (number, reason) in (0..).zip(Reason::ALL) {
            assert_eq!(*reason as u32, number);
            assert_eq!(Reason::from_number(number), Some(*reason));
            assert!(!Reason::ALL.iter().any(|other| other != reason && other.label() == reason.label()));
        }
        assert_eq!(Reason::from_number(u32::try_from(Reason::ALL.len()).unwrap()), None);
    }
}
