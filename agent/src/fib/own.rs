//! IPv4 sources that the kernel refuses even where it does not check the reverse path.
//!
//! Follows the short cut of `fib_validate_source` (`net/ipv4/fib_frontend.c`): with `rp_filter` off it only
//! asks whether the source is an address of this machine. Where somebody once added rules or local routes
//! the kernel looks the source up instead, and refuses those whose route is local, broadcast or alike. It
//! does not tell whether that is so, and so these count too.

use std::collections::BTreeSet;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use underpass_common::own::own_bits;

use super::model::OwnFilter;
use super::rules::is_default;
use crate::netlink::model::{Delta, Family, RouteType, Rule, State, TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN};

/// Ranges that the program leaves to the kernel before it asks for anything.
const NEVER_SOURCES: [Ipv4Net; 4] = [
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3),
];
/// The tables of the default rules.
const TABLES: [u32; 3] = [TABLE_LOCAL, TABLE_MAIN, TABLE_DEFAULT];

/// The sources that count as own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Addresses of interfaces, up or down.
    addresses: BTreeSet<Ipv4Addr>,
    /// Prefixes with a route that is neither unicast nor an error, in the tables of the default rules.
    routes: BTreeSet<Ipv4Net>,
    default_rules: bool,
}

impl Own {
    /// Reads everything.
    pub fn new(state: &State) -> Self {
        let rules: Vec<&Rule> = state.rules.iter().filter(|rule| rule.family == Family::Ipv4).collect();
        let mut own = Self { default_rules: is_default(&rules), ..Self::default() };
        own.refresh_addresses(state);
        for route in state.routes.iter().filter(|route| is_refused(route.kind)) {
            if let IpNet::V4(prefix) = route.prefix
                && TABLES.contains(&route.table)
            {
                own.routes.insert(prefix);
            }
        }
        own
    }

    /// Reads again what `delta` names. Gives whether anything changed.
    pub fn refresh(&mut self, delta: &Delta, state: &State) -> bool {
        let addresses = !delta.interfaces.is_empty() && self.refresh_addresses(state);
        // Not `any`: every prefix has to be read.
        delta.prefixes.iter().fold(addresses, |changed, prefix| self.refresh_routes(prefix, state) || changed)
    }

    fn refresh_addresses(&mut self, state: &State) -> bool {
        let addresses = state.addresses.iter().filter_map(|address| match address.address.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let before = mem::replace(&mut self.addresses, addresses.collect());
        before != self.addresses
    }

    fn refresh_routes(&mut self, prefix: IpNet, state: &State) -> bool {
        let IpNet::V4(net) = prefix else { return false };
        let refused =
            TABLES.iter().any(|&table| state.routes.to(table, prefix).any(|route| is_refused(route.kind)));
        if refused { self.routes.insert(net) } else { self.routes.remove(&net) }
    }

    /// Whether the filter says it all.
    pub fn is_all(&self) -> bool {
        let fits =
            |net: &Ipv4Net| net.prefix_len() == 32 || NEVER_SOURCES.iter().any(|range| range.contains(net));
        self.default_rules && self.routes.iter().all(fits)
    }

    /// The filter.
    pub fn filter(&self) -> OwnFilter {
        let hosts = self.routes.iter().filter(|net| net.prefix_len() == 32).map(Ipv4Net::addr);
        let mut filter = OwnFilter::new();
        for address in self.addresses.iter().copied().chain(hosts) {
            for (word, bit) in own_bits(address.octets()) {
                *filter.entry(word).or_default() |= bit;
            }
        }
        filter
    }
}

/// Whether the kernel takes a source with such a route for a martian. Without a route, or with one that is
/// an error, it does not.
const fn is_refused(kind: RouteType) -> bool {
    match kind {
        RouteType::Local
        | RouteType::Broadcast
        | RouteType::Anycast
        | RouteType::Multicast
        | RouteType::Unknown(_) => true,
        RouteType::Unicast
        | RouteType::Blackhole
        | RouteType::Unreachable
        | RouteType::Prohibit
        | RouteType::Throw => false,
    }
}
