//! The half that learns routes: sessions, RIB, routes of our own in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::writing::{Writing, Written};
use crate::bgp::{ShutdownKind, Speaker, StartError};
use crate::config::model::{Bgp, Kernel};
use crate::netlink::apply::Part;
use crate::netlink::dump;
use crate::netlink::model::{Delta, State};
use crate::netlink::requests::{RequestError, Requests};
use crate::netlink::route_writer::RouteWriter;
use crate::reconcile::kernel::{KernelReconciler, Ownership, plan};
use crate::rib::model::RibEvent;
use crate::rib::{Rib, RibConfig};

/// Events that sessions may have under way; a full channel holds the peers back (TCP does the rest).
const EVENTS: usize = 1024;
/// Operations per batch: a few milliseconds of the kernel's time.
const BATCH: usize = 2048;

/// Why the routing half cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The sessions cannot start.
    #[error(transparent)]
    Speaker(#[from] StartError),
    /// The kernel cannot be written to.
    #[error("netlink socket for routes: {0}")]
    Writer(#[from] io::Error),
}

/// Sessions, RIB and kernel target. One per agent, owned by the loop.
#[derive(Debug)]
pub struct Routing {
    /// Configuration it runs with.
    pub config: Bgp,
    /// Sessions.
    pub speaker: Speaker,
    /// Selected routes.
    pub rib: Rib,
    /// Where each of our kernel routes stands.
    pub reconciler: KernelReconciler,
    events: mpsc::Receiver<RibEvent>,
    writing: Writing,
}

/// What a wait ended with.
#[derive(Debug)]
pub enum Wake {
    /// A session has something to say.
    Event(RibEvent),
    /// The kernel has worked off what it was given.
    Written(Written),
}

impl Routing {
    /// Starts the sessions. `state` is the kernel's state, with what a former run left in it.
    ///
    /// # Errors
    /// A listening address is taken, or netlink sockets cannot be opened.
    pub fn start(bgp: &Bgp, kernel: &Kernel, state: &State, now: Instant) -> Result<Self, RoutingError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let mut routing = Self {
            config: bgp.clone(),
            writing: Writing::start(RouteWriter::new()?),
            rib: Rib::new(RibConfig::from(bgp), own_addresses(state), now),
            reconciler: KernelReconciler::new(Ownership::from(kernel)),
            speaker: Speaker::start(bgp, sender)?,
            events,
        };
        routing.kernel_changed(state, &Delta::full());
        Ok(routing)
    }

    /// Waits for the next event of a session, or the end of a write. Cancel-safe.
    pub async fn wake(&mut self) -> Option<Wake> {
        tokio::select! {
            event = self.events.recv() => event.map(Wake::Event),
            written = self.writing.written() => Some(Wake::Written(written)),
        }
    }

    /// Takes in what [`Self::wake`] gave.
    pub fn handle(&mut self, wake: Wake, now: Instant) {
        match wake {
            Wake::Event(event) => self.take_events(event, now),
            Wake::Written((ops, results)) => self.reconciler.on_results(&ops, results, now),
        }
    }

    /// Takes in an event and those that are there already.
    fn take_events(&mut self, first: RibEvent, now: Instant) {
        let mut changed = self.rib.handle(first, now);
        for _ in 0..EVENTS {
            let Ok(event) = self.events.try_recv() else { break };
            changed.extend(self.rib.handle(event, now));
        }
        self.want(changed);
    }

    /// Takes in what the kernel changed.
    pub fn kernel_changed(&mut self, state: &State, delta: &Delta) {
        if delta.full || !delta.interfaces.is_empty() {
            let changed = self.rib.set_own_addresses(own_addresses(state));
            self.want(changed);
        }
        self.reconciler.on_kernel_changed(state, delta);
    }

    /// Does what is due: timers of the RIB, and writes as far as there is room.
    pub fn work(&mut self, state: &State, now: Instant) {
        let changed = self.rib.tick(now);
        self.want(changed);
        if self.rib.ready() {
            self.reconciler.allow_deletes(state);
        }
        self.reconciler.tick(now);
        while self.writing.has_room() {
            let ops = self.reconciler.next_ops(state, now, BATCH);
            if ops.is_empty() {
                break;
            }
            self.writing.give(ops);
        }
    }

    /// When [`Self::work`] has something to do next; in the past when it has something right now.
    pub fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.writing.has_room() && self.reconciler.has_work() {
            return Some(now);
        }
        self.rib.next_deadline().into_iter().chain(self.reconciler.next_deadline()).min()
    }

    /// Ends the sessions. Routes stay unless `flush`.
    pub async fn stop(self, flush: bool) {
        let Self { speaker, reconciler, writing, .. } = self;
        speaker.shutdown(ShutdownKind::Stop).await;
        // What is under way comes first: it would undo a flush.
        writing.finish().await;
        if flush && let Err(problem) = take_out(reconciler.ownership()) {
            warn!(%problem, "our routes stay in the kernel, `underpass flush` takes them out");
        }
    }

    fn want(&mut self, changed: BTreeSet<ipnet::IpNet>) {
        if !changed.is_empty() {
            let rib = &self.rib;
            self.reconciler
                .on_desired_changed(changed.into_iter().map(|prefix| (prefix, rib.selected(&prefix))));
        }
    }
}

/// Takes out all routes of ours, as the kernel has them now: notifications of those that were written
/// last may not have been read.
fn take_out(ours: Ownership) -> Result<(), RequestError> {
    let read = dump::read(&mut Requests::new()?, &[Part::Routes].into(), &BTreeMap::new())?;
    let ops = plan::flush(&read.dump.state, ours);
    let results = RouteWriter::new()?.write(&ops);
    let failures: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    info!(routes = ops.len() - failures.len(), "took our routes out of the kernel");
    if let Some(first) = failures.first() {
        warn!(routes = failures.len(), %first, "routes of ours stay, `underpass flush` tries again");
    }
    Ok(())
}

fn own_addresses(state: &State) -> BTreeSet<IpAddr> {
    state.addresses.iter().map(|address| address.address.addr()).collect()
}
