//! Longest-prefix match: address to target id.
//!
//! The XDP program and the agent talk to the table through this module only, so that an engine can
//! be replaced without touching either.

pub mod flat;

/// Index into the target table. 0 is the PASS target: a miss reads as 0.
pub type TargetId = u32;
/// Rule walk that a port's packets take; ports with equal walks share one.
pub type ViewId = u32;

/// A table that maps an address, seen from a view, to a target.
pub trait Lookup {
    /// Longest match of `address` (network order) in `view`, or `None` when no prefix covers it.
    fn lookup4(&self, view: ViewId, address: [u8; 4]) -> Option<TargetId>;

    /// As [`Self::lookup4`], of an IPv6 address.
    fn lookup6(&self, view: ViewId, address: [u8; 16]) -> Option<TargetId>;
}

/// Bits that the view takes up at the front of an LPM key.
pub const VIEW_BITS: u32 = 32;

/// Data of an LPM key: view id in network order, then the address.
#[inline(always)]
pub const fn lpm_key4(view: ViewId, address: [u8; 4]) -> [u8; 8] {
    let v = view.to_be_bytes();
    [v[0], v[1], v[2], v[3], address[0], address[1], address[2], address[3]]
}

/// As [`lpm_key4`], of an IPv6 address.
#[inline(always)]
pub fn lpm_key6(view: ViewId, address: [u8; 16]) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&view.to_be_bytes());
    key[4..].copy_from_slice(&address);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_view_first_and_address_last() {
        assert_eq!(lpm_key4(0x0102_0304, [10, 233, 64, 1]), [1, 2, 3, 4, 10, 233, 64, 1]);
        let address = core::array::from_fn(|at| u8::try_from(at + 16).unwrap());
        assert_eq!(lpm_key6(0x0102_0304, address)[..6], [1, 2, 3, 4, 16, 17]);
        assert_eq!(lpm_key6(0x0102_0304, address)[4..], address);
    }
}
