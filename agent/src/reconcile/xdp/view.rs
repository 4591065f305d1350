//! What the reconciler tells about itself.

use underpass_common::fib::TargetId;
use underpass_common::reason::Reason;

use crate::datapath::maps::MapError;
use crate::fib::model::NextHop;

/// What one call did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Elements written or deleted.
    pub writes: usize,
    /// Grace periods waited for, about 10 ms each.
    pub grace_periods: usize,
    /// Operations that failed; each is tried again by the next call.
    pub failures: Vec<MapError>,
}

/// Sums for `underpass status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Prefixes in the table.
    pub prefixes: usize,
    /// Prefixes by which packets are forwarded.
    pub prefixes_forwarding: usize,
    /// Prefixes that did not fit and are left to the kernel.
    pub prefixes_left_out: usize,
    /// Targets in use.
    pub targets: usize,
    /// Next-hop rows in use.
    pub next_hops: usize,
    /// Next-hop rows that are live.
    pub next_hops_live: usize,
    /// The maps hold what the compiled table wants.
    pub synced: bool,
}

/// A next-hop row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowView {
    /// Index of the row.
    pub index: u32,
    /// What it stands for.
    pub next_hop: NextHop,
    /// Packets take it.
    pub live: bool,
    /// Neighbour's MAC; `None` while it is not known.
    pub mac: Option<[u8; 6]>,
}

/// What XDP does with packets to a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetView {
    /// Id.
    pub id: TargetId,
    /// The reason when packets are left to the kernel, or `None` when they are forwarded.
    pub pass: Option<Reason>,
    /// Next hops whose port can be used at all.
    pub rows: Vec<RowView>,
}

/// The table in which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// Targets.
    Targets,
    /// Hash buckets, or a group with more members than it may have buckets.
    Buckets,
    /// Next-hop rows.
    NextHops,
}

impl Shortage {
    /// What is full, for a sentence.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Targets => "target table is full",
            Self::Buckets => "hash-bucket table is full or the route has more than 4096 next hops",
            Self::NextHops => "next-hop table is full",
        }
    }
}
