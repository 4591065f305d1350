//! `underpass lookup`: the live program's answer beside the kernel's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use underpass_common::fib::ViewId;

use super::Agent;
use super::routes::{kind_name, mac_text, row_view};
use crate::api::model::{KernelAnswer as KernelReport, Lookup, SCHEMA, XdpAnswer};
use crate::datapath::DatapathError;
use crate::datapath::probe::{Addresses, Answer, Flow, Verdict};
use crate::fib::model::{Fib, Target};
use crate::netlink::model::{IfIndex, RouteType, State};
use crate::netlink::query::KernelAnswer;
use crate::prefix_map::PrefixMap;
use crate::reconcile::xdp::RowView;

/// A locally administered address that stands for the sender of the probe frame.
const SENDER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Where a route covers half the internet, its documentation network (RFC 5737) stands for it.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// As [`ANYWHERE`], of IPv6 (RFC 3849).
const ANYWHERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// So many hosts of a network are looked at for a source.
const HOSTS_TRIED: usize = 64;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// No `[datapath]`, or it did not start.
    #[error("this agent has no fast path, see `underpass status`")]
    NoDatapath,
    /// No such port.
    #[error("{0} is not a managed port; managed are: {1}")]
    NotAPort(String, String),
    /// Source and destination are of different families.
    #[error("source {0} and destination {1} are of different families")]
    Families(IpAddr, IpAddr),
    /// No source was given and none is obvious.
    #[error(
        "no source is obvious for a packet that comes in by {0}: no route points out of it; name one with --from"
    )]
    NoSource(String),
    /// The probe failed.
    #[error(transparent)]
    Probe(#[from] DatapathError),
    /// The kernel cannot be asked.
    #[error("cannot ask the kernel: {0}")]
    Kernel(#[from] io::Error),
}

impl Agent {
    pub(super) fn lookup(
        &mut self,
        address: IpAddr,
        source: Option<IpAddr>,
        interface: Option<&str>,
    ) -> Result<Lookup, LookupError> {
        let state = self.monitor.state();
        let forwarding = self.forwarding.as_mut().ok_or(LookupError::NoDatapath)?;
        let ports = forwarding.ports();
        let named = |name: &str| ports.values().find(|port| port.name == name);
        let port = match interface {
            Some(name) => named(name),
            None => ports.values().find(|port| port.ingress).or(ports.values().next()),
        };
        let port = port.ok_or_else(|| {
            let names: Vec<&str> = ports.values().map(|port| port.name.as_str()).collect();
            LookupError::NotAPort(interface.unwrap_or("(any)").to_owned(), names.join(", "))
        })?;
        let (ifindex, name) = (port.ifindex, port.name.clone());
        let row = forwarding.fib().ports.get(&ifindex);
        let (view, mac) = row.map_or((0, [0; 6]), |row| (row.view, row.mac));
        let source = match source {
            Some(source) => source,
            None => obvious_source(forwarding.fib(), view, ifindex, address)
                .ok_or_else(|| LookupError::NoSource(name.clone()))?,
        };
        let kernel = self.query.route_get(address, Some(source), Some(ifindex))?;
        let addresses = match (source, address) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Addresses::V4(from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => Addresses::V6(from, to),
            _ => return Err(LookupError::Families(source, address)),
        };
        let flow = Flow {
            destination_mac: mac,
            source_mac: SENDER,
            addresses,
            source_port: 49152,
            destination_port: 33434,
        };
        let answer = forwarding.probe(ifindex, &flow)?;
        let target = forwarding.reconciler().target(answer.target);
        let rows = target.map(|target| target.rows).unwrap_or_default();
        let prefix = longest_match(forwarding.fib(), view, address).map(|(prefix, _)| prefix);
        let xdp = xdp_answer(&answer, &rows, state);
        let agree = xdp.verdict == Verdict::Pass.label() || allows(&kernel, &rows, address);
        Ok(Lookup {
            schema: SCHEMA,
            address,
            source,
            interface: name,
            prefix,
            xdp,
            kernel: kernel_report(kernel, state),
            agree,
        })
    }
}

fn xdp_answer(answer: &Answer, rows: &[RowView], state: &State) -> XdpAnswer {
    let forwarded = answer.verdict != Verdict::Pass;
    let chosen = rows.iter().find(|row| row.index == answer.next_hop).map(|row| row_view(row, state));
    XdpAnswer {
        verdict: answer.verdict.label().to_owned(),
        reason: answer.reason.label().to_owned(),
        target: answer.target,
        next_hops: rows.iter().map(|row| row_view(row, state)).collect(),
        // The MAC is the one in the frame, not the one that the row is believed to hold.
        chosen: chosen.filter(|_| forwarded).map(|mut view| {
            view.mac = Some(mac_text(answer.destination_mac));
            view
        }),
        interface: forwarded.then(|| state.links.get(&answer.egress).map(|link| link.name.clone())).flatten(),
    }
}

fn kernel_report(answer: KernelAnswer, state: &State) -> KernelReport {
    match answer {
        KernelAnswer::Route { kind, egress, gateway, .. } => KernelReport {
            kind: kind_name(kind),
            gateway,
            interface: egress.and_then(|index| state.links.get(&index)).map(|link| link.name.clone()),
            error: None,
        },
        KernelAnswer::Refused(text) => {
            KernelReport { kind: "error".to_owned(), gateway: None, interface: None, error: Some(text) }
        }
    }
}

/// Whether the kernel's choice is among the next hops that XDP uses (which of several equal ones a
/// flow takes is each side's own business).
fn allows(kernel: &KernelAnswer, rows: &[RowView], destination: IpAddr) -> bool {
    match kernel {
        KernelAnswer::Route { kind: RouteType::Unicast, egress: Some(egress), gateway, .. } => {
            let neighbour = gateway.unwrap_or(destination);
            rows.iter().any(|row| row.next_hop.port == *egress && row.next_hop.neighbour == neighbour)
        }
        _ => false,
    }
}

/// The compiled table's longest match.
pub(super) fn longest_match(fib: &Fib, view: ViewId, address: IpAddr) -> Option<(IpNet, &Target)> {
    let (prefix, target) = fib.prefixes.view(view)?.longest_cover(&IpNet::from(address))?;
    Some((prefix, target))
}

/// A source that the kernel accepts from this port: a routed one if there is any (hosts on the same
/// segment get an ICMP redirect from the kernel), else one on the segment. IPv6 accepts any.
fn obvious_source(fib: &Fib, view: ViewId, ingress: IfIndex, destination: IpAddr) -> Option<IpAddr> {
    let anywhere = match destination {
        IpAddr::V4(_) => IpAddr::V4(ANYWHERE),
        IpAddr::V6(_) => IpAddr::V6(ANYWHERE6),
    };
    let usable = |on_link: bool| {
        fib.prefixes.view(view).into_iter().flat_map(PrefixMap::iter).find_map(move |(prefix, target)| {
            let source = &target.source;
            if !source.valid || source.on_link != on_link || !source.interfaces.contains(&ingress) {
                return None;
            }
            if prefix.addr().is_ipv4() != destination.is_ipv4() || is_link_local(prefix.addr()) {
                return None;
            }
            let anywhere = prefix.contains(&anywhere).then_some(anywhere);
            anywhere.into_iter().chain(first_hosts(prefix)).find(|candidate| {
                let matched = longest_match(fib, view, *candidate);
                matched.is_some_and(|(matched, _)| matched == prefix) && *candidate != destination
            })
        })
    };
    let any = (destination.is_ipv6() && destination != anywhere).then_some(anywhere);
    usable(false).or_else(|| usable(true)).or(any)
}

/// The first hosts of a network; among them may be the router itself and neighbours, which have prefixes of
/// their own.
fn first_hosts(prefix: IpNet) -> impl Iterator<Item = IpAddr> {
    // The first address of an IPv6 network is that of its routers (RFC 4291 §2.6.1).
    let anycast = prefix.addr().is_ipv6() && prefix.prefix_len() < 127;
    prefix.hosts().skip(usize::from(anycast)).take(HOSTS_TRIED)
}

/// Packets from such addresses are never forwarded.
const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_needs_no_route_to_the_source() {
        let fib = Fib::default();
        let source = |to: &str| obvious_source(&fib, 0, 2, to.parse().unwrap());
        assert_eq!(source("2001:db8::7"), Some(IpAddr::V6(ANYWHERE6)));
        assert_eq!(source("2001:db8::1"), None, "a packet to itself");
        assert_eq!(source("10.1.1.1"), None, "nothing says what the kernel would accept");
    }

    #[test]
    fn hosts_of_a_network_are_none_of_its_own_addresses() {
        let first = |prefix: &str| first_hosts(prefix.parse().unwrap()).next().unwrap().to_string();
        for (prefix, host) in [
            ("10.1.1.0/24", "10.1.1.1"),
            ("10.1.1.4/31", "10.1.1.4"),
            ("10.1.1.4/32", "10.1.1.4"),
            ("2001:db8::/64", "2001:db8::1"),
            ("2001:db8::4/127", "2001:db8::4"),
            ("2001:db8::4/128", "2001:db8::4"),
        ] {
            assert_eq!(first(prefix), host, "{prefix}");
        }
    }
}
