//! IPv6 headers (RFC 8200).

use super::{AF_INET6, Packet, begins_with_ports};
use crate::fib::{Lookup, TargetId, ViewId};
use crate::flowhash::{Flow6, hash6};
use crate::reason::Reason;

/// Length of the fixed IPv6 header.
pub const IPV6_LEN: usize = 40;
/// Offset of the hop limit in an IPv6 header.
pub const IPV6_HOP_LIMIT: usize = 7;

/// [`IPV6_LEN`] as the packet's length is counted.
const HEADER_LENGTH: u32 = 40;

/// Next header: hop-by-hop options, which every router has to look at.
const HOP_BY_HOP: u8 = 0;

/// What the rest of the way needs to know of an IPv6 packet that may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Length of the packet, header included, in bytes.
    pub total_length: u32,
    /// Version, traffic class and flow label.
    pub first_word: u32,
    /// Next header: the payload's protocol or an extension header.
    pub next_header: u8,
}

impl Ipv6 {
    /// Checks an IPv6 header that has `available` bytes of frame from its first byte on.
    ///
    /// Follows `ip6_rcv_core` (version, addresses, payload length, hop-by-hop options) and `ip6_forward`
    /// (hop limit, addresses that are never forwarded). It refuses a little more than the kernel: a payload
    /// length of 0, which also stands for the length of a jumbogram, and the addresses of `::/64` and `fe80::/10`,
    /// some of which the kernel forwards some way.
    ///
    /// # Errors
    /// The reason for leaving the packet to the kernel.
    #[inline(always)]
    pub fn check(header: &[u8; IPV6_LEN], available: usize) -> Result<Self, Reason> {
        let [w0, s0, s1, d0, d1] = words(header);
        let [_, _, _, _, _, _, next_header, hop_limit] = w0.to_ne_bytes();
        let w0 = u64::from_be(w0);
        let first_word = (w0 >> 32) as u32;
        if first_word >> 28 != 6 {
            return Err(Reason::BadHeader);
        }
        if next_header == HOP_BY_HOP {
            return Err(Reason::HopByHop);
        }
        let payload_length = (w0 >> 16 & 0xffff) as u32;
        if payload_length == 0 {
            return Err(Reason::Jumbogram);
        }
        let total_length = payload_length + HEADER_LENGTH;
        if total_length as usize > available {
            return Err(Reason::BadHeader);
        }
        if !is_routable(u64::from_be(s0)) {
            return Err(Reason::MartianSource);
        }
        if !is_routable(u64::from_be(d0)) {
            return Err(Reason::NotUnicast);
        }
        if hop_limit <= 1 {
            return Err(Reason::TtlExpired);
        }
        Ok(Self { source: join(s0, s1), destination: join(d0, d1), total_length, first_word, next_header })
    }
}

impl Packet for Ipv6 {
    const HEADER_LEN: usize = IPV6_LEN;
    const ADDRESS_FAMILY: u8 = AF_INET6;

    #[inline(always)]
    fn total_length(&self) -> u32 {
        self.total_length
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        if begins_with_ports(self.next_header) { self.next_header } else { 0 }
    }

    /// `IPV6_FLOWINFO_MASK`: without the version.
    #[inline(always)]
    fn flow_information(&self) -> u32 {
        (self.first_word & 0x0fff_ffff).to_be()
    }

    #[inline(always)]
    fn address_words(&self) -> [[u32; 4]; 2] {
        [self.source, self.destination].map(|address| match address.as_chunks::<4>() {
            ([w0, w1, w2, w3], []) => [*w0, *w1, *w2, *w3].map(u32::from_ne_bytes),
            _ => [0; 4],
        })
    }

    /// Only directly behind the fixed header: a fragment and whatever has another extension header goes by
    /// its addresses alone, so that all fragments of a packet agree.
    #[inline(always)]
    fn has_ports(&self) -> bool {
        begins_with_ports(self.next_header) && self.total_length as usize >= IPV6_LEN + 4
    }

    #[inline(always)]
    fn flow_hash(&self, ports: [u8; 4]) -> u32 {
        hash6(&Flow6 { source: self.source, destination: self.destination, protocol: self.protocol(), ports })
    }

    #[inline(always)]
    fn lookup_destination(&self, table: &impl Lookup, view: ViewId) -> Option<TargetId> {
        table.lookup6(view, self.destination)
    }

    #[inline(always)]
    fn lookup_source(&self, table: &impl Lookup, view: ViewId) -> Option<TargetId> {
        table.lookup6(view, self.source)
    }
}

/// Whether an address with these first 64 bits may be the source or the destination of a forwarded packet.
///
/// Not: `::/64` (unspecified, loopback, IPv4-mapped and IPv4-compatible addresses), `ff00::/8` (multicast),
/// `fe80::/10` (link-local, RFC 4291 §2.5.6).
#[inline(always)]
const fn is_routable(first_half: u64) -> bool {
    first_half != 0 && first_half >> 56 != 0xff && first_half >> 54 != 0xfe80 >> 6
}

/// The header as it lies in memory, in native-endian words: one load each.
#[inline(always)]
fn words(header: &[u8; IPV6_LEN]) -> [u64; 5] {
    let ([w0, w1, w2, w3, w4], []) = header.as_chunks::<8>() else { return [0; 5] };
    [*w0, *w1, *w2, *w3, *w4].map(u64::from_ne_bytes)
}

/// An address from its halves as they lie in memory.
#[inline(always)]
fn join(first: u64, second: u64) -> [u8; 16] {
    let mut address = [0; 16];
    address[..8].copy_from_slice(&first.to_ne_bytes());
    address[8..].copy_from_slice(&second.to_ne_bytes());
    address
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use super::*;

    /// A header from `2001:db8::1` to `2001:db8:1::7`, UDP, 8 bytes of payload, hop limit 64.
    fn header(change: impl Fn(&mut [u8; IPV6_LEN])) -> [u8; IPV6_LEN] {
        let mut header = [0; IPV6_LEN];
        header[..8].copy_from_slice(&[0x6b, 0x81, 0x23, 0x45, 0, 8, 17, 64]);
        header[8..24].copy_from_slice(&address("2001:db8::1"));
        header[24..].copy_from_slice(&address("2001:db8:1::7"));
        change(&mut header);
        header
    }

    fn address(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().unwrap().octets()
    }

    #[test]
    fn refused_headers() {
        type Change = fn(&mut [u8; IPV6_LEN]);
        let cases: [(&str, Change, Reason); 10] = [
            ("version 4", |h| h[0] = 0x45, Reason::BadHeader),
            ("version 7", |h| h[0] = 0x70, Reason::BadHeader),
            ("payload beyond the frame", |h| h[5] = 9, Reason::BadHeader),
            ("payload far beyond the frame", |h| h[4] = 0xff, Reason::BadHeader),
            ("payload length 0", |h| h[5] = 0, Reason::Jumbogram),
            ("hop-by-hop options", |h| h[6] = 0, Reason::HopByHop),
            ("jumbogram", |h| [h[5], h[6]] = [0, 0], Reason::HopByHop),
            ("hop limit 1", |h| h[7] = 1, Reason::TtlExpired),
            ("hop limit 0", |h| h[7] = 0, Reason::TtlExpired),
            ("a martian with a hop limit of 0", |h| [h[7], h[8]] = [0, 0xff], Reason::MartianSource),
        ];
        for (name, change, expected) in cases {
            assert_eq!(Ipv6::check(&header(change), 48), Err(expected), "{name}");
        }
    }

    #[test]
    fn addresses() {
        for (text, routable) in [
            ("::", false),
            ("::1", false),
            ("::2", false),
            ("::192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("0:0:0:1::", true),
            ("64:ff9b::192.0.2.1", true),
            ("100::1", true),
            ("2001:db8::1", true),
            ("2002:c000:201::1", true),
            ("fc00::1", true),
            ("fdff:ffff::1", true),
            ("fe7f:ffff::1", true),
            ("fe80::1", false),
            ("fe80:1::1", false),
            ("febf:ffff::1", false),
            ("fec0::1", true),
            ("feff:ffff::1", true),
            ("ff00::1", false),
            ("ff02::1", false),
            ("ff0e::1", false),
            ("ffff::1", false),
        ] {
            let from = header(|h| h[8..24].copy_from_slice(&address(text)));
            let to = header(|h| h[24..].copy_from_slice(&address(text)));
            let expected = |reason| if routable { Ok(()) } else { Err(reason) };
            assert_eq!(Ipv6::check(&from, 48).map(drop), expected(Reason::MartianSource), "from {text}");
            assert_eq!(Ipv6::check(&to, 48).map(drop), expected(Reason::NotUnicast), "to {text}");
        }
    }

    #[test]
    fn accepted_headers() {
        type Change = fn(&mut [u8; IPV6_LEN]);
        let cases: [(&str, Change, usize, bool); 12] = [
            ("udp", |_| {}, 48, true),
            ("tcp", |h| h[6] = 6, 48, true),
            ("sctp", |h| h[6] = 132, 48, true),
            ("icmp", |h| h[6] = 58, 48, false),
            ("fragment", |h| h[6] = 44, 48, false),
            ("routing header", |h| h[6] = 43, 48, false),
            ("destination options", |h| h[6] = 60, 48, false),
            ("esp", |h| h[6] = 50, 48, false),
            ("no next header", |h| h[6] = 59, 48, false),
            ("no room for ports", |h| h[5] = 3, 48, false),
            ("padded frame", |_| {}, 60, true),
            ("hop limit 2", |h| h[7] = 2, 48, true),
        ];
        for (name, change, available, ports) in cases {
            let header = header(change);
            let packet = Ipv6::check(&header, available).expect(name);
            assert_eq!(packet.source, address("2001:db8::1"), "{name}");
            assert_eq!(packet.destination, address("2001:db8:1::7"), "{name}");
            assert_eq!(packet.total_length, 40 + u32::from(header[5]), "{name}");
            assert_eq!(packet.has_ports(), ports, "{name}");
            assert_eq!(packet.flow_information(), 0x0b81_2345u32.to_be(), "{name}");
        }
        assert_eq!(
            Ipv6::check(&header(|h| [h[4], h[5]] = [0xff, 0xff]), 65_575).map(|p| p.total_length),
            Ok(65_575)
        );
    }

    #[test]
    fn only_what_is_known_of_all_fragments_is_hashed() {
        let hash = |change: fn(&mut [u8; IPV6_LEN])| {
            Ipv6::check(&header(change), 48).expect("accepted").flow_hash([0; 4])
        };
        let fragment = hash(|h| h[6] = 44);
        assert_eq!(hash(|h| [h[5], h[6], h[7]] = [7, 44, 9]), fragment);
        assert_eq!(hash(|h| [h[1], h[2], h[6]] = [1, 2, 44]), fragment, "neither class nor flow label");
        assert_ne!(hash(|h| [h[6], h[39]] = [44, 8]), fragment);
        assert_ne!(hash(|h| [h[6], h[23]] = [44, 8]), fragment);
    }
}
