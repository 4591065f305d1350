//! IPv4 headers without options.

use super::{AF_INET, Packet, begins_with_ports};
use crate::checksum;
use crate::fib::{Lookup, TargetId, ViewId};
use crate::flowhash::{Flow4, hash4};
use crate::reason::Reason;

/// Length of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Offset of the TTL in an IPv4 header.
pub const IPV4_TTL: usize = 8;
/// Offset of the checksum in an IPv4 header.
pub const IPV4_CHECKSUM: usize = 10;

/// More fragments, or a fragment offset: everything but "don't fragment" and the reserved bit.
const FRAGMENT_BITS: u32 = 0x3fff;

/// What the rest of the way needs to know of an IPv4 packet that may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Length of the packet, header included, in bytes.
    pub total_length: u32,
    /// Type of service byte (DSCP and ECN).
    pub tos: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Whether the packet is a fragment (the first one included).
    pub fragment: bool,
}

impl Ipv4 {
    /// Checks an IPv4 header that has `available` bytes of frame from its first byte on.
    ///
    /// Follows `ip_rcv_core` (version, header length, checksum, total length), `ip_route_input_slow`
    /// (martian addresses) and `ip_forward` (TTL), in the kernel's order. It refuses a little more than the
    /// kernel: options, class E and link-local addresses are left to it.
    ///
    /// # Errors
    /// The reason for leaving the packet to the kernel.
    #[inline(always)]
    pub fn check(header: &[u8; IPV4_LEN], available: usize) -> Result<Self, Reason> {
        let [w0, w1, w2, source, destination] = words(header).map(u32::from_be);
        if w0 >> 24 != 0x45 {
            return Err(match w0 >> 24 {
                0x46..=0x4f => Reason::IpOptions,
                _ => Reason::BadHeader,
            });
        }
        if !checksum::ipv4_header_is_valid(header) {
            return Err(Reason::BadChecksum);
        }
        let total_length = w0 & 0xffff;
        if (total_length as usize) < IPV4_LEN || total_length as usize > available {
            return Err(Reason::BadHeader);
        }
        if !is_routable(source) {
            return Err(Reason::MartianSource);
        }
        if !is_routable(destination) {
            return Err(Reason::NotUnicast);
        }
        if w2 >> 24 <= 1 {
            return Err(Reason::TtlExpired);
        }
        Ok(Self {
            source: source.to_be_bytes(),
            destination: destination.to_be_bytes(),
            total_length,
            tos: w0.to_be_bytes()[1],
            protocol: w2.to_be_bytes()[1],
            fragment: w1 & FRAGMENT_BITS != 0,
        })
    }
}

impl Packet for Ipv4 {
    const HEADER_LEN: usize = IPV4_LEN;
    const ADDRESS_FAMILY: u8 = AF_INET;

    #[inline(always)]
    fn total_length(&self) -> u32 {
        self.total_length
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn flow_information(&self) -> u32 {
        u32::from(self.tos)
    }

    #[inline(always)]
    fn address_words(&self) -> [[u32; 4]; 2] {
        [self.source, self.destination].map(|address| [u32::from_ne_bytes(address), 0, 0, 0])
    }

    /// A fragment has none that could be told apart from its payload.
    #[inline(always)]
    fn has_ports(&self) -> bool {
        !self.fragment && begins_with_ports(self.protocol) && self.total_length as usize >= IPV4_LEN + 4
    }

    #[inline(always)]
    fn flow_hash(&self, ports: [u8; 4]) -> u32 {
        hash4(Flow4 { source: self.source, destination: self.destination, protocol: self.protocol, ports })
    }

    #[inline(always)]
    fn lookup_destination(&self, table: &impl Lookup, view: ViewId) -> Option<TargetId> {
        table.lookup4(view, self.destination)
    }

    #[inline(always)]
    fn lookup_source(&self, table: &impl Lookup, view: ViewId) -> Option<TargetId> {
        table.lookup4(view, self.source)
    }
}

/// Whether an address may be the source or the destination of a forwarded packet.
///
/// Not: 0/8 ("this network"), 127/8 (loopback), 224/4 (multicast), 240/4 (class E with the limited
/// broadcast), 169.254/16 (link-local, which RFC 3927 §2.7 forbids to forward; the kernel has no such rule,
/// so it decides).
#[inline(always)]
const fn is_routable(address: u32) -> bool {
    !matches!(address >> 24, 0 | 127 | 224..) && address >> 16 != 0xa9fe
}

/// The header as it lies in memory, in native-endian words: one load each.
#[inline(always)]
pub(crate) fn words(header: &[u8; IPV4_LEN]) -> [u32; 5] {
    let ([w0, w1, w2, w3, w4], []) = header.as_chunks::<4>() else { return [0; 5] };
    [*w0, *w1, *w2, *w3, *w4].map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header from 192.0.2.1 to 198.51.100.7, UDP, 28 bytes, TTL 64, with `change` applied and then
    /// its checksum.
    fn header(change: impl Fn(&mut [u8; IPV4_LEN])) -> [u8; IPV4_LEN] {
        let mut header = [0x45, 0, 0, 28, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7];
        change(&mut header);
        [header[10], header[11]] = checksum::ipv4_header(&header);
        header
    }

    #[test]
    fn refused_headers() {
        type Change = fn(&mut [u8; IPV4_LEN]);
        let cases: [(&str, Change, Reason); 25] = [
            ("version 6", |h| h[0] = 0x65, Reason::BadHeader),
            ("version 0", |h| h[0] = 0x05, Reason::BadHeader),
            ("version 5 with length 5", |h| h[0] = 0x55, Reason::BadHeader),
            ("header length 4", |h| h[0] = 0x44, Reason::BadHeader),
            ("header length 0", |h| h[0] = 0x40, Reason::BadHeader),
            ("header length 6", |h| h[0] = 0x46, Reason::IpOptions),
            ("header length 15", |h| h[0] = 0x4f, Reason::IpOptions),
            ("total length 19", |h| h[3] = 19, Reason::BadHeader),
            ("total length 0 (BIG TCP)", |h| h[3] = 0, Reason::BadHeader),
            ("total length beyond the frame", |h| h[3] = 29, Reason::BadHeader),
            ("source 0.0.0.0", |h| h[12..16].fill(0), Reason::MartianSource),
            ("source 0.1.2.3", |h| h[12] = 0, Reason::MartianSource),
            ("source loopback", |h| h[12] = 127, Reason::MartianSource),
            ("source multicast", |h| h[12] = 224, Reason::MartianSource),
            ("source class E", |h| h[12] = 240, Reason::MartianSource),
            ("source broadcast", |h| h[12..16].fill(255), Reason::MartianSource),
            ("source link-local", |h| h[12..14].copy_from_slice(&[169, 254]), Reason::MartianSource),
            ("destination 0.0.0.0", |h| h[16..20].fill(0), Reason::NotUnicast),
            ("destination loopback", |h| h[16] = 127, Reason::NotUnicast),
            ("destination multicast", |h| h[16] = 239, Reason::NotUnicast),
            ("destination class E", |h| h[16] = 247, Reason::NotUnicast),
            ("destination broadcast", |h| h[16..20].fill(255), Reason::NotUnicast),
            ("destination link-local", |h| h[16..18].copy_from_slice(&[169, 254]), Reason::NotUnicast),
            ("TTL 1", |h| h[8] = 1, Reason::TtlExpired),
            ("TTL 0", |h| h[8] = 0, Reason::TtlExpired),
        ];
        for (name, change, expected) in cases {
            assert_eq!(Ipv4::check(&header(change), 28), Err(expected), "{name}");
        }
        let mut wrong = header(|_| {});
        wrong[10] ^= 0x80;
        assert_eq!(Ipv4::check(&wrong, 28), Err(Reason::BadChecksum));
    }

    #[test]
    fn accepted_headers() {
        type Change = fn(&mut [u8; IPV4_LEN]);
        let cases: [(&str, Change, usize, bool, bool); 11] = [
            ("udp", |_| {}, 28, false, true),
            ("tcp", |h| h[9] = 6, 28, false, true),
            ("sctp", |h| h[9] = 132, 28, false, true),
            ("icmp", |h| h[9] = 1, 28, false, false),
            ("ip in ip", |h| h[9] = 4, 28, false, false),
            ("padded frame", |_| {}, 46, false, true),
            ("no room for ports", |h| h[3] = 23, 46, false, false),
            ("TTL 2", |h| h[8] = 2, 28, false, true),
            ("first fragment", |h| h[6] = 0x20, 28, true, false),
            ("last fragment", |h| h[6..8].copy_from_slice(&[0x00, 0xb9]), 28, true, false),
            ("reserved bit", |h| h[6] = 0x80, 28, false, true),
        ];
        for (name, change, available, fragment, ports) in cases {
            let header = header(change);
            let packet = Ipv4::check(&header, available).expect(name);
            assert_eq!(packet.fragment, fragment, "{name}");
            assert_eq!(packet.has_ports(), ports, "{name}");
            assert_eq!(packet.source, [192, 0, 2, 1], "{name}");
            assert_eq!(packet.destination, [198, 51, 100, 7], "{name}");
            assert_eq!(packet.total_length, u32::from(header[3]), "{name}");
        }
    }

    #[test]
    fn neighbours_of_the_refused_ranges_are_routable() {
        for address in [
            [1, 0, 0, 0],
            [126, 255, 255, 255],
            [128, 0, 0, 1],
            [169, 253, 255, 255],
            [169, 255, 0, 0],
            [168, 254, 0, 1],
            [223, 255, 255, 255],
            [10, 233, 64, 1],
        ] {
            assert!(is_routable(u32::from_be_bytes(address)), "{address:?}");
        }
    }
}
