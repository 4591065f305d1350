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

mod deadlines;
mod entry;
pub mod memory;
pub mod op;
pub mod plan;
mod queue;
pub mod retry;
pub mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::{info, warn};

use self::deadlines::Deadlines;
use self::entry::{Entry, ReadBack};
pub use self::op::{Op, OwnRoute, Ownership, RouteError, RouteTarget};
use self::plan::{Known, PrefixPlan, plan_by};
use self::queue::Queue;
pub use self::status::{RouteStatus, StatusCounts};
use crate::netlink::model::{Delta, Family, State};
use crate::prefix_map::PrefixMap;
use crate::rib::model::SelectedRoute;

/// How long the read-back of a written route may take before it is planned anew.
const READ_BACK_TIME: Duration = Duration::from_secs(1);

/// Most routes that may wait to be read back: with more, the kernel would be ahead of what is known of it by so much
/// that its notifications no longer come in time.
const MOST_AWAITED: usize = 8192;

const FRUITLESS: &str = "the kernel accepted the change but shows something else";

/// Keeps the kernel's routes of ours as the RIB wants them. No I/O, no clock.
#[derive(Clone, Debug)]
pub struct KernelReconciler {
    ownership: Ownership,
    may_delete: bool,
    entries: PrefixMap<Entry>,
    queue: Queue,
    deadlines: Deadlines,
    /// Entries that wait to be read back.
    awaited: usize,
    counts: StatusCounts,
    repairs: u64,
}

impl KernelReconciler {
    /// A reconciler that wants nothing yet and takes nothing out yet.
    pub fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            may_delete: false,
            entries: PrefixMap::new(),
            queue: Queue::default(),
            deadlines: Deadlines::default(),
            awaited: 0,
            counts: StatusCounts::default(),
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
            plan::owned(state, self.ownership).for_each(|route| self.look_at(route.prefix));
        }
    }

    /// The RIB selected other routes for these prefixes; `None`: no route any more.
    pub fn on_desired_changed(
        &mut self,
        changes: impl IntoIterator<Item = (IpNet, Option<Arc<SelectedRoute>>)>,
    ) {
        for (prefix, route) in changes {
            let entry = self.entries.get_or_insert_with(prefix, Entry::default);
            let before = entry.counts();
            entry.wanted = route;
            entry.set_status(RouteStatus::Pending);
            entry.settled = false;
            entry.reset_retry();
            self.counts.replace(before, entry.counts());
            self.queue.push(prefix, entry);
        }
    }

    /// The kernel's state changed. Looks again at the prefixes whose routes did, and at all when links
    /// or addresses did: other next hops may be on-link now.
    pub fn on_kernel_changed(&mut self, state: &State, delta: &Delta) {
        for prefix in delta.prefixes.iter() {
            if let Some(entry) = self.entries.get_mut(&prefix) {
                self.queue.push(prefix, entry);
            } else if self.has_ours(state, prefix) {
                self.look_at(prefix);
            }
        }
        if delta.full {
            plan::owned(state, self.ownership).for_each(|route| self.look_at(route.prefix));
        }
        if delta.full || !delta.interfaces.is_empty() {
            for (prefix, entry) in self.entries.iter_mut() {
                if delta.full || entry.wanted.is_some() {
                    self.queue.push(prefix, entry);
                }
                entry.reset_retry();
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
        let mut known = Known::new(state);
        while ops.len() < limit
            && let Some(prefix) = self.queue.pop(self.is_ahead())
        {
            ops.extend(self.look(prefix, &mut known, now, &mut degraded));
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
        let mut awaited = Vec::new();
        for (op, result) in ops.iter().zip(results) {
            let entry = self.entries.get_or_insert_with(op.prefix(), Entry::default);
            let before = entry.counts();
            match result {
                Ok(()) => {
                    entry.note_added(op.added_ipv6());
                    // Its effect may have been seen already, and another operation be under way.
                    if let Some(awaiting) = entry.awaiting_mut().filter(|awaiting| awaiting.op == *op) {
                        awaiting.until = Some(now + READ_BACK_TIME);
                        awaited.push(op.prefix());
                    }
                }
                Err(_) if entry.awaiting().is_some_and(|awaiting| awaiting.op != *op) => {}
                Err(error) => {
                    let due = entry.deadline();
                    self.awaited -= usize::from(entry.take_awaiting().is_some());
                    entry.failed(now);
                    self.deadlines.change(op.prefix(), due, entry.deadline());
                    let status = RouteStatus::Error(error.message.clone());
                    if *entry.status() != status {
                        entry.set_status(status);
                        failed.push(error);
                    }
                }
            }
            self.counts.replace(before, entry.counts());
        }
        self.deadlines.add(now + READ_BACK_TIME, awaited);
        if let Some(first) = failed.first() {
            warn!(routes = failed.len(), first = %first, "the kernel refused routes, trying again later");
        }
    }

    /// Looks again at what is due by `now`; call before [`Self::next_ops`].
    pub fn tick(&mut self, now: Instant) {
        while let Some(due) = self.deadlines.take_due(now) {
            for prefix in due {
                let entry = self.entries.get_mut(&prefix);
                if let Some(entry) = entry.filter(|entry| entry.deadline().is_some_and(|at| at <= now)) {
                    self.queue.push(prefix, entry);
                }
            }
        }
    }

    /// When [`Self::tick`] has something to do next. Forgets deadlines that have moved.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.deadlines.next(|prefix| self.entries.get(prefix).and_then(Entry::deadline))
    }

    /// Whether something is to be looked at by [`Self::next_ops`] right now.
    pub fn has_work(&self) -> bool {
        self.queue.has_work(self.is_ahead())
    }

    /// Whether so many routes wait to be read back that no others should be written.
    const fn is_ahead(&self) -> bool {
        self.awaited >= MOST_AWAITED
    }

    /// Where a prefix stands; `None` when nothing is wanted for it.
    pub fn status(&self, prefix: &IpNet) -> Option<&RouteStatus> {
        self.entries.get(prefix).filter(|entry| entry.wanted.is_some()).map(Entry::status)
    }

    /// How many prefixes stand where.
    pub const fn counts(&self) -> StatusCounts {
        self.counts
    }

    /// Routes that somebody else deleted or changed and that were put right again, since the start.
    pub const fn repairs(&self) -> u64 {
        self.repairs
    }

    /// Whether a prefix has a route of ours.
    fn has_ours(&self, state: &State, prefix: IpNet) -> bool {
        state.routes.to(self.ownership.table, prefix).any(|route| self.ownership.is_ours(&route))
    }

    fn look_at(&mut self, prefix: IpNet) {
        let entry = self.entries.get_or_insert_with(prefix, Entry::default);
        self.queue.push(prefix, entry);
    }

    /// Looks at a prefix that was in the queue.
    fn look(
        &mut self,
        prefix: IpNet,
        known: &mut Known<'_>,
        now: Instant,
        degraded: &mut Vec<IpNet>,
    ) -> Option<Op> {
        let entry = self.entries.get_mut(&prefix)?;
        entry.queued = false;
        // What this run put there is no leftover: it goes when the RIB says so, complete or not.
        let may_delete = self.may_delete || entry.confirmed;
        let (before, due) = (entry.counts(), entry.deadline());
        self.awaited -= usize::from(entry.awaiting().is_some());
        let mut planner = Planner { prefix, known, ownership: self.ownership, may_delete };
        let step = planner.next(entry, now);
        self.counts.replace(before, entry.counts());
        self.deadlines.change(prefix, due, entry.deadline());
        self.awaited += usize::from(entry.awaiting().is_some());
        match step {
            Step::Wait => None,
            Step::Operate(op) => Some(op),
            Step::Repair(op) => {
                self.repairs += 1;
                Some(op)
            }
            Step::Settled { is_degraded } => {
                degraded.extend(is_degraded.then_some(prefix));
                if entry.wanted.is_none() {
                    self.entries.remove(&prefix);
                }
                None
            }
        }
    }
}

/// What follows from a look at a prefix.
enum Step {
    /// Nothing for now.
    Wait,
    /// This.
    Operate(Op),
    /// This, because somebody else changed our route.
    Repair(Op),
    /// The kernel has what can be had; `is_degraded`: which is news, and less than what is wanted.
    Settled { is_degraded: bool },
}

/// One prefix, and what decides about it.
struct Planner<'a, 'b> {
    prefix: IpNet,
    known: &'a mut Known<'b>,
    ownership: Ownership,
    may_delete: bool,
}

impl Planner<'_, '_> {
    fn plan(&mut self, wanted: Option<&Arc<SelectedRoute>>, may_delete: bool) -> PrefixPlan {
        let state = self.known.state();
        let exits = wanted.map(|wanted| self.known.exits(wanted));
        plan_by(self.prefix, exits, state, self.ownership, may_delete)
    }

    fn next(&mut self, entry: &mut Entry, now: Instant) -> Step {
        let found = self.plan(entry.wanted.as_ref(), self.may_delete);
        let fruitless = match entry.take_awaiting() {
            Some(awaiting) if self.is_missing(&awaiting, entry, &found) => {
                if awaiting.until.is_none_or(|until| now < until) {
                    entry.await_effect(awaiting);
                    return Step::Wait;
                }
                Some(awaiting.op)
            }
            _ => None,
        };
        let Some(op) = found.op.clone() else { return self.settle(entry, &found, now) };
        if entry.retry().at().is_some_and(|at| at > now) {
            return Step::Wait;
        }
        let is_leftover = !self.may_delete && !entry.confirmed;
        if is_leftover && op.only_takes_out() {
            // Another peer may announce what is missing: `allow_deletes` looks again.
            return Step::Wait;
        }
        entry.confirmed = true;
        if fruitless.as_ref() == Some(&op) {
            return self.give_way(entry, &op, now);
        }
        entry.await_effect(ReadBack::of(&op, entry.wanted.clone()));
        if std::mem::take(&mut entry.settled) {
            entry.set_status(RouteStatus::Pending);
            return Step::Repair(op);
        }
        Step::Operate(op)
    }

    /// Whether the effect of an operation is not seen yet. `found` is the plan for what is wanted now.
    fn is_missing(&mut self, awaiting: &ReadBack, entry: &Entry, found: &PrefixPlan) -> bool {
        if awaiting.wanted == entry.wanted {
            return found.op.is_some();
        }
        self.plan(awaiting.wanted.as_ref(), self.may_delete).op.is_some()
    }

    fn settle(&self, entry: &mut Entry, found: &PrefixPlan, now: Instant) -> Step {
        if let Some(op) = plan::hidden(self.prefix, &entry.take_added(), self.known.state(), self.ownership) {
            entry.await_effect(ReadBack::of(&op, None));
            return Step::Operate(op);
        }
        if let Some(wanted) = entry.wanted.clone()
            && self.prefix.addr().is_ipv6()
            && found.blocked.is_none()
        {
            entry.note_added(wanted.next_hops.iter().copied());
        }
        Step::Settled { is_degraded: entry.settle(found, now) }
    }

    /// The kernel took `op` before, and shows no effect.
    fn give_way(&mut self, entry: &mut Entry, op: &Op, now: Instant) -> Step {
        entry.failed(now);
        entry.set_status(RouteStatus::Error(FRUITLESS.to_owned()));
        // A next hop of an IPv6 route that cannot be taken out belongs to somebody else, who
        // added it to our key: give way, as if it had been there first.
        let shared = Family::of(self.prefix.addr()) == Family::Ipv6 && matches!(op, Op::Delete { .. });
        let Some(op) = self.plan(None, true).op.filter(|_| shared) else { return Step::Wait };
        entry.await_effect(ReadBack::of(&op, None));
        Step::Operate(op)
    }
}

#[cfg(test)]
mod tests;
