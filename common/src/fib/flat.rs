//! The flat table: a multibit trie in one array of words, and the one function that looks it up.
//!
//! User space builds and edits the words, the XDP program reads the very same words with the very same
//! function. Everything is an index into the array, so the table can be mapped anywhere.
//!
//! # Layout
//! The first [`DIRECTORY_WORDS`] words hold a *slot* per view and family. A slot is one word: a leaf
//! (a target, or nothing), or a pointer to a node. Nodes are made of *units* of four words:
//!
//! | kind | consumes | words |
//! |---|---|---|
//! | direct | `stride` bits | one slot for every value of the bits |
//! | sparse | `stride` bits | a *cell* (one unit) for every 64 values: bitmap (two words, low first) of the values at which a run of equal slots begins, index of the word with the first run's slot, 0; the slots of all runs |
//! | skip | `stride` bits | one unit: the bits expected (left-aligned in two words, low first), the slot for all other bits, the slot behind them |
//!
//! The first value of every cell begins a run, so a rank of 0 does not occur. A path never has more
//! nodes than [`NODES4`] and [`NODES6`].
//!
//! # Concurrency
//! A node that a reader can reach changes only by whole slots (aligned words); everything else is built
//! aside and published by the store of one slot. A reader so finds, for any address, the answer before an
//! edit or the one after it. Nodes that were taken out are reused only after a grace period.

use super::{TargetId, ViewId};

/// Words of a unit.
pub const UNIT_WORDS: u32 = 4;
/// Views that the directory has room for; view ids are below.
pub const VIEWS: u32 = 128;
/// Words of the directory.
pub const DIRECTORY_WORDS: u32 = VIEWS * 2;
/// Longest path of an IPv4 lookup, in nodes.
pub const NODES4: u32 = 6;
/// Longest path of an IPv6 lookup, in nodes.
pub const NODES6: u32 = 24;
/// Values that one cell of a sparse node covers, as a power of two.
pub const CELL_BITS: u32 = 6;
/// Largest number of units that pointers reach: 128 MiB.
pub const MAX_UNITS: u32 = UNIT_MASK + 1;
/// Largest target id that a leaf can hold.
pub const MAX_TARGET: TargetId = POINTER - 2;

const POINTER: u32 = 1 << 31;
const UNIT_SHIFT: u32 = 8;
const UNIT_MASK: u32 = (POINTER >> UNIT_SHIFT) - 1;
const KIND_SHIFT: u32 = 6;
/// The lowest bits: 64 less the stride, which is by how much the rest of the address is shifted out.
const SHIFT_MASK: u32 = 63;

/// Where a table's words are. An index out of range reads as 0, which is a leaf without a target.
pub trait Words {
    /// The word at `index`.
    fn word(&self, index: u32) -> u32;
    /// The four words of a unit in pairs, the lower half of each first.
    fn unit(&self, unit: u32) -> [u64; 2];
    /// Asks the memory for the two cache lines behind the one that begins with this unit, without waiting
    /// for them. They hold the slots of a node with four cells; which slot is wanted is known only when its
    /// cell has been read, and in a table that the caches do not hold both come at once this way.
    fn touch(&self, unit: u32);
}

/// What a node does with the next bits of the address.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One slot per value.
    Direct = 0,
    /// One slot per run of values.
    Sparse = 1,
    /// One slot for one value, one for all others.
    Skip = 2,
}

/// A word of the table that leads on or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u32);

/// A slot that leads to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// What the node is.
    pub kind: Kind,
    /// Bits that it consumes, 1 to 63.
    pub stride: u32,
    /// Its first unit.
    pub unit: u32,
}

impl Slot {
    /// No prefix covers the address.
    pub const MISS: Self = Self(0);

    /// A leaf: `target`, at most [`MAX_TARGET`].
    pub const fn leaf(target: TargetId) -> Self {
        Self(target + 1)
    }

    /// A pointer to a node.
    pub const fn pointer(node: Pointer) -> Self {
        Self(POINTER | node.unit << UNIT_SHIFT | (node.kind as u32) << KIND_SHIFT | (64 - node.stride))
    }

    /// From the word in the table.
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The word in the table.
    pub const fn word(self) -> u32 {
        self.0
    }

    /// The target of a leaf; `None` for a miss, and for a pointer.
    #[inline(always)]
    pub const fn target(self) -> Option<TargetId> {
        // A miss wraps around and a pointer is above: one comparison for both.
        let target = self.0.wrapping_sub(1);
        if target <= MAX_TARGET { Some(target) } else { None }
    }

    /// Where a pointer leads; `None` for a leaf, and for a kind that there is not.
    pub const fn node(self) -> Option<Pointer> {
        if !self.is_pointer() {
            return None;
        }
        let kind = match self.kind() {
            0 => Kind::Direct,
            1 => Kind::Sparse,
            2 => Kind::Skip,
            _ => return None,
        };
        Some(Pointer { kind, stride: self.stride(), unit: self.unit() })
    }

    /// Whether it leads to a node.
    #[inline(always)]
    pub const fn is_pointer(self) -> bool {
        self.0 & POINTER != 0
    }

    #[inline(always)]
    const fn kind(self) -> u32 {
        self.0 >> KIND_SHIFT & 3
    }

    #[inline(always)]
    const fn stride(self) -> u32 {
        64 - (self.0 & SHIFT_MASK)
    }

    #[inline(always)]
    const fn unit(self) -> u32 {
        self.0 >> UNIT_SHIFT & UNIT_MASK
    }
}

/// Index of the directory's word for a view; `ipv6` chooses the family.
#[inline(always)]
pub const fn directory(view: ViewId, ipv6: bool) -> u32 {
    (view & (VIEWS - 1)) * 2 + ipv6 as u32
}

/// The bits of a cell's bitmap up to and including that of `value`, counted: the rank of the run that
/// `value` belongs to, from 1.
#[inline(always)]
pub const fn rank(bitmap: u64, value: u32) -> u32 {
    (bitmap << (63 - (value & 63))).count_ones()
}

/// The word of a pair that begins at bit `at`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes 32 bits of 64")]
const fn half(pair: u64, at: u32) -> u32 {
    (pair >> at) as u32
}

/// One node: the slot for the first bits of `key` (left-aligned).
#[inline(always)]
fn step(words: &impl Words, slot: Slot, key: u64) -> Slot {
    let unit = slot.unit();
    // The lowest bits of the word are the shift, and a shift takes no others.
    let value = key.wrapping_shr(slot.0);
    if slot.kind() == Kind::Sparse as u32 {
        #[expect(clippy::cast_possible_truncation, reason = "a sparse node has a stride of 32 at most")]
        let value = value as u32;
        words.touch(unit);
        let [bitmap, first] = words.unit(unit.wrapping_add(value >> CELL_BITS));
        return Slot(words.word(half(first, 0).wrapping_add(rank(bitmap, value)).wrapping_sub(1)));
    }
    if slot.kind() == Kind::Direct as u32 {
        #[expect(clippy::cast_possible_truncation, reason = "a direct node has a stride of 32 at most")]
        return Slot(words.word((unit * UNIT_WORDS).wrapping_add(value as u32)));
    }
    let [expected, slots] = words.unit(unit);
    let expects = (key ^ expected).wrapping_shr(slot.0) == 0;
    Slot(half(slots, if expects { 32 } else { 0 }))
}

/// Longest match of an IPv4 address (network order) in a view; `None`: no prefix covers it.
#[inline(always)]
pub fn lookup4(words: &impl Words, view: ViewId, address: [u8; 4]) -> Option<TargetId> {
    let mut key = u64::from(u32::from_be_bytes(address)) << 32;
    let mut slot = Slot(words.word(directory(view, false)));
    for _ in 0..NODES4 {
        if !slot.is_pointer() {
            break;
        }
        let shift = slot.0;
        slot = step(words, slot, key);
        key = key.wrapping_shl(shift.wrapping_neg());
    }
    slot.target()
}

/// Longest match of an IPv6 address (network order) in a view; `None`: no prefix covers it.
#[inline(always)]
pub fn lookup6(words: &impl Words, view: ViewId, address: [u8; 16]) -> Option<TargetId> {
    let ([high, low], []) = address.as_chunks::<8>() else { return None };
    let (mut key, mut rest) = (u64::from_be_bytes(*high), u64::from_be_bytes(*low));
    let mut slot = Slot(words.word(directory(view, true)));
    for _ in 0..NODES6 {
        if !slot.is_pointer() {
            break;
        }
        let shift = slot.0;
        slot = step(words, slot, key);
        key = key.wrapping_shl(shift.wrapping_neg()) | rest.wrapping_shr(shift);
        rest = rest.wrapping_shl(shift.wrapping_neg());
    }
    slot.target()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    impl Words for Vec<u32> {
        fn word(&self, index: u32) -> u32 {
            self.get(index as usize).copied().unwrap_or_default()
        }

        fn unit(&self, unit: u32) -> [u64; 2] {
            [0, 2].map(|word| {
                let at = unit.wrapping_mul(UNIT_WORDS).wrapping_add(word);
                u64::from(self.word(at)) | u64::from(self.word(at + 1)) << 32
            })
        }

        fn touch(&self, _: u32) {}
    }

    #[test]
    fn slots_say_what_they_were_made_of() {
        assert_eq!(Slot::MISS.target(), None);
        for target in [0, 1, 65_535, MAX_TARGET] {
            assert_eq!(Slot::leaf(target).target(), Some(target));
            assert_eq!(Slot::leaf(target).node(), None);
        }
        for kind in [Kind::Direct, Kind::Sparse, Kind::Skip] {
            for (stride, unit) in [(1, 64), (16, 0), (63, MAX_UNITS - 1)] {
                let pointer = Pointer { kind, stride, unit };
                assert_eq!(Slot::pointer(pointer).node(), Some(pointer));
                assert_eq!(Slot::pointer(pointer).target(), None);
            }
        }
    }

    #[test]
    fn ranks_count_from_one() {
        let cases =
            [(1, 0, 1), (1, 63, 1), (0b1001, 2, 1), (0b1001, 3, 2), (u64::MAX, 0, 1), (u64::MAX, 63, 64)];
        for (bitmap, value, expected) in cases {
            assert_eq!(rank(bitmap, value), expected, "{bitmap:b} at {value}");
        }
    }

    /// A table by hand: every kind of node, and a pointer to nowhere.
    #[test]
    fn every_kind_of_node_is_followed() {
        let mut words = std::vec![0u32; 4096];
        let node = |kind, stride, unit| Slot::pointer(Pointer { kind, stride, unit }).word();
        // IPv4 of view 3: 10.x by a direct node of 8 bits at unit 64.
        words[directory(3, false) as usize] = node(Kind::Direct, 8, 64);
        words[64 * 4 + 10] = node(Kind::Sparse, 8, 200);
        words[64 * 4 + 11] = Slot::leaf(11).word();
        // Second byte: 0 to 69 leaf 1, 70 a skip node, from 71 on leaf 2.
        let cells = [(1u64, 0), (1 | 1 << 6 | 1 << 7, 1), (1, 4), (1, 5)];
        for (at, (bitmap, first)) in (800..).step_by(4).zip(cells) {
            words[at] = u32::try_from(bitmap & 0xffff_ffff).unwrap();
            words[at + 1] = u32::try_from(bitmap >> 32).unwrap();
            words[at + 2] = 816 + first;
        }
        let leaf = |target| Slot::leaf(target).word();
        let slots = [leaf(1), leaf(1), node(Kind::Skip, 16, 300), leaf(2), leaf(2), leaf(2)];
        words[816..822].copy_from_slice(&slots);
        words[1200..1204].copy_from_slice(&[0, 0x0405_0000, leaf(3), leaf(4)]);
        for (address, expected) in [
            ([9, 0, 0, 0], None),
            ([11, 2, 3, 4], Some(11)),
            ([10, 0, 0, 0], Some(1)),
            ([10, 69, 255, 255], Some(1)),
            ([10, 70, 4, 5], Some(4)),
            ([10, 70, 4, 6], Some(3)),
            ([10, 71, 4, 5], Some(2)),
            ([10, 255, 255, 255], Some(2)),
        ] {
            assert_eq!(lookup4(&words, 3, address), expected, "{address:?}");
        }
        assert_eq!(lookup4(&words, 4, [10, 0, 0, 0]), None, "another view has a table of its own");
        words[directory(4, false) as usize] = node(Kind::Direct, 32, MAX_UNITS - 1);
        assert_eq!(lookup4(&words, 4, [255; 4]), None, "out of range is a miss");
        // IPv6: two skips over the first 72 bits.
        words[directory(3, true) as usize] = node(Kind::Skip, 63, 400);
        words[1600..1604].copy_from_slice(&[0xffff_fffe, 0x2001_0db8, leaf(5), node(Kind::Skip, 9, 401)]);
        words[1604..1608].copy_from_slice(&[0, 0xff80_0000, leaf(6), leaf(7)]);
        let address = |eighth: u8, ninth: u8| {
            [0x20, 1, 0xd, 0xb8, 0xff, 0xff, 0xff, eighth, ninth, 0, 0, 0, 0, 0, 0, 1]
        };
        assert_eq!(lookup6(&words, 3, address(0xff, 0xff)), Some(7));
        assert_eq!(lookup6(&words, 3, address(0xfe, 0xff)), Some(6));
        assert_eq!(lookup6(&words, 3, address(0xfc, 0xff)), Some(5));
    }
}
