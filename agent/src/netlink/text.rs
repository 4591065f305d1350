//! Kernel states as text, in the words of `ip`, for tests.

use std::sync::Arc;

use std::net::IpAddr;

use crate::netlink::model::{
    Address, Family, Ipv4Conf, Ipv6Conf, Link, Neighbour, NeighbourState, Route, RouteBody, RouteNextHop,
    RouteType, Rule, RuleAction, State,
};

/// The rules every IPv4 namespace starts with.
pub const DEFAULT_RULES: &str = "
    rule 0 lookup 255
    rule 32766 lookup 254
    rule 32767 lookup 253
";

/// Reads a state. One object per line:
///
/// * `link INDEX NAME [mtu N] [master N] [down] [nocarrier] [nomac]`
/// * `conf INDEX [forwarding] [rp_filter N] [send_redirects]`
/// * `conf6 INDEX MTU [forwarding]`
/// * `addr ADDRESS/LENGTH dev INDEX`
/// * `neigh ADDRESS dev INDEX [failed]`
/// * `rule PRIORITY [not] [from P] [to P] [iif NAME] [oif NAME] [fwmark V/M] [tos] [l3mdev]
///   [suppress N] [suppress_group] (lookup N | goto N | nop | blackhole | action N)`
/// * `route [TYPE] PREFIX [via A] [dev N] [nexthop via A dev N weight N]... [table N] [metric N]
///   [tos N] [mtu N] [dead] [linkdown] [encap] [nhid N]`
pub fn state(text: &str) -> State {
    let mut state = State::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = Words(line.split_whitespace().collect::<Vec<_>>().into_iter());
        match words.next().expect("a word") {
            "link" => {
                let link = link(&mut words);
                state.links.insert(link.index, link);
            }
            "conf" => {
                let (index, conf) = (words.number(), conf(&mut words));
                state.ipv4_conf.insert(index, conf);
            }
            "conf6" => {
                let (index, mtu) = (words.number(), words.number());
                let forwarding = words.next() == Some("forwarding");
                state.ipv6_conf.insert(index, Ipv6Conf { forwarding, mtu });
            }
            "addr" => {
                let address = words.parse();
                assert_eq!(words.next(), Some("dev"));
                state.addresses.insert(Address { ifindex: words.number(), address });
            }
            "neigh" => {
                let neighbour = neighbour(&mut words);
                state.neighbours.insert((neighbour.ifindex, neighbour.address), neighbour);
            }
            "rule" => state.rules.push(rule(&mut words)),
            "route" => {
                let route = read_route(&mut words);
                state.routes.push(route);
            }
            other => panic!("unknown object {other:?} in {line:?}"),
        }
    }
    state.rules.sort_by_key(|rule| (rule.family, rule.priority));
    state
}

/// Reads one route, as in [`state`] without the word `route`.
pub fn route(text: &str) -> Route {
    read_route(&mut Words(text.split_whitespace().collect::<Vec<_>>().into_iter()))
}

struct Words<'a>(std::vec::IntoIter<&'a str>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn parse<T: std::str::FromStr>(&mut self) -> T {
        let word = self.next().expect("a value");
        word.parse().unwrap_or_else(|_| panic!("unreadable value {word:?}"))
    }

    fn number(&mut self) -> u32 {
        self.parse()
    }
}

fn link(words: &mut Words<'_>) -> Link {
    let index = words.number();
    let mut link = Link {
        index,
        name: words.next().expect("a name").to_owned(),
        kind: None,
        mac: Some([2, 0, 0, 0, 0, u8::try_from(index).expect("a small index")]),
        mtu: 1500,
        up: true,
        carrier: true,
        loopback: false,
        master: None,
        lower: None,
    };
    while let Some(word) = words.next() {
        match word {
            "mtu" => link.mtu = words.number(),
            "master" => link.master = Some(words.number()),
            "down" => link.up = false,
            "nocarrier" => link.carrier = false,
            "nomac" => link.mac = None,
            other => panic!("unknown word {other:?}"),
        }
    }
    link
}

fn conf(words: &mut Words<'_>) -> Ipv4Conf {
    let mut conf = Ipv4Conf::default();
    while let Some(word) = words.next() {
        match word {
            "forwarding" => conf.forwarding = true,
            "rp_filter" => conf.rp_filter = words.parse(),
            "send_redirects" => conf.send_redirects = true,
            other => panic!("unknown word {other:?}"),
        }
    }
    conf
}

fn neighbour(words: &mut Words<'_>) -> Neighbour {
    let address: IpAddr = words.parse();
    assert_eq!(words.next(), Some("dev"));
    let ifindex = words.number();
    let failed = words.next() == Some("failed");
    Neighbour {
        ifindex,
        address,
        mac: (!failed).then_some([6, 0, 0, 0, 0, 1]),
        state: if failed { NeighbourState::Failed } else { NeighbourState::Valid },
    }
}

fn rule(words: &mut Words<'_>) -> Rule {
    let mut rule = Rule::new(Family::Ipv4, words.number(), RuleAction::Nop);
    while let Some(word) = words.next() {
        match word {
            "not" => rule.invert = true,
            "from" => rule.source = Some(words.parse()),
            "to" => rule.destination = Some(words.parse()),
            "iif" => rule.input_interface = words.next().map(str::to_owned),
            "oif" => rule.output_interface = words.next().map(str::to_owned),
            "fwmark" => {
                let (value, mask) = words.next().and_then(|word| word.split_once('/')).expect("V/M");
                rule.mark = Some((value.parse().expect("a number"), mask.parse().expect("a number")));
            }
            "tos" => rule.has_other_selector = true,
            "l3mdev" => rule.l3mdev = true,
            "suppress" => rule.suppress_prefix_length = Some(words.number()),
            "suppress_group" => rule.suppress_interface_group = true,
            "lookup" => rule.action = RuleAction::Table(words.number()),
            "goto" => rule.action = RuleAction::Goto(words.number()),
            "nop" => rule.action = RuleAction::Nop,
            "blackhole" => rule.action = RuleAction::Blackhole,
            "action" => rule.action = RuleAction::Unknown(words.parse()),
            "ipv6" => rule.family = Family::Ipv6,
            other => panic!("unknown word {other:?}"),
        }
    }
    rule
}

fn read_route(words: &mut Words<'_>) -> Route {
    let first = words.next().expect("a prefix");
    let kind = match first {
        "local" => RouteType::Local,
        "broadcast" => RouteType::Broadcast,
        "multicast" => RouteType::Multicast,
        "blackhole" => RouteType::Blackhole,
        "unreachable" => RouteType::Unreachable,
        "prohibit" => RouteType::Prohibit,
        "throw" => RouteType::Throw,
        _ => RouteType::Unicast,
    };
    let prefix = if kind == RouteType::Unicast { first } else { words.next().expect("a prefix") };
    let mut route = Route {
        table: 254,
        prefix: prefix.parse().unwrap_or_else(|_| panic!("not a prefix: {prefix:?}")),
        tos: 0,
        metric: 0,
        body: Arc::new(RouteBody::new(4, kind, Vec::new())),
    };
    while let Some(word) = words.next() {
        match word {
            "via" => next_hop(&mut route).gateway = Some(words.parse()),
            "dev" => next_hop(&mut route).ifindex = words.number(),
            "weight" => next_hop(&mut route).weight = words.parse(),
            "dead" => next_hop(&mut route).dead = true,
            "linkdown" => next_hop(&mut route).link_down = true,
            "encap" => next_hop(&mut route).encapsulated = true,
            "nexthop" => route.next_hops.push(NO_HOP),
            "table" => route.table = words.number(),
            "metric" => route.metric = words.number(),
            "tos" => route.tos = words.parse(),
            "mtu" => route.mtu = Some(words.number()),
            "nhid" => route.nexthop_id = Some(words.number()),
            other => panic!("unknown word {other:?}"),
        }
    }
    route
}

const NO_HOP: RouteNextHop = RouteNextHop::new(0, None);

/// The next hop that words are about.
fn next_hop(route: &mut Route) -> &mut RouteNextHop {
    if route.next_hops.is_empty() {
        route.next_hops.push(NO_HOP);
    }
    route.next_hops.last_mut().expect("one was pushed")
}
