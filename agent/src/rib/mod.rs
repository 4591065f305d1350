//! Routing information base: Adj-RIB-In per peer, best path, ECMP, import guards. Pure.
//!
//! # Invariants
//! * What is selected for a prefix is a function of the paths that the peers announce now, their
//!   sessions and the own addresses; below the bounds, the order in which they came plays no part.
//! * A path is in use only if every guard accepts it. A refused one is counted, never lost silently.
//! * Stale paths forward like any other (RFC 4724 §4.2) and always have a moment at which they go.
//!
//! # Failure modes
//! A peer that sends more than its bounds keeps what it sent first; the rest is counted. A peer that
//! never sends End-of-RIB delays [`Rib::ready`] until the start-up time is over.

pub mod adj_in;
pub mod best;
pub mod guard;
pub mod last_known;
pub mod limit;
pub mod model;
pub mod multipath;
pub mod own;
pub mod peer;
pub mod policy;
mod reconfigure;
mod recursion;
pub mod underlay;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::{info, warn};

use self::adj_in::Path;
use self::best::Candidate;
use self::guard::{Guards, Refusal};
use self::limit::{LimitStatus, Order, PrefixLimit};
use self::model::{Attributes, Loss, Nlri, PeerId, PeerInfo, RibEvent, SelectedRoute};
use self::multipath::MaximumPaths;
use self::own::Own;
use self::peer::{PeerConfig, PeerState};
use self::policy::{Copies, Verdict};
use self::recursion::Exits;
use crate::config::model::{Bgp, Import};
use crate::intern::Interner;
use crate::netlink::model::Family;
use crate::prefix_map::{PrefixMap, PrefixSet};

/// What the RIB needs of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibConfig {
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Peers by address.
    pub peers: BTreeMap<PeerId, PeerConfig>,
    /// Import guards.
    pub import: Import,
    /// `datapath.service_ranges`: not to be captured.
    pub service_ranges: Vec<IpNet>,
    /// Most equal-cost next hops per prefix.
    pub maximum_paths: MaximumPaths,
    /// How long the last that is known is kept when no stand-in is left; zero: not at all.
    pub keep_last_known: Duration,
    /// How long after the start to wait for End-of-RIB of every peer before [`Rib::ready`]
    /// (the selection deferral timer of RFC 4724 §4.1).
    pub startup_time: Duration,
}

impl RibConfig {
    /// What a configuration says. The start-up time is the longest `stale_time` of a peer: as long as we
    /// keep what a restarting peer said, we keep what our former self was told.
    pub fn new(bgp: &Bgp, service_ranges: &[IpNet]) -> Self {
        let peers = bgp.peers.iter().map(|peer| (peer.address, PeerConfig::new(bgp, peer)));
        Self {
            router_id: bgp.router_id,
            peers: peers.collect(),
            import: bgp.import.clone(),
            service_ranges: service_ranges.to_vec(),
            maximum_paths: MaximumPaths::from(bgp),
            keep_last_known: bgp.keep_last_known,
            startup_time: bgp.peers.iter().map(|peer| peer.stale_time).max().unwrap_or_default(),
        }
    }
}

/// Numbers of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Paths that it announces (refused ones only up to the bound on paths).
    pub received: usize,
    /// Paths that the guards accept.
    pub accepted: usize,
    /// Paths kept from before its restart, or not seen again yet in a route refresh.
    pub stale: usize,
    /// End-of-RIB came for all families since the session came up.
    pub end_of_rib: bool,
}

/// The routing information base of both families.
#[derive(Clone, Debug)]
pub struct Rib {
    config: RibConfig,
    own: Own,
    peers: BTreeMap<PeerId, PeerState>,
    selected: PrefixMap<Arc<SelectedRoute>>,
    /// Selected routes, each once.
    routes: Interner<SelectedRoute>,
    filtered: BTreeMap<Refusal, u64>,
    /// For the sessions, not taken yet.
    orders: Vec<Order>,
    exits: Exits,
    startup: Option<Startup>,
}

/// Until the table is complete for the first time.
#[derive(Clone, Copy, Debug)]
struct Startup {
    /// When peers that have not sent all are no longer waited for.
    until: Instant,
    /// When even the first one is no longer waited for.
    at_last: Instant,
}

impl Rib {
    /// An empty RIB that starts `now` on a machine with these addresses.
    pub fn new(config: RibConfig, own: Own, now: Instant) -> Self {
        let paths_per_prefix = config.import.max_paths_per_prefix;
        let peers =
            config.peers.iter().map(|(peer, c)| (*peer, PeerState::new(c, paths_per_prefix))).collect();
        let until = now + config.startup_time;
        let startup = Some(Startup { until, at_last: until.max(now + config.keep_last_known) });
        let mut rib = Self {
            config,
            own,
            peers,
            selected: PrefixMap::new(),
            routes: Interner::default(),
            filtered: BTreeMap::new(),
            orders: Vec::new(),
            exits: Exits::default(),
            startup,
        };
        rib.note_ready(now);
        rib
    }

    /// Takes in what a session says; the prefixes whose selected route is another now.
    pub fn handle(&mut self, event: RibEvent, now: Instant) -> PrefixSet {
        let id = event.peer();
        if !self.peers.contains_key(&id) {
            warn!(peer = %id, "event of a peer that is not configured, ignored");
            return PrefixSet::new();
        }
        let touched = match event {
            RibEvent::PeerUp(session) => self.with_peer(id, |peer| peer.up(session)),
            RibEvent::Update { withdrawn, announced, .. } => self.update(id, &withdrawn, announced),
            RibEvent::EndOfRib { family, .. } => {
                self.release_kept(id, family, now);
                self.with_peer(id, |peer| peer.end_of_rib(family))
            }
            RibEvent::PeerDown { loss, .. } if loss != Loss::Final && self.is_last_known(id) => {
                let time = self.config.keep_last_known;
                self.with_peer(id, |peer| peer.down_as_last(&loss, time, now));
                PrefixSet::new()
            }
            RibEvent::PeerDown { loss, .. } => self.with_peer(id, |peer| peer.down(&loss, now)),
            RibEvent::RefreshStarted { family, .. } => {
                self.with_peer(id, |peer| peer.refresh_started(family, now));
                PrefixSet::new()
            }
        };
        self.note_ready(now);
        self.reselect(&touched)
    }

    /// Does what is due by `now`; the prefixes whose selected route is another now.
    pub fn tick(&mut self, now: Instant) -> PrefixSet {
        let mut touched = PrefixSet::new();
        self.peers.values_mut().for_each(|peer| touched.append(&peer.tick(now)));
        self.note_ready(now);
        self.reselect(&touched)
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let startup =
            self.startup.map(|startup| if self.has_heard_one() { startup.until } else { startup.at_last });
        self.peers.values().filter_map(PeerState::next_deadline).chain(startup).min()
    }

    /// Tells the RIB this machine's addresses; the prefixes whose selected route is another now.
    pub fn set_own(&mut self, own: Own) -> PrefixSet {
        if own == self.own {
            return PrefixSet::new();
        }
        self.own = own;
        let (own, import) = (&self.own, &self.config.import);
        let judge = |prefix, attributes: &Attributes| own.judge(import, prefix, attributes);
        let mut touched = PrefixSet::new();
        self.peers.values_mut().for_each(|peer| touched.append(&peer.adj_in.recheck_held(judge)));
        self.reselect(&touched)
    }

    /// What the RIB wants of sessions since it was asked last.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// The route that is selected for a prefix.
    pub fn selected(&self, prefix: &IpNet) -> Option<&Arc<SelectedRoute>> {
        self.selected.get(prefix)
    }

    /// All selected routes, sorted by prefix.
    pub const fn selected_routes(&self) -> &PrefixMap<Arc<SelectedRoute>> {
        &self.selected
    }

    /// Numbers of a peer; `None` if it is not configured.
    pub fn peer_counts(&self, peer: &PeerId) -> Option<PeerCounts> {
        self.peers.get(peer).map(PeerState::counts)
    }

    /// How near a peer is to its bound; `None` if it is not configured.
    pub fn limit_status(&self, peer: &PeerId) -> Option<LimitStatus> {
        let peer = self.peers.get(peer)?;
        let PrefixLimit { paths, warning, .. } = peer.watch.limit();
        let used = peer.adj_in.fresh();
        Some(LimitStatus { paths, used, near: used >= warning })
    }

    /// Paths refused since the start, by reason; reasons that never occurred are absent.
    pub const fn filtered(&self) -> &BTreeMap<Refusal, u64> {
        &self.filtered
    }

    /// Whether what is selected is all there is: every configured peer has sent its whole table since
    /// the start, or the start-up time is over and one has, or no peer has in all the time that the last
    /// known routes are kept. Before that, routes of a former run must stay. Once true it stays true.
    pub const fn ready(&self) -> bool {
        self.startup.is_none()
    }

    fn has_heard_one(&self) -> bool {
        self.peers.values().any(|peer| peer.synced_once)
    }

    fn with_peer<T: Default>(&mut self, id: PeerId, act: impl FnOnce(&mut PeerState) -> T) -> T {
        self.peers.get_mut(&id).map(act).unwrap_or_default()
    }

    fn update(
        &mut self,
        id: PeerId,
        withdrawn: &[Nlri],
        announced: Option<(Arc<Attributes>, Vec<Nlri>)>,
    ) -> PrefixSet {
        let mut touched = PrefixSet::new();
        let Some(peer) = self.peers.get_mut(&id) else { return touched };
        let Some(session) = peer.session.clone().filter(|_| peer.up) else {
            warn!(peer = %id, "update outside of a session, ignored");
            return touched;
        };
        for nlri in withdrawn {
            if peer.adj_in.remove(*nlri) {
                touched.insert(nlri.prefix);
            }
        }
        if let Some((attributes, list)) = announced
            && !peer.watch.is_ending()
        {
            touched.append(&self.announced(id, &session, &attributes, list));
        }
        touched
    }

    /// Takes in what one UPDATE announces; the prefixes whose paths changed.
    fn announced(
        &mut self,
        id: PeerId,
        session: &PeerInfo,
        attributes: &Arc<Attributes>,
        list: Vec<Nlri>,
    ) -> PrefixSet {
        let mut touched = PrefixSet::new();
        let Some(peer) = self.peers.get_mut(&id) else { return touched };
        let RibConfig { import, service_ranges, router_id, .. } = &self.config;
        let next_hop_peer = peer.config.next_hop_peer;
        let guards = Guards { import, service_ranges, next_hop_peer, router_id: *router_id };
        let shared = guards.check_attributes(attributes, session);
        if shared.is_ok() {
            self.exits.note(attributes.next_hop);
        }
        let rules = peer.config.policy.narrow(attributes);
        let mut copies = Copies::of(attributes.clone());
        for nlri in list {
            let guarded =
                shared.and_then(|()| guards.check_prefix(nlri.prefix, attributes.next_hop, session));
            let verdict = guarded.and_then(|()| match rules.decide(nlri.prefix) {
                Verdict::Accept(settings) => Ok(settings),
                Verdict::Reject => Err(Refusal::Policy),
            });
            let held = self.own.judge(import, nlri.prefix, attributes);
            let stored = verdict.and_then(|settings| {
                let attributes = copies.with(settings);
                let path = Path { path_id: nlri.path_id, attributes, stale: false, held };
                peer.adj_in.insert(nlri.prefix, path)
            });
            let changed = match stored {
                Ok(changed) => {
                    if let Some(reason) = held {
                        count(&mut self.filtered, reason);
                    }
                    changed
                }
                Err(reason) => {
                    note_refusal(&mut self.filtered, reason, session, nlri);
                    if reason == Refusal::MaxPrefixes {
                        self.orders.extend(peer.watch.exceeded(id, Family::of(nlri.prefix.addr())));
                    }
                    peer.adj_in.refuse(nlri)
                }
            };
            if changed {
                touched.insert(nlri.prefix);
            }
        }
        warn_near_limit(peer, session);
        touched
    }

    /// Runs the decision process for the prefixes; those with another result.
    fn reselect(&mut self, touched: &PrefixSet) -> PrefixSet {
        let mut changed: PrefixSet = touched.iter().filter(|prefix| self.reselect_one(prefix)).collect();
        if !self.exits.are_direct() {
            let dependents = self.follow(changed.clone());
            changed.append(&dependents);
        }
        changed
    }

    fn reselect_one(&mut self, prefix: &IpNet) -> bool {
        let mut candidates: Vec<Candidate<'_>> =
            self.peers.values().flat_map(|peer| candidates(peer, prefix)).collect();
        if !self.exits.are_direct() {
            candidates = self.reachable(candidates);
        }
        let merged = multipath::merge(&best::decide(candidates), self.config.maximum_paths);
        let Some(route) = merged.map(|route| self.lead_on(*prefix, route)) else {
            self.exits.forget(prefix);
            return self.selected.remove(prefix).is_some();
        };
        let selected = self.selected.get_mut(prefix);
        if selected.as_ref().is_some_and(|selected| ***selected == route) {
            return false;
        }
        let route = self.routes.share(&route);
        match selected {
            Some(selected) => *selected = route,
            None => drop(self.selected.insert(*prefix, route)),
        }
        true
    }

    fn note_ready(&mut self, now: Instant) {
        let Some(Startup { until, at_last }) = self.startup else { return };
        let all_synced = self.peers.values().all(|peer| peer.synced_once);
        if all_synced || now >= at_last || now >= until && self.has_heard_one() {
            self.startup = None;
            info!(all_peers_synced = all_synced, prefixes = self.selected.len(), "routing table is complete");
        }
    }
}

/// What may be selected of one peer's paths for a prefix.
fn candidates<'a>(peer: &'a PeerState, prefix: &IpNet) -> impl Iterator<Item = Candidate<'a>> {
    let session: Option<&PeerInfo> = peer.session.as_ref();
    session.into_iter().flat_map(move |session| {
        peer.adj_in.usable(prefix).map(move |path| Candidate {
            attributes: &path.attributes,
            peer: session.peer,
            external: session.external,
            router_id: session.router_id,
            path_id: path.path_id,
        })
    })
}

/// A peer that comes near its bound may lose paths soon.
fn warn_near_limit(peer: &mut PeerState, session: &PeerInfo) {
    let paths = peer.adj_in.fresh();
    if peer.watch.crossed(paths) {
        let limit = peer.watch.limit().paths;
        warn!(peer = %session.peer, paths, limit, "the peer is near its max_prefixes, raise it if its paths are wanted");
    }
}

fn count(filtered: &mut BTreeMap<Refusal, u64>, reason: Refusal) {
    *filtered.entry(reason).or_default() += 1;
}

/// Counts a refusal. A bound that is hit for the first time is worth waking someone: the peer sends
/// more than was foreseen, and something that should be reachable is not.
fn note_refusal(filtered: &mut BTreeMap<Refusal, u64>, reason: Refusal, session: &PeerInfo, nlri: Nlri) {
    if matches!(reason, Refusal::MaxPrefixes | Refusal::MaxPathsPerPrefix) && !filtered.contains_key(&reason)
    {
        warn!(peer = %session.peer, prefix = %nlri.prefix, reason = reason.label(), "paths are left out, raise the bound if they are wanted");
    }
    count(filtered, reason);
}

#[cfg(test)]
mod tests;
