//! The prefixes of one view and family, and the nodes that stand for them.

use underpass_common::fib::TargetId;
use underpass_common::fib::flat::{Kind, Pointer, Slot, UNIT_WORDS};

use super::address::Address;
use super::build::{Builder, Entry, Region, SKIP, wants_direct_root};
use super::memory::{Memory, Store};
use super::node;
use super::space::{Full, Space};
use super::walk::{blocks, length_of, pieces};
use crate::prefix_map::chunks::Chunks;
use crate::prefix_map::key::Key as _;

/// After so many edits and as many as there are prefixes the nodes are built anew: they were shaped for
/// other prefixes.
const EDITS: usize = 256;

/// One word that is to be published.
type Change = (u32, Slot);

/// Prefixes and where the first slot is.
#[derive(Clone, Debug)]
pub struct Tree<A: Address> {
    /// Index of the word with the slot for all addresses.
    root: u32,
    prefixes: Chunks<A::Key, TargetId>,
    /// Edits since the nodes were built as a whole.
    edits: usize,
}

impl<A: Address> Tree<A> {
    /// No prefix yet; the word at `root` is a miss.
    pub const fn new(root: u32) -> Self {
        Self { root, prefixes: Chunks::new(), edits: 0 }
    }

    /// Over sound nodes that are there ([`blocks`]).
    pub fn adopt<M: Memory>(store: &Store<M>, root: u32) -> Self {
        let mut tree = Self::new(root);
        for (prefix, target) in pieces(store, Slot::from_word(store.load(root))) {
            tree.note(prefix, Some(target));
        }
        tree
    }

    /// Number of prefixes.
    pub const fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// The prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = Entry<A>> {
        self.prefixes.iter().map(|(key, target)| ((key.address(), key.length()), *target))
    }

    /// Sets a prefix (`None`: removes it) and brings the nodes in step.
    ///
    /// # Errors
    /// There is no room; nothing has changed then.
    pub fn set<M: Memory>(
        &mut self,
        store: &Store<M>,
        space: &mut Space,
        prefix: (A, u8),
        target: Option<TargetId>,
    ) -> Result<(), Full> {
        let before = self.note(prefix, target);
        if before == target {
            return Ok(());
        }
        self.edits += 1;
        let done = self.edit(store, space, prefix);
        if done.is_err() {
            self.note(prefix, before);
        }
        done
    }

    /// As [`Self::set`] for many prefixes at once: builds all nodes aside and publishes them by one word.
    ///
    /// # Errors
    /// There is no room for both; nothing has changed then.
    pub fn set_all<M: Memory>(
        &mut self,
        store: &Store<M>,
        space: &mut Space,
        changes: &[((A, u8), Option<TargetId>)],
    ) -> Result<(), Full> {
        // In order, as they are at their places sooner then. Of equal prefixes the last one counts.
        let mut changes = changes.to_vec();
        changes.sort_by_key(|(prefix, _)| *prefix);
        for (prefix, target) in &mut changes {
            *target = self.note(*prefix, *target);
        }
        let done = self.rebuild(store, space);
        if done.is_err() {
            changes.into_iter().rev().for_each(|(prefix, before)| {
                self.note(prefix, before);
            });
        }
        done
    }

    /// Whether so many further changes are better made by [`Self::set_all`].
    pub fn is_worth_rebuilding(&self, changes: usize) -> bool {
        changes >= EDITS.max(self.prefixes.len() / 4) || self.edits >= EDITS + self.prefixes.len()
    }

    /// Builds all nodes anew. Their layout depends on the prefixes and on what is free, on nothing else.
    ///
    /// # Errors
    /// There is no room for both; nothing has changed then.
    pub fn rebuild<M: Memory>(&mut self, store: &Store<M>, space: &mut Space) -> Result<(), Full> {
        self.replace(store, space, self.root, Region::all())?;
        self.edits = 0;
        Ok(())
    }

    fn note(&mut self, (address, length): (A, u8), target: Option<TargetId>) -> Option<TargetId> {
        let key = A::Key::of(address, length);
        match target {
            Some(target) => self.prefixes.insert(key, target),
            None => self.prefixes.remove(key),
        }
    }

    /// The answer of the longest prefix that covers all of this one.
    fn cover(&self, (address, length): (A, u8)) -> Slot {
        let found = self.prefixes.cover(A::Key::of(address.first(length), length));
        found.map_or(Slot::MISS, |(_, target)| Slot::leaf(*target))
    }

    /// The prefixes in a region that are longer than it.
    fn inside(&self, region: Region<A>) -> impl Iterator<Item = Entry<A>> + '_ {
        let first = A::Key::of(region.base, region.length);
        let last = A::Key::of(region.base.last(region.length), A::BITS);
        let within =
            self.prefixes.range(first, last).map(|(key, target)| ((key.address(), key.length()), *target));
        within.filter(move |((_, length), _)| *length > region.length)
    }

    /// Brings the nodes in step with a prefix that changed.
    fn edit<M: Memory>(&self, store: &Store<M>, space: &mut Space, prefix: (A, u8)) -> Result<(), Full> {
        let mut at = self.root;
        let mut region = Region::all();
        loop {
            let node = Slot::from_word(store.load(at)).node();
            let Some(node) = node.filter(|node| !self.is_outgrown(region, *node)) else {
                return self.replace(store, space, at, region);
            };
            let stride = length_of(node.stride);
            let end = region.length + stride;
            if prefix.1 <= end {
                return match node.kind {
                    Kind::Skip => self.replace(store, space, at, region),
                    Kind::Direct | Kind::Sparse => self.repaint(store, space, (at, node), region, prefix),
                };
            }
            let value = prefix.0.bits(region.length, stride);
            let next = match node.kind {
                Kind::Skip => {
                    let skip = node::read_skip(store, node);
                    (skip.value == value).then_some(skip.behind)
                }
                Kind::Direct | Kind::Sparse => {
                    node::own_word(store, node, u32::try_from(value).map_err(|_| Full)?)
                }
            };
            match next {
                Some(next) => (at, region) = (next, region.part(stride, value)),
                None if node.kind == Kind::Skip => return self.replace(store, space, at, region),
                None => return self.split(store, space, (at, node), region, value),
            }
        }
    }

    /// Whether a node is replaced by the next edit in its region: it was made for fewer prefixes. A skip
    /// node of a few bits has one behind it; paths would become too long if others came behind that.
    fn is_outgrown(&self, region: Region<A>, node: Pointer) -> bool {
        self.prefixes.is_empty()
            || (node.kind == Kind::Skip && node.stride < u32::from(SKIP))
            || (node.kind != Kind::Direct && wants_direct_root(region, self.prefixes.len()))
    }

    /// Builds everything behind the slot at `at` anew.
    fn replace<M: Memory>(
        &self,
        store: &Store<M>,
        space: &mut Space,
        at: u32,
        region: Region<A>,
    ) -> Result<(), Full> {
        let mut builder = Builder::new(store, space);
        match self.build(&mut builder, region) {
            Ok(slot) => {
                publish(store, space, &[(at, slot)]);
                Ok(())
            }
            Err(full) => {
                builder.abandon();
                Err(full)
            }
        }
    }

    fn build<M: Memory>(&self, builder: &mut Builder<'_, M>, region: Region<A>) -> Result<Slot, Full> {
        let inherited = self.cover((region.base, region.length));
        let inside: Vec<Entry<A>> = self.inside(region).collect();
        builder.slot(region, inherited, &inside)
    }

    /// Gives `value`, which shares a leaf with its neighbours, a slot of its own.
    fn split<M: Memory>(
        &self,
        store: &Store<M>,
        space: &mut Space,
        (at, node): (u32, Pointer),
        region: Region<A>,
        value: u64,
    ) -> Result<(), Full> {
        let stride = length_of(node.stride);
        let mut builder = Builder::new(store, space);
        let place = u32::try_from(value).map_err(|_| Full)?;
        let built = self
            .build(&mut builder, region.part(stride, value))
            .and_then(|slot| builder.rewrite(node, &[(place, slot)]));
        Self::finish(builder, built, at, node, &[])
    }

    /// Gives the values of a node that the prefix covers, and no longer one that ends in the node, their
    /// new answer.
    fn repaint<M: Memory>(
        &self,
        store: &Store<M>,
        space: &mut Space,
        (at, node): (u32, Pointer),
        region: Region<A>,
        prefix: (A, u8),
    ) -> Result<(), Full> {
        let stride = length_of(node.stride);
        let end = region.length + stride;
        let first = u32::try_from(prefix.0.bits(region.length, stride)).map_err(|_| Full)?;
        let visible = self.visible(prefix, end);
        let answer = self.cover(prefix);
        let mut builder = Builder::new(store, space);
        let mut changes: Vec<(u32, Slot)> = Vec::new();
        let mut replaced = Vec::new();
        for value in (first..).zip(visible).filter_map(|(value, visible)| visible.then_some(value)) {
            let before = node::slot(store, node, value);
            let after = if before.is_pointer() {
                match self.build(&mut builder, region.part(stride, u64::from(value))) {
                    Ok(slot) => slot,
                    Err(full) => {
                        builder.abandon();
                        return Err(full);
                    }
                }
            } else {
                answer
            };
            if before != after {
                replaced.push(before);
                changes.push((value, after));
            }
        }
        if node.kind == Kind::Direct {
            let word = |(value, slot): &(u32, Slot)| (node.unit * UNIT_WORDS + value, *slot);
            publish(store, space, &changes.iter().map(word).collect::<Vec<_>>());
            return Ok(());
        }
        if changes.is_empty() {
            return Ok(());
        }
        let built = builder.rewrite(node, &changes);
        Self::finish(builder, built, at, node, &replaced)
    }

    /// Of the values of a node that ends at `end`, from the first that the prefix covers on: whether no
    /// longer prefix that ends in the node covers it.
    fn visible(&self, prefix: (A, u8), end: u8) -> Vec<bool> {
        let mut visible = vec![true; 1 << (end - prefix.1)];
        for ((address, length), _) in self.inside(Region { base: prefix.0, length: prefix.1 }) {
            if length <= end {
                let at = usize::try_from(address.bits(prefix.1, end - prefix.1)).unwrap_or(usize::MAX);
                visible.iter_mut().skip(at).take(1 << (end - length)).for_each(|visible| *visible = false);
            }
        }
        visible
    }

    /// Publishes a node in the place of `node`; what it led to stays in use but for `replaced`.
    fn finish<M: Memory>(
        builder: Builder<'_, M>,
        built: Result<Slot, Full>,
        at: u32,
        node: Pointer,
        replaced: &[Slot],
    ) -> Result<(), Full> {
        let (store, space) = match built {
            Ok(_) => builder.into_parts(),
            Err(full) => {
                builder.abandon();
                return Err(full);
            }
        };
        store.publish(at, built?.word());
        let block = node::block(store, node);
        space.retire(block);
        for slot in replaced.iter().filter(|slot| slot.is_pointer()) {
            for block in blocks(store, *slot, A::BITS).unwrap_or_default() {
                space.retire(block);
            }
        }
        Ok(())
    }
}

/// Publishes slots and gives back what was behind the old ones.
fn publish<M: Memory>(store: &Store<M>, space: &mut Space, changes: &[Change]) {
    for (at, slot) in changes {
        let before = Slot::from_word(store.load(*at));
        store.publish(*at, slot.word());
        for block in blocks(store, before, u8::MAX).unwrap_or_default() {
            space.retire(block);
        }
    }
}
