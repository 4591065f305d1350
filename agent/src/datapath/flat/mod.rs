//! The flat table: prefixes in the words that the XDP program looks up (`common::fib::flat`).
//!
//! # Design
//! The table remembers its prefixes by view and family (a [`Tree`](tree::Tree) each) and keeps the nodes
//! in step. A change of one prefix builds the node concerned aside and publishes it by the store of one
//! word; many changes at once build all nodes of a view aside and publish them by one word. What readers
//! may still be in rests until [`FlatTable::rested`].
//!
//! # Invariants
//! * Readers find, for any address, the answer before a change or the one after it.
//! * A change that does not fit changes nothing.
//! * Nodes that are built as a whole ([`FlatTable::copy_to`], a rebuilt view) depend on the prefixes alone,
//!   not on the order in which they came.

mod address;
mod build;
pub mod memory;
mod node;
mod space;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::fib::flat::{self, Slot, UNIT_WORDS, VIEWS, directory};
use underpass_common::fib::{TargetId, ViewId};

use self::address::Address;
use self::memory::{Memory, Store};
pub use self::space::Full;
use self::space::Space;
use self::tree::Tree;

/// A prefix of a view.
pub type Key = (ViewId, IpNet);

/// What is to become of a prefix: a target, or nothing.
pub type Change = (Key, Option<TargetId>);

/// A prefix cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No room.
    #[error("the prefix table is full")]
    Full,
    /// The view id is [`VIEWS`] or more.
    #[error("view {0} is out of range, there is room for {VIEWS}")]
    View(ViewId),
    /// The target id does not fit into a leaf.
    #[error("target {0} is out of range")]
    Target(TargetId),
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// The words hold no table: a pointer leads out of them, or two nodes overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the words hold no sound prefix table")]
pub struct Unsound;

/// How much of the words is in use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of them.
    pub capacity: u64,
    /// In use, or resting.
    pub used: u64,
    /// Resting.
    pub resting: u64,
}

/// Prefixes and their nodes.
#[derive(Debug)]
pub struct FlatTable<M> {
    store: Store<M>,
    space: Space,
    ipv4: BTreeMap<ViewId, Tree<u32>>,
    ipv6: BTreeMap<ViewId, Tree<u128>>,
}

impl<M: Memory> FlatTable<M> {
    /// An empty table in `memory`, whatever that holds.
    pub fn new(memory: M) -> Self {
        let store = Store(memory);
        for word in 0..flat::DIRECTORY_WORDS {
            store.publish(word, Slot::MISS.word());
        }
        let space = Space::new(store.units());
        Self { store, space, ipv4: BTreeMap::new(), ipv6: BTreeMap::new() }
    }

    /// Takes over the table that `memory` holds. Which prefixes it was made of is not in there: it is taken
    /// for the fewest prefixes that give the same answers.
    ///
    /// # Errors
    /// It holds none.
    pub fn adopt(memory: M) -> Result<Self, Unsound> {
        let store = Store(memory);
        let slots = |ipv6: bool| (0..VIEWS).map(move |view| (view, directory(view, ipv6)));
        let load = |root| Slot::from_word(store.load(root));
        let mut blocks = Vec::new();
        for (_, root) in slots(false) {
            blocks.extend(walk::blocks(&store, load(root), <u32 as Address>::BITS).ok_or(Unsound)?);
        }
        for (_, root) in slots(true) {
            blocks.extend(walk::blocks(&store, load(root), <u128 as Address>::BITS).ok_or(Unsound)?);
        }
        // Nodes that share no unit form trees: only then their answers can be walked.
        let space = Space::with_used(store.units(), blocks).ok_or(Unsound)?;
        let used = |(_, root): &(ViewId, u32)| load(*root) != Slot::MISS;
        let ipv4 = slots(false).filter(used).map(|(view, root)| (view, Tree::adopt(&store, root))).collect();
        let ipv6 = slots(true).filter(used).map(|(view, root)| (view, Tree::adopt(&store, root))).collect();
        Ok(Self { store, space, ipv4, ipv6 })
    }

    /// Sets or removes a prefix.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn set(&mut self, (view, prefix): Key, target: Option<TargetId>) -> Result<(), Refusal> {
        check(view, target)?;
        let Self { store, space, ipv4, ipv6 } = self;
        match prefix.trunc() {
            IpNet::V4(net) => {
                let tree = ipv4.entry(view).or_insert_with(|| Tree::new(directory(view, false)));
                tree.set(store, space, (net.addr().to_bits(), net.prefix_len()), target)?;
            }
            IpNet::V6(net) => {
                let tree = ipv6.entry(view).or_insert_with(|| Tree::new(directory(view, true)));
                tree.set(store, space, (net.addr().to_bits(), net.prefix_len()), target)?;
            }
        }
        Ok(())
    }

    /// Makes many changes, none of them to the same prefix as another; a view with many of them is
    /// rebuilt. Where there is no room for that they are made in their order, up to the first that is
    /// refused. Gives those that were not made, by position.
    pub fn set_all(&mut self, changes: &[Change]) -> Vec<(usize, Refusal)> {
        self.set_by_view(changes, true)
    }

    /// As [`Self::set_all`], but a view that is to be rebuilt and has no room for it is left as it is: for
    /// who can offer a larger table.
    pub fn set_whole(&mut self, changes: &[Change]) -> Vec<(usize, Refusal)> {
        self.set_by_view(changes, false)
    }

    /// `partly`: what does not fit as a whole goes in as far as it can.
    fn set_by_view(&mut self, changes: &[Change], partly: bool) -> Vec<(usize, Refusal)> {
        let mut refused = Vec::new();
        let mut by_tree: BTreeMap<(ViewId, bool), Vec<usize>> = BTreeMap::new();
        for (at, ((view, prefix), target)) in changes.iter().enumerate() {
            match check(*view, *target) {
                Ok(()) => by_tree.entry((*view, matches!(prefix, IpNet::V6(_)))).or_default().push(at),
                Err(refusal) => refused.push((at, refusal)),
            }
        }
        for ((view, ipv6), places) in by_tree {
            let mut stopped = match self.rebuild_with(view, ipv6, changes, &places) {
                Some(Ok(())) => continue,
                Some(Err(full)) if !partly => Some(full.into()),
                Some(Err(_)) | None => None,
            };
            for at in places {
                let (key, target) = changes[at];
                stopped = stopped.or_else(|| self.set(key, target).err());
                refused.extend(stopped.map(|refusal| (at, refusal)));
            }
        }
        refused
    }

    /// Makes all changes of one view and family at once; `None` when they are too few for that.
    ///
    /// # Errors
    /// There is no room for the old nodes beside the new.
    fn rebuild_with(
        &mut self,
        view: ViewId,
        ipv6: bool,
        changes: &[Change],
        places: &[usize],
    ) -> Option<Result<(), Full>> {
        let Self { store, space, ipv4, ipv6: trees6 } = self;
        let chosen =
            || places.iter().map(|at| changes[*at]).map(|((_, prefix), target)| (prefix.trunc(), target));
        if ipv6 {
            let tree = trees6.entry(view).or_insert_with(|| Tree::new(directory(view, true)));
            let bits = |net: IpNet| match net {
                IpNet::V6(net) => Some((net.addr().to_bits(), net.prefix_len())),
                IpNet::V4(_) => None,
            };
            rebuild(tree, store, space, chosen().filter_map(|(net, target)| Some((bits(net)?, target))))
        } else {
            let tree = ipv4.entry(view).or_insert_with(|| Tree::new(directory(view, false)));
            let bits = |net: IpNet| match net {
                IpNet::V4(net) => Some((net.addr().to_bits(), net.prefix_len())),
                IpNet::V6(_) => None,
            };
            rebuild(tree, store, space, chosen().filter_map(|(net, target)| Some((bits(net)?, target))))
        }
    }

    /// After a grace period: what readers were in before it can be used again.
    pub fn rested(&mut self) {
        self.space.rested();
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        let trees = self.ipv4.values().map(Tree::len);
        trees.chain(self.ipv6.values().map(Tree::len)).sum()
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the words answer: as the program finds it.
    pub fn lookup(&self, view: ViewId, address: IpAddr) -> Option<TargetId> {
        match address {
            IpAddr::V4(address) => flat::lookup4(&self.store, view, address.octets()),
            IpAddr::V6(address) => flat::lookup6(&self.store, view, address.octets()),
        }
    }

    /// The prefixes and their targets.
    pub fn prefixes(&self) -> impl Iterator<Item = (Key, TargetId)> + '_ {
        entries(&self.ipv4).chain(entries(&self.ipv6))
    }

    /// How much of the words is in use.
    pub fn usage(&self) -> Usage {
        let bytes = |units: u32| u64::from(units) * u64::from(UNIT_WORDS) * 4;
        Usage {
            capacity: bytes(self.store.units()),
            used: bytes(self.space.used()),
            resting: bytes(self.space.resting()),
        }
    }

    /// The same table in other words, laid out afresh.
    ///
    /// # Errors
    /// They are too few.
    pub fn copy_to<N: Memory>(&self, memory: N) -> Result<FlatTable<N>, Refusal> {
        let mut copy = FlatTable::new(memory);
        copy.ipv4.clone_from(&self.ipv4);
        copy.ipv6.clone_from(&self.ipv6);
        let FlatTable { store, space, ipv4, ipv6 } = &mut copy;
        for tree in ipv4.values_mut() {
            tree.rebuild(store, space)?;
        }
        for tree in ipv6.values_mut() {
            tree.rebuild(store, space)?;
        }
        Ok(copy)
    }

    /// The words.
    pub const fn memory(&self) -> &M {
        &self.store.0
    }
}

fn check(view: ViewId, target: Option<TargetId>) -> Result<(), Refusal> {
    if view >= VIEWS {
        return Err(Refusal::View(view));
    }
    target.filter(|target| *target > flat::MAX_TARGET).map_or(Ok(()), |target| Err(Refusal::Target(target)))
}

fn rebuild<A: Address, M: Memory>(
    tree: &mut Tree<A>,
    store: &Store<M>,
    space: &mut Space,
    changes: impl Iterator<Item = ((A, u8), Option<TargetId>)>,
) -> Option<Result<(), Full>> {
    let changes: Vec<_> = changes.collect();
    tree.is_worth_rebuilding(changes.len()).then(|| tree.set_all(store, space, &changes))
}

fn entries<A: Address>(trees: &BTreeMap<ViewId, Tree<A>>) -> impl Iterator<Item = (Key, TargetId)> + '_ {
    trees.iter().flat_map(|(view, tree)| {
        tree.prefixes()
            .filter_map(|((address, length), target)| Some(((*view, address.prefix(length)?), target)))
    })
}
