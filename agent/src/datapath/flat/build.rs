//! From prefixes to nodes.

use underpass_common::fib::TargetId;
use underpass_common::fib::flat::{Kind, Pointer, Slot};

use super::address::Address;
use super::memory::{Memory, Store};
use super::node;
use super::space::{Block, Full, Space};

/// A prefix and its target.
pub type Entry<A> = ((A, u8), TargetId);

/// The addresses that a slot answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region<A> {
    /// First address.
    pub base: A,
    /// Length of the prefix that the addresses share.
    pub length: u8,
}

impl<A: Address> Region<A> {
    /// All addresses.
    pub const fn all() -> Self {
        Self { base: A::ZERO, length: 0 }
    }

    /// The part of it that has `value` in the next `stride` bits.
    pub fn part(self, stride: u8, value: u64) -> Self {
        Self { base: self.base.with_bits(self.length, stride, value), length: self.length + stride }
    }

    /// Whether it holds all addresses of the prefix.
    pub fn contains(self, (address, length): (A, u8)) -> bool {
        length >= self.length && address.first(self.length) == self.base
    }
}

/// From so many prefixes on the first node of an IPv4 table is a direct one: routes of the internet lie in
/// most of its slots, and a slot is replaced without touching another.
const ROOT_PREFIXES4: usize = 32;
/// The same of an IPv6 table, whose prefixes share most of their first bits: it saves a rank.
const ROOT_PREFIXES6: usize = 1024;
/// Strides of sparse nodes, smallest first: 1, 4, 16 and 64 cells.
const STRIDES: [u8; 4] = [6, 8, 10, 12];
/// The stride where prefixes end at many depths.
const MIDDLE: u8 = 10;
/// Stride of direct nodes.
const DIRECT: u8 = 16;
/// From so many prefixes on a direct node is worth its memory: 32 bytes for each of them at most.
const DIRECT_PREFIXES: usize = 8192;
/// From so many on, where they end at many depths, the largest sparse node is.
const LARGE_PREFIXES: usize = 512;
/// Bits that all prefixes of a region must share for a skip node; a single prefix is always skipped to.
pub const SKIP: u8 = 7;
/// Most bits that a skip node can compare.
const MAX_SKIP: u8 = 63;

/// What node a region gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Skip(u8),
    Node(Kind, u8),
}

/// The shape for prefixes that lie inside of a region and are longer than it; at least one, in order.
fn shape<A: Address>(region: Region<A>, inside: &[Entry<A>]) -> Shape {
    if wants_direct_root(region, inside.len()) {
        return Shape::Node(Kind::Direct, DIRECT);
    }
    let left = A::BITS - region.length;
    let (first, last) = (inside[0].0, inside[inside.len() - 1].0);
    let shared = first.0.common(last.0).min(first.1) - region.length;
    if shared >= SKIP || inside.len() == 1 {
        return Shape::Skip(shared.min(MAX_SKIP));
    }
    let deeper =
        |stride: u8| inside.iter().filter(|((_, length), _)| *length > region.length + stride).count();
    if inside.len() >= DIRECT_PREFIXES && left >= DIRECT && deeper(STRIDES[3]) * 2 > inside.len() {
        return Shape::Node(Kind::Direct, DIRECT);
    }
    // The smallest node in which three of four prefixes end; a few do not pay for a large one.
    let fits = |stride: &u8| *stride >= left || deeper(*stride) * 4 <= inside.len();
    let stride = STRIDES.into_iter().find(fits).unwrap_or(match inside.len() {
        ..8 => STRIDES[0],
        8..LARGE_PREFIXES => MIDDLE,
        _ => STRIDES[3],
    });
    Shape::Node(Kind::Sparse, stride.min(left))
}

/// Whether a region is a whole table with enough prefixes for a direct node.
pub const fn wants_direct_root<A: Address>(region: Region<A>, prefixes: usize) -> bool {
    let enough = if A::BITS == 32 { ROOT_PREFIXES4 } else { ROOT_PREFIXES6 };
    region.length == 0 && prefixes >= enough
}

/// Builds nodes aside. What was taken is given back when the whole does not fit.
pub struct Builder<'a, M> {
    /// The words.
    pub store: &'a Store<M>,
    /// What is free of them.
    pub space: &'a mut Space,
    taken: Vec<Block>,
}

impl<'a, M: Memory> Builder<'a, M> {
    /// Nothing built yet.
    pub const fn new(store: &'a Store<M>, space: &'a mut Space) -> Self {
        Self { store, space, taken: Vec::new() }
    }

    /// Keeps what was built.
    pub fn into_parts(self) -> (&'a Store<M>, &'a mut Space) {
        (self.store, self.space)
    }

    /// Gives everything back that was built.
    pub fn abandon(self) {
        for block in self.taken.into_iter().rev() {
            self.space.give(block);
        }
    }

    /// The slot of a region: `inherited` is the answer of what covers it, `inside` the longer prefixes in
    /// it, by address and length.
    ///
    /// # Errors
    /// There is no room; call [`Self::abandon`].
    pub fn slot<A: Address>(
        &mut self,
        region: Region<A>,
        inherited: Slot,
        inside: &[Entry<A>],
    ) -> Result<Slot, Full> {
        if inside.is_empty() {
            return Ok(inherited);
        }
        match shape(region, inside) {
            Shape::Skip(stride) => self.skip(region, inherited, inside, stride),
            Shape::Node(kind, stride) => {
                let mut slots = vec![inherited; 1 << stride];
                self.paint(region, stride, inside, &mut slots)?;
                self.node(kind, stride, &slots)
            }
        }
    }

    /// A node with these slots.
    ///
    /// # Errors
    /// As [`Self::slot`].
    pub fn node(&mut self, kind: Kind, stride: u8, slots: &[Slot]) -> Result<Slot, Full> {
        let (slot, block) = node::write(self.store, self.space, kind, u32::from(stride), slots)?;
        self.taken.push(block);
        Ok(slot)
    }

    /// A sparse node with some slots of `node` changed, by value in order.
    ///
    /// # Errors
    /// As [`Self::slot`].
    pub fn rewrite(&mut self, node: Pointer, changes: &[(u32, Slot)]) -> Result<Slot, Full> {
        let (slot, block) = node::rewrite(self.store, self.space, node, changes)?;
        self.taken.push(block);
        Ok(slot)
    }

    fn skip<A: Address>(
        &mut self,
        region: Region<A>,
        inherited: Slot,
        inside: &[Entry<A>],
        stride: u8,
    ) -> Result<Slot, Full> {
        let value = inside[0].0.0.bits(region.length, stride);
        let part = region.part(stride, value);
        // The shortest prefix may be exactly the part; it is the first.
        let (whole, inside) = match inside {
            [((_, length), target), rest @ ..] if *length == part.length => (Slot::leaf(*target), rest),
            _ => (inherited, inside),
        };
        let behind = self.slot(part, whole, inside)?;
        let (slot, block) =
            node::write_skip(self.store, self.space, (u32::from(stride), value), [inherited, behind])?;
        self.taken.push(block);
        Ok(slot)
    }

    /// Fills in the slots of a node with what lies inside of its region.
    fn paint<A: Address>(
        &mut self,
        region: Region<A>,
        stride: u8,
        inside: &[Entry<A>],
        slots: &mut [Slot],
    ) -> Result<(), Full> {
        let end = region.length + stride;
        let mut rest = inside;
        while let [((address, length), target), tail @ ..] = rest {
            let value = address.bits(region.length, stride);
            let at = usize::try_from(value).map_err(|_| Full)?;
            if *length <= end {
                // What is longer comes later, and paints over it.
                slots[at..at + (1 << (end - length))].fill(Slot::leaf(*target));
                rest = tail;
                continue;
            }
            let part = region.part(stride, value);
            let count = rest.iter().take_while(|(prefix, _)| part.contains(*prefix)).count();
            slots[at] = self.slot(part, slots[at], &rest[..count])?;
            rest = &rest[count..];
        }
        Ok(())
    }
}
