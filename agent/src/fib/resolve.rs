//! From a next hop to the MACs of its row.

use super::model::{NextHop, Resolution};
use crate::netlink::model::{Neighbour, NeighbourState, State};

/// The hardware address that frames to a neighbour may be sent to: that of a valid entry, when it is
/// a unicast address.
pub fn usable_mac(neighbour: &Neighbour) -> Option<[u8; 6]> {
    let mac = neighbour.mac.filter(|_| neighbour.state == NeighbourState::Valid)?;
    let is_group = mac[0] & 1 == 1;
    (!is_group && mac != [0; 6]).then_some(mac)
}

/// Looks up what a next-hop row needs: the neighbour's and the port's MAC.
pub fn resolve(next_hop: &NextHop, state: &State) -> Resolution {
    let source_mac =
        state.links.get(&next_hop.port).filter(|link| link.up && link.carrier).and_then(|link| link.mac);
    let Some(source_mac) = source_mac else { return Resolution::PortDown };
    match state.neighbours.get(&(next_hop.port, next_hop.neighbour)).and_then(usable_mac) {
        Some(destination_mac) => Resolution::Live { destination_mac, source_mac },
        None => Resolution::Unresolved,
    }
}
