//! What the RIB keeps of one peer: its Adj-RIB-In and where it is in a restart or a refresh.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::PeerCounts;
use super::adj_in::{AdjIn, Limits};
use super::limit::{PrefixLimit, Watch};
use super::model::{Loss, PeerInfo};
use super::policy::Policy;
use crate::config::model::{Bgp, NextHopPeer, Peer};
use crate::netlink::model::Family;
use crate::prefix_map::PrefixSet;

/// What the RIB is told about a peer by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Most paths accepted from the peer, and what follows from more.
    pub limit: PrefixLimit,
    /// Longest time that stale paths are kept, whatever the peer offers.
    pub stale_time: Duration,
    /// Rules for what the guards let through.
    pub policy: Policy,
    /// Whether the peer may be the next hop of what it announces.
    pub next_hop_peer: NextHopPeer,
    /// The peers that may stand in for each other, by their AS; `None`: what this peer says is not kept when
    /// it is the last to be lost ([`super::last_known`]).
    pub stand_in: Option<u32>,
}

impl PeerConfig {
    /// What a configuration says about one of its peers.
    pub fn new(bgp: &Bgp, peer: &Peer) -> Self {
        let keeps = peer.keep_last_known.unwrap_or(!bgp.is_external(peer));
        Self {
            limit: PrefixLimit::from(peer),
            stale_time: peer.stale_time,
            policy: Policy::new(peer, &bgp.prefix_sets),
            next_hop_peer: peer.next_hop_peer,
            stand_in: keeps.then_some(peer.remote_as),
        }
    }
}

/// One configured peer.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// Configuration.
    pub config: PeerConfig,
    /// Paths.
    pub adj_in: AdjIn,
    /// How near the paths are to the bound.
    pub watch: Watch,
    /// The session; kept when it goes down, for the stale paths.
    pub session: Option<PeerInfo>,
    /// In Established.
    pub up: bool,
    /// Families whose End-of-RIB came since the session is up.
    end_of_rib: BTreeSet<Family>,
    /// Sent all of its table at least once since we started.
    pub synced_once: bool,
    /// When the stale paths of a family go.
    stale: BTreeMap<Family, Stale>,
}

/// The stale paths of a family.
#[derive(Clone, Copy, Debug)]
struct Stale {
    why: Why,
    /// Now in force.
    deadline: Instant,
    /// Bound from the configuration: extends to here once the peer is back.
    bound: Instant,
}

/// What stale paths wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The peer restarts: it says at the beginning of the next session whether they are still good.
    Restart,
    /// The peer sends everything again, in this session or, after a reset of ours, in the next one.
    SentAgain,
    /// No restart, no stand-in is left: the last that is known.
    LastKnown {
        /// The peer or a stand-in has sent all since.
        released: bool,
    },
}

impl Stale {
    const fn is_last_known(&self) -> bool {
        matches!(self.why, Why::LastKnown { .. })
    }
}

impl PeerState {
    /// A peer that was not heard of yet.
    pub fn new(config: &PeerConfig, paths_per_prefix: usize) -> Self {
        Self {
            config: config.clone(),
            adj_in: AdjIn::new(Limits { paths_per_prefix, paths: config.limit.paths }),
            watch: Watch::new(config.limit),
            session: None,
            up: false,
            end_of_rib: BTreeSet::new(),
            synced_once: false,
            stale: BTreeMap::new(),
        }
    }

    /// Another configuration.
    pub fn configure(&mut self, config: &PeerConfig, paths_per_prefix: usize) {
        self.adj_in.set_limits(Limits { paths_per_prefix, paths: config.limit.paths });
        if self.config.limit != config.limit {
            self.watch = Watch::new(config.limit);
        }
        self.config = config.clone();
    }

    /// The session is Established. Stale paths of families that the peer did not preserve, or that
    /// are no longer negotiated, go at once (RFC 4724 §4.2); the prefixes to select anew.
    pub fn up(&mut self, session: PeerInfo) -> PrefixSet {
        let mut touched = PrefixSet::new();
        for family in [Family::Ipv4, Family::Ipv6] {
            let negotiated = session.families.contains(&family);
            match self.stale.get_mut(&family) {
                Some(stale) if negotiated && session.forwarding_preserved.contains(&family) => {
                    stale.deadline = stale.bound;
                }
                // These go when the peer has said all, not before.
                Some(stale) if negotiated && stale.why != Why::Restart => {}
                _ => {
                    self.stale.remove(&family);
                    touched.append(&self.adj_in.remove_family(family));
                }
            }
        }
        let identity = |s: &PeerInfo| (s.external, s.router_id);
        if self.session.as_ref().map(identity) != Some(identity(&session)) {
            touched.extend(self.adj_in.prefixes());
        }
        self.session = Some(session);
        self.up = true;
        self.watch.session_changed();
        self.end_of_rib.clear();
        self.note_synced();
        touched
    }

    /// The session is gone. Paths of the families that `loss` names stay as stale ones; what was stale
    /// before goes, lest a peer that restarts again and again keeps it for ever (RFC 4724 §4.2).
    pub fn down(&mut self, loss: &Loss, now: Instant) -> PrefixSet {
        self.up = false;
        self.watch.session_changed();
        self.end_of_rib.clear();
        let mut touched = PrefixSet::new();
        for family in [Family::Ipv4, Family::Ipv6] {
            let bound = now + self.config.stale_time;
            let stays = match loss {
                Loss::Lost(restarting) => restart_time(restarting, family).map(|time| Stale {
                    why: Why::Restart,
                    deadline: bound.min(now + time),
                    bound,
                }),
                Loss::Reset(families) => families.contains(&family).then_some(Stale {
                    why: Why::SentAgain,
                    deadline: bound,
                    bound,
                }),
                Loss::Final => None,
            };
            if let Some(stale) = stays {
                touched.append(&self.adj_in.remove_where(family, |path| path.stale));
                self.adj_in.mark_stale(family);
                self.stale.insert(family, stale);
            } else {
                self.stale.remove(&family);
                touched.append(&self.adj_in.remove_family(family));
            }
        }
        touched
    }

    /// The session is gone, no stand-in is left, and what the peer said is the last that is known: it stays
    /// as stale for `time`, or for what is left of it since an earlier loss. The paths that a restart keeps
    /// longer stay longer.
    pub fn down_as_last(&mut self, loss: &Loss, time: Duration, now: Instant) {
        self.up = false;
        self.end_of_rib.clear();
        for family in [Family::Ipv4, Family::Ipv6] {
            let restart = match loss {
                Loss::Lost(restarting) => restart_time(restarting, family),
                Loss::Reset(_) | Loss::Final => None,
            };
            let bound = match self.stale.get(&family) {
                Some(Stale { why: Why::LastKnown { released: false }, bound, .. }) => *bound,
                _ => now + time.max(restart.unwrap_or_default()),
            };
            self.adj_in.mark_stale(family);
            let why = Why::LastKnown { released: false };
            self.stale.insert(family, Stale { why, deadline: bound, bound });
        }
    }

    /// Paths that are kept as the last that is known, and until when at most.
    pub fn kept(&self) -> Option<(usize, Instant)> {
        let kept = self.stale.iter().filter(|(_, stale)| stale.is_last_known());
        let until = kept.clone().map(|(_, stale)| stale.deadline).max()?;
        let of = |path: &super::adj_in::Path, family| path.stale && kept.clone().any(|(f, _)| *f == family);
        let count = self.adj_in.iter().filter(|(prefix, path)| of(path, Family::of(prefix.addr()))).count();
        (count > 0).then_some((count, until))
    }

    /// A stand-in, or the peer itself, has sent all of the family: what is kept goes after `pause`.
    pub fn release_kept(&mut self, family: Family, pause: Duration, now: Instant) {
        if let Some(stale) = self.stale.get_mut(&family).filter(|stale| stale.is_last_known()) {
            stale.deadline = stale.deadline.min(now + pause);
            stale.why = Why::LastKnown { released: true };
        }
    }

    /// The peer sends the family again: what it does not repeat is swept by [`Self::end_of_rib`] or,
    /// should that never come, after the bound on stale paths.
    pub fn refresh_started(&mut self, family: Family, now: Instant) {
        self.adj_in.mark_stale(family);
        if self.stale.get(&family).is_some_and(Stale::is_last_known) {
            return;
        }
        let bound = now + self.config.stale_time;
        self.stale.insert(family, Stale { why: Why::SentAgain, deadline: bound, bound });
    }

    /// The peer has sent all of the family: what is still stale goes, unless it is the last that was known
    /// ([`Self::release_kept`]).
    pub fn end_of_rib(&mut self, family: Family) -> PrefixSet {
        self.end_of_rib.insert(family);
        self.note_synced();
        if self.stale.get(&family).is_some_and(Stale::is_last_known) {
            return PrefixSet::new();
        }
        self.stale.remove(&family);
        self.adj_in.remove_where(family, |path| path.stale)
    }

    /// Sweeps the families whose time is over.
    pub fn tick(&mut self, now: Instant) -> PrefixSet {
        let due: Vec<Family> =
            self.stale.iter().filter(|(_, stale)| stale.deadline <= now).map(|(f, _)| *f).collect();
        let mut touched = PrefixSet::new();
        for family in due {
            self.stale.remove(&family);
            touched.append(&self.adj_in.remove_where(family, |path| path.stale));
        }
        touched
    }

    /// The next moment that [`Self::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.stale.values().map(|stale| stale.deadline).min()
    }

    /// Numbers for reports.
    pub fn counts(&self) -> PeerCounts {
        let (stored, fresh, held) = self.adj_in.stored();
        PeerCounts {
            received: stored + self.adj_in.refused(),
            accepted: stored - held,
            stale: stored - fresh,
            end_of_rib: self.all_received(),
        }
    }

    fn all_received(&self) -> bool {
        self.up
            && self.session.as_ref().is_some_and(|s| s.families.iter().all(|f| self.end_of_rib.contains(f)))
    }

    fn note_synced(&mut self) {
        self.synced_once |= self.all_received();
    }
}

/// How long the peer may take to restart, if the family is among those that it preserves.
fn restart_time(restarting: &[(Family, Duration)], family: Family) -> Option<Duration> {
    restarting.iter().find(|(of, _)| *of == family).map(|(_, time)| *time)
}
