//! Addresses of this machine, and the paths that they speak against.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::guard::{self, Refusal};
use super::model::Attributes;
use crate::config::model::Import;

/// Addresses of this machine with the networks of its interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    addresses: BTreeSet<IpAddr>,
    networks: BTreeSet<IpNet>,
}

/// Addresses with the length of their network, as an interface has them.
impl FromIterator<IpNet> for Own {
    fn from_iter<T: IntoIterator<Item = IpNet>>(configured: T) -> Self {
        let mut own = Self::default();
        for address in configured {
            own.addresses.insert(address.addr());
            own.networks.insert(address.trunc());
        }
        own
    }
}

impl Own {
    /// Why a path must not be used for as long as the addresses are these: its next hop is this machine, or its
    /// prefix is inside of a network that this machine is connected to. Not a refusal at the door: addresses
    /// change while the session stays up.
    pub fn judge(&self, import: &Import, prefix: IpNet, attributes: &Attributes) -> Option<Refusal> {
        if self.addresses.contains(&attributes.next_hop) {
            return Some(Refusal::NextHopOwn);
        }
        let inside = |network: &&IpNet| network.contains(&prefix);
        let closed = |network: &IpNet| !guard::is_open(import, *network, prefix);
        self.networks.iter().filter(inside).any(closed).then_some(Refusal::OwnNetwork)
    }
}
