//! Internet checksum of an IPv4 header: in full (RFC 1071) and updated for one step of the TTL
//! (RFC 1624).
//!
//! A ones' complement sum comes out the same in either byte order (RFC 1071 §2 (B)), so the words are
//! taken as they lie in memory and the result is stored the same way.

use crate::parse::{self, IPV4_LEN};

/// Whether the checksum of an option-less header is right: the kernel's `ip_fast_csum(..) == 0`.
#[inline(always)]
pub fn ipv4_header_is_valid(header: &[u8; IPV4_LEN]) -> bool {
    fold(sum(header)) == 0xffff
}

/// The checksum that an option-less header should carry, as the two bytes to store at offset 10.
/// What is there now does not matter.
pub fn ipv4_header(header: &[u8; IPV4_LEN]) -> [u8; 2] {
    let mut blank = *header;
    [blank[10], blank[11]] = [0, 0];
    (!fold(sum(&blank))).to_ne_bytes()
}

/// The checksum field after the TTL went down by one, bytes as stored in the header.
///
/// Gives the very bytes that the kernel's `ip_decrease_ttl` writes: it adds 0x0100 in network order
/// and carries when the sum reaches 0xffff, so that 0xffff (the other zero) never comes out.
#[inline(always)]
pub const fn after_ttl_decrement(check: [u8; 2]) -> [u8; 2] {
    let sum = u16::from_be_bytes(check) as u32 + 0x0100;
    // Truncation drops the carry that the comparison has just added at the other end.
    #[expect(clippy::cast_possible_truncation, reason = "end-around carry")]
    let check = (sum + (sum >= 0xffff) as u32) as u16;
    check.to_be_bytes()
}

/// Sum of the header as native-endian 32-bit words; ten 16-bit words would give the same after folding.
#[inline(always)]
fn sum(header: &[u8; IPV4_LEN]) -> u64 {
    let [w0, w1, w2, w3, w4] = parse::words(header).map(u64::from);
    w0 + w1 + w2 + w3 + w4
}

/// Folds a sum of at most 2^16 words of 32 bits into 16 bits with end-around carry.
///
/// Three folds suffice: after the first the value is below 2^32 + 2^16, after the second at most
/// 0x1fffe, after the third at most 0xffff.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the folds leave 16 bits")]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_headers() {
        // The worked example of many textbooks, and a capture of a ping.
        let cases: [([u8; IPV4_LEN], [u8; 2]); 2] = [
            (
                [
                    0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00, 0x01,
                    0xc0, 0xa8, 0x00, 0xc7,
                ],
                [0xb8, 0x61],
            ),
            (
                [
                    0x45, 0x00, 0x00, 0x54, 0x00, 0x00, 0x40, 0x00, 0x40, 0x01, 0, 0, 0x7f, 0x00, 0x00, 0x01,
                    0x7f, 0x00, 0x00, 0x01,
                ],
                [0x3c, 0xa7],
            ),
        ];
        for (mut header, expected) in cases {
            assert_eq!(ipv4_header(&header), expected);
            [header[10], header[11]] = expected;
            assert!(ipv4_header_is_valid(&header));
            header[11] ^= 1;
            assert!(!ipv4_header_is_valid(&header));
        }
    }

    #[test]
    fn ttl_decrement_carries_as_the_kernel_does() {
        let cases: [([u8; 2], [u8; 2]); 7] = [
            ([0x00, 0x00], [0x01, 0x00]),
            ([0x12, 0x34], [0x13, 0x34]),
            ([0xfe, 0xfe], [0xff, 0xfe]),
            // Would be 0xffff: the kernel stores zero.
            ([0xfe, 0xff], [0x00, 0x00]),
            ([0xff, 0x00], [0x00, 0x01]),
            ([0xff, 0xfe], [0x00, 0xff]),
            ([0xff, 0xff], [0x01, 0x00]),
        ];
        for (before, after) in cases {
            assert_eq!(after_ttl_decrement(before), after, "{before:02x?}");
        }
    }

    /// `ip_decrease_ttl` as the kernel computes it on a little-endian machine: on the field as it
    /// is loaded, with `htons(0x0100)` = 1.
    fn kernel_little_endian(check: [u8; 2]) -> [u8; 2] {
        let sum = u32::from(u16::from_le_bytes(check)) + 1;
        let sum = sum + u32::from(sum >= 0xffff);
        [sum.to_le_bytes()[0], sum.to_le_bytes()[1]]
    }

    #[test]
    fn ttl_decrement_equals_the_kernel_for_every_checksum() {
        for check in 0..=u16::MAX {
            let check = check.to_ne_bytes();
            assert_eq!(after_ttl_decrement(check), kernel_little_endian(check), "{check:02x?}");
        }
    }

    /// The sum by the book: 16-bit words, carry after each.
    fn by_the_book(header: &[u8; IPV4_LEN]) -> u16 {
        header.as_chunks::<2>().0.iter().fold(0u16, |sum, word| {
            let (sum, carry) = sum.overflowing_add(u16::from_be_bytes(*word));
            sum + u16::from(carry)
        })
    }

    proptest! {
        #[test]
        fn folding_equals_the_word_by_word_sum(header in prop::array::uniform20(any::<u8>())) {
            prop_assert_eq!(fold(sum(&header)).to_ne_bytes(), by_the_book(&header).to_be_bytes());
        }

        #[test]
        fn incremental_equals_recomputed(mut header in prop::array::uniform20(any::<u8>()), ttl in 2u8..) {
            header[0] = 0x45;
            header[8] = ttl;
            [header[10], header[11]] = ipv4_header(&header);
            prop_assert!(ipv4_header_is_valid(&header));

            header[8] -= 1;
            let updated = after_ttl_decrement([header[10], header[11]]);
            prop_assert_eq!(updated, ipv4_header(&header));
            [header[10], header[11]] = updated;
            prop_assert!(ipv4_header_is_valid(&header));
        }
    }
}
