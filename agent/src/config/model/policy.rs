//! Import policy of peers as data.

use ipnet::IpNet;

use crate::rib::policy::as_path::AsPathMask;
use crate::rib::policy::community::{CommunityPattern, LargeCommunityPattern};

/// `bgp.peers.max_prefixes_exceeded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// What is beyond the limit is counted and left out; the session stays.
    Discard,
    /// The session ends and comes back after `max_prefixes_restart`.
    Restart,
    /// The session ends until an operator brings it up.
    Shutdown,
}

/// `bgp.peers.next_hop_peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopPeer {
    /// The peer may be a next hop itself.
    Accept,
    /// Paths through the peer are refused.
    Refuse,
}

/// What a rule does with the paths that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Take them.
    Accept,
    /// Leave them out.
    Reject,
}

/// `[[bgp.peers.rules]]`. It matches when every condition does; an empty list is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The prefix is in one of these.
    pub prefixes: Vec<PrefixRange>,
    /// The prefix is in one of the ranges of this set.
    pub prefix_set: Option<String>,
    /// The path has a community that one of these matches.
    pub communities: Vec<CommunityPattern>,
    /// The path has a large community that one of these matches.
    pub large_communities: Vec<LargeCommunityPattern>,
    /// The whole AS path fits.
    pub as_path: Option<AsPathMask>,
    /// The next hop is in one of these.
    pub next_hops: Vec<IpNet>,
    /// What follows.
    pub action: RuleAction,
    /// `LOCAL_PREF` from here on.
    pub set_local_pref: Option<u32>,
    /// Compared before `LOCAL_PREF`.
    pub set_weight: Option<u32>,
}

/// Without conditions: accepts everything and changes nothing.
impl Default for Rule {
    fn default() -> Self {
        Self {
            prefixes: Vec::new(),
            prefix_set: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            as_path: None,
            next_hops: Vec::new(),
            action: RuleAction::Accept,
            set_local_pref: None,
            set_weight: None,
        }
    }
}

impl Rule {
    /// Whether every path matches.
    pub fn is_unconditional(&self) -> bool {
        let Self { action, set_local_pref, set_weight, .. } = *self;
        *self == Self { action, set_local_pref, set_weight, ..Self::default() }
    }
}

/// A prefix range with bounds on the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrefixRange {
    /// Covering prefix.
    pub prefix: IpNet,
    /// Shortest length accepted.
    pub min: u8,
    /// Longest length accepted.
    pub max: u8,
}

impl PrefixRange {
    /// Whether a prefix is inside of it and neither too short nor too long.
    pub fn contains(&self, prefix: IpNet) -> bool {
        self.prefix.contains(&prefix) && (self.min..=self.max).contains(&prefix.prefix_len())
    }
}
