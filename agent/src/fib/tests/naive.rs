//! The kernel's lookup written down per packet, without prefixes, boundaries or increments.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::reason::Reason;

use crate::fib::model::{CompileConfig, Forward, NextHop, Source, Target};
use crate::netlink::model::{Family, IfIndex, NeighbourState, Route, RouteType, Rule, RuleAction, State};

/// What a packet gets that only its own fields decide.
struct Packet<'a> {
    address: IpAddr,
    port: &'a str,
    /// Whether the packet satisfies the n-th rule's `from`, `tos`, ... selectors.
    selectors: Vec<bool>,
    tos: u8,
}

/// What happens to a packet, in terms that can be compared.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    NoRoute,
    Refused,
    Local,
    Unknown,
    Forwarded { hops: Vec<(IfIndex, Option<IpAddr>, u16)>, mtu: Option<u32>, to_host: bool },
}

/// The target of packets to `address` that come in on `port`: what all packets get, or
/// [`Reason::Unsupported`] when they do not all get the same.
pub fn target(state: &State, config: &CompileConfig, port: IfIndex, address: IpAddr) -> Target {
    let rules: Vec<&Rule> = state.rules.iter().filter(|rule| rule.family == Family::of(address)).collect();
    let tos: BTreeSet<u8> = state.routes.iter().map(|route| route.tos).chain([0]).collect();
    let mut fates: Vec<Fate> = Vec::new();
    for selectors in assignments(&rules) {
        for &tos in &tos {
            let packet =
                Packet { address, port: &state.links[&port].name, selectors: selectors.clone(), tos };
            fates.push(walk(state, &rules, &packet));
        }
    }
    let fate = if fates.iter().all(|fate| *fate == fates[0]) { fates.remove(0) } else { Fate::Unknown };
    of(&fate, state, config, address)
}

/// All ways in which packets can satisfy or miss the selectors that ingress and destination do not decide.
fn assignments(rules: &[&Rule]) -> Vec<Vec<bool>> {
    let mut all = vec![Vec::new()];
    for rule in rules {
        let open = rule.source.is_some() || rule.has_other_selector;
        all = all
            .into_iter()
            .flat_map(|assignment: Vec<bool>| {
                let extended = move |value| assignment.iter().copied().chain([value]).collect();
                if open { vec![extended(true), extended(false)] } else { vec![extended(true)] }
            })
            .collect();
    }
    all
}

fn walk(state: &State, rules: &[&Rule], packet: &Packet<'_>) -> Fate {
    let mut at = 0;
    while at < rules.len() {
        let rule = rules[at];
        let selected = packet.selectors[at]
            && rule.destination.is_none_or(|destination| destination.contains(&packet.address))
            && rule.input_interface.as_deref().is_none_or(|name| name == packet.port)
            && rule.output_interface.is_none()
            && rule.mark.is_none_or(|(value, mask)| value & mask == 0)
            && !rule.l3mdev;
        at += 1;
        if selected == rule.invert {
            continue;
        }
        match rule.action {
            RuleAction::Nop => {}
            RuleAction::Goto(target) => {
                at = rules.iter().position(|rule| rule.priority == target).unwrap_or(at);
            }
            RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => return Fate::Refused,
            RuleAction::Unknown(_) => return Fate::Unknown,
            RuleAction::Table(table) => {
                let Some(route) = lookup(state, table, packet) else { continue };
                let suppressed = rule
                    .suppress_prefix_length
                    .is_some_and(|longest| u32::from(route.prefix.prefix_len()) <= longest);
                match route.kind {
                    RouteType::Throw => {}
                    RouteType::Blackhole | RouteType::Unreachable | RouteType::Prohibit => {
                        return Fate::Refused;
                    }
                    _ if suppressed => {}
                    _ => return fate(&route),
                }
            }
        }
    }
    Fate::NoRoute
}

fn lookup(state: &State, table: u32, packet: &Packet<'_>) -> Option<Route> {
    let mut candidates: Vec<Route> = state
        .routes
        .iter()
        .filter(|route| route.table == table && route.prefix.contains(&packet.address))
        .filter(|route| route.tos == 0 || route.tos == packet.tos)
        .filter(|route| {
            let refuses = matches!(
                route.kind,
                RouteType::Blackhole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw
            );
            refuses || route.next_hops.is_empty() || route.next_hops.iter().any(|hop| !hop.dead)
        })
        .collect();
    // Stable: routes with equal keys stay in the kernel's order.
    candidates.sort_by_key(|route| (u8::MAX - route.prefix.prefix_len(), u8::MAX - route.tos, route.metric));
    candidates.into_iter().next()
}

fn fate(route: &Route) -> Fate {
    match route.kind {
        RouteType::Unicast if route.unsupported || route.next_hops.iter().any(|hop| hop.encapsulated) => {
            Fate::Unknown
        }
        RouteType::Unicast => Fate::Forwarded {
            hops: route
                .next_hops
                .iter()
                .filter(|hop| !hop.dead)
                .map(|hop| (hop.ifindex, hop.gateway, hop.weight))
                .collect(),
            mtu: route.mtu,
            to_host: route.prefix.prefix_len() == 32,
        },
        RouteType::Local | RouteType::Broadcast => Fate::Local,
        other => panic!("the generator makes no {other:?}"),
    }
}

fn of(fate: &Fate, state: &State, config: &CompileConfig, address: IpAddr) -> Target {
    let source = match fate {
        Fate::Forwarded { hops, .. } => Source {
            valid: true,
            on_link: hops.iter().any(|(_, gateway, _)| gateway.is_none()),
            interfaces: hops.iter().map(|(ifindex, ..)| *ifindex).collect(),
        },
        _ => Source::default(),
    };
    let forward = match fate {
        Fate::NoRoute => Forward::Pass(Reason::NoRoute),
        Fate::Refused => Forward::Pass(Reason::Refused),
        Fate::Local => Forward::Pass(Reason::Local),
        Fate::Unknown => Forward::Pass(Reason::Unsupported),
        Fate::Forwarded { .. } => {
            limit(config, address).unwrap_or_else(|| forward(fate, state, config, address))
        }
    };
    Target { forward, source }
}

/// Why an address is not forwarded though the kernel would, or `None`.
fn limit(config: &CompileConfig, address: IpAddr) -> Option<Forward> {
    let longest = |ranges: &[IpNet]| {
        ranges
            .iter()
            .filter(|range| range.contains(&address))
            .map(|range| i32::from(range.prefix_len()))
            .max()
            .unwrap_or(-1)
    };
    let (accelerate, services) = (longest(&config.accelerate), longest(&config.services));
    if accelerate < 0 && services < 0 {
        return Some(Forward::Pass(Reason::NotAccelerated));
    }
    (services >= accelerate).then_some(Forward::Pass(Reason::Service))
}

fn forward(fate: &Fate, state: &State, config: &CompileConfig, address: IpAddr) -> Forward {
    let Fate::Forwarded { hops, mtu, to_host } = fate else { panic!("{fate:?} is not forwarded") };
    let managed = |ifindex: IfIndex| config.ports.contains(&state.links[&ifindex].name);
    let mut next_hops: Vec<(NextHop, u16)> = Vec::new();
    for &(port, gateway, weight) in hops.iter().filter(|(ifindex, ..)| managed(*ifindex)) {
        let neighbour = state.neighbours.get(&(port, address));
        let resolved = neighbour.is_some_and(|neighbour| neighbour.state == NeighbourState::Valid);
        let Some(neighbour) = gateway.or_else(|| resolved.then_some(address)) else { continue };
        let device = state.links[&port].mtu;
        let next_hop = NextHop { port, neighbour, mtu: mtu.unwrap_or(device).min(device) };
        match next_hops.iter_mut().find(|(known, _)| *known == next_hop) {
            Some((_, sum)) => *sum += weight,
            None => next_hops.push((next_hop, weight)),
        }
    }
    next_hops.sort();
    if !next_hops.is_empty() {
        return Forward::NextHops(next_hops);
    }
    Forward::Pass(if hops.iter().any(|(ifindex, ..)| managed(*ifindex)) {
        Reason::Connected
    } else if *to_host && hops.iter().all(|(_, gateway, _)| gateway.is_none()) {
        Reason::Local
    } else {
        Reason::EgressNotManaged
    })
}
