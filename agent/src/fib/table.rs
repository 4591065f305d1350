//! One route table: the kernel's first choice per prefix (`fib_table_lookup`, `net/ipv4/fib_trie.c`).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::intern::Interner;
use crate::netlink::model::{IfIndex, Route, RouteNextHop, RouteType, State};
use crate::prefix_map::PrefixMap;

/// A usable next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Outgoing interface.
    pub ifindex: IfIndex,
    /// Gateway; `None`: the destination is on-link.
    pub gateway: Option<IpAddr>,
    /// Weight.
    pub weight: u16,
}

/// A unicast route that the fast path understands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unicast {
    /// Next hops that are not dead, at least one.
    pub hops: Vec<Hop>,
    /// Route MTU.
    pub mtu: Option<u32>,
    /// The route is to a single host.
    pub is_host: bool,
}

/// What a table answers for the addresses of one of its prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Goes on with the next rule.
    Throw,
    /// Blackhole, unreachable or prohibit.
    Refused,
    /// Local, broadcast, anycast or multicast.
    Local,
    /// A route that needs more than a MAC rewrite.
    Opaque,
    /// Which route it is depends on more than the destination.
    Uncertain,
    /// Forwarded.
    Unicast(Unicast),
}

/// The answers of one table, both families.
#[derive(Debug, Default)]
pub struct Table {
    answers: PrefixMap<Arc<Answer>>,
    shared: Interner<Answer>,
}

impl Table {
    /// Reads a table from the kernel's state.
    pub fn new(id: u32, state: &State) -> Self {
        let mut table = Self::default();
        for prefix in state.routes.prefixes(id) {
            table.refresh(id, prefix, state);
        }
        table
    }

    /// Reads one prefix again. Gives whether its answer changed.
    pub fn refresh(&mut self, id: u32, prefix: IpNet, state: &State) -> bool {
        let Some(answer) = choose(prefix, state.routes.to(id, prefix)) else {
            return self.answers.remove(&prefix).is_some();
        };
        match self.answers.get_mut(&prefix) {
            Some(known) if **known == answer => return false,
            Some(known) => *known = self.shared.share(&answer),
            None => {
                self.answers.insert(prefix, self.shared.share(&answer));
            }
        }
        true
    }

    /// The answer of the longest prefix that covers all of `prefix`, with that prefix's length.
    pub fn lookup(&self, prefix: &IpNet) -> Option<(u8, &Answer)> {
        self.answers.longest_cover(prefix).map(|(found, answer)| (found.prefix_len(), answer.as_ref()))
    }

    /// Whether the table has an answer for exactly this prefix.
    pub fn contains(&self, prefix: &IpNet) -> bool {
        self.answers.contains_key(prefix)
    }

    /// All prefixes with an answer, in order.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.answers.keys()
    }

    /// The prefix and longer ones inside of it, as far as they have an answer, in order.
    pub fn inside<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = IpNet> + use<'a> {
        self.answers.inside(prefix).map(|(prefix, _)| prefix)
    }

    /// The prefixes whose route leaves by `ifindex`.
    pub fn prefixes_by(&self, ifindex: IfIndex) -> impl Iterator<Item = IpNet> + '_ {
        self.answers
            .iter()
            .filter(move |(_, answer)| {
                matches!(answer.as_ref(), Answer::Unicast(route) if route.hops.iter().any(|hop| hop.ifindex == ifindex))
            })
            .map(|(prefix, _)| prefix)
    }
}

/// The kernel's choice among the routes to one prefix of one table, which come by TOS, metric and
/// then in the kernel's order; `None` when it would go on with a shorter prefix.
fn choose(prefix: IpNet, routes: impl Iterator<Item = Route>) -> Option<Answer> {
    let usable: Vec<Route> = routes.filter(|route| !is_dead(route)).collect();
    let first = usable.first()?;
    // A route with a TOS (IPv4) or a source prefix (IPv6) wins for packets that fit it, whatever its metric;
    // what the others get is up to the rest.
    if usable.iter().any(|route| route.tos != 0 || route.source_prefix.is_some()) {
        return Some(Answer::Uncertain);
    }
    // IPv6 chooses among routes of one metric by more than their order (`find_rr_leaf`).
    let ambiguous =
        matches!(prefix, IpNet::V6(_)) && usable.get(1).is_some_and(|second| second.metric == first.metric);
    Some(if ambiguous { Answer::Uncertain } else { answer(first) })
}

/// Whether the kernel passes over the route because none of its next hops can be used.
fn is_dead(route: &Route) -> bool {
    !is_error(route.kind) && !route.next_hops.is_empty() && route.next_hops.iter().all(|hop| hop.dead)
}

/// Types whose lookup fails without a look at the next hops (`fib_props[].error`).
const fn is_error(kind: RouteType) -> bool {
    matches!(kind, RouteType::Blackhole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw)
}

fn answer(route: &Route) -> Answer {
    match route.kind {
        RouteType::Throw => Answer::Throw,
        RouteType::Blackhole | RouteType::Unreachable | RouteType::Prohibit => Answer::Refused,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => Answer::Local,
        RouteType::Unicast if is_plain(route) => Answer::Unicast(Unicast {
            hops: route.next_hops.iter().filter(|hop| !hop.dead).map(hop).collect(),
            mtu: route.mtu,
            is_host: route.prefix.prefix_len() == route.prefix.max_prefix_len(),
        }),
        RouteType::Unicast => Answer::Opaque,
        RouteType::Unknown(_) => Answer::Uncertain,
    }
}

/// Whether the route is fully described by its next hops and MTU. A nexthop object whose members are
/// not repeated in the route (`nexthop_compat_mode = 0`) leaves `next_hops` empty.
fn is_plain(route: &Route) -> bool {
    !route.unsupported
        && route.source_prefix.is_none()
        && !route.next_hops.is_empty()
        && route.next_hops.iter().all(|hop| !hop.encapsulated && hop.ifindex != 0)
}

const fn hop(hop: &RouteNextHop) -> Hop {
    Hop { ifindex: hop.ifindex, gateway: hop.gateway, weight: hop.weight }
}
