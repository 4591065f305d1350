//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use netlink_packet_core::{DecodeError, ParseableParametrized};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMetric,
    RouteNextHop as Hop, RouteNextHopFlags, RouteType as Kind, RouteVia,
};

use super::{attributes, prefix};
use crate::netlink::model::{Route, RouteBody, RouteNextHop, RouteType};

/// `struct rtmsg`.
pub const HEADER: usize = 12;
// Attributes of linux/rtnetlink.h that are not parsed.
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_PAD: u16 = 24;
/// Bit of `RTAX_MTU` in `RTAX_LOCK`.
const LOCKED_MTU: u32 = 1 << 2;

/// A route; `None` for other families and for what the kernel cached (`RTM_F_CLONED`).
///
/// # Errors
/// The message is too short, or the destination is not a prefix.
pub fn route(payload: &[u8]) -> Result<Option<Route>, DecodeError> {
    let header = RouteHeader::parse(payload)?;
    if header.flags.contains(RouteFlags::Cloned) {
        return Ok(None);
    }
    read(payload, &header)
}

/// The answer to `RTM_GETROUTE`, which the kernel marks as cached and fills with the question.
///
/// # Errors
/// As [`route`].
pub fn route_answer(payload: &[u8]) -> Result<Option<Route>, DecodeError> {
    read(payload, &RouteHeader::parse(payload)?)
}

fn read(payload: &[u8], header: &RouteHeader) -> Result<Option<Route>, DecodeError> {
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    let mut reader = Reader { destination: unspecified, source: unspecified, ..Reader::new(header) };
    for attribute in attributes(payload, HEADER) {
        match attribute.kind() {
            RTA_ENCAP | RTA_ENCAP_TYPE => reader.single.encapsulated = true,
            RTA_PAD => {}
            _ => {
                let context = (header.address_family, header.kind, RouteLwEnCapType::None);
                match RouteAttribute::parse_with_param(&attribute, context) {
                    Ok(attribute) => reader.read(attribute),
                    Err(_) => reader.route.unsupported = true,
                }
            }
        }
    }
    reader.finish(header).map(Some)
}

/// A route half read.
struct Reader {
    route: Route,
    destination: IpAddr,
    source: IpAddr,
    /// The next hop whose attributes are the route's own.
    single: RouteNextHop,
}

impl Reader {
    fn new(header: &RouteHeader) -> Self {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let single = RouteNextHop {
            ifindex: 0,
            gateway: None,
            weight: 1,
            on_link: header.flags.contains(RouteFlags::Onlink),
            dead: header.flags.contains(RouteFlags::Dead),
            link_down: header.flags.contains(RouteFlags::Linkdown),
            encapsulated: false,
        };
        let route = Route {
            table: u32::from(header.table),
            prefix: unspecified.into(),
            tos: header.tos,
            metric: 0,
            body: Arc::new(RouteBody {
                protocol: header.protocol.into(),
                kind: kind(header.kind),
                scope: header.scope.into(),
                next_hops: Vec::new(),
                nexthop_id: None,
                mtu: None,
                preferred_source: None,
                source_prefix: None,
                unsupported: false,
            }),
        };
        Self { route, destination: unspecified, source: unspecified, single }
    }

    fn read(&mut self, attribute: RouteAttribute) {
        let route = &mut self.route;
        match attribute {
            RouteAttribute::Destination(found) => read_address(&mut self.destination, &found),
            RouteAttribute::Source(found) => read_address(&mut self.source, &found),
            RouteAttribute::Table(table) => route.table = table,
            RouteAttribute::Priority(metric) => route.metric = metric,
            RouteAttribute::PrefSource(found) => route.preferred_source = address(&found),
            RouteAttribute::NhId(id) => route.nexthop_id = Some(id),
            RouteAttribute::Oif(ifindex) => self.single.ifindex = ifindex,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => match gateway(&attribute) {
                Some(gateway) => self.single.gateway = Some(gateway),
                None => route.unsupported = true,
            },
            RouteAttribute::MultiPath(hops) => {
                for found in hops {
                    route.unsupported |= hop(&found).is_none();
                    route.next_hops.extend(hop(&found));
                }
            }
            RouteAttribute::Metrics(metrics) => read_metrics(route, &metrics),
            // Nothing that decides about a forwarded packet.
            RouteAttribute::CacheInfo(_)
            | RouteAttribute::Realm(_)
            | RouteAttribute::Preference(_)
            | RouteAttribute::Expires(_) => {}
            _ => route.unsupported = true,
        }
    }

    fn finish(mut self, header: &RouteHeader) -> Result<Route, DecodeError> {
        self.route.prefix = prefix(self.destination, header.destination_prefix_length)?;
        if header.source_prefix_length > 0 {
            self.route.source_prefix = Some(prefix(self.source, header.source_prefix_length)?);
        }
        if self.route.next_hops.is_empty() && (self.single.ifindex != 0 || self.single.gateway.is_some()) {
            self.route.next_hops = vec![self.single];
        }
        if self.destination.is_ipv6() {
            // Dumps start at the first next hop, notifications at the one that changed.
            self.route.next_hops.sort();
        }
        Ok(self.route)
    }
}

/// A member of `RTA_MULTIPATH`, or `None` when it has something unknown.
fn hop(hop: &Hop) -> Option<RouteNextHop> {
    let mut found = RouteNextHop {
        ifindex: hop.interface_index,
        gateway: None,
        weight: u16::from(hop.hops) + 1,
        on_link: hop.flags.contains(RouteNextHopFlags::Onlink),
        dead: hop.flags.contains(RouteNextHopFlags::Dead),
        link_down: hop.flags.contains(RouteNextHopFlags::Linkdown),
        encapsulated: false,
    };
    for attribute in &hop.attributes {
        match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => found.gateway = Some(gateway(attribute)?),
            RouteAttribute::Encap(_) | RouteAttribute::EncapType(_) => found.encapsulated = true,
            RouteAttribute::Realm(_) => {}
            _ => return None,
        }
    }
    Some(found)
}

fn read_metrics(route: &mut Route, metrics: &[RouteMetric]) {
    for metric in metrics {
        match metric {
            RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu).filter(|mtu| *mtu != 0),
            // A locked MTU also takes in what path MTU discovery learned.
            RouteMetric::Lock(bits) if bits & LOCKED_MTU != 0 => route.unsupported = true,
            // The others are for packets that the machine sends itself.
            _ => {}
        }
    }
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(found) => address(found),
        RouteAttribute::Via(RouteVia::Inet(inet)) => Some(IpAddr::V4(*inet)),
        RouteAttribute::Via(RouteVia::Inet6(inet6)) => Some(IpAddr::V6(*inet6)),
        _ => None,
    }
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(inet) => Some(IpAddr::V4(*inet)),
        RouteAddress::Inet6(inet6) => Some(IpAddr::V6(*inet6)),
        _ => None,
    }
}

fn read_address(into: &mut IpAddr, found: &RouteAddress) {
    if let Some(address) = address(found) {
        *into = address;
    }
}

fn kind(kind: Kind) -> RouteType {
    match kind {
        Kind::Unicast => RouteType::Unicast,
        Kind::Local => RouteType::Local,
        Kind::Broadcast => RouteType::Broadcast,
        Kind::Anycast => RouteType::Anycast,
        Kind::Multicast => RouteType::Multicast,
        Kind::BlackHole => RouteType::Blackhole,
        Kind::Unreachable => RouteType::Unreachable,
        Kind::Prohibit => RouteType::Prohibit,
        Kind::Throw => RouteType::Throw,
        other => RouteType::Unknown(other.into()),
    }
}
