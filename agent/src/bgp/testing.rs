//! Messages and settings for the unit tests.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::BytesMut;

use super::capabilities::Settings;
use super::notification::Notification;
use super::wire::{self, Message, Open};
use crate::netlink::model::Family;

pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const PEER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const OUR_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
pub const PEER_AS: u32 = 64513;
pub const OUR_AS: u32 = 64512;

/// A session with a peer of another AS that offers everything.
pub fn settings() -> Settings {
    Settings {
        peer: PEER,
        local_as: OUR_AS,
        remote_as: PEER_AS,
        router_id: OUR_ID,
        hold_time: 9,
        min_hold_time: None,
        send_hold_time: Duration::from_mins(8),
        families: vec![Family::Ipv4, Family::Ipv6],
        add_path: true,
        extended_messages: true,
        extended_next_hop: false,
        graceful_restart: true,
        stale_time: Duration::from_mins(5),
        passive: false,
        silence: "no answer",
        connect_retry: Duration::from_secs(1),
        connect_retry_max: Duration::from_mins(1),
    }
}

/// What such a peer sends: like ours, with its own names, able to send several paths; a NOTIFICATION from it is
/// an end.
pub fn peer_open() -> Open {
    let mut open = Settings { local_as: PEER_AS, router_id: PEER_ID, ..settings() }.open();
    for (_, direction) in &mut open.capabilities.add_path {
        (direction.send, direction.receive) = (true, false);
    }
    if let Some(restart) = &mut open.capabilities.graceful_restart {
        restart.notification = false;
    }
    open
}

/// A message with a proper header.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend_from_slice(&u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

/// The body of an UPDATE from its three sections.
pub fn update_body(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = |section: &[u8]| u16::try_from(section.len()).unwrap().to_be_bytes();
    [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, nlri].concat()
}

/// What a peer says, as the machine gets it.
pub fn received(bytes: &[u8]) -> Result<Message, Notification> {
    wire::decode(&mut BytesMut::from(bytes), wire::MAX_EXTENDED)
        .map(|message| message.expect("a whole message"))
}
