//! Another configuration while routes are there.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::guard;
use super::peer::PeerState;
use super::{Rib, RibConfig};

impl Rib {
    /// Works with another configuration from now on; the prefixes whose selected route is another now. What
    /// is refused now goes at once. What was refused and no longer is must be announced again: ask the peers
    /// (RFC 2918). A smaller bound on paths holds for what comes, not for what is there.
    pub fn reconfigure(&mut self, config: RibConfig) -> BTreeSet<IpNet> {
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
        let mut touched: BTreeSet<IpNet> =
            before.values().flat_map(|gone| gone.adj_in.prefixes()).copied().collect();
        let all = config.maximum_paths != self.config.maximum_paths;
        (self.peers, self.config) = (peers, config);
        touched.extend(self.remove_refused());
        if all {
            touched.extend(self.selected.keys());
        }
        self.reselect(touched)
    }

    /// Takes out the stored paths that the guards refuse now.
    fn remove_refused(&mut self) -> BTreeSet<IpNet> {
        let Self { peers, config, .. } = self;
        let (import, router_id) = (&config.import, config.router_id);
        let mut touched = BTreeSet::new();
        for peer in peers.values_mut() {
            let Some(session) = &peer.session else { continue };
            touched.extend(peer.adj_in.remove_if(|prefix, path| {
                let attributes = &path.attributes;
                guard::check_attributes(import, attributes, session, router_id)
                    .and_then(|()| guard::check_prefix(import, *prefix, attributes.next_hop, session))
                    .is_err()
            }));
        }
        touched
    }
}
