//! Indices of table elements, with a rest before reuse.

use std::collections::BTreeSet;

/// Hands out the indices `1..capacity` of a table.
///
/// An index that is given back rests: a packet under way may still read its element. After a grace
/// period [`Self::sweep`] makes it available again.
#[derive(Clone, Debug)]
pub struct Slots {
    capacity: u32,
    /// Lowest index that was never used.
    next: u32,
    free: BTreeSet<u32>,
    resting: BTreeSet<u32>,
}

impl Slots {
    /// All indices but `used` are free; 0 is never handed out.
    pub fn new(capacity: u32, used: impl IntoIterator<Item = u32>) -> Self {
        let used: BTreeSet<u32> = used.into_iter().filter(|index| *index < capacity).collect();
        let next = used.last().map_or(1, |last| last + 1).max(1);
        let free = (1..next).filter(|index| !used.contains(index)).collect();
        Self { capacity, next, free, resting: BTreeSet::new() }
    }

    /// A free index, or `None`.
    pub fn take(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop_first() {
            return Some(index);
        }
        let index = self.next;
        (index < self.capacity).then(|| {
            self.next += 1;
            index
        })
    }

    /// Gives an index back.
    pub fn retire(&mut self, index: u32) {
        self.resting.insert(index);
    }

    /// Gives an index back that no packet ever saw.
    pub fn put_back(&mut self, index: u32) {
        self.free.insert(index);
    }

    /// How many indices rest.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// After a grace period: frees the resting indices that `clear` emptied the element of; the
    /// others rest on.
    pub fn sweep(&mut self, mut clear: impl FnMut(u32) -> bool) {
        for index in std::mem::take(&mut self.resting) {
            if clear(index) {
                self.free.insert(index);
            } else {
                self.resting.insert(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_rest_before_reuse() {
        let mut slots = Slots::new(4, []);
        assert_eq!(
            [slots.take(), slots.take(), slots.take(), slots.take()],
            [Some(1), Some(2), Some(3), None]
        );
        slots.retire(2);
        slots.retire(3);
        assert_eq!(slots.take(), None);
        slots.sweep(|index| index == 2);
        assert_eq!((slots.take(), slots.take()), (Some(2), None));
        assert_eq!(slots.resting(), 1);
        slots.sweep(|_| true);
        assert_eq!(slots.take(), Some(3));
    }

    #[test]
    fn gaps_between_used_indices_are_free() {
        let mut slots = Slots::new(6, [0, 2, 4, 99]);
        assert_eq!(
            [slots.take(), slots.take(), slots.take(), slots.take()],
            [Some(1), Some(3), Some(5), None]
        );
    }
}
