//! The half that learns routes: sessions, RIB, routes of our own in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::bgp::{OrderError, ReconfigureError, ShutdownKind, Speaker, StartError};
use crate::config::diff::{Depth, Diff, Fate, PeerDiff};
use crate::config::model::{Bgp, Kernel};
use crate::netlink::apply::Part;
use crate::netlink::dump;
use crate::netlink::model::{Delta, State};
use crate::netlink::requests::{RequestError, Requests};
use crate::netlink::route_writer::RouteWriter;
use crate::reconcile::kernel::{KernelReconciler, Ownership, RouteTarget, plan};
use crate::rib::model::{PeerId, RibEvent};
use crate::rib::{Rib, RibConfig};

/// Events that sessions may have under way; a full channel holds the peers back (TCP does the rest).
const EVENTS: usize = 1024;
/// Operations per write: the loop looks at notifications, leases and requests in between.
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
    writer: RouteWriter,
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
            writer: RouteWriter::new()?,
            rib: Rib::new(RibConfig::from(bgp), own_addresses(state), now),
            reconciler: KernelReconciler::new(Ownership::from(kernel)),
            speaker: Speaker::start(bgp, sender)?,
            events,
        };
        routing.kernel_changed(state, &Delta::full());
        Ok(routing)
    }

    /// Waits for the next event of a session. Cancel-safe.
    pub async fn next_event(&mut self) -> Option<RibEvent> {
        self.events.recv().await
    }

    /// Takes in an event and those that are there already.
    pub fn handle(&mut self, first: RibEvent, now: Instant) {
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

    /// Does what is due: timers of the RIB, and at most one batch of writes.
    pub async fn work(&mut self, state: &State, now: Instant) {
        let changed = self.rib.tick(now);
        self.want(changed);
        if self.rib.ready() {
            self.reconciler.allow_deletes(state);
        }
        self.reconciler.tick(now);
        let batch = self.reconciler.next_ops(state, now, BATCH);
        if batch.is_empty() {
            return;
        }
        let results = self.writer.execute(&batch).await;
        self.reconciler.on_results(&batch, results, Instant::now());
    }

    /// Takes on another configuration; what could not be done, in words. Nothing is changed when a password
    /// cannot be read or an address not be listened on.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn reload(&mut self, new: &Bgp, diff: &Diff) -> Result<Vec<String>, StartError> {
        Speaker::check(new)?;
        if diff.listen {
            self.speaker.listen_on(&new.listen)?;
        }
        let mut problems = Vec::new();
        for change in &diff.peers {
            if let Err(problem) = self.reload_peer(new, change) {
                problems.push(format!("peer {} ({}): {problem}", change.name, change.peer));
            }
        }
        self.speaker.arrange(&new.peers);
        self.config = new.clone();
        if diff.rib {
            let changed = self.rib.reconfigure(RibConfig::from(new));
            self.want(changed);
        }
        for change in &diff.peers {
            if matches!(change.fate, Fate::Changed { depth: Depth::Refresh, .. }) {
                self.ask_again(change.peer);
            }
        }
        Ok(problems)
    }

    fn reload_peer(&mut self, new: &Bgp, change: &PeerDiff) -> Result<(), ReconfigureError> {
        let peer = new.peers.iter().find(|peer| peer.address == change.peer);
        match (&change.fate, peer) {
            (Fate::Added, Some(peer)) => self.speaker.add(new, peer)?,
            (Fate::Changed { depth, enabled, .. }, Some(peer)) if *depth > Depth::None => {
                self.speaker.reconfigure(new, peer, *depth == Depth::Reset)?;
                match enabled {
                    Some(true) => self.speaker.up(change.peer)?,
                    Some(false) => self.speaker.down(change.peer, String::new())?,
                    None => {}
                }
            }
            (Fate::Removed, _) => self.speaker.remove(change.peer),
            _ => {}
        }
        Ok(())
    }

    /// Asks a peer for all its routes again; one that cannot do that is reset.
    fn ask_again(&self, peer: PeerId) {
        match self.speaker.refresh_all(peer) {
            Ok(()) | Err(OrderError::NotEstablished(_)) => {}
            Err(why) => {
                info!(%peer, %why, "the import policy changed: the session begins anew");
                if let Err(problem) = self.speaker.reset(peer, "import policy changed".to_owned()) {
                    warn!(%peer, %problem, "what the peer announced before is judged by the old policy");
                }
            }
        }
    }

    /// When [`Self::work`] has something to do next; in the past when it has something right now.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if self.reconciler.has_work() {
            return Some(now);
        }
        self.rib.next_deadline().into_iter().chain(self.reconciler.next_deadline()).min()
    }

    /// Ends the sessions. Routes stay unless `flush`.
    pub async fn stop(self, flush: bool) {
        let Self { speaker, reconciler, writer, .. } = self;
        speaker.shutdown(ShutdownKind::Stop).await;
        if flush && let Err(problem) = take_out(reconciler.ownership(), writer).await {
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
async fn take_out(ours: Ownership, mut writer: RouteWriter) -> Result<(), RequestError> {
    let read = dump::read(&mut Requests::new()?, &[Part::Routes].into(), &BTreeMap::new())?;
    let ops = plan::flush(&read.dump.state, ours);
    let results = writer.execute(&ops).await;
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
