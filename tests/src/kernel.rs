//! What the kernel of a namespace has, as `ip` tells it.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::Deserialize;

use crate::netns::Netns;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination; "default" is `0.0.0.0/0`.
    pub prefix: IpNet,
    /// "unicast", "blackhole", "local", ...
    pub kind: String,
    /// "bird", "bgp", "kernel", "boot", "static", or the number.
    pub protocol: String,
    /// Metric, 0 when there is none.
    pub metric: u32,
    /// Next hops, sorted; empty for a blackhole.
    pub next_hops: Vec<NextHop>,
}

/// A next hop of a [`Route`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// Gateway; absent when on-link.
    pub gateway: Option<IpAddr>,
    /// Interface.
    pub interface: String,
}

impl Route {
    /// All gateways, sorted.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.next_hops.iter().filter_map(|hop| hop.gateway).collect()
    }
}

impl Netns {
    /// IPv4 routes of a table ("main", "all", "300"), sorted.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn routes(&self, table: &str) -> Result<Vec<Route>> {
        let raw: Vec<RawRoute> = self.ip_json(&format!("-4 route show table {table}"))?;
        let mut routes = raw.into_iter().map(RawRoute::route).collect::<Result<Vec<_>>>()?;
        routes.sort();
        Ok(routes)
    }

    /// The route of table main for exactly this prefix, the one with the lowest metric.
    ///
    /// # Errors
    /// `ip` fails, or there is none.
    pub fn route(&self, prefix: IpNet) -> Result<Route> {
        let mut routes = self.routes("main")?;
        routes.retain(|route| route.prefix == prefix);
        routes.sort_by_key(|route| route.metric);
        let name = self.name();
        routes.into_iter().next().with_context(|| format!("{name} has no route for {prefix}"))
    }

    /// Id of the XDP program on an interface.
    ///
    /// # Errors
    /// `ip` fails, or there is no such interface.
    pub fn xdp_program(&self, interface: &str) -> Result<Option<u32>> {
        let links: Vec<RawLink> = self.ip_json(&format!("link show dev {interface}"))?;
        let link = links.into_iter().next().with_context(|| format!("no interface {interface}"))?;
        Ok(link.xdp.and_then(|xdp| xdp.prog).map(|program| program.id))
    }
}

#[derive(Deserialize)]
struct RawLink {
    xdp: Option<RawXdp>,
}

#[derive(Deserialize)]
struct RawXdp {
    prog: Option<RawProgram>,
}

#[derive(Deserialize)]
struct RawProgram {
    id: u32,
}

#[derive(Deserialize)]
struct RawRoute {
    dst: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    protocol: Option<String>,
    metric: Option<u32>,
    gateway: Option<IpAddr>,
    dev: Option<String>,
    #[serde(default)]
    nexthops: Vec<RawHop>,
}

#[derive(Deserialize)]
struct RawHop {
    gateway: Option<IpAddr>,
    dev: Option<String>,
}

impl RawRoute {
    fn route(self) -> Result<Route> {
        let kind = self.kind.unwrap_or_else(|| "unicast".to_owned());
        let mut next_hops: Vec<_> = self.nexthops.into_iter().map(RawHop::next_hop).collect();
        if next_hops.is_empty() && kind == "unicast" {
            next_hops.push(RawHop { gateway: self.gateway, dev: self.dev }.next_hop());
        }
        next_hops.sort();
        Ok(Route {
            prefix: prefix(&self.dst)?,
            kind,
            protocol: self.protocol.unwrap_or_else(|| "boot".to_owned()),
            metric: self.metric.unwrap_or(0),
            next_hops,
        })
    }
}

impl RawHop {
    fn next_hop(self) -> NextHop {
        NextHop { gateway: self.gateway, interface: self.dev.unwrap_or_default() }
    }
}

/// `ip` leaves out the length of a host route.
fn prefix(text: &str) -> Result<IpNet> {
    if text == "default" {
        return Ok(IpNet::V4(ipnet::Ipv4Net::default()));
    }
    if let Ok(prefix) = text.parse::<IpNet>() {
        return Ok(prefix);
    }
    let address: IpAddr = text.parse().with_context(|| format!("`ip` printed the prefix {text:?}"))?;
    Ok(IpNet::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_shapes_that_ip_prints() {
        let hop = |gateway: Option<&str>, interface: &str| NextHop {
            gateway: gateway.map(|text| text.parse().expect("an address")),
            interface: interface.to_owned(),
        };
        let cases = [
            (
                "gateway",
                r#"{"type":"unicast","dst":"default","gateway":"172.20.0.254","dev":"eth0","protocol":"boot","flags":[]}"#,
                ("0.0.0.0/0", "unicast", "boot", 0, vec![hop(Some("172.20.0.254"), "eth0")]),
            ),
            (
                "host",
                r#"{"type":"unicast","dst":"10.233.66.2","dev":"cali0","protocol":"boot","scope":"link","flags":[]}"#,
                ("10.233.66.2/32", "unicast", "boot", 0, vec![hop(None, "cali0")]),
            ),
            (
                "multipath, sorted",
                r#"{"type":"unicast","dst":"10.233.66.0/26","protocol":"bgp","metric":20,"flags":[],"nexthops":[
                    {"gateway":"172.20.0.12","dev":"rack","weight":1,"flags":[]},{"gateway":"172.20.0.11","dev":"rack","weight":1,"flags":[]}]}"#,
                (
                    "10.233.66.0/26",
                    "unicast",
                    "bgp",
                    20,
                    vec![hop(Some("172.20.0.11"), "rack"), hop(Some("172.20.0.12"), "rack")],
                ),
            ),
            (
                "blackhole",
                r#"{"type":"blackhole","dst":"10.233.66.0/26","protocol":"bird","flags":[]}"#,
                ("10.233.66.0/26", "blackhole", "bird", 0, vec![]),
            ),
        ];
        for (name, json, (prefix, kind, protocol, metric, next_hops)) in cases {
            let raw: RawRoute = serde_json::from_str(json).expect(name);
            let expected = Route {
                prefix: prefix.parse().expect(name),
                kind: kind.to_owned(),
                protocol: protocol.to_owned(),
                metric,
                next_hops,
            };
            assert_eq!(raw.route().expect(name), expected, "{name}");
        }
    }
}
