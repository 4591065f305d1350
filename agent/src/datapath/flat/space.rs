//! Which units of the table are in use.

use std::collections::BTreeMap;

use underpass_common::fib::flat::{DIRECTORY_WORDS, UNIT_WORDS};

/// Units from `unit` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// First unit.
    pub unit: u32,
    /// How many.
    pub units: u32,
}

/// There is no room for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Up to this many units a block has exactly the size that was asked for.
const EXACT: u32 = 16;
/// Larger ones are rounded up to a multiple of this, so that fewer sizes circulate.
const STEP: u32 = 4;

/// Units in use, free, or resting until no reader can be in them any more.
#[derive(Clone, Debug)]
pub struct Space {
    units: u32,
    /// First unit that was never used.
    next: u32,
    /// Free blocks by size.
    free: BTreeMap<u32, Vec<u32>>,
    free_units: u32,
    resting: Vec<Block>,
    resting_units: u32,
}

impl Space {
    /// `units` units, all free but those of the directory.
    pub const fn new(units: u32) -> Self {
        Self {
            units,
            next: DIRECTORY_WORDS / UNIT_WORDS,
            free: BTreeMap::new(),
            free_units: 0,
            resting: Vec::new(),
            resting_units: 0,
        }
    }

    /// As [`Self::new`] with the blocks `used` taken; `None` when they overlap or lie outside.
    pub fn with_used(units: u32, mut used: Vec<Block>) -> Option<Self> {
        let mut space = Self::new(units);
        used.sort_unstable();
        for block in used {
            let gap = block.unit.checked_sub(space.next)?;
            let free = Block { unit: space.next, units: gap };
            space.next = block.unit.checked_add(Self::rounded(block.units)?)?;
            if gap > 0 {
                space.give(free);
            }
        }
        (space.next <= units).then_some(space)
    }

    /// A free block of at least `units` units.
    pub fn take(&mut self, units: u32) -> Result<Block, Full> {
        let units = Self::rounded(units).ok_or(Full)?;
        if let Some(unit) = self.free.get_mut(&units).and_then(Vec::pop) {
            self.free_units -= units;
            return Ok(Block { unit, units });
        }
        if let Some(end) = self.next.checked_add(units).filter(|end| *end <= self.units) {
            let unit = std::mem::replace(&mut self.next, end);
            return Ok(Block { unit, units });
        }
        if let Some(block) = self.take_part(units) {
            return Ok(block);
        }
        if self.free_units + (self.units - self.next) < units {
            return Err(Full);
        }
        self.join();
        if let Some(end) = self.next.checked_add(units).filter(|end| *end <= self.units) {
            let unit = std::mem::replace(&mut self.next, end);
            return Ok(Block { unit, units });
        }
        self.take_part(units).ok_or(Full)
    }

    /// The first units of the smallest free block that is large enough.
    fn take_part(&mut self, units: u32) -> Option<Block> {
        let (&found, _) = self.free.range(units..).find(|(_, blocks)| !blocks.is_empty())?;
        let unit = self.free.get_mut(&found)?.pop()?;
        self.free_units -= found;
        if found > units {
            self.give(Block { unit: unit + units, units: found - units });
        }
        Some(Block { unit, units })
    }

    /// Makes one block of free blocks that touch; the last one joins what was never used.
    fn join(&mut self) {
        let free = std::mem::take(&mut self.free).into_iter();
        let mut blocks: Vec<Block> = free
            .flat_map(|(units, found)| found.into_iter().map(move |unit| Block { unit, units }))
            .collect();
        blocks.sort_unstable();
        self.free_units = 0;
        let mut whole: Option<Block> = None;
        for block in blocks {
            whole = Some(match whole {
                Some(before) if before.unit + before.units == block.unit => {
                    Block { units: before.units + block.units, ..before }
                }
                Some(before) => {
                    self.give(before);
                    block
                }
                None => block,
            });
        }
        if let Some(last) = whole {
            self.give(last);
        }
    }

    /// Gives a block back that no reader ever saw, or that has rested.
    pub fn give(&mut self, block: Block) {
        if block.unit + block.units == self.next {
            self.next = block.unit;
            return;
        }
        self.free_units += block.units;
        self.free.entry(block.units).or_default().push(block.unit);
    }

    /// Gives a block back that readers may still be in.
    pub fn retire(&mut self, block: Block) {
        self.resting_units += block.units;
        self.resting.push(block);
    }

    /// After a grace period: what rested is free.
    pub fn rested(&mut self) {
        for block in std::mem::take(&mut self.resting) {
            self.give(block);
        }
        self.resting_units = 0;
    }

    /// Units that rest.
    pub const fn resting(&self) -> u32 {
        self.resting_units
    }

    /// Units in use, those that rest included.
    pub const fn used(&self) -> u32 {
        self.next - self.free_units
    }

    /// The size that is taken for a block.
    pub const fn rounded(units: u32) -> Option<u32> {
        if units <= EXACT { Some(units) } else { units.checked_next_multiple_of(STEP) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = DIRECTORY_WORDS / UNIT_WORDS;

    #[test]
    fn blocks_rest_before_reuse() {
        let mut space = Space::new(FIRST + 20);
        let a = space.take(12).expect("room");
        let b = space.take(8).expect("room");
        assert_eq!((a.unit, b.unit), (FIRST, FIRST + 12));
        assert_eq!(space.take(1), Err(Full));
        space.retire(a);
        assert_eq!(space.resting(), 12);
        assert_eq!(space.take(1), Err(Full), "readers may still be there");
        space.rested();
        assert_eq!(space.take(12), Ok(a));
        space.give(a);
        assert_eq!(space.take(3), Ok(Block { unit: FIRST, units: 3 }), "a larger block is split");
        assert_eq!(space.take(9), Ok(Block { unit: FIRST + 3, units: 9 }));
        space.give(b);
        assert_eq!(space.used(), FIRST + 12);
    }

    #[test]
    fn free_blocks_that_touch_are_joined_when_there_is_no_other_room() {
        let mut space = Space::new(FIRST + 12);
        let blocks: Vec<_> = (0..12).map(|_| space.take(1).expect("room")).collect();
        for block in &blocks[2..10] {
            space.give(*block);
        }
        assert_eq!(space.take(9), Err(Full));
        assert_eq!(space.take(8), Ok(Block { unit: FIRST + 2, units: 8 }));
        space.give(blocks[10]);
        space.give(blocks[11]);
        assert_eq!(space.take(2), Ok(Block { unit: FIRST + 10, units: 2 }));
        assert_eq!(space.used(), FIRST + 12);
    }

    #[test]
    fn gaps_between_used_blocks_are_free() {
        let block = |unit, units| Block { unit: FIRST + unit, units };
        let mut space = Space::with_used(FIRST + 30, vec![block(10, 4), block(2, 3)]).expect("fine");
        assert_eq!(space.used(), FIRST + 7);
        assert_eq!(space.take(2), Ok(block(0, 2)));
        assert_eq!(space.take(5), Ok(block(5, 5)));
        assert_eq!(space.take(16), Ok(block(14, 16)));
        assert_eq!(space.take(1), Err(Full));
        assert!(Space::with_used(FIRST + 30, vec![block(10, 4), block(13, 3)]).is_none(), "overlap");
        assert!(Space::with_used(FIRST + 30, vec![block(28, 4)]).is_none(), "outside");
        assert!(Space::with_used(FIRST + 30, vec![Block { unit: 1, units: 1 }]).is_none(), "directory");
    }
}
