//! Own IPv4 addresses, as a filter of one bit per hash value: what is not in it is certainly none.
//!
//! With `rp_filter` off the kernel asks no route about a source; all it refuses are own addresses
//! (`fib_validate_source`). The filter answers that for nearly every packet with one load.

/// Bits of the filter, as a power of two.
pub const OWN_BITS: u32 = 16;
/// Words of the filter.
pub const OWN_WORDS: u32 = 1 << (OWN_BITS - 6);

/// Where an address (network order) is in the filter: index of the word, and its bit.
#[inline(always)]
pub const fn own_bit(address: [u8; 4]) -> (u32, u64) {
    // Multiplicative hashing: neighbouring addresses, as nodes and services have, get bits of their own.
    let hash = u32::from_be_bytes(address).wrapping_mul(0x9e37_79b1) >> (32 - OWN_BITS);
    (hash >> 6, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_in_the_filter_and_differ_for_neighbours() {
        let mut seen = [0u64; OWN_WORDS as usize];
        let mut shared = 0;
        for host in 0..4096u32 {
            let (word, bit) = own_bit((0x0ae9_0000 + host).to_be_bytes());
            assert!(word < OWN_WORDS && bit.is_power_of_two());
            shared += u32::from(seen[word as usize] & bit != 0);
            seen[word as usize] |= bit;
        }
        assert!(shared < 256, "{shared} of 4096 service addresses share a bit");
    }
}
