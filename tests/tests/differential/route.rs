//! A route of a random router.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::choice::Group;
use crate::world::byte;

/// A neighbour behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub port: usize,
    pub address: Ipv4Addr,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By these neighbours, with weights; "onlink" where the port has no address.
    Via(Vec<(Neighbour, u8)>),
    /// Hosts of the prefix are on this port.
    OnLink(usize),
    /// Blackhole, unreachable, prohibit, throw or local.
    Special(&'static str),
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    pub table: u32,
    pub prefix: Ipv4Net,
    pub metric: u32,
    pub tos: Option<u8>,
    pub kind: Kind,
    /// MTU, and whether it is locked.
    pub mtu: Option<(u32, bool)>,
}

/// MAC address of a neighbour.
pub fn neighbour_mac(neighbour: Neighbour) -> [u8; 6] {
    let [_, _, _, host] = neighbour.address.octets();
    [6, 0, 0, 0, byte(neighbour.port), host]
}

impl Route {
    /// Its next hops, when it has several.
    pub fn group(&self) -> Option<Group> {
        let Kind::Via(hops) = &self.kind else { return None };
        let lives = |hop: &&Neighbour| hop.address.octets()[3] < 6;
        let live = hops.iter().map(|(hop, _)| hop).filter(lives);
        let live = live.map(|hop| (hop.address.into(), hop.port)).collect();
        (hops.len() > 1).then(|| Group { table: self.table, mtu: self.mtu_text(), live })
    }

    /// " mtu lock 1400", or nothing.
    fn mtu_text(&self) -> String {
        self.mtu
            .map_or(String::new(), |(mtu, locked)| format!(" mtu {}{mtu}", if locked { "lock " } else { "" }))
    }

    /// What no two routes have in common.
    pub const fn key(&self) -> (u32, Ipv4Net, u32, Option<u8>) {
        (self.table, self.prefix, self.metric, self.tos)
    }

    /// The command `verb` with all that tells the route from others.
    pub fn selector(&self, verb: &str) -> String {
        let Self { table, prefix, metric, .. } = self;
        let mut text = format!("route {verb} ");
        match &self.kind {
            Kind::Special("local") => {
                let _ = write!(text, "local {prefix} dev lo table {table} metric {metric}");
            }
            Kind::Special(kind) => {
                let _ = write!(text, "{kind} {prefix} table {table} metric {metric}");
            }
            _ => {
                let _ = write!(text, "{prefix} table {table} metric {metric}");
            }
        }
        if let Some(tos) = self.tos {
            let _ = write!(text, " tos {tos:#x}");
        }
        text
    }

    /// The command `verb` with everything, and `flags` for each next hop; `hops` in the place of the next
    /// hops, unless empty.
    pub fn command(&self, verb: &str, flags: &str, hops: &str) -> String {
        let mut text = self.selector(verb);
        text.push_str(&self.mtu_text());
        match &self.kind {
            Kind::Via(_) if !hops.is_empty() => text.push_str(hops),
            Kind::Via(members) => match members.as_slice() {
                [(hop, _)] => {
                    let _ = write!(text, " via {} dev p{}{flags}", hop.address, hop.port);
                }
                members => {
                    for (hop, weight) in members {
                        let _ =
                            write!(text, " nexthop via {} dev p{} weight {weight}", hop.address, hop.port);
                    }
                }
            },
            Kind::OnLink(port) => {
                let _ = write!(text, " dev p{port}");
            }
            Kind::Special(_) => {}
        }
        text
    }
}
