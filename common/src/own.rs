//! Own IPv4 addresses, as a filter of two bits each, at two hash values: what lacks one of them is certainly none.
//!
//! With `rp_filter` off the kernel asks no route about a source; all it refuses are own addresses
//! (`fib_validate_source`). The filter answers that for nearly every packet with one load. Of other addresses one
//! in a million has both bits with 30 own ones, one in forty with 5,000: their packets are left to the kernel.

/// Bits of the filter, as a power of two.
pub const OWN_BITS: u32 = 16;
/// Words of the filter.
pub const OWN_WORDS: u32 = 1 << (OWN_BITS - 6);

/// Where an address (network order) is in the filter: index of the word and the bit, of each of its two bits.
#[inline(always)]
pub const fn own_bits(address: [u8; 4]) -> [(u32, u64); 2] {
    // Multiplicative hashing: neighbouring addresses, as nodes and services have, get bits of their own.
    let address = u32::from_be_bytes(address);
    [position(address.wrapping_mul(0x9e37_79b1)), position(address.wrapping_mul(0x85eb_ca77))]
}

#[inline(always)]
const fn position(hash: u32) -> (u32, u64) {
    let bit = hash >> (32 - OWN_BITS);
    (bit >> 6, 1 << (bit & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_other_addresses_have_both_bits() {
        let mut filter = [0u64; OWN_WORDS as usize];
        for host in 0..4096u32 {
            for (word, bit) in own_bits((0x0ae9_0000 + host).to_be_bytes()) {
                assert!(word < OWN_WORDS && bit.is_power_of_two());
                filter[word as usize] |= bit;
            }
        }
        let has = |address: u32| {
            own_bits(address.to_be_bytes()).iter().all(|(word, bit)| filter[*word as usize] & bit != 0)
        };
        assert!((0..4096).all(|host| has(0x0ae9_0000 + host)));
        // Pods beside 4,096 service addresses, and addresses from anywhere.
        let pods = (0..16_384).filter(|host| has(0x0ae9_4000 + host)).count();
        let others =
            (0..100_000u32).filter(|number| has(number.wrapping_mul(0x0019_660d) | 0x4000_0000)).count();
        assert!(pods < 164 && others < 2000, "{pods} of 16,384 and {others} of 100,000");
    }
}
