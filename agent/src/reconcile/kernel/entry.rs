//! What is remembered of a prefix.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::op::Op;
use super::plan::PrefixPlan;
use super::retry::Retry;
use super::status::{RouteStatus, StatusCounts};
use crate::rib::model::SelectedRoute;

static PENDING: RouteStatus = RouteStatus::Pending;
static SYNCED: RouteStatus = RouteStatus::Synced;
static NEVER_FAILED: Retry = Retry::new();

/// What is remembered of a prefix that is wanted, or whose route is being taken out. Small where all is well: there
/// may be a million.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The route that the RIB selected, if any.
    pub wanted: Option<Arc<SelectedRoute>>,
    rare: Option<Box<Rare>>,
    synced: bool,
    /// Was read back as wanted: a difference now is somebody else's doing.
    pub settled: bool,
    /// This run wrote the route, or the RIB agreed with it once: it is no leftover of a former run.
    pub confirmed: bool,
    /// Is among the prefixes to look at.
    pub queued: bool,
}

/// What most prefixes do not have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rare {
    /// An operation that was handed out and whose effect is not seen yet.
    awaiting: Option<ReadBack>,
    /// The status, unless it is pending or synced.
    trouble: Option<RouteStatus>,
    /// IPv6: next hops that we added. Where somebody else's come first in a shared key, the kernel
    /// shows ours as part of theirs, and only we know better.
    added: BTreeSet<IpAddr>,
    retry: Retry,
}

/// An operation that was handed out and whose effect is not seen yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// `None` until the result of the operation is known.
    pub until: Option<Instant>,
    /// The operation.
    pub op: Op,
    /// What was wanted then.
    pub wanted: Option<Arc<SelectedRoute>>,
}

impl ReadBack {
    /// An operation that is handed out now.
    pub fn of(op: &Op, wanted: Option<Arc<SelectedRoute>>) -> Self {
        Self { until: None, op: op.clone(), wanted }
    }
}

impl Entry {
    /// Where the prefix stands.
    pub fn status(&self) -> &RouteStatus {
        match self.rare.as_ref().and_then(|rare| rare.trouble.as_ref()) {
            Some(trouble) => trouble,
            None if self.synced => &SYNCED,
            None => &PENDING,
        }
    }

    /// Notes where the prefix stands.
    pub fn set_status(&mut self, status: RouteStatus) {
        self.synced = status == RouteStatus::Synced;
        match status {
            RouteStatus::Pending | RouteStatus::Synced => drop(self.change_rare(|rare| rare.trouble = None)),
            trouble => self.rare.get_or_insert_default().trouble = Some(trouble),
        }
    }

    /// The operation that was handed out and whose effect is not seen yet.
    pub fn awaiting(&self) -> Option<&ReadBack> {
        self.rare.as_ref()?.awaiting.as_ref()
    }

    /// The same, to note its result.
    pub fn awaiting_mut(&mut self) -> Option<&mut ReadBack> {
        self.rare.as_mut()?.awaiting.as_mut()
    }

    /// Hands out an operation.
    pub fn await_effect(&mut self, read_back: ReadBack) {
        self.rare.get_or_insert_default().awaiting = Some(read_back);
    }

    /// The effect is seen, or no longer waited for.
    pub fn take_awaiting(&mut self) -> Option<ReadBack> {
        self.change_rare(|rare| rare.awaiting.take()).flatten()
    }

    /// Changes what most prefixes do not have, and forgets it when nothing is left.
    fn change_rare<T>(&mut self, change: impl FnOnce(&mut Rare) -> T) -> Option<T> {
        let rare = self.rare.as_mut()?;
        let result = change(rare);
        if **rare == Rare::default() {
            self.rare = None;
        }
        Some(result)
    }

    /// When the entry has to be looked at again.
    pub fn deadline(&self) -> Option<Instant> {
        match self.awaiting() {
            Some(awaiting) => awaiting.until,
            None => self.retry().at(),
        }
    }

    /// Failures so far.
    pub fn retry(&self) -> &Retry {
        self.rare.as_ref().map_or(&NEVER_FAILED, |rare| &rare.retry)
    }

    /// Notes a failure.
    pub fn failed(&mut self, now: Instant) {
        self.rare.get_or_insert_default().retry.failed(now);
    }

    /// Forgets failures.
    pub fn reset_retry(&mut self) {
        self.change_rare(|rare| rare.retry.reset());
    }

    /// Notes IPv6 next hops of ours.
    pub fn note_added(&mut self, next_hops: impl IntoIterator<Item = IpAddr>) {
        let mut next_hops = next_hops.into_iter().peekable();
        if next_hops.peek().is_some() {
            self.rare.get_or_insert_default().added.extend(next_hops);
        }
    }

    /// Forgets the IPv6 next hops of ours, and gives them.
    pub fn take_added(&mut self) -> BTreeSet<IpAddr> {
        self.change_rare(|rare| std::mem::take(&mut rare.added)).unwrap_or_default()
    }

    /// The kernel has what can be had. Returns whether that is news and less than what is wanted.
    pub fn settle(&mut self, found: &PrefixPlan, now: Instant) -> bool {
        let status = match (found.blocked, found.left_out.as_slice()) {
            (Some(blocked), _) => RouteStatus::Blocked(blocked),
            (None, []) => RouteStatus::Synced,
            (None, left_out) => RouteStatus::Partial(left_out.to_vec()),
        };
        if matches!(status, RouteStatus::Partial(_)) {
            self.failed(now);
        } else {
            self.reset_retry();
        }
        let degraded = *self.status() != status && status != RouteStatus::Synced;
        self.settled = found.blocked.is_none();
        self.confirmed |= self.settled;
        self.set_status(status);
        degraded
    }

    /// The entry's share of the counts.
    pub fn counts(&self) -> StatusCounts {
        if self.wanted.is_none() {
            return StatusCounts::default();
        }
        let mut counts = StatusCounts { desired: 1, ..StatusCounts::default() };
        match self.status() {
            RouteStatus::Synced => counts.synced = 1,
            RouteStatus::Pending => counts.pending = 1,
            RouteStatus::Blocked(_) | RouteStatus::Partial(_) | RouteStatus::Error(_) => counts.errors = 1,
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_entries_fit() {
        assert!(size_of::<Entry>() <= 24, "{}", size_of::<Entry>());
    }
}
