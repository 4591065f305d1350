//! The flat table as the engine: `common::fib::flat` over the words of a map.

use underpass_common::fib::flat::{self, UNIT_WORDS, Words};
use underpass_common::fib::{Lookup, TargetId, ViewId};

use crate::maps::{UP_FIB, UP_FIB_UNIT_MASK};

/// The flat table as the prefix table.
pub struct FlatTable(Option<MapWords>);

impl FlatTable {
    /// The table of the map.
    #[inline(always)]
    pub fn open() -> Self {
        Self(MapWords::open())
    }
}

impl Lookup for FlatTable {
    #[inline(always)]
    fn lookup4(&self, view: ViewId, address: [u8; 4]) -> Option<TargetId> {
        flat::lookup4(self.0.as_ref()?, view, address)
    }

    #[inline(always)]
    fn lookup6(&self, view: ViewId, address: [u8; 16]) -> Option<TargetId> {
        flat::lookup6(self.0.as_ref()?, view, address)
    }
}

/// The words of the map's one element. Indexes are masked to its size, which the verifier checks.
struct MapWords {
    base: *const u64,
    unit_mask: u32,
}

impl MapWords {
    #[inline(always)]
    fn open() -> Option<Self> {
        // SAFETY: a static; volatile, because the loader changes what the compiler takes for a constant.
        let unit_mask = unsafe { (&raw const UP_FIB_UNIT_MASK).read_volatile() };
        Some(Self { base: UP_FIB.get_ptr(0)?.cast(), unit_mask })
    }
}

impl Words for MapWords {
    #[inline(always)]
    fn word(&self, index: u32) -> u32 {
        let index = index & (self.unit_mask * UNIT_WORDS + (UNIT_WORDS - 1));
        // SAFETY: masked to the element's words. Volatile: user space writes them meanwhile.
        unsafe { self.base.cast::<u32>().add(index as usize).read_volatile() }
    }

    #[inline(always)]
    fn unit(&self, unit: u32) -> [u64; 2] {
        let pair = self.base;
        let at = (unit & self.unit_mask) as usize * 2;
        // SAFETY: masked to the element's units, which are aligned to 16 bytes in the page-aligned element.
        unsafe { [pair.add(at).read_volatile(), pair.add(at + 1).read_volatile()] }
    }

    #[inline(always)]
    fn touch(&self, unit: u32) {
        let line = self.base;
        let at = (unit & self.unit_mask) as usize * 2;
        // SAFETY: as in `unit`; the map has FIB_SLACK bytes more than the mask covers. BPF has no prefetch; a
        // load that nothing depends on is one.
        unsafe {
            line.add(at + 8).read_volatile();
            line.add(at + 16).read_volatile();
        }
    }
}
