//! A route of a random IPv6 router.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::choice::Group;

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind6 {
    /// By these gateways, with port and weight.
    Via(Vec<(Ipv6Addr, usize, u8)>),
    /// Hosts of the prefix are on this port.
    OnLink(usize),
    /// Blackhole, unreachable, prohibit, throw or local.
    Special(&'static str),
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route6 {
    pub table: u32,
    pub prefix: Ipv6Net,
    pub metric: u32,
    pub kind: Kind6,
    pub mtu: Option<u32>,
}

impl Route6 {
    pub fn group(&self) -> Option<Group> {
        let Kind6::Via(hops) = &self.kind else { return None };
        let live = hops.iter().map(|(gateway, port, _)| ((*gateway).into(), *port)).collect();
        (hops.len() > 1).then(|| Group { table: self.table, mtu: self.mtu_text(), live })
    }

    fn mtu_text(&self) -> String {
        self.mtu.map_or(String::new(), |mtu| format!(" mtu {mtu}"))
    }

    pub fn selector(&self, verb: &str) -> String {
        let Self { table, prefix, metric, .. } = self;
        match &self.kind {
            Kind6::Special("local") => {
                format!("route {verb} local {prefix} dev lo table {table} metric {metric}")
            }
            Kind6::Special(kind) => format!("route {verb} {kind} {prefix} table {table} metric {metric}"),
            _ => format!("route {verb} {prefix} table {table} metric {metric}"),
        }
    }

    pub fn command(&self, verb: &str) -> String {
        let mut text = self.selector(verb) + &self.mtu_text();
        match &self.kind {
            Kind6::Via(hops) if hops.len() == 1 => {
                let _ = write!(text, " via {} dev p{} onlink", hops[0].0, hops[0].1);
            }
            Kind6::Via(hops) => {
                for (gateway, port, weight) in hops {
                    let _ = write!(text, " nexthop via {gateway} dev p{port} weight {weight} onlink");
                }
            }
            Kind6::OnLink(port) => {
                let _ = write!(text, " dev p{port}");
            }
            Kind6::Special(_) => {}
        }
        text
    }
}
