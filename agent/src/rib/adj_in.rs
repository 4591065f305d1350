//! Adj-RIB-In of one peer (RFC 4271 §3.2): its paths by prefix and path identifier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::guard::Refusal;
use super::model::{Attributes, Nlri};
use crate::netlink::model::Family;

/// A path as the peer announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// RFC 7911 path identifier, 0 without ADD-PATH.
    pub path_id: u32,
    /// Attributes, shared with the other prefixes of the UPDATE.
    pub attributes: Arc<Attributes>,
    /// Announced before the peer's restart or before the route refresh, and not since.
    pub stale: bool,
    /// The next hop is an address of this machine: kept out of the selection for as long as it is.
    pub own_next_hop: bool,
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
/// be counted. Paths with an own next hop are stored, because own addresses come and go without the
/// peer sending anything.
#[derive(Clone, Debug)]
pub struct AdjIn {
    limits: Limits,
    /// Paths of a prefix in the order of their identifiers; never an empty list.
    paths: BTreeMap<IpNet, Vec<Path>>,
    stored: usize,
    /// Of these, the ones that are not stale.
    fresh: usize,
    refused: BTreeSet<Nlri>,
}

impl AdjIn {
    /// An empty table.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, paths: BTreeMap::new(), stored: 0, fresh: 0, refused: BTreeSet::new() }
    }

    /// Stores a path, replacing one with the same prefix and identifier. Returns whether anything
    /// that the selection looks at changed.
    ///
    /// # Errors
    /// The path is new, or stands for a stale one, and a bound is reached: nothing is stored. Tell
    /// [`Self::refuse`].
    pub fn insert(&mut self, prefix: IpNet, path: Path) -> Result<bool, Refusal> {
        let nlri = Nlri { prefix, path_id: path.path_id };
        let list = self.paths.get(&prefix).map_or(&[][..], Vec::as_slice);
        let position = list.binary_search_by_key(&path.path_id, |p| p.path_id);
        let known = position.ok().map(|index| list[index].stale);
        if known != Some(false) {
            self.room(list, known.is_none())?;
        }
        let list = self.paths.entry(prefix).or_default();
        if known != Some(false) {
            self.fresh += usize::from(!path.stale);
        }
        match position {
            Ok(index) => {
                let old = std::mem::replace(&mut list[index], path);
                let new = &list[index];
                Ok(old.attributes != new.attributes || old.own_next_hop != new.own_next_hop)
            }
            Err(index) => {
                list.insert(index, path);
                self.stored += 1;
                self.refused.remove(&nlri);
                Ok(true)
            }
        }
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
        let Ok(index) = list.binary_search_by_key(&nlri.path_id, |p| p.path_id) else { return false };
        let path = list.remove(index);
        self.stored -= 1;
        self.fresh -= usize::from(!path.stale);
        if list.is_empty() {
            self.paths.remove(&nlri.prefix);
        }
        true
    }

    /// Other bounds from now on. What is stored stays.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Removes the paths of a family for which `gone` says so; the prefixes that lost one.
    pub fn remove_where(&mut self, family: Family, gone: impl Fn(&Path) -> bool) -> BTreeSet<IpNet> {
        self.remove_if(|prefix, path| Family::of(prefix.addr()) == family && gone(path))
    }

    /// Removes the paths for which `gone` says so; the prefixes that lost one.
    pub fn remove_if(&mut self, gone: impl Fn(&IpNet, &Path) -> bool) -> BTreeSet<IpNet> {
        let mut touched = BTreeSet::new();
        let (mut removed, mut fresh) = (0, 0);
        self.paths.retain(|prefix, list| {
            let before = list.len();
            list.retain(|path| {
                let gone = gone(prefix, path);
                fresh += usize::from(gone && !path.stale);
                !gone
            });
            if list.len() != before {
                removed += before - list.len();
                touched.insert(*prefix);
            }
            !list.is_empty()
        });
        self.stored -= removed;
        self.fresh -= fresh;
        touched
    }

    /// Removes every path of a family, and forgets what was refused of it.
    pub fn remove_family(&mut self, family: Family) -> BTreeSet<IpNet> {
        self.forget_refused(family);
        self.remove_where(family, |_| true)
    }

    /// Marks the paths of a family stale and forgets what was refused of it: both will be told anew.
    pub fn mark_stale(&mut self, family: Family) {
        self.forget_refused(family);
        for (prefix, list) in &mut self.paths {
            if Family::of(prefix.addr()) == family {
                for path in list {
                    self.fresh -= usize::from(!path.stale);
                    path.stale = true;
                }
            }
        }
    }

    /// Looks again which next hops are this machine's own; the prefixes for which that changed.
    pub fn recheck_own(&mut self, own: &BTreeSet<std::net::IpAddr>) -> BTreeSet<IpNet> {
        let mut touched = BTreeSet::new();
        for (prefix, list) in &mut self.paths {
            for path in list {
                let is_own = own.contains(&path.attributes.next_hop);
                if path.own_next_hop != is_own {
                    path.own_next_hop = is_own;
                    touched.insert(*prefix);
                }
            }
        }
        touched
    }

    /// Paths of a prefix that may be selected from, in the order of their identifiers.
    pub fn usable(&self, prefix: &IpNet) -> impl Iterator<Item = &Path> {
        self.paths.get(prefix).into_iter().flatten().filter(|path| !path.own_next_hop)
    }

    /// All stored paths, sorted by prefix and identifier.
    pub fn iter(&self) -> impl Iterator<Item = (&IpNet, &Path)> {
        self.paths.iter().flat_map(|(prefix, list)| list.iter().map(move |path| (prefix, path)))
    }

    /// Prefixes with a stored path.
    pub fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.paths.keys()
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
