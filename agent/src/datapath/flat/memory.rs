//! The words of a table, as user space has them.

use std::sync::atomic::{AtomicU32, Ordering};

use underpass_common::fib::flat::{MAX_UNITS, UNIT_WORDS, Words};

use crate::sys::mapping::Mapping;

/// Words that programs may be reading while they are written.
pub trait Memory {
    /// All of them.
    fn words(&self) -> &[AtomicU32];
}

/// Memory of the process, for tests and for what is not loaded.
pub type HeapMemory = Box<[AtomicU32]>;

impl Memory for HeapMemory {
    fn words(&self) -> &[AtomicU32] {
        self
    }
}

impl Memory for Mapping {
    fn words(&self) -> &[AtomicU32] {
        Self::words(self)
    }
}

/// `words` zeroed words of the process.
pub fn heap(words: usize) -> HeapMemory {
    std::iter::repeat_with(|| AtomicU32::new(0)).take(words).collect()
}

/// What the table's code does with words.
#[derive(Debug)]
pub struct Store<M>(pub M);

impl<M: Memory> Store<M> {
    /// Units that fit.
    pub fn units(&self) -> u32 {
        u32::try_from(self.0.words().len()).map_or(MAX_UNITS, |words| (words / UNIT_WORDS).min(MAX_UNITS))
    }

    /// Reads a word; out of range it is 0.
    pub fn load(&self, index: u32) -> u32 {
        self.0.words().get(index as usize).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Writes a word that no reader can reach yet.
    pub fn store(&self, index: u32, word: u32) {
        if let Some(place) = self.0.words().get(index as usize) {
            place.store(word, Ordering::Relaxed);
        }
    }

    /// Writes a word that readers may be looking at: they see what was stored before it too.
    pub fn publish(&self, index: u32, word: u32) {
        if let Some(place) = self.0.words().get(index as usize) {
            place.store(word, Ordering::Release);
        }
    }
}

impl<M: Memory> Words for Store<M> {
    fn word(&self, index: u32) -> u32 {
        self.0.words().get(index as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn unit(&self, unit: u32) -> [u64; 2] {
        [0, 2].map(|word| {
            let at = unit.wrapping_mul(UNIT_WORDS).wrapping_add(word);
            u64::from(self.word(at)) | u64::from(self.word(at.wrapping_add(1))) << 32
        })
    }

    fn touch(&self, _: u32) {}
}
