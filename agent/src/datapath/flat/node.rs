//! Nodes: from slots to words and back.

use underpass_common::fib::flat::{CELL_BITS, DIRECTORY_WORDS, Kind, Pointer, Slot, UNIT_WORDS, rank};

use super::memory::{Memory, Store};
use super::space::{Block, Full, Space};

/// Values that a cell covers.
const CELL: usize = 1 << CELL_BITS;

/// Largest stride of direct and sparse nodes.
const MAX_STRIDE: u32 = 16;

/// Number of cells of a sparse node.
fn cells(stride: u32) -> u32 {
    1 << stride.saturating_sub(CELL_BITS)
}

/// The low and the high word of a bitmap.
#[expect(clippy::cast_possible_truncation, reason = "takes 32 bits of 64")]
const fn halves(bitmap: u64) -> [u32; 2] {
    [bitmap as u32, (bitmap >> 32) as u32]
}

/// Bit n: slot n differs from the one before it, or is the first.
fn runs(slots: &[Slot]) -> u64 {
    let mut bitmap = 1;
    for (at, pair) in slots.windows(2).enumerate() {
        bitmap |= u64::from(pair[0] != pair[1]) << (at + 1);
    }
    bitmap
}

/// Writes a node with these slots, as many as `stride` bits have values, into free units.
///
/// # Errors
/// There is no room; nothing was taken then.
pub fn write<M: Memory>(
    store: &Store<M>,
    space: &mut Space,
    kind: Kind,
    stride: u32,
    slots: &[Slot],
) -> Result<(Slot, Block), Full> {
    if kind == Kind::Direct {
        let block = space.take(u32::try_from(slots.len()).map_err(|_| Full)?.div_ceil(UNIT_WORDS))?;
        for (index, slot) in (block.unit * UNIT_WORDS..).zip(slots) {
            store.store(index, slot.word());
        }
        return Ok((Slot::pointer(Pointer { kind, stride, unit: block.unit }), block));
    }
    let bitmaps: Vec<u64> = slots.chunks(CELL).map(runs).collect();
    let total: u32 = bitmaps.iter().map(|bitmap| bitmap.count_ones()).sum();
    let block = space.take(cells(stride) + total.div_ceil(UNIT_WORDS))?;
    let mut first = (block.unit + cells(stride)) * UNIT_WORDS;
    for ((unit, bitmap), slots) in (block.unit..).zip(bitmaps).zip(slots.chunks(CELL)) {
        let [low, high] = halves(bitmap);
        for (index, word) in (unit * UNIT_WORDS..).zip([low, high, first, 0]) {
            store.store(index, word);
        }
        let mut rest = bitmap;
        while rest != 0 {
            store.store(first, slots[rest.trailing_zeros() as usize].word());
            first += 1;
            rest &= rest - 1;
        }
    }
    Ok((Slot::pointer(Pointer { kind, stride, unit: block.unit }), block))
}

/// Writes a skip node: `behind` for addresses with the `stride` bits `value`, `other` for the rest.
///
/// # Errors
/// There is no room.
pub fn write_skip<M: Memory>(
    store: &Store<M>,
    space: &mut Space,
    (stride, value): (u32, u64),
    [other, behind]: [Slot; 2],
) -> Result<(Slot, Block), Full> {
    let block = space.take(1)?;
    let [low, high] = halves(value << (64 - stride));
    for (index, word) in (block.unit * UNIT_WORDS..).zip([low, high, other.word(), behind.word()]) {
        store.store(index, word);
    }
    Ok((Slot::pointer(Pointer { kind: Kind::Skip, stride, unit: block.unit }), block))
}

/// What a skip node says.
pub struct Skip {
    /// The bits expected.
    pub value: u64,
    /// Index of the word with the slot for all other bits.
    pub other: u32,
    /// Index of the word with the slot behind the expected bits.
    pub behind: u32,
}

/// Reads a skip node.
pub fn read_skip<M: Memory>(store: &Store<M>, node: Pointer) -> Skip {
    let at = node.unit * UNIT_WORDS;
    let bits = u64::from(store.load(at + 1)) << 32 | u64::from(store.load(at));
    Skip { value: bits.wrapping_shr(64 - node.stride), other: at + 2, behind: at + 3 }
}

/// The bitmap of the cell that `value` is in, and the index of the word with its first slot.
fn cell<M: Memory>(store: &Store<M>, node: Pointer, value: u32) -> (u64, u32) {
    let at = (node.unit + (value >> CELL_BITS)) * UNIT_WORDS;
    (u64::from(store.load(at + 1)) << 32 | u64::from(store.load(at)), store.load(at + 2))
}

/// The words with the slots of a direct or sparse node in the order of values: index, and how many
/// values the slot stands for.
pub fn slots<M: Memory>(store: &Store<M>, node: Pointer) -> Vec<(u32, u32)> {
    let values = 1u32 << node.stride.min(31);
    if node.kind == Kind::Direct {
        return (0..values).map(|value| (node.unit * UNIT_WORDS + value, 1)).collect();
    }
    let mut found = Vec::new();
    let width = values.min(1 << CELL_BITS);
    for start in (0..values).step_by(CELL) {
        let (bitmap, first) = cell(store, node, start);
        let mut rest = bitmap;
        for index in first..first + bitmap.count_ones() {
            let at = rest.trailing_zeros();
            rest &= rest - 1;
            found.push((index, if rest == 0 { width } else { rest.trailing_zeros() } - at));
        }
    }
    found
}

/// The slot of every value of a direct or sparse node.
pub fn read<M: Memory>(store: &Store<M>, node: Pointer) -> Vec<Slot> {
    let mut found = Vec::with_capacity(1 << node.stride.min(31));
    for (index, count) in slots(store, node) {
        found.extend(std::iter::repeat_n(Slot::from_word(store.load(index)), count as usize));
    }
    found
}

/// Index of the word with the slot of `value`, if that word is for this value alone.
pub fn own_word<M: Memory>(store: &Store<M>, node: Pointer, value: u32) -> Option<u32> {
    if node.kind == Kind::Direct {
        return Some(node.unit * UNIT_WORDS + value);
    }
    let (bitmap, first) = cell(store, node, value);
    let at = value & ((1 << CELL_BITS) - 1);
    let last = (1u64 << node.stride.min(CELL_BITS)) - 1;
    let begins = |at: u32| u64::from(at) > last || bitmap >> at & 1 == 1;
    (begins(at) && begins(at + 1)).then(|| first + rank(bitmap, value) - 1)
}

/// Whether a node can be one: strides as they are built, cells whose slots follow each other in the node's
/// own units. What is read from elsewhere is checked by this before anything else looks at it.
pub fn is_sound<M: Memory>(store: &Store<M>, node: Pointer) -> bool {
    let widest = if node.kind == Kind::Skip { 63 } else { MAX_STRIDE };
    if !(1..=widest).contains(&node.stride) || node.unit < DIRECTORY_WORDS / UNIT_WORDS {
        return false;
    }
    if node.kind != Kind::Sparse {
        return true;
    }
    let width = 1u64.checked_shl(1 << node.stride.min(CELL_BITS)).map_or(u64::MAX, |end| end - 1);
    let mut next = (node.unit + cells(node.stride)) * UNIT_WORDS;
    (0..1u32 << node.stride).step_by(CELL).all(|value| {
        let (bitmap, first) = cell(store, node, value);
        let sound = bitmap & 1 == 1 && bitmap & !width == 0 && first == next;
        next += bitmap.count_ones();
        sound
    })
}

/// The units of a node itself.
pub fn block<M: Memory>(store: &Store<M>, node: Pointer) -> Block {
    let units = match node.kind {
        Kind::Skip => 1,
        Kind::Direct => (1u32 << node.stride.min(31)).div_ceil(UNIT_WORDS),
        Kind::Sparse => {
            let starts = (0..1u32 << node.stride.min(31)).step_by(CELL);
            let runs: u32 = starts.map(|value| cell(store, node, value).0.count_ones()).sum();
            cells(node.stride) + runs.div_ceil(UNIT_WORDS)
        }
    };
    Block { unit: node.unit, units: Space::rounded(units).unwrap_or(units) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::memory::heap;
    use super::*;

    proptest! {
        #[test]
        fn nodes_are_read_as_they_were_written(
            stride in 1u32..=12,
            seed in prop::collection::vec((1u32..200, 0u32..4), 1..300),
            sparse in any::<bool>(),
        ) {
            let slots: Vec<Slot> = seed
                .iter()
                .flat_map(|(count, target)| std::iter::repeat_n(Slot::leaf(*target), *count as usize))
                .cycle()
                .take(1 << stride)
                .collect();
            let store = Store(heap(16 * 1024));
            let mut space = Space::new(store.units());
            let kind = if sparse { Kind::Sparse } else { Kind::Direct };
            let (slot, taken) = write(&store, &mut space, kind, stride, &slots).expect("room");
            let node = slot.node().expect("a pointer");
            prop_assert_eq!(block(&store, node), taken);
            prop_assert_eq!(&read(&store, node), &slots);
            for (value, slot) in slots.iter().enumerate() {
                let alone = (value == 0 || slots[value - 1] != *slot) && slots.get(value + 1) != Some(slot);
                let own = own_word(&store, node, u32::try_from(value).expect("small"));
                if kind == Kind::Direct || alone {
                    prop_assert_eq!(own.map(|index| store.load(index)), Some(slot.word()));
                }
            }
        }
    }
}
