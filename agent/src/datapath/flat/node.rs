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
    let mut packed = Packed::with_room(cells(stride) as usize, 0);
    slots.chunks(CELL).for_each(|slots| packed.cell(slots));
    packed.write(store, space, stride)
}

/// Writes a sparse node with some slots of `node` changed, by value in order, into free units. Only the cells
/// concerned are taken apart: most of the time of an edit would go into the others.
///
/// # Errors
/// As [`write`].
pub fn rewrite<M: Memory>(
    store: &Store<M>,
    space: &mut Space,
    node: Pointer,
    mut changes: &[(u32, Slot)],
) -> Result<(Slot, Block), Full> {
    let slots = block(store, node).units.saturating_sub(cells(node.stride)) * UNIT_WORDS;
    // Each change adds two runs at most.
    let mut packed = Packed::with_room(cells(node.stride) as usize, slots as usize + 2 * changes.len());
    let width = 1usize << node.stride.min(CELL_BITS);
    for start in (0..1u32 << node.stride.min(MAX_STRIDE)).step_by(CELL) {
        let (bitmap, first) = cell(store, node, start);
        let words = (first..first + bitmap.count_ones()).map(|index| store.load(index));
        let inside = changes.iter().take_while(|(value, _)| value >> CELL_BITS == start >> CELL_BITS).count();
        let (inside, later) = changes.split_at(inside);
        changes = later;
        if inside.is_empty() {
            packed.bitmaps.push(bitmap);
            packed.words.extend(words);
            continue;
        }
        let mut slots = [Slot::MISS; CELL];
        let mut rest = bitmap;
        for word in words {
            slots[rest.trailing_zeros() as usize % CELL..].fill(Slot::from_word(word));
            rest &= rest.wrapping_sub(1);
        }
        for (value, slot) in inside {
            slots[*value as usize % CELL] = *slot;
        }
        packed.cell(&slots[..width]);
    }
    packed.write(store, space, node.stride)
}

/// A sparse node's content: the bitmaps of its cells, and the words of all runs.
struct Packed {
    bitmaps: Vec<u64>,
    words: Vec<u32>,
}

impl Packed {
    /// Nothing yet; room for so many cells and words is there at once.
    fn with_room(cells: usize, words: usize) -> Self {
        Self { bitmaps: Vec::with_capacity(cells), words: Vec::with_capacity(words) }
    }

    /// Adds a cell with these slots.
    fn cell(&mut self, slots: &[Slot]) {
        let bitmap = runs(slots);
        let mut rest = bitmap;
        while rest != 0 {
            self.words.push(slots[rest.trailing_zeros() as usize].word());
            rest &= rest - 1;
        }
        self.bitmaps.push(bitmap);
    }

    fn write<M: Memory>(
        self,
        store: &Store<M>,
        space: &mut Space,
        stride: u32,
    ) -> Result<(Slot, Block), Full> {
        let total = u32::try_from(self.words.len()).map_err(|_| Full)?;
        let block = space.take(cells(stride) + total.div_ceil(UNIT_WORDS))?;
        let slots = (block.unit + cells(stride)) * UNIT_WORDS;
        let mut first = slots;
        for (unit, bitmap) in (block.unit..).zip(self.bitmaps) {
            let [low, high] = halves(bitmap);
            for (index, word) in (unit * UNIT_WORDS..).zip([low, high, first, 0]) {
                store.store(index, word);
            }
            first += bitmap.count_ones();
        }
        for (index, word) in (slots..).zip(self.words) {
            store.store(index, word);
        }
        Ok((Slot::pointer(Pointer { kind: Kind::Sparse, stride, unit: block.unit }), block))
    }
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

/// The slot of `value` in a direct or sparse node.
pub fn slot<M: Memory>(store: &Store<M>, node: Pointer, value: u32) -> Slot {
    if node.kind == Kind::Direct {
        return Slot::from_word(store.load(node.unit * UNIT_WORDS + value));
    }
    let (bitmap, first) = cell(store, node, value);
    Slot::from_word(store.load(first + rank(bitmap, value) - 1))
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
            for (value, slot) in (0..).zip(&slots) {
                prop_assert_eq!(super::slot(&store, node, value), *slot);
            }
            for (value, slot) in slots.iter().enumerate() {
                let alone = (value == 0 || slots[value - 1] != *slot) && slots.get(value + 1) != Some(slot);
                let own = own_word(&store, node, u32::try_from(value).expect("small"));
                if kind == Kind::Direct || alone {
                    prop_assert_eq!(own.map(|index| store.load(index)), Some(slot.word()));
                }
            }
            if kind == Kind::Sparse {
                let changes: Vec<_> = (0..1u32 << stride)
                    .filter(|value| value.wrapping_mul(0x9e37_79b1) >> 28 < seed[0].1)
                    .map(|value| (value, Slot::leaf(value % 3)))
                    .collect();
                let (changed, _) = rewrite(&store, &mut space, node, &changes).expect("room");
                let changed = changed.node().expect("a pointer");
                let mut expected = slots.clone();
                for (value, slot) in &changes {
                    expected[*value as usize] = *slot;
                }
                let fresh = write(&store, &mut space, kind, stride, &expected).expect("room").0;
                for (value, slot) in (0..).zip(&expected) {
                    prop_assert_eq!(super::slot(&store, changed, value), *slot);
                }
                prop_assert_eq!(block(&store, changed).units, block(&store, fresh.node().expect("a pointer")).units);
            }
        }
    }
}
