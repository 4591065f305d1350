//! Watches how near a peer is to the bound on its paths. Pure.

use std::time::Duration;

use super::model::PeerId;
use crate::config::model::{Exceeded, Peer};
use crate::netlink::model::Family;

/// The bound on the paths of a peer and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimit {
    /// Most paths accepted; with ADD-PATH every path counts.
    pub paths: usize,
    /// From this many on the operator is warned.
    pub warning: usize,
    /// What follows when the peer sends more.
    pub excess: Excess,
}

/// How near a peer is to its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitStatus {
    /// Most paths accepted.
    pub paths: usize,
    /// Paths that count against it.
    pub used: usize,
    /// The paths that count against it have reached the warning level.
    pub near: bool,
}

/// What follows when a peer sends more than its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// What is beyond it is left out.
    Discard,
    /// The session ends (RFC 4486 §4); `restart`: for this long, otherwise until an operator brings it up.
    End {
        /// Pause.
        restart: Option<Duration>,
    },
}

impl PrefixLimit {
    /// Leaves out what is beyond `paths`, warns from four fifths on.
    pub fn discard(paths: usize) -> Self {
        Self { paths, warning: percent(paths, 80), excess: Excess::Discard }
    }
}

impl From<&Peer> for PrefixLimit {
    fn from(peer: &Peer) -> Self {
        Self {
            paths: peer.max_prefixes,
            warning: percent(peer.max_prefixes, peer.max_prefixes_warning),
            excess: match peer.max_prefixes_exceeded {
                Exceeded::Discard => Excess::Discard,
                Exceeded::Restart => Excess::End { restart: Some(peer.max_prefixes_restart) },
                Exceeded::Shutdown => Excess::End { restart: None },
            },
        }
    }
}

/// So many percent, rounded up, at least one.
fn percent(of: usize, percent: u8) -> usize {
    let part = (of as u128 * u128::from(percent)).div_ceil(100);
    usize::try_from(part).unwrap_or(usize::MAX).max(1)
}

/// What the RIB wants of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End it: the peer sends more than its bound.
    PrefixLimit {
        /// Peer.
        peer: PeerId,
        /// Family of the first prefix beyond the bound.
        family: Family,
        /// The bound.
        limit: u32,
        /// Accept the session again after this time; `None`: when an operator brings it up.
        restart: Option<Duration>,
    },
}

/// Where a peer stands.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    limit: PrefixLimit,
    warned: bool,
    ended: bool,
}

impl Watch {
    /// Far away.
    pub const fn new(limit: PrefixLimit) -> Self {
        Self { limit, warned: false, ended: false }
    }

    /// The bound.
    pub const fn limit(&self) -> PrefixLimit {
        self.limit
    }

    /// A session begins or ends.
    pub const fn session_changed(&mut self) {
        self.ended = false;
    }

    /// Takes in the number of paths. Returns whether the warning level was crossed just now. So that a peer
    /// that moves around the level is told once, it counts again when a tenth of it is free.
    pub const fn crossed(&mut self, paths: usize) -> bool {
        let level = self.limit.warning;
        if paths <= level - level.div_ceil(10) {
            self.warned = false;
        }
        let crossed = paths >= level && !self.warned;
        self.warned |= crossed;
        crossed
    }

    /// A path found no room. Returns what to tell the session, the first time.
    pub fn exceeded(&mut self, peer: PeerId, family: Family) -> Option<Order> {
        let Excess::End { restart } = self.limit.excess else { return None };
        if self.ended {
            return None;
        }
        self.ended = true;
        let limit = u32::try_from(self.limit.paths).unwrap_or(u32::MAX);
        Some(Order::PrefixLimit { peer, family, limit, restart })
    }

    /// The session is about to end: nothing more is taken from it.
    pub const fn is_ending(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_round_up_and_stay_in_range() {
        let cases = [
            (20_000, 80, 16_000),
            (10, 75, 8),
            (1, 1, 1),
            (3, 100, 3),
            (usize::MAX, 100, usize::MAX),
            (1, 80, 1),
        ];
        for (of, part, expected) in cases {
            assert_eq!(percent(of, part), expected, "{part} % of {of}");
        }
    }

    #[test]
    fn the_level_is_crossed_once_on_the_way_up() {
        let mut watch = Watch::new(PrefixLimit { paths: 25, warning: 20, excess: Excess::Discard });
        let steps = [
            (19, false),
            (20, true),
            (21, false),
            (19, false),
            (20, false),
            (18, false),
            (19, false),
            (25, true),
            (0, false),
            (20, true),
        ];
        for (index, (paths, expected)) in steps.into_iter().enumerate() {
            assert_eq!(watch.crossed(paths), expected, "step {index}: {paths} paths");
        }
        let mut least = Watch::new(PrefixLimit { paths: 1, warning: 1, excess: Excess::Discard });
        assert!(least.crossed(1) && !least.crossed(1) && !least.crossed(0) && least.crossed(1));
    }

    #[test]
    fn a_session_is_ended_once() {
        let peer = PeerId::from([10, 0, 0, 1]);
        let restart = Some(Duration::from_mins(5));
        let limit = |excess| PrefixLimit { paths: 25, warning: 20, excess };
        let mut watch = Watch::new(limit(Excess::End { restart }));
        let order = Order::PrefixLimit { peer, family: Family::Ipv6, limit: 25, restart };
        assert_eq!(watch.exceeded(peer, Family::Ipv6), Some(order));
        assert!(watch.is_ending());
        assert_eq!(watch.exceeded(peer, Family::Ipv6), None);
        watch.session_changed();
        assert!(!watch.is_ending());
        assert_eq!(watch.exceeded(peer, Family::Ipv6), Some(order), "the next session");

        let mut watch = Watch::new(limit(Excess::Discard));
        assert_eq!((watch.exceeded(peer, Family::Ipv4), watch.is_ending()), (None, false));
    }
}
