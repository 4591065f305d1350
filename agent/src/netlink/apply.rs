//! What a notification does to the state. Pure.
//!
//! Notifications may repeat what a dump already showed, so every event leads to the same state when
//! it is applied twice. What cannot be derived with certainty is marked unsupported, which keeps the
//! fast path off it, and asked for again by a dump.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::decode::Event;
use super::model::{Address, Delta, IfIndex, Link, Route, RouteKey, RouteType, State};
use super::order;

/// A part of the state that is read by one dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Links.
    Links,
    /// Addresses.
    Addresses,
    /// Neighbours.
    Neighbours,
    /// Rules.
    Rules,
    /// Routes.
    Routes,
    /// `/proc/sys/net/ipv4/conf` and `/proc/sys/net/ipv6/conf`.
    Settings,
}

impl Part {
    /// All parts, in the order in which they have to be read.
    pub const ALL: [Self; 6] =
        [Self::Links, Self::Addresses, Self::Neighbours, Self::Rules, Self::Routes, Self::Settings];
}

impl Event {
    /// The part that a dump would show the event in.
    pub const fn part(&self) -> Part {
        match self {
            Self::Link(_) | Self::LinkGone(_) => Part::Links,
            Self::Address(_) | Self::AddressGone(_) => Part::Addresses,
            Self::Neighbour(_) | Self::NeighbourGone(..) => Part::Neighbours,
            Self::Rule(_) | Self::RuleGone(_) => Part::Rules,
            Self::Route(..) | Self::RouteGone(_) | Self::NexthopObject(_) => Part::Routes,
            Self::Settings { .. } => Part::Settings,
        }
    }
}

/// What became of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What changed.
    pub delta: Delta,
    /// What has to be read again to be certain.
    pub reread: BTreeSet<Part>,
    /// Links of which it takes a look at all routes to tell whether something has to be read again, and
    /// whether they changed their state: for [`State::reread_for`].
    pub links: BTreeMap<IfIndex, bool>,
    /// A link or an address put routes in doubt: the kernel announces it before it is done with them.
    pub unsettled: bool,
}

impl State {
    /// Brings the state up to date with notifications, in order. Takes no longer for a link that goes down
    /// where there are many routes: what follows from them is asked for by [`Self::reread_for`].
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Applied {
        let mut applied = Applied::default();
        for event in events {
            let of_interface = matches!(event.part(), Part::Links | Part::Addresses);
            let doubted = applied.reread.remove(&Part::Routes);
            self.apply_one(event, &mut applied);
            applied.unsettled |= of_interface && applied.reread.contains(&Part::Routes);
            applied.reread.extend(doubted.then_some(Part::Routes));
        }
        applied
    }

    fn apply_one(&mut self, event: Event, applied: &mut Applied) {
        match event {
            Event::Link(link) => self.set_link(link, applied),
            Event::LinkGone(index) => self.drop_link(index, applied),
            Event::Address(address) => self.add_address(address, applied),
            Event::AddressGone(address) => self.drop_address(&address, applied),
            Event::Neighbour(neighbour) => {
                let key = (neighbour.ifindex, neighbour.address);
                if self.neighbours.get(&key) != Some(&neighbour) {
                    self.neighbours.insert(key, neighbour);
                    applied.delta.neighbours.insert(key);
                }
            }
            Event::NeighbourGone(index, address) => {
                if self.neighbours.remove(&(index, address)).is_some() {
                    applied.delta.neighbours.insert((index, address));
                }
            }
            Event::Rule(rule) => {
                applied.delta.full = true;
                if self.rules.contains(&rule) {
                    applied.reread.insert(Part::Rules);
                } else {
                    // Behind those of equal priority (`fib_nl_newrule`).
                    let at = self.rules.partition_point(|known| {
                        (known.family, known.priority) <= (rule.family, rule.priority)
                    });
                    self.rules.insert(at, rule);
                }
            }
            Event::RuleGone(rule) => {
                applied.delta.full = true;
                match self.rules.iter().position(|known| *known == rule) {
                    Some(at) => drop(self.rules.remove(at)),
                    None => drop(applied.reread.insert(Part::Rules)),
                }
            }
            Event::Route(route, placement) => {
                self.change_routes(route.key(), applied, |routes| order::add(routes, route, placement));
            }
            Event::RouteGone(route) => {
                self.change_routes(route.key(), applied, |routes| order::remove(routes, &route));
            }
            Event::NexthopObject(id) => {
                self.doubt_routes_by(id, applied);
                applied.reread.insert(Part::Routes);
            }
            Event::Settings { linkdown } => {
                applied.reread.insert(Part::Settings);
                if linkdown {
                    applied.reread.insert(Part::Routes);
                }
            }
        }
    }

    /// Changes the routes that share a key; `change` tells whether it is certain.
    fn change_routes(
        &mut self,
        key: RouteKey,
        applied: &mut Applied,
        change: impl FnOnce(&mut Vec<Route>) -> bool,
    ) {
        let changed = self.routes.edit(key, |routes| {
            if !change(routes) {
                for route in routes.iter_mut() {
                    route.unsupported = true;
                }
                applied.reread.insert(Part::Routes);
            }
        });
        if changed {
            applied.delta.prefixes.insert(key.prefix);
        }
    }

    /// Keeps the fast path off the routes that use a nexthop object. `None`: of none that is known.
    fn doubt_routes_by(&mut self, nexthop_id: Option<u32>, applied: &mut Applied) {
        if nexthop_id.is_none() {
            return;
        }
        self.routes.retain_mut(|route| {
            if route.nexthop_id == nexthop_id {
                route.unsupported = true;
                applied.delta.prefixes.insert(route.prefix);
            }
            true
        });
    }

    fn add_address(&mut self, address: Address, applied: &mut Applied) {
        let ifindex = address.ifindex;
        // An interface's first IPv4 address revives its next hops without a word (`fib_sync_up`).
        if address.address.addr().is_ipv4() && !self.has_ipv4_address(ifindex) && self.is_used(ifindex) {
            applied.reread.insert(Part::Routes);
        }
        if self.addresses.insert(address) {
            applied.delta.interfaces.insert(ifindex);
        }
    }

    fn drop_address(&mut self, address: &Address, applied: &mut Applied) {
        if !self.addresses.remove(address) {
            return;
        }
        applied.delta.interfaces.insert(address.ifindex);
        // With its last IPv4 address an interface loses all its IPv4 routes, static ones without a word
        // (`fib_disable_ip`).
        if address.address.addr().is_ipv4() && !self.has_ipv4_address(address.ifindex) {
            self.lose_routes(address.ifindex, applied, IpAddr::is_ipv4);
            applied.reread.insert(Part::Routes);
        }
    }

    fn has_ipv4_address(&self, ifindex: IfIndex) -> bool {
        self.addresses.iter().any(|known| known.ifindex == ifindex && known.address.addr().is_ipv4())
    }

    fn set_link(&mut self, link: Link, applied: &mut Applied) {
        let before = self.links.get(&link.index);
        if before != Some(&link) {
            applied.delta.interfaces.insert(link.index);
        }
        // The IPv6 settings follow the MTU, and there are none below 1280 bytes (`addrconf_notify`).
        if before.is_none_or(|before| (&before.name, before.mtu) != (&link.name, link.mtu)) {
            applied.reread.insert(Part::Settings);
        }
        let moved = before.is_some_and(|before| {
            (before.up, before.carrier, before.master) != (link.up, link.carrier, link.master)
        });
        *applied.links.entry(link.index).or_default() |= moved;
        self.links.insert(link.index, link);
    }

    /// What has to be read again after changes of these links ([`Applied::links`]).
    ///
    /// When a link goes down the kernel drops its IPv4 routes without a word (`fib_sync_down_dev`), and
    /// carrier and VRF changes alter routes that are not announced again.
    pub fn reread_for(&self, links: &BTreeMap<IfIndex, bool>) -> BTreeSet<Part> {
        let concerned = |(index, moved): (&IfIndex, &bool)| {
            let link = self.links.get(index);
            link.is_some_and(|link| self.contradicts(link) || *moved && self.is_used(*index))
        };
        if links.iter().any(concerned) { [Part::Neighbours, Part::Routes].into() } else { BTreeSet::new() }
    }

    /// Whether routes say otherwise about a link's carrier: a dump shows a new carrier at once, but
    /// the routes follow only with the notification (`linkwatch_do_dev`).
    fn contradicts(&self, link: &Link) -> bool {
        let unicast = self.routes.bodies().filter(|route| route.kind == RouteType::Unicast);
        let mut hops = unicast.flat_map(|route| &route.next_hops).filter(|hop| hop.ifindex == link.index);
        hops.any(|hop| hop.link_down == link.carrier)
    }

    /// Whether routes or neighbours depend on a link; a new pod's interface has none yet.
    fn is_used(&self, index: IfIndex) -> bool {
        let mut hops = self.routes.bodies().flat_map(|route| &route.next_hops);
        hops.any(|hop| hop.ifindex == index) || self.neighbours.keys().any(|(ifindex, _)| *ifindex == index)
    }

    /// Forgets a link and all that cannot be without it.
    fn drop_link(&mut self, index: IfIndex, applied: &mut Applied) {
        if self.links.remove(&index).is_none() {
            return;
        }
        applied.delta.interfaces.insert(index);
        applied.reread.extend([Part::Addresses, Part::Neighbours, Part::Routes]);
        self.addresses.retain(|address| address.ifindex != index);
        self.ipv4_conf.remove(&index);
        self.ipv6_conf.remove(&index);
        let gone: Vec<_> = self.neighbours.keys().filter(|(ifindex, _)| *ifindex == index).copied().collect();
        for key in gone {
            self.neighbours.remove(&key);
            applied.delta.neighbours.insert(key);
        }
        self.lose_routes(index, applied, |_| true);
    }

    /// Takes the next hops by an interface for dead, in routes to destinations that `concerned` names.
    fn lose_routes(&mut self, index: IfIndex, applied: &mut Applied, concerned: impl Fn(&IpAddr) -> bool) {
        self.routes.retain_mut(|route| {
            let uses = route.next_hops.iter().any(|hop| hop.ifindex == index);
            if !uses || !concerned(&route.prefix.addr()) {
                return true;
            }
            applied.delta.prefixes.insert(route.prefix);
            lose_interface(route, index)
        });
    }
}

/// Takes the next hops by an interface for dead. Gives whether the route still has another.
fn lose_interface(route: &mut Route, index: IfIndex) -> bool {
    route.next_hops.iter_mut().filter(|hop| hop.ifindex == index).for_each(|hop| hop.dead = true);
    route.next_hops.iter().any(|hop| !hop.dead)
}

#[cfg(test)]
mod tests;
