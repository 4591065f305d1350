//! Compiled targets, each of them once.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;

use ipnet::IpNet;

use super::model::Target;
use super::ranges::Range;
use super::rules::Verdict;
use super::target::{self, Context};
use crate::intern::Interner;

/// Hands out targets. Most prefixes lead where others lead: what was made of a route is remembered for the
/// length of one pass over the table.
#[derive(Debug, Default)]
pub struct SharedTargets {
    all: Interner<Target>,
    /// By the address of the route in its table, by range, and whether the prefix is an IPv6 one.
    by_route: HashMap<(usize, Range, bool), Arc<Target>>,
}

impl SharedTargets {
    /// To be called when tables, ports or neighbours may have changed.
    pub fn forget_routes(&mut self) {
        self.by_route.clear();
    }

    /// The target for a prefix whose walk ended with `verdict`.
    pub fn of(&mut self, prefix: &IpNet, verdict: Verdict<'_>, context: Context<'_>) -> Arc<Target> {
        let Verdict::Unicast(route) = verdict else {
            return self.all.share(&target::target(prefix, verdict, context));
        };
        if target::is_for_one_host(prefix, route) {
            return self.all.share(&target::target(prefix, verdict, context));
        }
        let is_ipv6 = matches!(prefix, IpNet::V6(_));
        let key = (ptr::from_ref(route).addr(), context.ranges.of(prefix), is_ipv6);
        let make = || self.all.share(&target::target(prefix, verdict, context));
        self.by_route.entry(key).or_insert_with(make).clone()
    }
}
