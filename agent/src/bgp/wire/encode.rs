//! The messages that we send.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    HEADER, MAX_MESSAGE, Open, RefreshKind, SAFI_UNICAST, TYPE_KEEPALIVE, TYPE_NOTIFICATION, TYPE_OPEN,
    TYPE_ROUTE_REFRESH, TYPE_UPDATE, afi,
};
use crate::bgp::notification::Notification;
use crate::netlink::model::Family;

/// In the two-octet AS field of an OPEN when the AS needs four (RFC 6793 §9).
const AS_TRANS: u16 = 23456;
/// Optional parameter type: capabilities (RFC 5492 §4).
const PARAMETER_CAPABILITIES: u8 = 2;
/// Path attribute flags: optional.
const ATTRIBUTE_OPTIONAL: u8 = 0x80;
/// Path attribute type: `MP_UNREACH_NLRI` (RFC 4760 §4).
const ATTRIBUTE_MP_UNREACH: u8 = 15;

/// KEEPALIVE (RFC 4271 §4.4).
pub fn keepalive() -> Bytes {
    message(TYPE_KEEPALIVE, &[])
}

/// NOTIFICATION (RFC 4271 §4.5); data that does not fit is cut.
pub fn notification(notification: &Notification) -> Bytes {
    let mut body = vec![notification.code, notification.subcode];
    let room = MAX_MESSAGE - HEADER - body.len();
    body.extend_from_slice(&notification.data[..notification.data.len().min(room)]);
    message(TYPE_NOTIFICATION, &body)
}

/// UPDATE (RFC 4271 §4.3) of sections that came out of one.
pub(super) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Bytes {
    let length = |section: &[u8]| u16::try_from(section.len()).unwrap_or(u16::MAX).to_be_bytes();
    let body = [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, nlri];
    message(TYPE_UPDATE, &body.concat())
}

/// End-of-RIB (RFC 4724 §2): an empty UPDATE, or one with an empty `MP_UNREACH_NLRI`.
pub fn end_of_rib(family: Family) -> Bytes {
    match family {
        Family::Ipv4 => message(TYPE_UPDATE, &[0, 0, 0, 0]),
        Family::Ipv6 => {
            let [high, low] = afi(family).to_be_bytes();
            let attribute = [ATTRIBUTE_OPTIONAL, ATTRIBUTE_MP_UNREACH, 3, high, low, SAFI_UNICAST];
            let mut body = vec![0, 0, 0, 6];
            body.extend_from_slice(&attribute);
            message(TYPE_UPDATE, &body)
        }
    }
}

/// ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).
pub fn route_refresh(family: Family, kind: RefreshKind) -> Bytes {
    let subtype = match kind {
        RefreshKind::Request => 0,
        RefreshKind::Begin => 1,
        RefreshKind::End => 2,
        RefreshKind::Other(value) => value,
    };
    let [high, low] = afi(family).to_be_bytes();
    message(TYPE_ROUTE_REFRESH, &[high, low, subtype, SAFI_UNICAST])
}

/// OPEN (RFC 4271 §4.2) with all capabilities in one optional parameter.
pub fn open(open: &Open) -> Bytes {
    let capabilities = capabilities(open);
    let mut body = BytesMut::new();
    body.put_u8(4);
    body.put_u16(u16::try_from(open.autonomous_system).unwrap_or(AS_TRANS));
    body.put_u16(open.hold_time);
    body.put_slice(&open.router_id.octets());
    body.put_u8(octet(capabilities.len() + 2));
    body.put_u8(PARAMETER_CAPABILITIES);
    body.put_u8(octet(capabilities.len()));
    body.put_slice(&capabilities);
    message(TYPE_OPEN, &body)
}

fn capabilities(open: &Open) -> Vec<u8> {
    let ours = &open.capabilities;
    let mut bytes = Vec::new();
    for family in ours.families.iter().flatten() {
        let [high, low] = afi(*family).to_be_bytes();
        bytes.extend_from_slice(&[1, 4, high, low, 0, SAFI_UNICAST]);
    }
    if ours.route_refresh {
        bytes.extend_from_slice(&[2, 0]);
    }
    if ours.extended_next_hop {
        bytes.extend_from_slice(&[5, 6, 0, 1, 0, SAFI_UNICAST, 0, 2]);
    }
    if ours.extended_messages {
        bytes.extend_from_slice(&[6, 0]);
    }
    if let Some(restart) = &ours.graceful_restart {
        let restarted = if restart.restarted { 0x8000 } else { 0 };
        let flags = restarted | if restart.notification { 0x4000 } else { 0 };
        bytes.extend_from_slice(&[64, octet(2 + 4 * restart.families.len())]);
        bytes.extend_from_slice(&(flags | restart.restart_time & 0x0fff).to_be_bytes());
        for (family, preserved) in &restart.families {
            let [high, low] = afi(*family).to_be_bytes();
            bytes.extend_from_slice(&[high, low, SAFI_UNICAST, if *preserved { 0x80 } else { 0 }]);
        }
    }
    if ours.four_octet_as {
        bytes.extend_from_slice(&[65, 4]);
        bytes.extend_from_slice(&open.autonomous_system.to_be_bytes());
    }
    if !ours.add_path.is_empty() {
        bytes.extend_from_slice(&[69, octet(4 * ours.add_path.len())]);
        for (family, direction) in &ours.add_path {
            let [high, low] = afi(*family).to_be_bytes();
            let mode = u8::from(direction.receive) | u8::from(direction.send) << 1;
            bytes.extend_from_slice(&[high, low, SAFI_UNICAST, mode]);
        }
    }
    if ours.enhanced_refresh {
        bytes.extend_from_slice(&[70, 0]);
    }
    bytes
}

/// A length that our own messages keep below 256: two families and eight capabilities are 50 octets.
fn octet(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// A header for a message of `length` octets in all.
pub(super) fn header(length: usize, kind: u8) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(length);
    bytes.put_bytes(0xff, 16);
    bytes.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    bytes.put_u8(kind);
    bytes
}

fn message(kind: u8, body: &[u8]) -> Bytes {
    let mut bytes = header(HEADER + body.len(), kind);
    bytes.put_slice(body);
    bytes.freeze()
}
