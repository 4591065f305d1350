//! Routes that differ in their destination only are read once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netlink_packet_core::DecodeError;

use super::route::{self, HEADER};
use super::{AF_INET, AF_INET6};
use crate::intern::Interner;
use crate::netlink::model::{Route, RouteBody};

/// Offset of `rtm_dst_len` in `struct rtmsg`.
const PREFIX_LENGTH: usize = 1;
/// `struct rtattr`.
const ATTRIBUTE_HEADER: usize = 4;
const RTA_DST: u16 = 1;
/// Most shapes that are remembered: one for each set of next hops, table and metric.
const REMEMBERED: usize = 4096;

/// What is known of the messages that were read.
#[derive(Debug, Default)]
pub struct Shapes {
    /// What a message says about the route, by the message without its destination.
    known: HashMap<Box<[u8]>, Shape>,
    bodies: Interner<RouteBody>,
    scratch: Vec<u8>,
}

/// A route without its destination.
#[derive(Clone, Debug)]
struct Shape {
    table: u32,
    tos: u8,
    metric: u32,
    body: Arc<RouteBody>,
}

impl Shapes {
    /// Reads a route as [`route::route`] does.
    ///
    /// # Errors
    /// As there.
    pub fn route(&mut self, payload: &[u8]) -> Result<Option<Route>, DecodeError> {
        let Some((prefix, destination)) = destination(payload) else { return self.read(payload) };
        self.scratch.clear();
        self.scratch.extend_from_slice(payload);
        self.scratch[PREFIX_LENGTH] = 0;
        self.scratch[destination].fill(0);
        if let Some(Shape { table, tos, metric, body }) = self.known.get(self.scratch.as_slice()).cloned() {
            return Ok(Some(Route { table, prefix, tos, metric, body }));
        }
        let found = self.read(payload)?;
        if let Some(Route { table, tos, metric, body, .. }) = found.clone() {
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
            self.known.insert(self.scratch.as_slice().into(), Shape { table, tos, metric, body });
        }
        Ok(found)
    }

    fn read(&mut self, payload: &[u8]) -> Result<Option<Route>, DecodeError> {
        let mut found = route::route(payload)?;
        if let Some(route) = &mut found {
            route.body = self.bodies.share(route.body.as_ref());
        }
        Ok(found)
    }
}

/// The destination of a route and where its address is; `None` where it is not given by exactly one well-formed
/// attribute.
fn destination(payload: &[u8]) -> Option<(IpNet, std::ops::Range<usize>)> {
    let [family, length, ..] = *payload else { return None };
    let mut found = None;
    let mut at = HEADER;
    while at < payload.len() {
        let [l0, l1, k0, k1] = *payload.get(at..)?.first_chunk::<ATTRIBUTE_HEADER>()?;
        let size = usize::from(u16::from_ne_bytes([l0, l1]));
        let end = at.checked_add(size).filter(|end| size >= ATTRIBUTE_HEADER && *end <= payload.len())?;
        if u16::from_ne_bytes([k0, k1]) == RTA_DST {
            let value = at + ATTRIBUTE_HEADER..end;
            let address = address(family, payload.get(value.clone())?)?;
            let prefix = IpNet::new(address, length).ok()?.trunc();
            if found.replace((prefix, value)).is_some() {
                return None;
            }
        }
        at = end.next_multiple_of(4);
    }
    found
}

fn address(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        AF_INET6 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};

    use super::*;

    fn message(prefix: &str, gateway: &str, metric: u32) -> RouteMessage {
        let prefix: IpNet = prefix.parse().unwrap();
        let gateway: IpAddr = gateway.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family =
            if prefix.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = prefix.prefix_len();
        message.header.table = 254;
        message.attributes = vec![
            RouteAttribute::Destination(prefix.addr().into()),
            RouteAttribute::Priority(metric),
            RouteAttribute::Gateway(gateway.into()),
            RouteAttribute::Oif(2),
        ];
        message
    }

    fn bytes(message: &RouteMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    /// Whatever was read before, a message says what it says alone.
    #[test]
    fn a_known_shape_is_read_as_a_new_one() {
        let mut cached = message("10.9.0.0/16", "192.0.2.1", 10);
        cached.header.flags = RouteFlags::Cloned;
        let mut twice = message("10.9.0.0/16", "192.0.2.1", 10);
        twice.attributes.push(RouteAttribute::Destination("10.8.0.0".parse::<IpAddr>().unwrap().into()));
        let mut default = message("0.0.0.0/0", "192.0.2.1", 10);
        default.attributes.remove(0);
        let mut short = bytes(&message("10.9.0.0/16", "192.0.2.1", 10));
        short.truncate(short.len() - 3);
        let mut long = bytes(&message("10.9.0.0/16", "192.0.2.1", 10));
        long[PREFIX_LENGTH] = 33;
        let messages = [
            bytes(&message("10.1.0.0/16", "192.0.2.1", 10)),
            bytes(&message("10.2.3.0/24", "192.0.2.1", 10)),
            bytes(&message("10.2.3.4/32", "192.0.2.1", 10)),
            bytes(&message("10.2.3.0/24", "192.0.2.2", 10)),
            bytes(&message("10.2.3.0/24", "192.0.2.1", 11)),
            bytes(&message("2001:db8::/32", "2001:db8::1", 10)),
            bytes(&message("2001:db8:1::/48", "2001:db8::1", 10)),
            bytes(&cached),
            bytes(&twice),
            bytes(&default),
            short,
            long,
            vec![2],
            vec![],
        ];
        let mut shapes = Shapes::default();
        for round in 0..3 {
            for message in &messages {
                let alone = route::route(message).map_err(|error| error.to_string());
                let found = shapes.route(message).map_err(|error| error.to_string());
                assert_eq!(found, alone, "round {round}: {message:?}");
            }
        }
        let [one, other] = [0, 1].map(|at: usize| shapes.route(&messages[at]).unwrap().unwrap());
        assert!(Arc::ptr_eq(&one.body, &other.body), "what they have in common is stored once");
    }

    #[test]
    fn no_more_shapes_are_remembered_than_there_is_room_for() {
        let mut shapes = Shapes::default();
        for metric in 0..10_000 {
            let message = bytes(&message("10.1.0.0/16", "192.0.2.1", metric));
            assert_eq!(shapes.route(&message).unwrap().unwrap().metric, metric);
            assert!(shapes.known.len() <= REMEMBERED);
        }
    }
}
