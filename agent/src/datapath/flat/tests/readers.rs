//! Readers beside a writer at full speed: an old answer or a new one, never a third.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use underpass_common::fib::flat;

use super::super::memory::{Memory, Store};
use super::*;

/// Memory that the readers have too.
struct Shared(Arc<HeapMemory>);

impl Memory for Shared {
    fn words(&self) -> &[std::sync::atomic::AtomicU32] {
        &self.0
    }
}

/// Readers that take part in grace periods: each counts its lookups.
struct Readers {
    counts: [AtomicU64; 2],
    stop: AtomicBool,
}

impl Readers {
    /// Returns when every lookup that was under way is over.
    fn grace_period(&self) {
        for count in &self.counts {
            let before = count.load(Ordering::SeqCst);
            while count.load(Ordering::SeqCst) < before + 2 && !self.stop.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
    }
}

/// Lets the readers go, also when the writer panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Every prefix of the writer's has a target that tells which prefix it is: an address may get that of a
/// prefix that covers it, or none where nothing permanent covers it, and nothing else.
#[test]
fn readers_never_see_a_mixture() {
    const BLOCKS: u32 = 512;
    let memory: Arc<HeapMemory> = Arc::new(heap(1 << 19));
    let readers = Readers { counts: [AtomicU64::new(0), AtomicU64::new(0)], stop: AtomicBool::new(false) };
    let mut table = FlatTable::new(Shared(Arc::clone(&memory)));
    // 10.0/16 stays; blocks /26 and pairs of hosts in it come and go, and so does 10.0.64/18.
    let permanent = (0, v4(0x0a00_0000, 16));
    table.set(permanent, Some(1)).expect("room");
    let block = |n: u32| v4(0x0a00_0000 + n * 64, 26);
    let host = |n: u32| v4(0x0a00_0000 + n * 64 + 5, 32);
    let region = v4(0x0a00_4000, 18);
    let fits = |address: u32, target: u32| match target {
        1 => true,
        2 => region.contains(&IpAddr::V4(address.into())),
        1000..2000 => block(target - 1000).contains(&IpAddr::V4(address.into())),
        2000..3000 => host(target - 2000).contains(&IpAddr::V4(address.into())),
        _ => false,
    };
    thread::scope(|scope| {
        let stop = Stop(&readers.stop);
        let mut handles = Vec::new();
        for (number, count) in (1u32..).zip(&readers.counts) {
            let (store, stop) = (Store(Shared(Arc::clone(&memory))), &readers.stop);
            handles.push(scope.spawn(move || {
                let mut random = number;
                let mut wrong = None;
                while !stop.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let address = 0x0a00_0000 + (random >> 8) % (BLOCKS * 64);
                    let answer = flat::lookup4(&store, 0, address.to_be_bytes());
                    count.fetch_add(1, Ordering::SeqCst);
                    if !answer.is_some_and(|target| fits(address, target)) {
                        wrong.get_or_insert((address, answer));
                    }
                }
                wrong
            }));
        }
        let mut random = 7u32;
        for edit in 0..60_000u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = (random >> 10) % BLOCKS;
            let (prefix, target) = match random >> 29 {
                0..4 => (block(n), 1000 + n),
                4..7 => (host(n), 2000 + n),
                _ => (region, 2),
            };
            let target = (random >> 28 & 1 == 1).then_some(target);
            if edit % 5000 == 4999 {
                readers.grace_period();
                table.rested();
                let all: Vec<_> = (0..BLOCKS).map(|n| ((0, block(n)), Some(1000 + n))).collect();
                assert_eq!(table.set_all(&all), [], "room for the whole");
            }
            table.set((0, prefix), target).expect("room");
            if table.usage().resting > table.usage().capacity / 4 {
                readers.grace_period();
                table.rested();
            }
        }
        drop(stop);
        for handle in handles {
            assert_eq!(
                handle.join().expect("no panic"),
                None,
                "an address got an answer that was never its own"
            );
        }
    });
    assert!(readers.counts.iter().all(|count| count.load(Ordering::SeqCst) > 10_000), "the readers did read");
}
