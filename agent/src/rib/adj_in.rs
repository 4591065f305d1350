//! Adj-RIB-In of one peer (RFC 4271 §3.2): its paths by prefix and path identifier.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;

use super::guard::Refusal;
use super::model::{Attributes, Nlri};
use crate::few::Few;
use crate::netlink::model::Family;
use crate::prefix_map::{PrefixMap, PrefixSet};

/// A path as the peer announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// RFC 7911 path identifier, 0 without ADD-PATH.
    pub path_id: u32,
    /// Attributes, shared with the other prefixes of the UPDATE.
    pub attributes: Arc<Attributes>,
    /// Announced before the peer's restart or before the route refresh, and not since.
    pub stale: bool,
    /// Kept out of the selection for as long as this holds, because of addresses of this machine.
    pub held: Option<Refusal>,
}

/// Bounds that hold whatever the peer sends. They count the paths that are not stale: after a restart the peer
/// may number its paths anew (RFC 7911 §3), and what it announces must find room beside what is about to be
/// swept. With the stale ones, twice as many are kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most paths for one prefix.
    pub paths_per_prefix: usize,
    /// Most paths altogether.
    pub paths: usize,
}

/// Adj-RIB-In of one peer.
///
/// A refused path is not stored; only its key is remembered (as many keys as there may be paths), so
/// that a later withdrawal of it is told from one of a path that is in use and the peer's table can
/// be counted. Paths that own addresses speak against are stored, because those come and go without the
/// peer sending anything.
#[derive(Clone, Debug)]
pub struct AdjIn {
    limits: Limits,
    /// Paths of a prefix in the order of their identifiers.
    paths: PrefixMap<Few<Path>>,
    stored: usize,
    /// Of these, the ones that are not stale.
    fresh: usize,
    /// Of those stored, the ones that own addresses speak against.
    held: usize,
    refused: BTreeSet<Nlri>,
}

impl AdjIn {
    /// An empty table.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, paths: PrefixMap::new(), stored: 0, fresh: 0, held: 0, refused: BTreeSet::new() }
    }

    /// Stores a path, replacing one with the same prefix and identifier. Returns whether anything
    /// that the selection looks at changed.
    ///
    /// # Errors
    /// The path is new, or stands for a stale one, and a bound is reached: nothing is stored. Tell
    /// [`Self::refuse`].
    pub fn insert(&mut self, prefix: IpNet, path: Path) -> Result<bool, Refusal> {
        let nlri = Nlri { prefix, path_id: path.path_id };
        let list = self.paths.get(&prefix).map_or(&[][..], Few::as_slice);
        let position = list.binary_search_by_key(&path.path_id, |p| p.path_id);
        let known = position.ok().map(|index| list[index].stale);
        if known != Some(false) {
            self.room(list, known.is_none())?;
        }
        if known != Some(false) {
            self.fresh += usize::from(!path.stale);
        }
        self.held += usize::from(path.held.is_some());
        match (self.paths.get_mut(&prefix), position) {
            (Some(list), Ok(index)) => {
                let new = &mut list.as_mut_slice()[index];
                let old = std::mem::replace(new, path);
                self.held -= usize::from(old.held.is_some());
                return Ok(old.attributes != new.attributes || old.held != new.held);
            }
            (Some(list), Err(index)) => list.insert(index, path),
            (None, _) => drop(self.paths.insert(prefix, Few::One(path))),
        }
        self.stored += 1;
        self.refused.remove(&nlri);
        Ok(true)
    }

    /// Whether one more fresh path fits: into the table, and into the `list` of its prefix. `new`: it takes the
    /// place of no stale one.
    fn room(&self, list: &[Path], new: bool) -> Result<(), Refusal> {
        let Limits { paths_per_prefix, paths } = self.limits;
        if self.fresh >= paths || new && self.stored >= paths.saturating_mul(2) {
            return Err(Refusal::MaxPrefixes);
        }
        let fresh = list.iter().filter(|path| !path.stale).count();
        if fresh >= paths_per_prefix || new && list.len() >= paths_per_prefix.saturating_mul(2) {
            return Err(Refusal::MaxPathsPerPrefix);
        }
        Ok(())
    }

    /// Notes that the peer announced a path that the guards refuse, which also withdraws what it
    /// announced under the same key before. Returns whether a stored path went.
    pub fn refuse(&mut self, nlri: Nlri) -> bool {
        let removed = self.remove(nlri);
        self.remember_refused(nlri);
        removed
    }

    /// Withdraws a path. Returns whether a stored path went.
    pub fn remove(&mut self, nlri: Nlri) -> bool {
        self.refused.remove(&nlri);
        let Some(list) = self.paths.get_mut(&nlri.prefix) else { return false };
        let slice = list.as_slice();
        let Ok(index) = slice.binary_search_by_key(&nlri.path_id, |p| p.path_id) else { return false };
        let path = &slice[index];
        self.stored -= 1;
        self.fresh -= usize::from(!path.stale);
        self.held -= usize::from(path.held.is_some());
        if !list.retain(|path| path.path_id != nlri.path_id) {
            self.paths.remove(&nlri.prefix);
        }
        true
    }

    /// Other bounds from now on. What is stored stays.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Removes the paths of a family for which `gone` says so; the prefixes that lost one.
    pub fn remove_where(&mut self, family: Family, gone: impl Fn(&Path) -> bool) -> PrefixSet {
        self.remove_if(|prefix, path| Family::of(prefix.addr()) == family && gone(path))
    }

    /// Removes the paths for which `gone` says so; the prefixes that lost one.
    pub fn remove_if(&mut self, gone: impl Fn(IpNet, &Path) -> bool) -> PrefixSet {
        let mut touched = PrefixSet::new();
        let (mut removed, mut fresh, mut held) = (0, 0, 0);
        self.paths.retain(|prefix, list| {
            let before = removed;
            let left = list.retain(|path| {
                let gone = gone(prefix, path);
                removed += usize::from(gone);
                fresh += usize::from(gone && !path.stale);
                held += usize::from(gone && path.held.is_some());
                !gone
            });
            if removed > before {
                touched.insert(prefix);
            }
            left
        });
        self.stored -= removed;
        self.fresh -= fresh;
        self.held -= held;
        touched
    }

    /// Removes every path of a family, and forgets what was refused of it.
    pub fn remove_family(&mut self, family: Family) -> PrefixSet {
        self.forget_refused(family);
        self.remove_where(family, |_| true)
    }

    /// Marks the paths of a family stale and forgets what was refused of it: both will be told anew.
    pub fn mark_stale(&mut self, family: Family) {
        self.forget_refused(family);
        for (prefix, list) in self.paths.iter_mut() {
            if Family::of(prefix.addr()) == family {
                for path in list.as_mut_slice() {
                    self.fresh -= usize::from(!path.stale);
                    path.stale = true;
                }
            }
        }
    }

    /// Judges anew which paths own addresses speak against; the prefixes for which that changed.
    pub fn recheck_held(&mut self, judge: impl Fn(IpNet, &Attributes) -> Option<Refusal>) -> PrefixSet {
        let mut touched = PrefixSet::new();
        for (prefix, list) in self.paths.iter_mut() {
            for path in list.as_mut_slice() {
                let held = judge(prefix, &path.attributes);
                if path.held != held {
                    self.held -= usize::from(path.held.is_some());
                    self.held += usize::from(held.is_some());
                    path.held = held;
                    touched.insert(prefix);
                }
            }
        }
        touched
    }

    /// Paths of a prefix that may be selected from, in the order of their identifiers.
    pub fn usable(&self, prefix: &IpNet) -> impl Iterator<Item = &Path> {
        self.paths.get(prefix).into_iter().flat_map(Few::as_slice).filter(|path| path.held.is_none())
    }

    /// All stored paths, sorted by prefix and identifier.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &Path)> {
        self.paths.iter().flat_map(|(prefix, list)| list.as_slice().iter().map(move |path| (prefix, path)))
    }

    /// Prefixes with a stored path.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.paths.keys()
    }

    /// Number of stored paths that count against the bounds.
    pub const fn fresh(&self) -> usize {
        self.fresh
    }

    /// Number of stored paths; of these, of those that are not stale, and of those that are held back.
    pub const fn stored(&self) -> (usize, usize, usize) {
        (self.stored, self.fresh, self.held)
    }

    /// Number of paths that the peer announces and that are refused (at most the bound on paths).
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    fn remember_refused(&mut self, nlri: Nlri) {
        if self.refused.len() < self.limits.paths {
            self.refused.insert(nlri);
        }
    }

    fn forget_refused(&mut self, family: Family) {
        self.refused.retain(|nlri| Family::of(nlri.prefix.addr()) != family);
    }
}
