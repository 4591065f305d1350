//! Neighbour entries.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, ParseableParametrized};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader,
};

use netlink_packet_route::route::RouteType;

use super::attributes;
use crate::netlink::model::{Neighbour, NeighbourState};

/// `struct ndmsg`.
const HEADER: usize = 12;
/// `NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY` (net/neighbour.h).
const NUD_VALID: u16 = 0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08;
const NUD_FAILED: u16 = 0x20;

/// An entry of the IPv4 or IPv6 neighbour table; `None` for proxy entries, which answer for others, for
/// a bridge's forwarding entries, and for multicast and broadcast addresses, which the kernel maps
/// without announcing it.
pub fn neighbour(payload: &[u8]) -> Result<Option<Neighbour>, DecodeError> {
    let header = NeighbourHeader::parse(payload)?;
    let is_inet = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
    let is_group = matches!(header.kind, RouteType::Multicast | RouteType::Broadcast);
    if !is_inet || is_group || header.flags.contains(NeighbourFlags::Proxy) {
        return Ok(None);
    }
    let (mut address, mut mac) = (None, None);
    for attribute in attributes(payload, HEADER) {
        match NeighbourAttribute::parse_with_param(&attribute, header.family) {
            Ok(NeighbourAttribute::Destination(NeighbourAddress::Inet(inet))) => {
                address = Some(IpAddr::V4(inet));
            }
            Ok(NeighbourAttribute::Destination(NeighbourAddress::Inet6(inet6))) => {
                address = Some(IpAddr::V6(inet6));
            }
            Ok(NeighbourAttribute::LinkLayerAddress(bytes)) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok();
            }
            Ok(_) | Err(_) => {}
        }
    }
    let address = address.ok_or_else(|| DecodeError::from("a neighbour without NDA_DST"))?;
    let state = match u16::from(header.state) {
        state if state & NUD_VALID != 0 => NeighbourState::Valid,
        state if state & NUD_FAILED != 0 => NeighbourState::Failed,
        _ => NeighbourState::Incomplete,
    };
    Ok(Some(Neighbour { ifindex: header.ifindex, address, mac, state }))
}
