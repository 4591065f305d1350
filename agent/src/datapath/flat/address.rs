//! Addresses of both families as strings of bits.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::prefix_map::key::Key;

/// An address; a `u32` or a `u128` whose highest bit is the first one on the wire.
pub trait Address: Copy + Ord + Debug {
    /// Number of bits.
    const BITS: u8;
    /// All bits 0.
    const ZERO: Self;
    /// A prefix as a number.
    type Key: Key<Bits = Self>;

    /// `count` bits (1 to 63) from the bit `at` on, as a number.
    fn bits(self, at: u8, count: u8) -> u64;
    /// The address with `value` in the `count` bits from `at` on, which are 0 now.
    fn with_bits(self, at: u8, count: u8, value: u64) -> Self;
    /// First address of the prefix of this length around the address.
    fn first(self, length: u8) -> Self;
    /// Last address of that prefix.
    fn last(self, length: u8) -> Self;
    /// Number of leading bits that both share.
    fn common(self, other: Self) -> u8;
    /// The address after this one, or `None`.
    fn next(self) -> Option<Self>;
    /// The address before this one, or `None`.
    fn previous(self) -> Option<Self>;
    /// Number of trailing bits that are 0.
    fn trailing_zeros(self) -> u8;
    /// Number of bits of which the distance to a later address can be the largest power of two.
    fn span(self, last: Self) -> u8;
    /// The prefix of this length that begins here.
    fn prefix(self, length: u8) -> Option<IpNet>;
}

macro_rules! address {
    ($type:ty, $key:ty, $net:expr) => {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "counts of bits are at most 128, values fit their bits"
        )]
        #[allow(clippy::cast_lossless, reason = "lossless for one of the two types only")]
        impl Address for $type {
            const BITS: u8 = <$type>::BITS as u8;
            const ZERO: Self = 0;
            type Key = $key;

            fn bits(self, at: u8, count: u8) -> u64 {
                let left = self.checked_shl(u32::from(at)).unwrap_or(0);
                (left >> (<$type>::BITS - u32::from(count))) as u64
            }

            fn with_bits(self, at: u8, count: u8, value: u64) -> Self {
                self | (value as $type) << (<$type>::BITS - u32::from(at) - u32::from(count))
            }

            fn first(self, length: u8) -> Self {
                self & !<$type>::MAX.checked_shr(u32::from(length)).unwrap_or(0)
            }

            fn last(self, length: u8) -> Self {
                self | <$type>::MAX.checked_shr(u32::from(length)).unwrap_or(0)
            }

            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn trailing_zeros(self) -> u8 {
                <$type>::trailing_zeros(self) as u8
            }

            fn span(self, last: Self) -> u8 {
                // The distance plus one is a power of two at best; all addresses make it overflow.
                (last - self).checked_add(1).map_or(<$type>::BITS as u8, |count| count.ilog2() as u8)
            }

            fn prefix(self, length: u8) -> Option<IpNet> {
                $net(self, length)
            }
        }
    };
}

address!(u32, u64, |bits, length| Ipv4Net::new(Ipv4Addr::from_bits(bits), length).ok().map(IpNet::V4));
address!(u128, (u128, u8), |bits, length| Ipv6Net::new(Ipv6Addr::from_bits(bits), length)
    .ok()
    .map(IpNet::V6));

/// The fewest prefixes that make up the addresses from `first` to `last`.
pub fn prefixes_of<A: Address>(first: A, last: A) -> Vec<(A, u8)> {
    let mut found = Vec::new();
    let mut at = Some(first);
    while let Some(start) = at.filter(|start| *start <= last) {
        let bits = start.trailing_zeros().min(start.span(last)).min(A::BITS);
        let length = A::BITS - bits;
        found.push((start, length));
        at = start.last(length).next();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_both_widths() {
        assert_eq!(0x0a01_02ff_u32.bits(8, 16), 0x0102);
        assert_eq!(0x0a01_02ff_u32.bits(24, 8), 0xff);
        assert_eq!((0x2001_0db8_u128 << 96).bits(0, 63), 0x2001_0db8 << 31);
        assert_eq!(0x0a00_0000_u32.with_bits(8, 16, 0x0102), 0x0a01_0200);
        assert_eq!(u32::ZERO.first(0).last(0), u32::MAX);
        assert_eq!(0x0a01_02ff_u32.first(24), 0x0a01_0200);
        assert_eq!(0x0a01_0203_u32.last(32), 0x0a01_0203);
        assert_eq!(0u32.common(0), 32);
        assert_eq!(1u128.common(0), 127);
    }

    #[test]
    fn ranges_become_the_fewest_prefixes() {
        type Case = (u32, u32, &'static [(u32, u8)]);
        let cases: &[Case] = &[
            (0, u32::MAX, &[(0, 0)]),
            (0, 0, &[(0, 32)]),
            (1, 6, &[(1, 32), (2, 31), (4, 31), (6, 32)]),
            (256, 511, &[(256, 24)]),
            (u32::MAX - 1, u32::MAX, &[(u32::MAX - 1, 31)]),
        ];
        for (first, last, expected) in cases {
            assert_eq!(prefixes_of(*first, *last), *expected, "{first} to {last}");
        }
        assert_eq!(prefixes_of(0, u128::MAX), [(0, 0)]);
    }
}
