//! Another configuration while routes are there.

use std::collections::BTreeMap;

use super::guard::Guards;
use super::model::Attributes;
use super::peer::PeerState;
use super::{Rib, RibConfig};
use crate::prefix_map::PrefixSet;

impl Rib {
    /// Works with another configuration from now on; the prefixes whose selected route is another now. What
    /// is refused now goes at once. What was refused and no longer is must be announced again: ask the peers
    /// (RFC 2918). A smaller bound on paths holds for what comes, not for what is there.
    pub fn reconfigure(&mut self, config: RibConfig) -> PrefixSet {
        let paths_per_prefix = config.import.max_paths_per_prefix;
        let mut before = std::mem::take(&mut self.peers);
        let mut peers = BTreeMap::new();
        for (id, peer) in &config.peers {
            let state = match before.remove(id) {
                Some(mut state) => {
                    state.configure(peer, paths_per_prefix);
                    state
                }
                None => PeerState::new(peer, paths_per_prefix),
            };
            peers.insert(*id, state);
        }
        let mut touched: PrefixSet = before.values().flat_map(|gone| gone.adj_in.prefixes()).collect();
        let all = config.maximum_paths != self.config.maximum_paths;
        (self.peers, self.config) = (peers, config);
        touched.append(&self.remove_refused());
        if all {
            touched.extend(self.selected.keys());
        }
        self.reselect(&touched)
    }

    /// Takes out the stored paths that the guards refuse now.
    fn remove_refused(&mut self) -> PrefixSet {
        let Self { peers, config, .. } = self;
        let RibConfig { import, service_ranges, router_id, .. } = &*config;
        let mut touched = PrefixSet::new();
        for peer in peers.values_mut() {
            let Some(session) = &peer.session else { continue };
            let next_hop_peer = peer.config.next_hop_peer;
            let guards = Guards { import, service_ranges, next_hop_peer, router_id: *router_id };
            touched.append(&peer.adj_in.remove_if(|prefix, path| {
                let attributes = &path.attributes;
                guards
                    .check_attributes(attributes, session)
                    .and_then(|()| guards.check_prefix(prefix, attributes.next_hop, session))
                    .is_err()
            }));
            let own = &self.own;
            let judge = |prefix, attributes: &Attributes| own.judge(import, prefix, attributes);
            touched.append(&peer.adj_in.recheck_held(judge));
        }
        touched
    }
}
