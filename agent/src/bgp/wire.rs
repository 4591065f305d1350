//! BGP messages on the wire. The only module that knows the codec crate (`rustbgpd-wire`).
//!
//! Framing and encoding are ours: we send seven fixed shapes, and header errors must carry exactly the data
//! that RFC 4271 §6.1 asks for. Bodies of received messages are decoded by the crate.

mod attributes;
mod encode;
mod update;

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use rustbgpd_wire as codec;
use rustbgpd_wire::constants::capability_code;
use rustbgpd_wire::notification as codec_notification;

use super::notification::{self, Notification};
use crate::netlink::model::Family;

pub use encode::{end_of_rib, keepalive, notification, open, route_refresh};
pub use update::{Encoding, Fault, Parsed, ParsedAttributes, Reach, parse};

/// Longest message (RFC 4271 §4.1).
pub const MAX_MESSAGE: usize = 4096;
/// Longest message to a speaker that has offered extended messages (RFC 8654 §4).
pub const MAX_EXTENDED: usize = 65535;
/// Length of the header.
pub const HEADER: usize = 19;

const TYPE_OPEN: u8 = 1;
const TYPE_UPDATE: u8 = 2;
const TYPE_NOTIFICATION: u8 = 3;
const TYPE_KEEPALIVE: u8 = 4;
const TYPE_ROUTE_REFRESH: u8 = 5;

/// SAFI 1.
const SAFI_UNICAST: u8 = 1;

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// OPEN.
    Open(Open),
    /// UPDATE, decoded by [`parse`] once the session says how.
    Update(Update),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// Name of the type.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "OPEN",
            Self::Update(_) => "UPDATE",
            Self::Notification(_) => "NOTIFICATION",
            Self::Keepalive => "KEEPALIVE",
            Self::RouteRefresh(_) => "ROUTE-REFRESH",
        }
    }
}

/// An UPDATE whose sections are located but not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update(codec::UpdateMessage);

impl Update {
    /// The message as it came in.
    pub fn message(&self) -> Bytes {
        let codec::UpdateMessage { withdrawn_routes, path_attributes, nlri } = &self.0;
        encode::update(withdrawn_routes, path_attributes, nlri)
    }
}

/// OPEN (RFC 4271 §4.2), sent or received. The version is 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// AS from the 4-octet capability, else from the fixed field.
    pub autonomous_system: u32,
    /// Hold time in seconds.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities that we know.
    pub capabilities: Capabilities,
}

/// Capabilities (RFC 5492) that we know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Multiprotocol (RFC 4760): families that we know; `None` when the peer sent no such capability at all.
    pub families: Option<Vec<Family>>,
    /// 4-octet AS (RFC 6793).
    pub four_octet_as: bool,
    /// ADD-PATH (RFC 7911) by family: the sender wants to receive, wants to send.
    pub add_path: Vec<(Family, AddPath)>,
    /// Extended messages (RFC 8654): able to receive them.
    pub extended_messages: bool,
    /// IPv6 next hops for IPv4 unicast prefixes (RFC 8950).
    pub extended_next_hop: bool,
    /// Graceful restart (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Route refresh (RFC 2918).
    pub route_refresh: bool,
    /// Enhanced route refresh (RFC 7313).
    pub enhanced_refresh: bool,
}

/// Direction of ADD-PATH, as seen by the sender of the capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddPath {
    /// Able to receive several paths.
    pub receive: bool,
    /// Able to send several paths.
    pub send: bool,
}

impl AddPath {
    /// From the Send/Receive octet (RFC 7911 §4); `None` for other values, which are ignored.
    const fn from_octet(value: u8) -> Option<Self> {
        match value {
            1..=3 => Some(Self { receive: value & 1 != 0, send: value & 2 != 0 }),
            _ => None,
        }
    }
}

/// Graceful restart capability (RFC 4724 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R bit: the sender has restarted.
    pub restarted: bool,
    /// N bit: a NOTIFICATION is no end either, unless it is a hard reset (RFC 8538).
    pub notification: bool,
    /// Restart time in seconds.
    pub restart_time: u16,
    /// Families with their F bit (forwarding state preserved).
    pub families: Vec<(Family, bool)>,
}

/// ROUTE-REFRESH (RFC 2918, RFC 7313).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Family; `None` for one that we do not know.
    pub family: Option<Family>,
    /// What it says.
    pub kind: RefreshKind,
}

/// Subtype of a ROUTE-REFRESH (RFC 7313 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// 0: send your routes again.
    Request,
    /// 1: all our routes follow.
    Begin,
    /// 2: these were all our routes.
    End,
    /// Anything else: ignored.
    Other(u8),
}

/// Takes one message of at most `longest` octets off the front of `buffer`: [`MAX_EXTENDED`] where we have
/// offered extended messages, otherwise [`MAX_MESSAGE`]. `Ok(None)`: not yet complete.
///
/// # Errors
/// The NOTIFICATION to send before closing the connection.
pub fn decode(buffer: &mut BytesMut, longest: usize) -> Result<Option<Message>, Notification> {
    let Some(length) = frame(buffer, longest)? else { return Ok(None) };
    if buffer.len() < length {
        return Ok(None);
    }
    let kind = buffer[HEADER - 1];
    let mut bytes = buffer.split_to(length).freeze();
    match codec::decode_message(&mut bytes, u16::MAX) {
        Ok(codec::Message::Open(open)) => Ok(Some(Message::Open(open_from(&open)))),
        Ok(codec::Message::Update(update)) => Ok(Some(Message::Update(Update(update)))),
        Ok(codec::Message::Notification(received)) => {
            Ok(Some(Message::Notification(notification_from(&received))))
        }
        Ok(codec::Message::Keepalive) => Ok(Some(Message::Keepalive)),
        Ok(codec::Message::RouteRefresh(refresh)) => refresh_from(&refresh, length).map(Some),
        Ok(_) => Err(bad_type(kind)),
        // An error in an ORF section that we never offered; RFC 2918 says nothing about it: ignored.
        Err(_) if kind == TYPE_ROUTE_REFRESH => {
            Ok(Some(Message::RouteRefresh(RouteRefresh { family: None, kind: RefreshKind::Other(0) })))
        }
        Err(error) => Err(from_error(&error)),
    }
}

/// Checks the header (RFC 4271 §6.1) and gives the message's length.
fn frame(buffer: &[u8], longest: usize) -> Result<Option<usize>, Notification> {
    let marker = &buffer[..buffer.len().min(16)];
    if marker.iter().any(|byte| *byte != 0xff) {
        return Err(Notification::new(
            notification::HEADER,
            notification::NOT_SYNCHRONIZED,
            "the marker is not all ones",
        ));
    }
    if buffer.len() < HEADER {
        return Ok(None);
    }
    let (length, kind) = (u16::from_be_bytes([buffer[16], buffer[17]]), buffer[18]);
    let octets = usize::from(length);
    let fits = (HEADER..=longest).contains(&octets)
        && match kind {
            // RFC 8654 §4: OPEN and KEEPALIVE stay short.
            TYPE_OPEN => (29..=MAX_MESSAGE).contains(&octets),
            TYPE_UPDATE | TYPE_ROUTE_REFRESH => octets >= 23,
            TYPE_NOTIFICATION => octets >= 21,
            TYPE_KEEPALIVE => octets == HEADER,
            _ => true,
        };
    if !fits {
        return Err(Notification::new(
            notification::HEADER,
            notification::BAD_LENGTH,
            format!("message type {kind} of {length} octets"),
        )
        .with_data(length.to_be_bytes().to_vec()));
    }
    if !(TYPE_OPEN..=TYPE_ROUTE_REFRESH).contains(&kind) {
        return Err(bad_type(kind));
    }
    Ok(Some(octets))
}

fn bad_type(kind: u8) -> Notification {
    Notification::new(notification::HEADER, notification::BAD_TYPE, format!("message type {kind}"))
        .with_data(vec![kind])
}

fn from_error(error: &codec::DecodeError) -> Notification {
    let (code, subcode, data) = error.to_notification();
    Notification { code: code.as_u8(), subcode, data, detail: error.to_string() }
}

fn notification_from(received: &codec::NotificationMessage) -> Notification {
    let reason = codec_notification::extract_shutdown_communication(received).ok().flatten();
    Notification {
        code: received.code.as_u8(),
        subcode: received.subcode,
        data: received.data.clone(),
        // RFC 9003 §2: the text comes from outside, a log line stays one line.
        detail: reason.unwrap_or_default().chars().filter(|character| !character.is_control()).collect(),
    }
}

fn refresh_from(refresh: &codec::RouteRefreshMessage, length: usize) -> Result<Message, Notification> {
    let kind = match refresh.subtype_raw {
        0 => RefreshKind::Request,
        1 => RefreshKind::Begin,
        2 => RefreshKind::End,
        other => RefreshKind::Other(other),
    };
    if matches!(kind, RefreshKind::Begin | RefreshKind::End) && length != HEADER + 4 {
        // RFC 7313 §5: the data field is the whole message; header and body start are enough to see it.
        let mut data = encode::header(length, TYPE_ROUTE_REFRESH);
        data.extend_from_slice(&refresh.afi_raw.to_be_bytes());
        data.extend_from_slice(&[refresh.subtype_raw, refresh.safi_raw]);
        return Err(Notification::new(
            notification::ROUTE_REFRESH,
            1,
            format!("ROUTE-REFRESH of {length} octets"),
        )
        .with_data(data.freeze()));
    }
    let family = family_from(refresh.afi_raw, refresh.safi_raw);
    Ok(Message::RouteRefresh(RouteRefresh { family, kind }))
}

fn open_from(open: &codec::OpenMessage) -> Open {
    let mut capabilities = Capabilities::default();
    for capability in &open.capabilities {
        learn(&mut capabilities, capability);
    }
    Open {
        // RFC 7607 §2: AS 0 in either place is wrong.
        autonomous_system: if open.my_as == 0 { 0 } else { open.four_byte_as() },
        hold_time: open.hold_time,
        router_id: open.bgp_identifier,
        capabilities,
    }
}

fn learn(known: &mut Capabilities, capability: &codec::Capability) {
    use codec::Capability as C;
    match capability {
        C::MultiProtocol { afi, safi } => {
            let families = known.families.get_or_insert_default();
            if let Some(family) = family_of(*afi, *safi)
                && !families.contains(&family)
            {
                families.push(family);
            }
        }
        // A family that the codec does not know is still an explicit list without ours in it.
        C::Unknown { code: capability_code::MULTI_PROTOCOL, .. } => {
            known.families.get_or_insert_default();
        }
        C::FourOctetAs { .. } => known.four_octet_as = true,
        C::RouteRefresh => known.route_refresh = true,
        C::EnhancedRouteRefresh => known.enhanced_refresh = true,
        C::ExtendedMessage => known.extended_messages = true,
        C::ExtendedNextHop(entries) => {
            known.extended_next_hop |= entries.iter().any(|entry| {
                family_of(entry.nlri_afi, entry.nlri_safi) == Some(Family::Ipv4)
                    && entry.next_hop_afi == codec::Afi::Ipv6
            });
        }
        // As with ADD-PATH below: one unknown family makes the crate give up all.
        C::Unknown { code: capability_code::EXTENDED_NEXT_HOP, data } => {
            known.extended_next_hop |= data.chunks_exact(6).any(|entry| entry == [0, 1, 0, 1, 0, 2]);
        }
        C::GracefulRestart { restart_state, notification, restart_time, families } => {
            // RFC 4724 §3: the last instance counts.
            known.graceful_restart = Some(GracefulRestart {
                restarted: *restart_state,
                notification: *notification,
                restart_time: *restart_time,
                families: families
                    .iter()
                    .filter_map(|entry| Some((family_of(entry.afi, entry.safi)?, entry.forwarding_preserved)))
                    .collect(),
            });
        }
        C::AddPath(entries) => {
            for entry in entries {
                let direction = AddPath::from_octet(entry.send_receive as u8);
                note_add_path(known, family_of(entry.afi, entry.safi), direction);
            }
        }
        // The crate gives the capability up as a whole when one entry is of a family it does not know; the
        // peer would then send path identifiers that we do not expect.
        C::Unknown { code: capability_code::ADD_PATH, data } if data.len().is_multiple_of(4) => {
            for entry in data.chunks_exact(4) {
                let family = family_from(u16::from_be_bytes([entry[0], entry[1]]), entry[2]);
                note_add_path(known, family, AddPath::from_octet(entry[3]));
            }
        }
        _ => {}
    }
}

/// RFC 7911 §4: of several entries for a family the first counts; unknown values are ignored.
fn note_add_path(known: &mut Capabilities, family: Option<Family>, direction: Option<AddPath>) {
    if let (Some(family), Some(direction)) = (family, direction)
        && !known.add_path.iter().any(|(other, _)| *other == family)
    {
        known.add_path.push((family, direction));
    }
}

fn family_from(afi: u16, safi: u8) -> Option<Family> {
    match (afi, safi) {
        (1, SAFI_UNICAST) => Some(Family::Ipv4),
        (2, SAFI_UNICAST) => Some(Family::Ipv6),
        _ => None,
    }
}

fn family_of(afi: codec::Afi, safi: codec::Safi) -> Option<Family> {
    family_from(afi as u16, safi as u8)
}

const fn afi(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    }
}

/// The RFCs' words for an error code and subcode: "Cease: Administrative Shutdown".
pub fn words(code: u8, subcode: u8) -> String {
    let code = codec::NotificationCode::from_u8(code);
    match codec_notification::description(code, subcode) {
        "Unknown" => format!("{code}"),
        "Unknown Error Code" => "unknown error code".to_owned(),
        special if subcode == 0 || special.starts_with(&code.to_string()) => special.to_owned(),
        special => format!("{code}: {special}"),
    }
}

#[cfg(test)]
mod tests;
