//! The kernel's routes, of which there may be a million: what many have in common is stored once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::model::{Route, RouteBody, RouteKey};
use crate::few::Few;
use crate::intern::Interner;
use crate::prefix_map::PrefixMap;

/// All routes by table and prefix; of one prefix by TOS and metric, and of one key in the order of the kernel, whose
/// first choice comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    tables: BTreeMap<u32, PrefixMap<Few<Listing>>>,
}

/// A route without what it is filed under.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listing {
    metric: u32,
    tos: u8,
    body: Arc<RouteBody>,
}

impl Listing {
    fn of(route: Route) -> Self {
        Self { metric: route.metric, tos: route.tos, body: route.body }
    }

    fn route(&self, table: u32, prefix: IpNet) -> Route {
        Route { table, prefix, tos: self.tos, metric: self.metric, body: self.body.clone() }
    }

    const fn order(&self) -> (u8, u32) {
        (self.tos, self.metric)
    }
}

impl Routes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(PrefixMap::is_empty)
    }

    /// All routes, in order.
    pub fn iter(&self) -> impl Iterator<Item = Route> {
        self.tables.iter().flat_map(|(&table, prefixes)| {
            prefixes.iter().flat_map(move |(prefix, listed)| {
                listed.as_slice().iter().map(move |listing| listing.route(table, prefix))
            })
        })
    }

    /// What the routes say, in order.
    pub fn bodies(&self) -> impl Iterator<Item = &RouteBody> {
        let listed = self.tables.values().flat_map(|prefixes| prefixes.iter().map(|(_, listed)| listed));
        listed.flat_map(|listed| listed.as_slice().iter().map(|listing| listing.body.as_ref()))
    }

    /// The routes of a table to exactly this prefix, in order.
    pub fn to(&self, table: u32, prefix: IpNet) -> impl Iterator<Item = Route> {
        let listed = self.tables.get(&table).and_then(|prefixes| prefixes.get(&prefix));
        let list = listed.map_or(&[][..], Few::as_slice);
        list.iter().map(move |listing| listing.route(table, prefix))
    }

    /// Prefixes with a route in a table that cover an address, longest first.
    pub fn covering(&self, table: u32, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let host = IpNet::from(address);
        let prefixes = self.tables.get(&table).into_iter();
        prefixes.flat_map(move |prefixes| prefixes.covering(&host)).map(|(prefix, _)| prefix)
    }

    /// Prefixes with a route in a table, in order.
    pub fn prefixes(&self, table: u32) -> impl Iterator<Item = IpNet> {
        self.tables.get(&table).into_iter().flat_map(PrefixMap::keys)
    }

    /// Adds a route behind those with its key.
    pub fn push(&mut self, route: Route) {
        self.edit(route.key(), |routes| routes.push(route));
    }

    /// Changes the routes with a key, in the order of the kernel. Gives whether they are others now.
    pub fn edit(&mut self, key: RouteKey, change: impl FnOnce(&mut Vec<Route>)) -> bool {
        let RouteKey { table, prefix, tos, metric } = key;
        let prefixes = self.tables.entry(table).or_default();
        let listed = prefixes.get_mut(&prefix);
        let list = listed.as_ref().map_or(&[][..], |listed| listed.as_slice());
        let from = list.partition_point(|listing| listing.order() < (tos, metric));
        let count = list[from..].iter().take_while(|listing| listing.order() == (tos, metric)).count();
        // Mostly one comes or goes.
        let mut routes = Vec::with_capacity(count.max(1));
        routes.extend(list[from..from + count].iter().map(|listing| listing.route(table, prefix)));
        change(&mut routes);
        let before = list[from..from + count].iter().map(|listing| &listing.body);
        if routes.iter().map(|route| &route.body).eq(before) {
            return false;
        }
        let mut all = list.to_vec();
        all.splice(from..from + count, routes.into_iter().map(Listing::of));
        match (listed, Few::from_list(all)) {
            (Some(listed), Some(new)) => *listed = new,
            (None, Some(new)) => drop(prefixes.insert(prefix, new)),
            (_, None) => drop(prefixes.remove(&prefix)),
        }
        true
    }

    /// Changes routes, not their keys, and keeps those for which `change` says so.
    pub fn retain_mut(&mut self, mut change: impl FnMut(&mut Route) -> bool) {
        let mut shared = Interner::default();
        for (table, prefixes) in &mut self.tables {
            prefixes.retain(|prefix, listed| {
                let mut list = Vec::new();
                for listing in listed.as_slice() {
                    let mut route = listing.route(*table, prefix);
                    if change(&mut route) {
                        if !Arc::ptr_eq(&route.body, &listing.body) {
                            route.body = shared.share(route.body.as_ref());
                        }
                        list.push(Listing::of(route));
                    }
                }
                let left = Few::from_list(list);
                let keep = left.is_some();
                if let Some(left) = left {
                    *listed = left;
                }
                keep
            });
        }
    }

    /// Prefixes whose routes differ from those of `other` in any table, in no particular order.
    pub fn differences(&self, other: &Self) -> Vec<IpNet> {
        let mut found = Vec::new();
        let none = PrefixMap::new();
        let tables: BTreeSet<u32> = self.tables.keys().chain(other.tables.keys()).copied().collect();
        for table in &tables {
            let ours = self.tables.get(table).unwrap_or(&none);
            let theirs = other.tables.get(table).unwrap_or(&none);
            let gone = theirs.keys().filter(|prefix| !ours.contains_key(prefix));
            let changed = ours.iter().filter(|(prefix, listed)| theirs.get(prefix) != Some(listed));
            found.extend(gone.chain(changed.map(|(prefix, _)| prefix)));
        }
        found
    }
}

impl FromIterator<Route> for Routes {
    fn from_iter<T: IntoIterator<Item = Route>>(routes: T) -> Self {
        let mut all = Self::default();
        routes.into_iter().for_each(|route| all.push(route));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::text::route;

    const ROUTES: [&str; 6] = [
        "10.0.0.0/8 via 192.0.2.1 dev 2",
        "10.0.0.0/8 via 192.0.2.1 dev 2 metric 10",
        "10.0.0.0/8 via 192.0.2.2 dev 2 metric 10",
        "10.1.0.0/16 via 192.0.2.1 dev 2",
        "2001:db8::/64 via 2001:db8::1 dev 2 metric 1024",
        "10.0.0.0/8 via 192.0.2.3 dev 2 table 300",
    ];

    fn all() -> Vec<Route> {
        ROUTES.map(route).to_vec()
    }

    #[test]
    fn a_million_routes_fit() {
        assert!(size_of::<Few<Listing>>() <= 16, "{}", size_of::<Few<Listing>>());
    }

    #[test]
    fn routes_come_by_table_prefix_tos_metric_and_the_kernels_order() {
        let mut shuffled = all();
        shuffled.reverse();
        shuffled.swap(3, 4);
        let routes: Routes = shuffled.into_iter().collect();
        assert_eq!(routes.iter().collect::<Vec<_>>(), all());
        let bodies = all();
        assert!(routes.bodies().eq(bodies.iter().map(|route| route.body.as_ref())));
        assert_eq!(routes.to(254, all()[0].prefix).collect::<Vec<_>>(), all()[..3]);
        let key = all()[2].key();
        assert_eq!(routes.to(254, key.prefix).find(|route| route.key() == key), Some(all()[1].clone()));
        let covering: Vec<IpNet> = routes.covering(254, all()[3].prefix.addr()).collect();
        assert_eq!(covering, [all()[3].prefix, all()[0].prefix]);
        assert_eq!(routes.prefixes(300).collect::<Vec<_>>(), [all()[0].prefix]);
    }

    #[test]
    fn an_edit_sees_one_key_and_tells_whether_it_changed_something() {
        let mut routes: Routes = all().into_iter().collect();
        let key = all()[1].key();
        assert!(!routes.edit(key, |list| assert_eq!(list.len(), 2)));
        assert!(routes.edit(key, |list| list.swap(0, 1)));
        assert_eq!(routes.to(254, key.prefix).nth(1), Some(all()[2].clone()));
        assert!(routes.edit(key, |list| list[1].unsupported = true));
        assert_eq!(routes.bodies().filter(|body| body.unsupported).count(), 1);
        for route in all() {
            routes.edit(route.key(), Vec::clear);
        }
        assert!(routes.is_empty(), "{routes:?}");
        assert_eq!(routes.iter().count(), 0);
    }

    #[test]
    fn what_was_shared_is_shared_after_a_change_of_all() {
        let text = |number: u32| format!("10.{number}.0.0/16 via 192.0.2.1 dev 2");
        let mut routes = Routes::default();
        let body = route(&text(0)).body;
        for number in 0..200 {
            routes.push(Route { body: body.clone(), ..route(&text(number)) });
        }
        routes.retain_mut(|route| {
            route.next_hops[0].dead = true;
            route.prefix != all()[3].prefix
        });
        let left: Vec<Route> = routes.iter().collect();
        assert_eq!(left.len(), 199);
        for route in &left {
            assert!(route.next_hops[0].dead && Arc::ptr_eq(&route.body, &left[0].body), "{route:?}");
        }
    }

    #[test]
    fn differences_are_found_in_both_directions_and_in_every_table() {
        let routes: Routes = all().into_iter().collect();
        assert_eq!(routes.differences(&routes.clone()), []);
        let fewer: Routes = all()[1..5].iter().cloned().collect();
        let prefix = all()[0].prefix;
        assert_eq!(fewer.differences(&routes), [prefix, prefix]);
        assert_eq!(routes.differences(&fewer), [prefix, prefix]);
    }
}
