//! The kernel's rule walk and route lookup, compiled into prefixes and targets.

use std::collections::BTreeSet;

use ipnet::IpNet;
use underpass_common::fib::ViewId;

use super::model::{CompileConfig, Fib, NextHop, Resolution};
use crate::netlink::model::{Delta, IfIndex, State};

/// What an update changed in the [`Fib`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FibDelta {
    /// Compiled from scratch: anything may differ.
    pub full: bool,
    /// Ports that were added, changed or removed.
    pub ports: BTreeSet<IfIndex>,
    /// Prefixes that were added, changed or removed.
    pub prefixes: BTreeSet<(ViewId, IpNet)>,
}

/// Keeps a [`Fib`] in step with a [`State`].
#[derive(Debug)]
pub struct Compiler {
    fib: Fib,
}

impl Compiler {
    /// A compiler with an empty table; the first [`Self::update`] compiles everything.
    pub fn new(_config: CompileConfig) -> Self {
        Self { fib: Fib::default() }
    }

    /// Brings the table up to date with `state`, of which `delta` changed since the last call.
    pub fn update(&mut self, _state: &State, _delta: &Delta) -> FibDelta {
        unimplemented!()
    }

    /// The compiled table.
    pub const fn fib(&self) -> &Fib {
        &self.fib
    }
}

/// Looks up what a next-hop row needs: the neighbour's and the port's MAC.
pub fn resolve(_next_hop: &NextHop, _state: &State) -> Resolution {
    unimplemented!()
}
