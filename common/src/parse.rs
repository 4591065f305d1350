//! Header layouts and the checks that a frame must pass before it may be forwarded.
//!
//! Every function looks at a header of fixed size that the caller has bounds-checked: no pointer
//! arithmetic, no loops, nothing that can fail in the verifier.

mod ipv4;
mod ipv6;

pub(crate) use self::ipv4::words;
pub use self::ipv4::{IPV4_CHECKSUM, IPV4_LEN, IPV4_TTL, Ipv4};
pub use self::ipv6::{IPV6_HOP_LIMIT, IPV6_LEN, Ipv6};
use crate::fib::{Lookup, TargetId, ViewId};
use crate::reason::Reason;

/// Length of an untagged Ethernet header.
pub const ETHERNET_LEN: usize = 14;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;

/// `AF_INET` and `AF_INET6` of Linux.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
}

/// What an untagged Ethernet frame carries, by its type.
///
/// # Errors
/// The reason for leaving the frame to the kernel.
#[inline(always)]
pub const fn family(header: &[u8; ETHERNET_LEN]) -> Result<Family, Reason> {
    match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_IPV4 => Ok(Family::Ipv4),
        ETHERTYPE_IPV6 => Ok(Family::Ipv6),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(Reason::Vlan),
        _ => Err(Reason::NotIp),
    }
}

/// Checks that a frame is addressed to `own`, the port's address.
///
/// The kernel forwards only `PACKET_HOST` (`ip_forward`, `ip6_forward`), and so never a broadcast or a
/// frame that came in by promiscuity.
///
/// # Errors
/// [`Reason::NotForUs`].
#[inline(always)]
pub fn addressed_to(header: &[u8; ETHERNET_LEN], own: &[u8; 6]) -> Result<(), Reason> {
    match header.first_chunk::<6>() {
        Some(destination) if destination == own => Ok(()),
        _ => Err(Reason::NotForUs),
    }
}

/// What the rest of the way needs to know of a packet that may be forwarded, of either family.
pub trait Packet: Copy {
    /// Length of the header, in bytes.
    const HEADER_LEN: usize;
    /// Linux's number of the family.
    const ADDRESS_FAMILY: u8;

    /// Length of the packet, header included, in bytes.
    fn total_length(&self) -> u32;

    /// Protocol number of the payload; 0 where extension headers hide it.
    fn protocol(&self) -> u8;

    /// What `struct bpf_fib_lookup` takes beside the addresses: type of service (IPv4), or traffic class
    /// and flow label as they lie in the header's first word (IPv6).
    fn flow_information(&self) -> u32;

    /// Source and destination as they lie in memory, an IPv4 address in the first of its four words.
    fn address_words(&self) -> [[u32; 4]; 2];

    /// Whether source and destination port follow the header.
    fn has_ports(&self) -> bool;

    /// Hash of the flow that the packet belongs to. `ports` are the four bytes after the header, zero
    /// unless [`Self::has_ports`].
    fn flow_hash(&self, ports: [u8; 4]) -> u32;

    /// Longest match of the destination.
    fn lookup_destination(&self, table: &impl Lookup, view: ViewId) -> Option<TargetId>;

    /// Longest match of the source.
    fn lookup_source(&self, table: &impl Lookup, view: ViewId) -> Option<TargetId>;
}

/// Whether a protocol's header begins with source and destination port: TCP, UDP, DCCP, SCTP, UDP-Lite.
#[inline(always)]
const fn begins_with_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn frame(to: [u8; 6], ethertype: u16) -> [u8; ETHERNET_LEN] {
        let mut header = [0u8; ETHERNET_LEN];
        header[..6].copy_from_slice(&to);
        header[12..].copy_from_slice(&ethertype.to_be_bytes());
        header
    }

    #[test]
    fn families_by_ethernet_type() {
        for (name, ethertype, expected) in [
            ("ipv4", 0x0800, Ok(Family::Ipv4)),
            ("ipv6", 0x86dd, Ok(Family::Ipv6)),
            ("arp", 0x0806, Err(Reason::NotIp)),
            ("lldp", 0x88cc, Err(Reason::NotIp)),
            ("802.3 length", 46, Err(Reason::NotIp)),
            ("802.1q", 0x8100, Err(Reason::Vlan)),
            ("802.1ad", 0x88a8, Err(Reason::Vlan)),
        ] {
            assert_eq!(family(&frame(OWN, ethertype)), expected, "{name}");
        }
    }

    #[test]
    fn only_frames_to_the_port_itself() {
        for (name, to, expected) in [
            ("ours", OWN, Ok(())),
            ("last byte differs", [2, 0, 0, 0, 0, 2], Err(Reason::NotForUs)),
            ("first byte differs", [6, 0, 0, 0, 0, 1], Err(Reason::NotForUs)),
            ("multicast bit", [3, 0, 0, 0, 0, 1], Err(Reason::NotForUs)),
            ("broadcast", [0xff; 6], Err(Reason::NotForUs)),
        ] {
            assert_eq!(addressed_to(&frame(to, 0x0800), &OWN), expected, "{name}");
        }
    }
}
