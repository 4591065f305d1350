//! Events against states, as tables.

use super::{Applied, Part};
use crate::netlink::decode::{Event, Placement};
use crate::netlink::model::{Address, Delta, Route, State};
use crate::netlink::text::{route, state};

/// Routes to 10.0.0.0/24 by gateways 1.1.1.N, in order: "1 2+3" is one by 1, and a multipath one by 2 and 3.
fn routes(text: &str, ipv6: bool) -> Vec<Route> {
    text.split_whitespace()
        .map(|word| {
            let hops: String = word
                .split('+')
                .map(|host| {
                    if ipv6 {
                        format!("nexthop via fe80::{host} dev 2 ")
                    } else {
                        format!("nexthop via 1.1.1.{host} dev 2 ")
                    }
                })
                .collect();
            route(&format!("{} {hops}", if ipv6 { "fd00::/64" } else { "10.0.0.0/24" }))
        })
        .collect()
}

fn hosts(routes: &[Route]) -> String {
    let hosts = |route: &Route| {
        let words: Vec<String> = route
            .next_hops
            .iter()
            .map(|hop| {
                hop.gateway
                    .expect("a gateway")
                    .to_string()
                    .rsplit(['.', ':'])
                    .next()
                    .expect("a word")
                    .to_owned()
            })
            .collect();
        words.join("+")
    };
    routes.iter().map(hosts).collect::<Vec<_>>().join(" ")
}

struct Case {
    name: &'static str,
    before: &'static str,
    /// A placement, or `None` for a removal.
    placement: Option<Placement>,
    route: &'static str,
    after: &'static str,
    certain: bool,
}

const fn case(
    name: &'static str,
    before: &'static str,
    placement: Option<Placement>,
    route: &'static str,
    after: &'static str,
    certain: bool,
) -> Case {
    Case { name, before, placement, route, after, certain }
}

const SOLE: Option<Placement> = Some(Placement::Sole);
const FIRST: Option<Placement> = Some(Placement::First);
const LAST: Option<Placement> = Some(Placement::Last);
const REPLACE: Option<Placement> = Some(Placement::Replace);
const GONE: Option<Placement> = None;

fn check(cases: &[Case], ipv6: bool) {
    for case in cases {
        let mut state = State::default();
        for route in routes(case.before, ipv6) {
            state.routes.push(route);
        }
        let route = routes(case.route, ipv6).remove(0);
        let event = match case.placement {
            Some(placement) => Event::Route(route.clone(), placement),
            None => Event::RouteGone(route.clone()),
        };
        let applied = state.apply([event]);
        let after = state
            .routes
            .to(route.table, route.prefix)
            .filter(|one| one.key() == route.key())
            .collect::<Vec<_>>();
        assert_eq!(hosts(&after), case.after, "{}", case.name);
        assert_eq!(applied.reread.is_empty(), case.certain, "{}: certain", case.name);
        assert!(
            case.certain || after.iter().all(|route| route.unsupported),
            "{}: in doubt it is passed",
            case.name
        );
        let changed = case.before != case.after || !case.certain && !after.is_empty();
        assert_eq!(!applied.delta.is_empty(), changed, "{}: {:?}", case.name, applied.delta);
        assert_eq!(state.routes.is_empty(), after.is_empty(), "{}: no empty list stays", case.name);
    }
}

#[test]
fn ipv4_routes_of_one_key() {
    check(
        &[
            case("the first", "", SOLE, "1", "1", true),
            case("announced again", "1", SOLE, "1", "1", true),
            case("before the others", "1 2", FIRST, "3", "3 1 2", true),
            case("behind the others", "1 2", LAST, "3", "1 2 3", true),
            case("in place of the only one", "1", REPLACE, "2", "2", true),
            case("in place of the first one", "1 2", REPLACE, "3", "3 2", true),
            case("replaced, with nothing there", "", REPLACE, "1", "1", true),
            case("multipath is one route", "1 2+3", REPLACE, "4+5", "4+5 2+3", true),
            case("said to be the only one, but is not", "1", SOLE, "2", "2", false),
            case("one of several again, said to be the only one", "1 2", SOLE, "1", "1 2", false),
            case("behind, again", "1 2", LAST, "1", "1 2", true),
            case("removed", "1", GONE, "1", "", true),
            case("removed among others", "1 2 3", GONE, "2", "1 3", true),
            case("removed twice", "", GONE, "1", "", true),
            case("removed, but another is there", "1", GONE, "2", "1", false),
        ],
        false,
    );
}

#[test]
fn ipv6_routes_of_one_key() {
    check(
        &[
            case("the first", "", SOLE, "1", "1", true),
            case("a next hop joins", "1", LAST, "1+2", "1+2", true),
            case("another joins", "1+2", LAST, "1+2+3", "1+2+3", true),
            case("one that lacks a known next hop", "1+2", LAST, "1+3", "1+3", false),
            case("replaced", "1+2", REPLACE, "3", "3", true),
            case("a next hop leaves", "1+2+3", GONE, "2", "1+3", true),
            case("two leave", "1+2+3", GONE, "2+1", "3", true),
            case("all leave", "1+2", GONE, "1+2", "", true),
            case("the last leaves", "1", GONE, "1", "", true),
            case("an unknown one leaves", "1", GONE, "2", "1", false),
        ],
        true,
    );
}

/// A route for some sources only has the key of the others, but is none of them.
#[test]
fn ipv6_routes_of_other_sources_stay() {
    let ordinary = |text: &str| routes(text, true).remove(0);
    let mut selective = ordinary("9");
    selective.source_prefix = Some("fd01::/64".parse().expect("a prefix"));
    let mut state = State::default();
    let mut check = |event: Event, expected: &[&Route]| {
        let applied = state.apply([event]);
        assert!(applied.reread.is_empty(), "certain");
        let found: Vec<Route> = state.routes.iter().collect();
        assert!(found.iter().eq(expected.iter().copied()), "{found:?}");
    };
    check(Event::Route(selective.clone(), Placement::Sole), &[&selective]);
    check(Event::Route(ordinary("1"), Placement::Replace), &[&ordinary("1"), &selective]);
    check(Event::Route(ordinary("1+2"), Placement::Last), &[&ordinary("1+2"), &selective]);
    check(Event::Route(ordinary("3"), Placement::Replace), &[&ordinary("3"), &selective]);
    check(Event::RouteGone(ordinary("3")), &[&selective]);
    check(Event::RouteGone(selective.clone()), &[]);
}

#[test]
fn a_link_that_goes_takes_its_own_along() {
    let mut state = state(
        "link 2 eth0
         link 3 eth1
         conf 2 forwarding
         neigh 1.1.1.1 dev 2
         neigh 1.1.1.1 dev 3
         route 10.1.0.0/24 via 1.1.1.1 dev 2
         route 10.2.0.0/24 nexthop via 1.1.1.1 dev 2 nexthop via 1.1.1.1 dev 3
         route 10.3.0.0/24 via 1.1.1.1 dev 3",
    );
    let applied = state.apply([Event::LinkGone(2)]);
    let expected = crate::netlink::text::state(
        "link 3 eth1
         neigh 1.1.1.1 dev 3
         route 10.2.0.0/24 nexthop via 1.1.1.1 dev 2 dead nexthop via 1.1.1.1 dev 3
         route 10.3.0.0/24 via 1.1.1.1 dev 3",
    );
    assert_eq!(state, expected);
    let prefixes = ["10.1.0.0/24", "10.2.0.0/24"].map(|prefix| prefix.parse().expect("a prefix"));
    let delta = Delta {
        full: false,
        interfaces: [2].into(),
        prefixes: prefixes.into(),
        neighbours: [(2, "1.1.1.1".parse().expect("an address"))].into(),
    };
    assert_eq!(applied.delta, delta);
    assert!(applied.reread.contains(&Part::Routes), "the kernel does not announce all of it");
    assert_eq!(state.apply([Event::LinkGone(2)]), Applied::default(), "it is gone already");
}

#[test]
fn an_interface_without_an_ipv4_address_has_no_ipv4_routes() {
    let routes = "link 2 eth0
         link 3 eth1
         route 10.2.0.0/24 nexthop via 1.1.1.1 dev 2 nexthop via 1.1.1.1 dev 3
         route fd00::/64 via fe80::1 dev 2";
    let lost = "link 2 eth0
         link 3 eth1
         route 10.2.0.0/24 nexthop via 1.1.1.1 dev 2 dead nexthop via 1.1.1.1 dev 3
         route fd00::/64 via fe80::1 dev 2";
    let mut state = state(&format!("{routes}\nroute 10.1.0.0/24 via 1.1.1.1 dev 2"));
    let [one, other, ipv6] = ["1.1.1.9/24", "1.1.2.9/24", "fe80::9/64"]
        .map(|address| Address { ifindex: 2, address: address.parse().expect("an address") });
    for address in [&other, &ipv6, &one] {
        state.apply([Event::Address(address.clone())]);
    }
    let applied = state.apply([Event::AddressGone(other)]);
    assert_eq!((applied.delta.prefixes.len(), applied.reread.len()), (0, 0), "another one is left");

    let applied = state.apply([Event::AddressGone(one.clone())]);
    assert_eq!(state.routes, crate::netlink::text::state(lost).routes);
    let prefixes = ["10.1.0.0/24", "10.2.0.0/24"].map(|prefix| prefix.parse().expect("a prefix"));
    assert_eq!(applied.delta.prefixes, prefixes.into());
    assert_eq!(applied.reread, [Part::Routes].into(), "the kernel announces none of it");
    assert_eq!(state.apply([Event::AddressGone(one.clone())]), Applied::default(), "it is gone already");

    let applied = state.apply([Event::Address(one)]);
    assert_eq!(applied.reread, [Part::Routes].into(), "nor that they live again");
}

#[test]
fn routes_by_a_changed_nexthop_object_are_in_doubt_until_read_again() {
    let mut state = state(
        "route 10.1.0.0/24 via 1.1.1.1 dev 2 nhid 1
         route 10.2.0.0/24 via 1.1.1.1 dev 2 nhid 2
         route 10.3.0.0/24 via 1.1.1.1 dev 2",
    );
    let in_doubt = |state: &State| -> Vec<String> {
        let routes = state.routes.iter().filter(|route| route.unsupported);
        routes.map(|route| route.prefix.to_string()).collect()
    };
    let applied = state.apply([Event::NexthopObject(None)]);
    assert_eq!((applied.reread, in_doubt(&state)), ([Part::Routes].into(), vec![]));
    let applied = state.apply([Event::NexthopObject(Some(2))]);
    assert_eq!(applied.reread, [Part::Routes].into());
    assert_eq!(applied.delta.prefixes, ["10.2.0.0/24".parse().expect("a prefix")].into());
    assert_eq!(in_doubt(&state), ["10.2.0.0/24"]);
}

#[test]
fn links_that_move_have_their_routes_read_again() {
    let before = state(
        "link 2 eth0
         link 3 cali1
         route 10.1.0.0/24 via 1.1.1.1 dev 2",
    );
    for (name, link, parts) in [
        ("nothing changed", "link 2 eth0", &[][..]),
        ("MTU: the IPv6 settings follow", "link 2 eth0 mtu 1400", &[Part::Settings]),
        ("carrier lost", "link 2 eth0 nocarrier", &[Part::Neighbours, Part::Routes]),
        ("down", "link 2 eth0 down", &[Part::Neighbours, Part::Routes][..]),
        ("into a bridge or VRF", "link 2 eth0 master 9", &[Part::Neighbours, Part::Routes]),
        ("another name has other settings", "link 2 eth9", &[Part::Settings]),
        ("down, but nothing leads there", "link 3 cali1 down", &[]),
        ("a new one", "link 4 cali2", &[Part::Settings]),
    ] {
        let mut state = before.clone();
        let link = crate::netlink::text::state(link).links.into_values().next().expect("a link");
        let changed = before.links.get(&link.index) != Some(&link);
        let applied = state.apply([Event::Link(link.clone())]);
        let mut reread = applied.reread;
        reread.extend(state.reread_for(&applied.links));
        assert_eq!(reread.into_iter().collect::<Vec<_>>(), parts, "{name}");
        assert_eq!(applied.delta.interfaces.contains(&link.index), changed, "{name}");
        assert_eq!(state.links[&link.index], link, "{name}");
    }
}

#[test]
fn routes_that_contradict_their_link_are_read_again() {
    let before = state(
        "link 2 eth0
         link 3 eth1 nocarrier
         route 10.1.0.0/24 via 1.1.1.1 dev 2 linkdown
         route 10.2.0.0/24 via 1.1.1.1 dev 3
         route 10.3.0.0/24 nexthop via 1.1.1.1 dev 2 linkdown nexthop via 1.1.1.1 dev 3 linkdown",
    );
    for index in [2, 3] {
        let mut state = before.clone();
        let applied = state.apply([Event::Link(before.links[&index].clone())]);
        let reread = state.reread_for(&applied.links);
        assert_eq!(reread, [Part::Neighbours, Part::Routes].into(), "link {index}");
        assert!(applied.delta.is_empty(), "the link itself is as it was");
    }
}

#[test]
fn rules_keep_the_order_of_the_walk() {
    let rules = |text: &str| state(text).rules;
    let mut state = state("rule 10 lookup 1\nrule 10 lookup 2\nrule 20 lookup 3\nrule 5 ipv6 lookup 4");
    let applied = state.apply([Event::Rule(rules("rule 10 lookup 9").remove(0))]);
    assert!(applied.delta.full && applied.reread.is_empty());
    assert_eq!(
        state.rules,
        rules("rule 10 lookup 1\nrule 10 lookup 2\nrule 10 lookup 9\nrule 20 lookup 3\nrule 5 ipv6 lookup 4")
    );

    state.apply([Event::RuleGone(rules("rule 10 lookup 2").remove(0))]);
    assert_eq!(
        state.rules,
        rules("rule 10 lookup 1\nrule 10 lookup 9\nrule 20 lookup 3\nrule 5 ipv6 lookup 4")
    );

    let before = state.rules.clone();
    for (name, event) in [
        ("added twice", Event::Rule(rules("rule 10 lookup 1").remove(0))),
        ("removed twice", Event::RuleGone(rules("rule 10 lookup 2").remove(0))),
    ] {
        let applied = state.apply([event]);
        assert_eq!(applied.reread, [Part::Rules].into(), "{name}");
        assert_eq!(state.rules, before, "{name}");
    }
}

#[test]
fn neighbours_and_what_only_asks_for_a_dump() {
    let mut state = State::default();
    let entry =
        crate::netlink::text::state("neigh 1.1.1.1 dev 2").neighbours.into_values().next().expect("an entry");
    let key = (entry.ifindex, entry.address);
    let delta = Delta { neighbours: [key].into(), ..Delta::default() };
    assert_eq!(state.apply([Event::Neighbour(entry.clone())]).delta, delta);
    assert!(state.apply([Event::Neighbour(entry)]).delta.is_empty(), "reachable, stale, ...: all the same");
    assert_eq!(state.apply([Event::NeighbourGone(key.0, key.1)]).delta, delta);
    assert!(state.apply([Event::NeighbourGone(key.0, key.1)]).delta.is_empty());

    assert_eq!(state.apply([Event::NexthopObject(Some(1))]).reread, [Part::Routes].into());
    assert_eq!(state.apply([Event::Settings { linkdown: false }]).reread, [Part::Settings].into());
    assert_eq!(
        state.apply([Event::Settings { linkdown: true }]).reread,
        [Part::Settings, Part::Routes].into()
    );
}
