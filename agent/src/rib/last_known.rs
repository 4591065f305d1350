//! What stays when the last reflector is lost.
//!
//! A session's end says nothing about the ways that its peer told of, only that nobody tells of them any more.
//! While another peer of the same AS is up, that one's word counts and the lost one's paths go. When none is
//! left, what was known last is better than nothing: it stays, marked stale, for a configured time that begins
//! with the loss and is not extended by sessions that come up and break again.
//!
//! It goes once a peer of that AS has sent all of its table, after [`PAUSE`]: a reflector that has just come
//! back may say End-of-RIB before its own clients have told it anything.

use std::time::{Duration, Instant};

use super::Rib;
use super::model::PeerId;
use super::peer::PeerState;
use crate::netlink::model::Family;

/// How long after an End-of-RIB what was kept still stays.
pub const PAUSE: Duration = Duration::from_secs(30);

impl Rib {
    /// Whether the loss of this peer would leave nobody who could tell of the same ways.
    pub(super) fn is_last_known(&self, id: PeerId) -> bool {
        !self.config.keep_last_known.is_zero()
            && self.config.peers.get(&id).is_some_and(|peer| peer.stand_in.is_some())
            && !self.stand_ins(id).any(|peer| self.peers.get(&peer).is_some_and(|peer| peer.up))
    }

    /// A peer has sent all of a family: what its stand-ins and itself said before may go.
    pub(super) fn release_kept(&mut self, id: PeerId, family: Family, now: Instant) {
        for peer in self.stand_ins(id).chain([id]).collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.release_kept(family, PAUSE, now);
            }
        }
    }

    /// Peers whose paths are kept as the last known: how many paths, and until when at most. Walks their
    /// tables.
    pub fn kept(&self) -> impl Iterator<Item = (PeerId, usize, Instant)> {
        let kept = |(id, peer): (&PeerId, &PeerState)| peer.kept().map(|(count, until)| (*id, count, until));
        self.peers.iter().filter_map(kept)
    }

    /// How many paths of a peer are kept as the last known, and until when at most. Walks its table.
    pub fn kept_of(&self, peer: &PeerId) -> Option<(usize, Instant)> {
        self.peers.get(peer)?.kept()
    }

    /// The other peers that may stand in for one.
    fn stand_ins(&self, id: PeerId) -> impl Iterator<Item = PeerId> {
        let group = self.config.peers.get(&id).and_then(|peer| peer.stand_in);
        let others = self
            .config
            .peers
            .iter()
            .filter(move |(other, config)| **other != id && group.is_some() && config.stand_in == group);
        others.map(|(other, _)| *other)
    }
}
