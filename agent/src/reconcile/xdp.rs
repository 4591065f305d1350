//! The compiled table in the maps of the XDP program.

use std::collections::BTreeMap;

use ipnet::IpNet;
use underpass_common::fib::{TargetId, ViewId};
use underpass_common::reason::Reason;

use crate::datapath::PortFacts;
use crate::datapath::maps::{FibMaps, MapError};
use crate::fib::compile::FibDelta;
use crate::fib::model::{Fib, NextHop, Resolution};
use crate::netlink::model::{Delta, IfIndex};

/// What the reconciler is told besides the compiled table.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Ports that the configuration names, as the data plane found them.
    pub ports: &'a BTreeMap<IfIndex, PortFacts>,
    /// Neighbour and port of a next hop: `compile::resolve` over the kernel's state.
    pub resolve: &'a dyn Fn(&NextHop) -> Resolution,
}

/// What one call did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Elements written or deleted.
    pub writes: usize,
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
    /// Next hops of a forwarding target.
    pub rows: Vec<RowView>,
}

/// Brings the maps to the compiled table.
pub struct XdpReconciler {}

impl XdpReconciler {
    /// Reads the maps back and takes over what is there: the first [`Self::full`] keeps the ids of
    /// what is right already.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn adopt(_maps: &impl FibMaps) -> Result<Self, MapError> {
        Ok(Self {})
    }

    /// Compares the whole table and writes what differs.
    pub fn full(&mut self, _maps: &mut impl FibMaps, _fib: &Fib, _environment: Environment<'_>) -> Outcome {
        unimplemented!()
    }

    /// Writes what `delta` changed since the last call, and what failed then.
    pub fn apply(
        &mut self,
        _maps: &mut impl FibMaps,
        _fib: &Fib,
        _delta: &FibDelta,
        _environment: Environment<'_>,
    ) -> Outcome {
        unimplemented!()
    }

    /// Rewrites the rows (and the buckets, where a row died or came to life) of next hops whose
    /// neighbour or interface changed; never a prefix. Fast: to be called before the compiler.
    pub fn refresh_rows(
        &mut self,
        _maps: &mut impl FibMaps,
        _delta: &Delta,
        _environment: Environment<'_>,
    ) -> Outcome {
        unimplemented!()
    }

    /// Sums.
    pub fn totals(&self) -> Totals {
        unimplemented!()
    }

    /// What XDP does with packets to exactly this prefix; `None` when it is not in the table.
    pub fn prefix(&self, _view: ViewId, _prefix: IpNet) -> Option<TargetView> {
        unimplemented!()
    }

    /// A target by its id, as the probe answers it.
    pub fn target(&self, _id: TargetId) -> Option<TargetView> {
        unimplemented!()
    }

    /// A next-hop row by its index, as the probe answers it.
    pub fn row(&self, _index: u32) -> Option<RowView> {
        unimplemented!()
    }

    /// Next hops whose neighbour is not resolved: the kernel should be asked for them.
    pub fn unresolved(&self) -> Vec<NextHop> {
        unimplemented!()
    }

    /// What the operator should look at, one sentence each with the remedy.
    pub fn problems(&self) -> Vec<String> {
        unimplemented!()
    }
}
