//! Prefixes as numbers.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A prefix as a number: by address, then by length.
pub trait Key: Copy + Ord + Debug {
    /// The address.
    type Bits;

    /// The key of a prefix.
    fn of(address: Self::Bits, length: u8) -> Self;
    /// Its address.
    fn address(self) -> Self::Bits;
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
    type Bits = u32;

    fn of(address: u32, length: u8) -> Self {
        Self::from(address) << 8 | Self::from(length)
    }

    fn address(self) -> u32 {
        let [.., a, b, c, d, _] = self.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

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
    type Bits = u128;

    fn of(address: u128, length: u8) -> Self {
        (address, length)
    }

    fn address(self) -> u128 {
        self.0
    }

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
pub fn key4(net: Ipv4Net) -> u64 {
    Key::of(net.addr().to_bits(), net.prefix_len())
}

/// The key of an IPv6 prefix, host bits zero.
pub fn key6(net: Ipv6Net) -> (u128, u8) {
    Key::of(net.addr().to_bits(), net.prefix_len())
}

/// What [`key4`] was made of.
pub fn prefix4(key: u64) -> IpNet {
    IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(key.address()), key.length()).unwrap_or_default())
}

/// What [`key6`] was made of.
pub fn prefix6((address, length): (u128, u8)) -> IpNet {
    IpNet::V6(Ipv6Net::new(Ipv6Addr::from_bits(address), length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_prefixes_in_order() {
        let [wide, narrow, upper]: [u64; 3] = [(0x0a00_0000, 8), (0x0a00_0000, 9), (0x0a80_0000, 9)]
            .map(|(address, length)| Key::of(address, length));
        assert!(wide < narrow && narrow < upper);
        assert_eq!((upper.address(), upper.length()), (0x0a80_0000, 9));
        let host: (u128, u8) = Key::of(7, 128);
        assert_eq!((host.address(), host.length()), (7, 128));
    }
}
