//! The maps that the XDP program reads, behind one small trait.

use std::collections::BTreeMap;

use ipnet::IpNet;
use underpass_common::fib::{TargetId, ViewId};
use underpass_common::nexthop::{NextHop, Port, Target};

use crate::netlink::model::IfIndex;

/// A map operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{map}: {operation} {key}: {source}")]
pub struct MapError {
    /// Name of the map.
    pub map: &'static str,
    /// "set", "delete", "read".
    pub operation: &'static str,
    /// The key, readable.
    pub key: String,
    /// The kernel's answer.
    pub source: std::io::Error,
}

impl MapError {
    /// An error of `operation` on `key` of `map`.
    #[expect(clippy::needless_pass_by_value, reason = "keys are numbers and prefixes, all of them small")]
    pub fn new(
        map: &'static str,
        operation: &'static str,
        key: impl ToString,
        source: std::io::Error,
    ) -> Self {
        Self { map, operation, key: key.to_string(), source }
    }
}

/// What is in the maps now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Prefix table.
    pub prefixes: BTreeMap<(ViewId, IpNet), TargetId>,
    /// Targets that are not all zero.
    pub targets: BTreeMap<TargetId, Target>,
    /// Buckets that are not 0, of the groups among `targets` at least.
    pub buckets: BTreeMap<u32, u32>,
    /// Next-hop rows that are not all zero.
    pub next_hops: BTreeMap<u32, NextHop>,
    /// Port rows that are not all zero.
    pub ports: BTreeMap<IfIndex, Port>,
    /// Words of the filter of own addresses that are not 0.
    pub own: BTreeMap<u32, u64>,
}

/// A prefix of a view, and the target that it gets; `None`: it is removed.
pub type PrefixChange = ((ViewId, IpNet), Option<TargetId>);

/// How much the tables hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Prefixes.
    pub prefixes: usize,
    /// Targets; 0 is always taken.
    pub targets: u32,
    /// Buckets.
    pub buckets: u32,
    /// Next-hop rows; 0 is always taken.
    pub next_hops: u32,
}

/// The tables of the XDP program. One real implementation ([`BpfMaps`](super::bpf_maps::BpfMaps)) and
/// one in memory ([`MemoryMaps`](super::memory_maps::MemoryMaps)).
///
/// Callers keep the order: rows, buckets, targets, prefixes when adding, the reverse when removing,
/// so that the program never follows an index to something that is not there. The program may be in
/// the middle of a packet at any time and elements are not written atomically as a whole, so what it
/// may still be reading is only changed in ways that make sense half-done: see
/// [`Self::grace_period`].
pub trait FibMaps {
    /// How much the tables hold.
    fn capacity(&self) -> Capacity;
    /// Returns when no packet is under way any more that was looked up before the call. Until then
    /// an element that was taken out of use may still be read: it is neither changed (but for the
    /// kind of a target and the state of a row, which stop the packet) nor used for something else.
    ///
    /// # Errors
    /// The kernel offers no way to wait.
    fn grace_period(&mut self) -> Result<(), MapError>;
    /// Writes a next-hop row; an all-zero row frees it.
    ///
    /// # Errors
    /// Index out of range, or the kernel refuses.
    fn set_next_hop(&mut self, index: u32, row: NextHop) -> Result<(), MapError>;
    /// Writes a bucket.
    ///
    /// # Errors
    /// As [`Self::set_next_hop`].
    fn set_bucket(&mut self, index: u32, next_hop: u32) -> Result<(), MapError>;
    /// Writes a target.
    ///
    /// # Errors
    /// As [`Self::set_next_hop`].
    fn set_target(&mut self, id: TargetId, target: Target) -> Result<(), MapError>;
    /// Inserts or replaces a prefix.
    ///
    /// # Errors
    /// Table full, family not supported by the engine, or the kernel refuses.
    fn set_prefix(&mut self, view: ViewId, prefix: IpNet, target: TargetId) -> Result<(), MapError>;
    /// Makes many changes to prefixes (`None`: removes), none of them to the same one as another, in their
    /// order or all at once. Gives how each went, up to the first that
    /// failed: what follows was not tried.
    fn set_prefixes(&mut self, changes: &[PrefixChange]) -> Vec<Result<(), MapError>> {
        let mut results = Vec::with_capacity(changes.len());
        for ((view, prefix), target) in changes {
            let result = match target {
                Some(target) => self.set_prefix(*view, *prefix, *target),
                None => self.delete_prefix(*view, *prefix),
            };
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
        results
    }
    /// Removes a prefix; a missing one is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    fn delete_prefix(&mut self, view: ViewId, prefix: IpNet) -> Result<(), MapError>;
    /// Writes a port's row, and opens or closes it for redirects by `PORT_EGRESS`.
    ///
    /// # Errors
    /// The slot belongs to another port, or the kernel refuses.
    fn set_port(&mut self, port: Port) -> Result<(), MapError>;
    /// Empties a port's slot; one that is not the port's is left alone.
    ///
    /// # Errors
    /// The kernel refuses.
    fn clear_port(&mut self, ifindex: IfIndex) -> Result<(), MapError>;
    /// Writes a word of the filter of own addresses.
    ///
    /// # Errors
    /// As [`Self::set_next_hop`].
    fn set_own(&mut self, word: u32, bits: u64) -> Result<(), MapError>;
    /// Reads everything back.
    ///
    /// # Errors
    /// The kernel refuses.
    fn contents(&self) -> Result<Contents, MapError>;
}
