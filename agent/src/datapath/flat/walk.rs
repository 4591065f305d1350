//! Walks over the nodes that are there: which blocks they take, and what they answer.

use underpass_common::fib::TargetId;
use underpass_common::fib::flat::{Kind, Slot};

use super::address::{Address, prefixes_of};
use super::build::{Entry, Region};
use super::memory::{Memory, Store};
use super::node;
use super::space::Block;

/// All blocks behind the slot of a region that has `bits` bits; `None` when that is not how a table looks.
pub fn blocks<M: Memory>(store: &Store<M>, slot: Slot, bits: u8) -> Option<Vec<Block>> {
    let mut found = Vec::new();
    let mut units = 0;
    let mut pending = vec![(slot, u32::from(bits))];
    while let Some((slot, bits)) = pending.pop() {
        if !slot.is_pointer() {
            continue;
        }
        let node = slot.node().filter(|node| node::is_sound(store, *node) && node.stride <= bits)?;
        let block = node::block(store, node);
        units += block.units;
        if block.unit + block.units > store.units() || units > store.units() {
            return None;
        }
        found.push(block);
        let next: Vec<u32> = if node.kind == Kind::Skip {
            let skip = node::read_skip(store, node);
            // The slot for all other bits is the one of what covers the region.
            if Slot::from_word(store.load(skip.other)).is_pointer() {
                return None;
            }
            vec![skip.behind]
        } else {
            node::slots(store, node).into_iter().map(|(index, _)| index).collect()
        };
        pending
            .extend(next.into_iter().map(|index| (Slot::from_word(store.load(index)), bits - node.stride)));
    }
    Some(found)
}

/// The answers behind a slot as the fewest prefixes that give them, none of which covers another.
/// The blocks behind it must be sound ([`blocks`]).
pub fn pieces<A: Address, M: Memory>(store: &Store<M>, root: Slot) -> Vec<Entry<A>> {
    let mut found = Vec::new();
    let mut run: Option<(A, A, TargetId)> = None;
    let mut flush = |run: Option<(A, A, TargetId)>| {
        if let Some((first, last, target)) = run {
            found.extend(prefixes_of(first, last).into_iter().map(|prefix| (prefix, target)));
        }
    };
    walk(store, Region::all(), root, &mut |first: A, last, slot| {
        let target = slot.target();
        match (&mut run, target) {
            (Some((_, end, same)), Some(target)) if *same == target && end.next() == Some(first) => {
                *end = last;
            }
            _ => {
                flush(run.take());
                run = target.map(|target| (first, last, target));
            }
        }
    });
    flush(run.take());
    found
}

/// Calls `see` with the leaves behind a slot, in the order of their addresses.
fn walk<A: Address, M: Memory>(
    store: &Store<M>,
    region: Region<A>,
    slot: Slot,
    see: &mut impl FnMut(A, A, Slot),
) {
    let left = A::BITS - region.length;
    let Some(node) = slot.node().filter(|node| node.stride <= u32::from(left)) else {
        return see(region.base, region.base.last(region.length), slot);
    };
    let stride = length_of(node.stride);
    let load = |index| Slot::from_word(store.load(index));
    if node.kind == Kind::Skip {
        let skip = node::read_skip(store, node);
        let (other, part) = (load(skip.other), region.part(stride, skip.value));
        if let Some(last) = part.base.previous().filter(|last| *last >= region.base) {
            see(region.base, last, other);
        }
        walk(store, part, load(skip.behind), see);
        let end = region.base.last(region.length);
        if let Some(first) = part.base.last(part.length).next().filter(|first| *first <= end) {
            see(first, end, other);
        }
        return;
    }
    let mut value = 0;
    for (index, count) in node::slots(store, node) {
        let (first, last) = (region.part(stride, value), region.part(stride, value + u64::from(count) - 1));
        if count == 1 {
            walk(store, first, load(index), see);
        } else {
            see(first.base, last.base.last(last.length), load(index));
        }
        value += u64::from(count);
    }
}

/// Strides are 1 to 63.
pub fn length_of(stride: u32) -> u8 {
    u8::try_from(stride).unwrap_or(u8::MAX)
}
