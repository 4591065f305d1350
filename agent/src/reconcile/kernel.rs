//! Routes of our own in the kernel.
//!
//! # Problem
//! What the RIB selected must be in the kernel, and stay there whatever others do to the table, without
//! ever changing a route that is not ours and without a moment in which a packet finds no route.
//!
//! # Design
//! [`plan`](plan::plan) compares what is wanted with what was read back and says what to do, as data
//! ([`Op`]). [`KernelReconciler`] remembers per prefix what was written, waits for it to be read back,
//! and tries again what failed. A [`RouteTarget`] carries the operations out.
//!
//! ```text
//! rib --on_desired_changed--> KernelReconciler --next_ops--> RouteTarget::execute --> kernel
//!                                   ^   ^-----on_results-----------'                    |
//!                                   '------------on_kernel_changed-- netlink::monitor <-'
//! ```
//!
//! # Invariants
//! * Ours is what has our protocol number and lies in our table; see `docs/adr/0030-own-kernel-routes.md`.
//! * New before old: a changed route is added beside the old one, which is then taken out exactly.
//! * One operation per prefix is under way at most: the next is planned from its read-back.
//! * Nothing that a former run left is taken out before the RIB is complete
//!   ([`KernelReconciler::allow_deletes`]): neither routes, nor next hops of routes that go on without them.
//!
//! # Failure modes
//! A refused operation keeps the kernel's words and is tried again with growing pauses, and at once when
//! links or addresses change. A route of somebody else with the same key keeps ours out.

pub mod memory;
pub mod op;
pub mod plan;
pub mod retry;
pub mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::{info, warn};

pub use self::op::{Op, OwnRoute, Ownership, RouteError, RouteTarget};
use self::plan::{PrefixPlan, plan_prefix};
use self::retry::Retry;
pub use self::status::{RouteStatus, StatusCounts};
use crate::netlink::model::{Delta, Family, State};
use crate::rib::model::SelectedRoute;

/// How long the read-back of a written route may take before it is planned anew.
const READ_BACK_TIME: Duration = Duration::from_secs(1);

const FRUITLESS: &str = "the kernel accepted the change but shows something else";

/// What is remembered of a prefix that is wanted, or whose route is being taken out.
#[derive(Clone, Debug)]
struct Entry {
    status: RouteStatus,
    awaiting: Option<ReadBack>,
    /// Was read back as wanted: a difference now is somebody else's doing.
    settled: bool,
    /// This run wrote the route, or the RIB agreed with it once: it is no leftover of a former run.
    confirmed: bool,
    /// IPv6: next hops that we added. Where somebody else's come first in a shared key, the kernel
    /// shows ours as part of theirs, and only we know better.
    added: BTreeSet<IpAddr>,
    retry: Retry,
}

/// An operation that was handed out and whose effect is not seen yet.
#[derive(Clone, Debug)]
struct ReadBack {
    /// `None` until the result of the operation is known.
    until: Option<Instant>,
    op: Op,
    wanted: Option<SelectedRoute>,
}

/// Keeps the kernel's routes of ours as the RIB wants them. No I/O, no clock.
#[derive(Clone, Debug)]
pub struct KernelReconciler {
    ownership: Ownership,
    may_delete: bool,
    desired: BTreeMap<IpNet, SelectedRoute>,
    entries: BTreeMap<IpNet, Entry>,
    /// Prefixes to look at.
    dirty: BTreeSet<IpNet>,
    /// Prefixes whose entry may have a deadline.
    waiting: BTreeSet<IpNet>,
    repairs: u64,
}

impl KernelReconciler {
    /// A reconciler that wants nothing yet and takes nothing out yet.
    pub const fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            may_delete: false,
            desired: BTreeMap::new(),
            entries: BTreeMap::new(),
            dirty: BTreeSet::new(),
            waiting: BTreeSet::new(),
            repairs: 0,
        }
    }

    /// Which routes are ours.
    pub const fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Allows taking out routes that are not wanted: the RIB is complete. `state` is looked through
    /// for leftovers of a former run.
    pub fn allow_deletes(&mut self, state: &State) {
        if !self.may_delete {
            self.may_delete = true;
            self.dirty.extend(plan::owned(state, self.ownership).map(|route| route.prefix));
        }
    }

    /// The RIB selected other routes for these prefixes; `None`: no route any more.
    pub fn on_desired_changed<'a>(
        &mut self,
        changes: impl IntoIterator<Item = (IpNet, Option<&'a SelectedRoute>)>,
    ) {
        for (prefix, route) in changes {
            match route {
                Some(route) => self.desired.insert(prefix, route.clone()),
                None => self.desired.remove(&prefix),
            };
            let entry = self.entries.entry(prefix).or_insert_with(Entry::new);
            entry.status = RouteStatus::Pending;
            entry.settled = false;
            entry.retry.reset();
            self.dirty.insert(prefix);
        }
    }

    /// The kernel's state changed. Looks again at the prefixes whose routes did, and at all when links
    /// or addresses did: other next hops may be on-link now.
    pub fn on_kernel_changed(&mut self, state: &State, delta: &Delta) {
        if delta.full {
            self.dirty.extend(self.entries.keys());
            self.dirty.extend(plan::owned(state, self.ownership).map(|route| route.prefix));
        }
        let concerned: Vec<IpNet> =
            delta.prefixes.iter().filter(|prefix| self.concerns(state, prefix)).copied().collect();
        self.dirty.extend(concerned);
        if delta.full || !delta.interfaces.is_empty() {
            self.dirty.extend(self.desired.keys());
            for entry in self.entries.values_mut() {
                entry.retry.reset();
                // A difference that comes from a link is nobody's doing.
                entry.settled &= delta.interfaces.is_empty();
            }
        }
    }

    /// What to do now, at most one operation per prefix; each must be answered by
    /// [`Self::on_results`]. Prefixes whose last write was not read back yet, or that wait for another
    /// try, are left for later ([`Self::next_deadline`]).
    ///
    /// At most `limit` operations; [`Self::has_work`] stays true while there are more.
    pub fn next_ops(&mut self, state: &State, now: Instant, limit: usize) -> Vec<Op> {
        let repairs = self.repairs;
        let mut degraded = Vec::new();
        let mut ops = Vec::new();
        while ops.len() < limit
            && let Some(prefix) = self.dirty.pop_first()
        {
            ops.extend(self.next_op(prefix, state, now, &mut degraded));
        }
        if self.repairs > repairs {
            let routes = self.repairs - repairs;
            info!(routes, "routes were changed by somebody else, putting them right");
        }
        if let Some(first) = degraded.first() {
            let status = self.status(first).map(ToString::to_string).unwrap_or_default();
            warn!(routes = degraded.len(), %first, status, "routes are not as selected");
        }
        ops
    }

    /// What became of the operations of [`Self::next_ops`], in the same order.
    pub fn on_results(&mut self, ops: &[Op], results: Vec<Result<(), RouteError>>, now: Instant) {
        let mut failed = Vec::new();
        for (op, result) in ops.iter().zip(results) {
            let entry = self.entries.entry(op.prefix()).or_insert_with(Entry::new);
            self.waiting.insert(op.prefix());
            match result {
                Ok(()) => {
                    entry.added.extend(op.added_ipv6());
                    if let Some(awaiting) = &mut entry.awaiting {
                        awaiting.until = Some(now + READ_BACK_TIME);
                    }
                }
                Err(error) => {
                    entry.awaiting = None;
                    entry.retry.failed(now);
                    let status = RouteStatus::Error(error.message.clone());
                    if entry.status != status {
                        entry.status = status;
                        failed.push(error);
                    }
                }
            }
        }
        if let Some(first) = failed.first() {
            warn!(routes = failed.len(), first = %first, "the kernel refused routes, trying again later");
        }
    }

    /// Looks again at what is due by `now`; call before [`Self::next_ops`].
    pub fn tick(&mut self, now: Instant) {
        let entries = &self.entries;
        self.waiting.retain(|prefix| entries.get(prefix).and_then(Entry::deadline).is_some());
        let due = self.waiting.iter().filter(|p| entries[*p].deadline().is_some_and(|at| at <= now));
        self.dirty.extend(due);
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|prefix| self.entries.get(prefix)?.deadline()).min()
    }

    /// Whether something is to be looked at by [`Self::next_ops`] right now.
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Where a prefix stands; `None` when nothing is wanted for it.
    pub fn status(&self, prefix: &IpNet) -> Option<&RouteStatus> {
        self.desired.get(prefix).and(self.entries.get(prefix)).map(|entry| &entry.status)
    }

    /// How many prefixes stand where.
    pub fn counts(&self) -> StatusCounts {
        let mut counts = StatusCounts { desired: self.desired.len(), ..StatusCounts::default() };
        for prefix in self.desired.keys() {
            match self.status(prefix) {
                Some(RouteStatus::Synced) => counts.synced += 1,
                Some(RouteStatus::Blocked(_) | RouteStatus::Partial(_) | RouteStatus::Error(_)) => {
                    counts.errors += 1;
                }
                Some(RouteStatus::Pending) | None => counts.pending += 1,
            }
        }
        counts
    }

    /// Routes that somebody else deleted or changed and that were put right again, since the start.
    pub const fn repairs(&self) -> u64 {
        self.repairs
    }

    /// Whether a prefix is wanted, remembered or has a route of ours.
    fn concerns(&self, state: &State, prefix: &IpNet) -> bool {
        self.desired.contains_key(prefix)
            || self.entries.contains_key(prefix)
            || plan::routes_of(state, self.ownership.table, *prefix)
                .any(|route| self.ownership.is_ours(route))
    }

    /// Notes in `degraded` when the prefix is as good as can be, and worse than wanted.
    fn next_op(
        &mut self,
        prefix: IpNet,
        state: &State,
        now: Instant,
        degraded: &mut Vec<IpNet>,
    ) -> Option<Op> {
        let plan_for = |wanted: Option<&SelectedRoute>, may_delete: bool| {
            plan_prefix(prefix, wanted, state, self.ownership, may_delete)
        };
        let desired = self.desired.get(&prefix);
        let entry = self.entries.entry(prefix).or_insert_with(Entry::new);
        let fruitless = match entry.awaiting.take() {
            Some(awaiting) if plan_for(awaiting.wanted.as_ref(), self.may_delete).op.is_some() => {
                if awaiting.until.is_none_or(|until| now < until) {
                    entry.awaiting = Some(awaiting);
                    return None;
                }
                Some(awaiting.op)
            }
            _ => None,
        };
        let found = plan_for(desired, self.may_delete);
        let Some(mut op) = found.op.clone() else {
            if let Some(op) = plan::hidden(prefix, &std::mem::take(&mut entry.added), state, self.ownership) {
                entry.awaiting = Some(ReadBack { until: None, op: op.clone(), wanted: None });
                return Some(op);
            }
            if let Some(desired) = desired.filter(|_| prefix.addr().is_ipv6() && found.blocked.is_none()) {
                entry.added.extend(&desired.next_hops);
            }
            if entry.settle(&found, now) {
                degraded.push(prefix);
            }
            if entry.deadline().is_some() {
                self.waiting.insert(prefix);
            }
            if desired.is_none() {
                self.entries.remove(&prefix);
            }
            return None;
        };
        if entry.retry.at().is_some_and(|at| at > now) {
            return None;
        }
        let is_leftover = !self.may_delete && !entry.confirmed;
        if is_leftover && op.only_takes_out() {
            // Another peer may announce what is missing: `allow_deletes` looks again.
            return None;
        }
        entry.confirmed = true;
        if fruitless.as_ref() == Some(&op) {
            entry.retry.failed(now);
            entry.status = RouteStatus::Error(FRUITLESS.to_owned());
            self.waiting.insert(prefix);
            // A next hop of an IPv6 route that cannot be taken out belongs to somebody else, who
            // added it to our key: give way, as if it had been there first.
            let shared = Family::of(prefix.addr()) == Family::Ipv6 && matches!(op, Op::Delete { .. });
            op = plan_for(None, true).op.filter(|_| shared)?;
            entry.awaiting = Some(ReadBack { until: None, op: op.clone(), wanted: None });
            return Some(op);
        }
        if std::mem::take(&mut entry.settled) {
            self.repairs += 1;
            entry.status = RouteStatus::Pending;
        }
        entry.awaiting = Some(ReadBack { until: None, op: op.clone(), wanted: desired.cloned() });
        Some(op)
    }
}

impl Entry {
    const fn new() -> Self {
        Self {
            status: RouteStatus::Pending,
            awaiting: None,
            settled: false,
            confirmed: false,
            added: BTreeSet::new(),
            retry: Retry::new(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.awaiting {
            Some(awaiting) => awaiting.until,
            None => self.retry.at(),
        }
    }

    /// The kernel has what can be had. Returns whether that is news and less than what is wanted.
    fn settle(&mut self, found: &PrefixPlan, now: Instant) -> bool {
        let status = match (found.blocked, found.left_out.as_slice()) {
            (Some(blocked), _) => RouteStatus::Blocked(blocked),
            (None, []) => RouteStatus::Synced,
            (None, left_out) => RouteStatus::Partial(left_out.to_vec()),
        };
        if matches!(status, RouteStatus::Partial(_)) {
            self.retry.failed(now);
        } else {
            self.retry.reset();
        }
        let degraded = self.status != status && status != RouteStatus::Synced;
        self.settled = found.blocked.is_none();
        self.confirmed |= self.settled;
        self.status = status;
        degraded
    }
}

#[cfg(test)]
mod tests;
