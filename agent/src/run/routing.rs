//! The half that learns routes: sessions, RIB, routes of our own in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::writing::{Writing, Written};
use crate::bgp::{OrderError, ReconfigureError, ShutdownKind, Speaker, StartError};
use crate::config::Config;
use crate::config::diff::{Depth, Diff, Fate, PeerDiff};
use crate::config::model::Bgp;
use crate::netlink::apply::Part;
use crate::netlink::dump;
use crate::netlink::model::{Delta, State};
use crate::netlink::requests::{RequestError, Requests};
use crate::netlink::route_writer::RouteWriter;
use crate::prefix_map::PrefixSet;
use crate::reconcile::kernel::{KernelReconciler, Ownership, plan};
use crate::rib::limit::Order;
use crate::rib::model::{PeerId, RibEvent};
use crate::rib::own::Own;
use crate::rib::{Rib, RibConfig, underlay};

/// Events that sessions may have under way; a full channel holds the peers back (TCP does the rest).
const EVENTS: usize = 256;
/// Pause before a session that had no room for an order is told again.
const BUSY: Duration = Duration::from_millis(100);
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
    /// What the RIB wants of sessions that were busy.
    orders: Vec<Order>,
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
    pub fn start(config: &Config, bgp: &Bgp, state: &State, now: Instant) -> Result<Self, RoutingError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let mut routing = Self {
            config: bgp.clone(),
            writing: Writing::start(RouteWriter::new()?),
            rib: Rib::new(RibConfig::new(bgp, config.service_ranges()), own(state), now),
            reconciler: KernelReconciler::new(Ownership::from(&config.kernel)),
            speaker: Speaker::start(bgp, sender)?,
            events,
            orders: Vec::new(),
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

    /// Takes in the events that are there already: a report shows sessions and routes of one moment.
    pub fn catch_up(&mut self, now: Instant) {
        if let Ok(event) = self.events.try_recv() {
            self.take_events(event, now);
        }
    }

    /// Takes in an event and those that are there already.
    fn take_events(&mut self, first: RibEvent, now: Instant) {
        let mut changed = self.rib.handle(first, now);
        for _ in 0..EVENTS {
            let Ok(event) = self.events.try_recv() else { break };
            changed.append(&self.rib.handle(event, now));
        }
        self.want(&changed);
    }

    /// Takes in what the kernel changed.
    pub fn kernel_changed(&mut self, state: &State, delta: &Delta) {
        let all = delta.full || !delta.interfaces.is_empty();
        if all {
            let changed = self.rib.set_own(own(state));
            self.want(&changed);
        }
        let concerned = self.rib.next_hops().filter(|hop| all || covered(delta, *hop)).collect();
        self.look_for(concerned, state);
        self.reconciler.on_kernel_changed(state, delta);
    }

    /// Does what is due: timers of the RIB, and writes as far as there is room. `behind`: notifications of the
    /// kernel wait to be taken in, so that what is not read back yet may well be there.
    pub fn work(&mut self, state: &State, behind: bool, now: Instant) {
        let changed = self.rib.tick(now);
        self.want(&changed);
        let unknown = self.rib.take_unknown();
        self.look_for(unknown, state);
        self.pass_orders_on();
        if self.rib.ready() {
            self.reconciler.allow_deletes(state);
        }
        if !behind {
            self.reconciler.tick(now);
        }
        while self.writing.has_room() {
            let ops = self.reconciler.next_ops(state, now, BATCH);
            if ops.is_empty() {
                break;
            }
            self.writing.give(ops);
        }
    }

    /// Tells the RIB how the kernel gets to next hops.
    fn look_for(&mut self, next_hops: BTreeSet<IpAddr>, state: &State) {
        if !next_hops.is_empty() {
            let ours = self.reconciler.ownership();
            let way = |hop| (hop, underlay::way(state, hop, |route| ours.is_ours(route)));
            let changed = self.rib.set_ways(next_hops.into_iter().map(way));
            self.want(&changed);
        }
    }

    /// Looks whether another configuration can be taken on, and listens where it says.
    ///
    /// # Errors
    /// Why nothing was changed: a password cannot be read or an address not be listened on.
    pub fn prepare(&mut self, new: &Bgp) -> Result<(), StartError> {
        Speaker::check(new)?;
        if self.config.listen != new.listen {
            self.speaker.listen_on(&new.listen)?;
        }
        Ok(())
    }

    /// Takes on another configuration, after [`Self::prepare`]; what could not be done, in words.
    pub fn reload(&mut self, config: &Config, new: &Bgp, diff: &Diff) -> Vec<String> {
        let mut problems = Vec::new();
        for change in &diff.peers {
            if let Err(problem) = self.reload_peer(new, change) {
                problems.push(format!("peer {} ({}): {problem}", change.name, change.peer));
            }
        }
        self.speaker.arrange(&new.peers);
        self.config = new.clone();
        if diff.rib {
            let changed = self.rib.reconfigure(RibConfig::new(new, config.service_ranges()));
            self.want(&changed);
        }
        for change in &diff.peers {
            if matches!(change.fate, Fate::Changed { depth: Depth::Refresh, .. }) {
                self.ask_again(change.peer);
            }
        }
        problems
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
    pub fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.writing.has_room() && self.reconciler.has_work() {
            return Some(now);
        }
        let again = (!self.orders.is_empty()).then(|| now + BUSY);
        self.rib.next_deadline().into_iter().chain(self.reconciler.next_deadline()).chain(again).min()
    }

    /// Tells the sessions what the RIB wants of them. A session that is busy is told again later.
    fn pass_orders_on(&mut self) {
        self.orders.append(&mut self.rib.take_orders());
        let speaker = &self.speaker;
        self.orders.retain(|order| {
            let Order::PrefixLimit { peer, family, limit, restart } = *order;
            match speaker.prefix_limit(peer, family, limit, restart) {
                Err(OrderError::Busy(_)) => true,
                // A session that is no longer configured needs no order.
                Ok(()) | Err(_) => false,
            }
        });
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

    fn want(&mut self, changed: &PrefixSet) {
        if !changed.is_empty() {
            let rib = &self.rib;
            self.reconciler
                .on_desired_changed(changed.iter().map(|prefix| (prefix, rib.selected(&prefix).cloned())));
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

/// Whether routes that cover an address changed; the default route plays no part.
fn covered(delta: &Delta, address: IpAddr) -> bool {
    delta.prefixes.covering(&address.into()).any(|prefix| prefix.prefix_len() > 0)
}

fn own(state: &State) -> Own {
    state.addresses.iter().map(|address| address.address).collect()
}
