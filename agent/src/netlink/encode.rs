//! Requests for routes as bytes, many behind one another in a buffer. Pure.
//!
//! A table of a million routes goes through here: nothing is allocated per request.

use std::net::IpAddr;

use ipnet::IpNet;

/// Values of `rtm_family`, linux/socket.h.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Attributes, linux/rtnetlink.h.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;

/// A next hop of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Interface; 0: the kernel finds it.
    pub ifindex: u32,
    /// Weight, 1 to 256.
    pub weight: u16,
}

/// Where a request sends packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    /// By these next hops; several are one multipath route.
    Hops(&'a [Hop]),
    /// By a nexthop object.
    Object(u32),
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRequest<'a> {
    /// `RTM_NEWROUTE` or `RTM_DELROUTE`.
    pub message_type: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// Destination.
    pub prefix: IpNet,
    /// TOS.
    pub tos: u8,
    /// Table.
    pub table: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// `rtm_scope`.
    pub scope: u8,
    /// `rtm_type`.
    pub kind: u8,
    /// Metric.
    pub metric: u32,
    /// Next hops.
    pub way: Way<'a>,
}

impl RouteRequest<'_> {
    /// Appends the request with this sequence number.
    pub fn append_to(&self, buffer: &mut Vec<u8>, sequence: u32) {
        let start = buffer.len();
        buffer.extend([0; 4]);
        buffer.extend(self.message_type.to_ne_bytes());
        buffer.extend(self.flags.to_ne_bytes());
        buffer.extend(sequence.to_ne_bytes());
        buffer.extend([0; 4]);
        let family = if self.prefix.addr().is_ipv4() { AF_INET } else { AF_INET6 };
        // `RT_TABLE_UNSPEC`: the attribute says which.
        let table = u8::try_from(self.table).unwrap_or(0);
        let header =
            [family, self.prefix.prefix_len(), 0, self.tos, table, self.protocol, self.scope, self.kind];
        buffer.extend(header);
        buffer.extend([0; 4]);
        number(buffer, RTA_TABLE, self.table);
        attribute(buffer, RTA_DST, |buffer| address(buffer, self.prefix.network()));
        number(buffer, RTA_PRIORITY, self.metric);
        match self.way {
            Way::Object(id) => number(buffer, RTA_NH_ID, id),
            Way::Hops([]) => {}
            Way::Hops([only]) => {
                only.gateway.into_iter().for_each(|gateway| self.gateway(buffer, gateway));
                if only.ifindex != 0 {
                    number(buffer, RTA_OIF, only.ifindex);
                }
            }
            Way::Hops(several) => attribute(buffer, RTA_MULTIPATH, |buffer| {
                for hop in several {
                    self.member(buffer, hop);
                }
            }),
        }
        let length = u32::try_from(buffer.len() - start).unwrap_or(u32::MAX);
        set_length(buffer, start, length.to_ne_bytes());
    }

    /// `struct rtnexthop` with its gateway.
    fn member(&self, buffer: &mut Vec<u8>, hop: &Hop) {
        let start = buffer.len();
        let hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
        buffer.extend([0, 0, 0, hops]);
        buffer.extend(hop.ifindex.to_ne_bytes());
        hop.gateway.into_iter().for_each(|gateway| self.gateway(buffer, gateway));
        let length = u16::try_from(buffer.len() - start).unwrap_or(u16::MAX);
        set_length(buffer, start, length.to_ne_bytes());
    }

    /// `RTA_GATEWAY`, or `RTA_VIA` for an IPv6 gateway of an IPv4 route.
    fn gateway(&self, buffer: &mut Vec<u8>, gateway: IpAddr) {
        match (self.prefix, gateway) {
            (IpNet::V4(_), IpAddr::V6(gateway)) => attribute(buffer, RTA_VIA, |buffer| {
                buffer.extend(u16::from(AF_INET6).to_ne_bytes());
                buffer.extend(gateway.octets());
            }),
            (_, gateway) => attribute(buffer, RTA_GATEWAY, |buffer| address(buffer, gateway)),
        }
    }
}

/// Asks for an answer to the last request of a buffer, which begins at `start`, besides those to requests that fail.
pub fn ask_for_answer(buffer: &mut [u8], start: usize) {
    if let Some(flags) = buffer.get_mut(start + 6..start + 8) {
        let value = u16::from_ne_bytes([flags[0], flags[1]]) | netlink_packet_core::NLM_F_ACK;
        flags.copy_from_slice(&value.to_ne_bytes());
    }
}

fn address(buffer: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => buffer.extend(address.octets()),
        IpAddr::V6(address) => buffer.extend(address.octets()),
    }
}

fn number(buffer: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(buffer, kind, |buffer| buffer.extend(value.to_ne_bytes()));
}

fn attribute(buffer: &mut Vec<u8>, kind: u16, value: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend([0, 0]);
    buffer.extend(kind.to_ne_bytes());
    value(buffer);
    let length = u16::try_from(buffer.len() - start).unwrap_or(u16::MAX);
    set_length(buffer, start, length.to_ne_bytes());
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

fn set_length<const N: usize>(buffer: &mut [u8], at: usize, length: [u8; N]) {
    if let Some(field) = buffer.get_mut(at..at + N) {
        field.copy_from_slice(&length);
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};

    use super::*;
    use crate::netlink::decode::{Decoder, Event, Placement, message_type};
    use crate::netlink::requests::messages;

    /// What is written is what our own reader, which the kernel's notifications go through, finds.
    #[test]
    fn requests_are_read_as_they_are_meant() {
        let hop = |gateway: Option<&str>, ifindex, weight| Hop {
            gateway: gateway.map(|text| text.parse().unwrap()),
            ifindex,
            weight,
        };
        let one = [hop(Some("192.0.2.1"), 0, 1)];
        let several = [hop(Some("192.0.2.1"), 2, 1), hop(Some("192.0.2.2"), 3, 256)];
        let ipv6 = [hop(Some("2001:db8::1"), 7, 1)];
        let on_link = [hop(None, 4, 1)];
        let cases: [(&str, &str, Way<'_>); 7] = [
            ("a gateway", "10.9.0.0/26", Way::Hops(&one)),
            ("several", "10.9.0.0/26", Way::Hops(&several)),
            ("IPv6", "2001:db8:1::/48", Way::Hops(&ipv6)),
            ("IPv6 gateway of an IPv4 route", "10.9.0.0/26", Way::Hops(&ipv6)),
            ("on-link", "10.9.0.0/32", Way::Hops(&on_link)),
            ("nothing", "0.0.0.0/0", Way::Hops(&[])),
            ("a nexthop object", "10.9.0.0/26", Way::Object(77)),
        ];
        let mut buffer = Vec::new();
        let request = |prefix: &str, way| RouteRequest {
            message_type: message_type::NEWROUTE,
            flags: NLM_F_REQUEST | NLM_F_CREATE,
            prefix: prefix.parse().unwrap(),
            tos: 0,
            table: 1000,
            protocol: 210,
            scope: 0,
            kind: 1,
            metric: 200,
            way,
        };
        for (sequence, (_, prefix, way)) in (1..).zip(cases) {
            request(prefix, way).append_to(&mut buffer, sequence);
        }
        let read: Vec<_> = messages(&buffer).collect();
        assert_eq!(read.len(), cases.len());
        for ((sequence, (name, prefix, way)), (found_sequence, reply)) in (1..).zip(cases).zip(read) {
            assert_eq!((found_sequence, reply.flags), (sequence, NLM_F_REQUEST | NLM_F_CREATE), "{name}");
            let event = Decoder::default().decode(reply.message_type, reply.flags, reply.payload).unwrap();
            let Some(Event::Route(route, Placement::First)) = event else { panic!("{name}: {event:?}") };
            let found: Vec<Hop> = route
                .next_hops
                .iter()
                .map(|hop| Hop { gateway: hop.gateway, ifindex: hop.ifindex, weight: hop.weight })
                .collect();
            let (hops, object) = match way {
                Way::Hops(hops) => (hops, None),
                Way::Object(id) => (&[][..], Some(id)),
            };
            assert_eq!((found.as_slice(), route.nexthop_id), (hops, object), "{name}");
            let key =
                (route.prefix.to_string(), route.table, route.metric, route.protocol, route.unsupported);
            assert_eq!(key, (prefix.to_owned(), 1000, 200, 210, false), "{name}");
        }
    }

    #[test]
    fn only_the_last_asks_for_an_answer() {
        let request = RouteRequest {
            message_type: message_type::DELROUTE,
            flags: NLM_F_REQUEST,
            prefix: "10.9.0.0/26".parse().unwrap(),
            tos: 0,
            table: 254,
            protocol: 210,
            scope: 255,
            kind: 1,
            metric: 200,
            way: Way::Hops(&[]),
        };
        let mut buffer = Vec::new();
        request.append_to(&mut buffer, 1);
        let last = buffer.len();
        request.append_to(&mut buffer, 2);
        ask_for_answer(&mut buffer, last);
        let flags: Vec<u16> = messages(&buffer).map(|(_, reply)| reply.flags).collect();
        assert_eq!(flags, [NLM_F_REQUEST, NLM_F_REQUEST | NLM_F_ACK]);
    }
}
