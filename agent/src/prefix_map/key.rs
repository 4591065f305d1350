//! Prefixes as numbers.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A prefix as a number: by address, then by length.
pub trait Key: Copy + Ord + Debug {
    /// Its length.
    fn length(self) -> u8;
    /// Number of leading bits that both addresses share.
    fn common(self, other: Self) -> u8;
    /// The prefix of this length around its address.
    fn cut(self, length: u8) -> Self;
    /// The last key that a prefix inside of it can have.
    fn last_inside(self) -> Self;
}

/// IPv4: the address, then eight bits of length.
impl Key for u64 {
    fn length(self) -> u8 {
        self.to_le_bytes()[0]
    }

    fn common(self, other: Self) -> u8 {
        // The address is the lower 32 of the 56 bits.
        u8::try_from(((self ^ other) >> 8).leading_zeros() - 32).unwrap_or(32)
    }

    fn cut(self, length: u8) -> Self {
        self & !(HOST_BITS >> length << 8) & !0xff | Self::from(length)
    }

    fn last_inside(self) -> Self {
        self & !0xff | (HOST_BITS >> self.length() << 8) | 32
    }
}

/// The bits that no prefix of length 0 fixes.
const HOST_BITS: u64 = 0xffff_ffff;

/// IPv6: the address and the length.
impl Key for (u128, u8) {
    fn length(self) -> u8 {
        self.1
    }

    fn common(self, other: Self) -> u8 {
        u8::try_from((self.0 ^ other.0).leading_zeros()).unwrap_or(128)
    }

    fn cut(self, length: u8) -> Self {
        (self.0 & !host_bits(length), length)
    }

    fn last_inside(self) -> Self {
        (self.0 | host_bits(self.1), 128)
    }
}

fn host_bits(length: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

/// The key of an IPv4 prefix, host bits zero.
pub const fn key4(net: Ipv4Net) -> u64 {
    (net.addr().to_bits() as u64) << 8 | net.prefix_len() as u64
}

/// The key of an IPv6 prefix, host bits zero.
pub const fn key6(net: Ipv6Net) -> (u128, u8) {
    (net.addr().to_bits(), net.prefix_len())
}

/// What [`key4`] was made of.
pub fn prefix4(key: u64) -> IpNet {
    let [.., a, b, c, d, length] = key.to_be_bytes();
    IpNet::V4(Ipv4Net::new(Ipv4Addr::new(a, b, c, d), length).unwrap_or_default())
}

/// What [`key6`] was made of.
pub fn prefix6((address, length): (u128, u8)) -> IpNet {
    IpNet::V6(Ipv6Net::new(Ipv6Addr::from_bits(address), length).unwrap_or_default())
}
