//! Properties: the compiled table answers like the naive model for every address, and increments
//! lead to the table that a compile from scratch gives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{lookup, naive};
use crate::fib::compile::{Compiler, FibDelta};
use crate::fib::model::{CompileConfig, Fib, Forward, Port, Target};
use crate::netlink::model::{
    Delta, Family, IfIndex, Neighbour, NeighbourState, Route, RouteBody, RouteNextHop, RouteType, Rule,
    RuleAction, State,
};
use crate::netlink::text::state;
use underpass_common::fib::ViewId;
use underpass_common::reason::Reason;

/// The universe: 10.0.0.0/27.
const ADDRESSES: u32 = 32;
const TABLES: [u32; 4] = [255, 254, 100, 101];
const LINKS: &str = "
    link 2 eth0
    link 3 eth1
    link 4 cali1
";

fn address(host: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + host))
}

fn prefix() -> impl Strategy<Value = IpNet> {
    (0..ADDRESSES, prop_oneof![Just(0), 24_u8..=32]).prop_map(|(host, length)| {
        IpNet::V4(Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + host), length).expect("a length").trunc())
    })
}

fn next_hop() -> impl Strategy<Value = RouteNextHop> {
    (2_u32..=4, option::of(1_u32..4), prop::bool::weighted(0.1), 1_u16..3).prop_map(
        |(ifindex, gateway, dead, weight)| RouteNextHop {
            ifindex,
            gateway: gateway.map(|host| IpAddr::V4(Ipv4Addr::from(0xac14_0000 + host))),
            weight,
            on_link: false,
            dead,
            link_down: false,
            encapsulated: false,
        },
    )
}

fn kind() -> impl Strategy<Value = RouteType> {
    prop_oneof![
        8 => Just(RouteType::Unicast),
        1 => Just(RouteType::Local),
        1 => Just(RouteType::Blackhole),
        1 => Just(RouteType::Throw),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    let key =
        (prop::sample::select(&TABLES[..]), prefix(), prop_oneof![30 => Just(0_u8), 1 => Just(16)], 0_u32..3);
    let rest =
        (kind(), vec(next_hop(), 1..3), option::weighted(0.2, 1000_u32..1002), prop::bool::weighted(0.05));
    (key, rest).prop_map(|((table, prefix, tos, metric), (kind, next_hops, mtu, unsupported))| Route {
        table,
        prefix,
        tos,
        metric,
        body: Arc::new(RouteBody {
            protocol: 4,
            kind,
            scope: 0,
            next_hops: if matches!(kind, RouteType::Unicast | RouteType::Local) {
                next_hops
            } else {
                Vec::new()
            },
            nexthop_id: None,
            mtu,
            preferred_source: None,
            source_prefix: None,
            unsupported,
        }),
    })
}

fn action() -> impl Strategy<Value = RuleAction> {
    prop_oneof![
        6 => prop::sample::select(&TABLES[..]).prop_map(RuleAction::Table),
        1 => (5_u32..12).prop_map(RuleAction::Goto),
        1 => Just(RuleAction::Blackhole),
        1 => Just(RuleAction::Nop),
        1 => Just(RuleAction::Unknown(9)),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let selectors = (
        option::weighted(0.2, prefix()),
        option::weighted(0.2, prefix()),
        option::weighted(0.2, prop::sample::select(&["eth0", "eth1", "cali1"][..])),
        option::weighted(0.1, (0_u32..2, Just(1_u32))),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    (1_u32..10, action(), option::weighted(0.2, 24_u32..30), selectors).prop_map(
        |(priority, action, suppress_prefix_length, (source, destination, input, mark, output, invert))| {
            Rule {
                family: Family::Ipv4,
                priority,
                // The kernel refuses to jump back.
                action: match action {
                    RuleAction::Goto(target) if target <= priority => RuleAction::Nop,
                    action => action,
                },
                // `from 0.0.0.0/0` is no selector.
                source: source.filter(|source| source.prefix_len() > 0),
                destination,
                input_interface: input.map(str::to_owned),
                output_interface: output.then(|| "eth0".to_owned()),
                invert,
                mark,
                suppress_prefix_length,
                suppress_interface_group: false,
                l3mdev: false,
                has_other_selector: false,
            }
        },
    )
}

/// A change of the state.
#[derive(Clone, Debug)]
enum Edit {
    SetRoutes(Route, Vec<RouteNextHop>),
    DropRoutes(usize),
    Neighbour(IfIndex, u32, bool),
    Mtu(IfIndex, u32),
    Up(IfIndex, bool),
    Rules(Vec<Rule>),
    Rename(IfIndex, bool),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        10 => (route(), vec(next_hop(), 0..2)).prop_map(|(route, more)| Edit::SetRoutes(route, more)),
        6 => (0_usize..100).prop_map(Edit::DropRoutes),
        6 => (2_u32..=4, 0..ADDRESSES, any::<bool>()).prop_map(|(index, host, valid)| Edit::Neighbour(index, host, valid)),
        2 => (2_u32..=4, 1000_u32..1003).prop_map(|(index, mtu)| Edit::Mtu(index, mtu)),
        1 => (2_u32..=4, any::<bool>()).prop_map(|(index, up)| Edit::Up(index, up)),
        1 => vec(rule(), 0..5).prop_map(Edit::Rules),
        1 => (2_u32..=4, any::<bool>()).prop_map(|(index, managed)| Edit::Rename(index, managed)),
    ]
}

fn apply(state: &mut State, edit: Edit) -> Delta {
    let mut delta = Delta::default();
    match edit {
        Edit::SetRoutes(route, more) => {
            delta.prefixes.insert(route.prefix);
            let others = more.into_iter().map(|hop| {
                let mut other = route.with_next_hops(vec![hop]);
                other.kind = RouteType::Unicast;
                other
            });
            let all = std::iter::once(route.clone()).chain(others).collect();
            state.routes.edit(route.key(), |routes| *routes = all);
        }
        Edit::DropRoutes(at) => {
            let mut keys: Vec<_> = state.routes.iter().map(|route| route.key()).collect();
            keys.dedup();
            if let Some(key) = keys.get(at % keys.len().max(1)) {
                delta.prefixes.insert(key.prefix);
                state.routes.edit(*key, Vec::clear);
            }
        }
        Edit::Neighbour(ifindex, host, valid) => {
            let key = (ifindex, address(host));
            delta.neighbours.insert(key);
            if valid {
                let neighbour =
                    Neighbour { ifindex, address: key.1, mac: Some([6; 6]), state: NeighbourState::Valid };
                state.neighbours.insert(key, neighbour);
            } else {
                state.neighbours.remove(&key);
            }
        }
        Edit::Mtu(index, mtu) => {
            delta.interfaces.insert(index);
            state.links.get_mut(&index).expect("a link").mtu = mtu;
        }
        Edit::Up(index, up) => {
            delta.interfaces.insert(index);
            state.links.get_mut(&index).expect("a link").up = up;
        }
        Edit::Rename(index, managed) => {
            delta.interfaces.insert(index);
            state.links.get_mut(&index).expect("a link").name =
                format!("{}{index}", if managed { "eth" } else { "cali" });
        }
        Edit::Rules(rules) => {
            delta.full = true;
            state.rules = rules;
            state.rules.sort_by_key(|rule| rule.priority);
        }
    }
    delta
}

fn start(rules: Vec<Rule>, routes: Vec<Route>, neighbours: Vec<(IfIndex, u32)>) -> State {
    let mut state = state(LINKS);
    apply(&mut state, Edit::Rules(rules));
    for route in routes {
        state.routes.push(route);
    }
    for (index, host) in neighbours {
        apply(&mut state, Edit::Neighbour(index, host, true));
    }
    state
}

fn any_state() -> impl Strategy<Value = State> {
    let neighbours = vec((2_u32..=4, 0..ADDRESSES), 0..12);
    (vec(rule(), 0..6), vec(route(), 0..24), neighbours)
        .prop_map(|(rules, routes, neighbours)| start(rules, routes, neighbours))
}

fn ranges() -> impl Strategy<Value = (Vec<IpNet>, Vec<IpNet>)> {
    (vec(prefix(), 0..4), vec(prefix(), 0..2))
}

/// What ports see, whatever the ids of their views.
fn without_ids(fib: &Fib) -> BTreeMap<IfIndex, (Port, BTreeMap<IpNet, &Target>)> {
    let seen = |port: &Port| {
        let prefixes = fib.prefixes.iter().filter(|((view, _), _)| *view == port.view);
        (
            Port { view: 0, ..port.clone() },
            prefixes.map(|((_, prefix), target)| (prefix, target.as_ref())).collect(),
        )
    };
    fib.ports.iter().map(|(&index, port)| (index, seen(port))).collect()
}

/// Changes a copy the way a consumer of the delta does.
fn follow(copy: &mut Fib, fib: &Fib, delta: &FibDelta) {
    if delta.full {
        copy.clone_from(fib);
        return;
    }
    copy.own.clone_from(&fib.own);
    for key in delta.prefixes.keys() {
        match fib.prefixes.get(&key) {
            Some(target) => copy.prefixes.insert(key, target.clone()),
            None => copy.prefixes.remove(&key),
        };
    }
    for index in &delta.ports {
        match fib.ports.get(index) {
            Some(port) => copy.ports.insert(*index, port.clone()),
            None => copy.ports.remove(index),
        };
    }
}

proptest! {

    #[test]
    fn answers_like_the_naive_model(state in any_state(), (accelerate, services) in ranges()) {
        let config = CompileConfig { ports: vec!["eth0".into(), "eth1".into()], accelerate, services };
        let mut compiler = Compiler::new(config.clone());
        compiler.update(&state, &Delta::full());
        let has_tos = state.routes.iter().any(|route| route.tos != 0);
        for port in [2, 3] {
            for host in 0..ADDRESSES {
                let expected = naive::target(&state, &config, port, address(host));
                match lookup(compiler.fib(), port, address(host)) {
                    // Without an entry the packet is left to the kernel, for no particular reason.
                    None => prop_assert!(!expected.is_forwarded() && !expected.source.valid, "{expected:?}"),
                    Some((_, found)) => {
                        let careful = has_tos && found.forward == Forward::Pass(Reason::Unsupported) && !found.source.valid;
                        prop_assert!(careful || *found == expected, "port {port}, {}: {found:?}, expected {expected:?}", address(host));
                    }
                }
            }
        }
    }

    #[test]
    fn increments_lead_where_a_fresh_compile_leads(
        mut state in any_state(),
        (accelerate, services) in ranges(),
        edits in vec(vec(edit(), 1..4), 1..12),
    ) {
        let config = CompileConfig { ports: vec!["eth*".into()], accelerate, services };
        let mut compiler = Compiler::new(config.clone());
        compiler.update(&state, &Delta::full());
        let mut copy = compiler.fib().clone();
        for batch in edits {
            let mut delta = Delta::default();
            for edit in batch {
                delta.merge(apply(&mut state, edit));
            }
            let changes = compiler.update(&state, &delta);
            follow(&mut copy, compiler.fib(), &changes);
            prop_assert_eq!(&copy, compiler.fib());

            let mut fresh = Compiler::new(config.clone());
            fresh.update(&state, &Delta::full());
            prop_assert_eq!(without_ids(compiler.fib()), without_ids(fresh.fib()));
            prop_assert_eq!(&compiler.fib().own, &fresh.fib().own);
            let used: BTreeSet<ViewId> = compiler.fib().ports.values().map(|port| port.view).collect();
            prop_assert!(compiler.fib().prefixes.keys().all(|(view, _)| used.contains(&view)), "no view is left behind");
        }
    }
}
