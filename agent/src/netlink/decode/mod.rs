//! From netlink messages to events. Pure.
//!
//! Attributes are read one by one: what cannot be read, or is unknown and may matter, makes the object
//! one that the fast path leaves alone, instead of hiding it.

mod link;
mod neighbour;
mod route;
mod rule;
mod shapes;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_APPEND, NLM_F_EXCL, NLM_F_REPLACE, NlaBuffer, NlasIterator};

use self::shapes::Shapes;
use super::model::{Address, IfIndex, Link, Neighbour, Route, Rule};

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `RTM_NEWLINK`.
    Link(Link),
    /// `RTM_DELLINK`.
    LinkGone(IfIndex),
    /// `RTM_NEWADDR`.
    Address(Address),
    /// `RTM_DELADDR`.
    AddressGone(Address),
    /// `RTM_NEWNEIGH`.
    Neighbour(Neighbour),
    /// `RTM_DELNEIGH`.
    NeighbourGone(IfIndex, IpAddr),
    /// `RTM_NEWRULE`.
    Rule(Rule),
    /// `RTM_DELRULE`.
    RuleGone(Rule),
    /// `RTM_NEWROUTE`.
    Route(Route, Placement),
    /// `RTM_DELROUTE`.
    RouteGone(Route),
    /// `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP` with the object's id: routes that use it may have changed
    /// unannounced.
    NexthopObject(Option<u32>),
    /// `RTM_NEWNETCONF`.
    Settings {
        /// `ignore_routes_with_linkdown` changed by itself: routes live or die without being announced.
        linkdown: bool,
    },
}

/// Where a new route goes among those with an equal key, which the kernel tells by the flags of its
/// notification (`fib_table_insert`, `fib6_add_rt2node`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// There was none (`NLM_F_EXCL`), or this is a dump.
    Sole,
    /// Before the others.
    First,
    /// After the others (`NLM_F_APPEND`).
    Last,
    /// In place of the first (`NLM_F_REPLACE`).
    Replace,
}

impl Placement {
    const fn of(flags: u16) -> Self {
        if flags & NLM_F_REPLACE != 0 {
            Self::Replace
        } else if flags & NLM_F_APPEND != 0 {
            Self::Last
        } else if flags & NLM_F_EXCL != 0 {
            Self::Sole
        } else {
            Self::First
        }
    }
}

/// Message types, of linux/rtnetlink.h.
pub mod message_type {
    #![expect(missing_docs, reason = "the names are the kernel's")]
    pub const NEWLINK: u16 = 16;
    pub const DELLINK: u16 = 17;
    pub const NEWADDR: u16 = 20;
    pub const DELADDR: u16 = 21;
    pub const NEWROUTE: u16 = 24;
    pub const DELROUTE: u16 = 25;
    pub const NEWNEIGH: u16 = 28;
    pub const DELNEIGH: u16 = 29;
    pub const NEWRULE: u16 = 32;
    pub const DELRULE: u16 = 33;
    pub const NEWNETCONF: u16 = 80;
    pub const DELNETCONF: u16 = 81;
    pub const NEWNEXTHOP: u16 = 104;
    pub const DELNEXTHOP: u16 = 105;
}

/// Reads messages, and remembers of routes what many have in common.
#[derive(Debug, Default)]
pub struct Decoder {
    shapes: Shapes,
}

impl Decoder {
    /// Reads one message. `None`: it is of no concern (another family or message type, a cached route,
    /// a bridge port, a proxy neighbour).
    ///
    /// # Errors
    /// The message is shorter than its header, or an object lacks what identifies it.
    pub fn decode(
        &mut self,
        message_type: u16,
        flags: u16,
        payload: &[u8],
    ) -> Result<Option<Event>, DecodeError> {
        match message_type {
            message_type::NEWROUTE => {
                Ok(self.shapes.route(payload)?.map(|route| Event::Route(route, Placement::of(flags))))
            }
            message_type::DELROUTE => Ok(self.shapes.route(payload)?.map(Event::RouteGone)),
            _ => decode(message_type, payload),
        }
    }
}

/// Reads a message that is about no route, as [`Decoder::decode`].
///
/// # Errors
/// As there.
pub fn decode(message_type: u16, payload: &[u8]) -> Result<Option<Event>, DecodeError> {
    use self::message_type as t;
    Ok(match message_type {
        t::NEWLINK => link::link(payload)?.map(Event::Link),
        t::DELLINK => link::gone(payload)?.map(Event::LinkGone),
        t::NEWADDR => link::address(payload)?.map(Event::Address),
        t::DELADDR => link::address(payload)?.map(Event::AddressGone),
        t::NEWNEIGH => neighbour::neighbour(payload)?.map(Event::Neighbour),
        t::DELNEIGH => {
            neighbour::neighbour(payload)?.map(|entry| Event::NeighbourGone(entry.ifindex, entry.address))
        }
        t::NEWRULE => rule::rule(payload)?.map(Event::Rule),
        t::DELRULE => rule::rule(payload)?.map(Event::RuleGone),
        t::NEWNEXTHOP | t::DELNEXTHOP => Some(Event::NexthopObject(nexthop_id(payload))),
        t::NEWNETCONF | t::DELNETCONF => settings(payload),
        _ => None,
    })
}

pub use route::route_answer;

/// Address families, of linux/socket.h.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `struct nhmsg` and the attribute `NHA_ID` (linux/nexthop.h).
fn nexthop_id(payload: &[u8]) -> Option<u32> {
    const HEADER: usize = 8;
    const NHA_ID: u16 = 1;
    let id = attributes(payload, HEADER).find(|attribute| attribute.kind() == NHA_ID)?;
    Some(u32::from_ne_bytes(id.value().try_into().ok()?))
}

/// `struct netconfmsg` and the attributes `NETCONFA_*` (linux/netconf.h).
fn settings(payload: &[u8]) -> Option<Event> {
    const HEADER: usize = 4;
    const NETCONFA_FORWARDING: u16 = 2;
    const NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN: u16 = 7;
    if !matches!(payload.first(), Some(&(AF_INET | AF_INET6))) {
        return None;
    }
    let kinds: Vec<u16> = attributes(payload, HEADER).map(|attribute| attribute.kind()).collect();
    // A new interface announces all its settings at once; that one moves no routes.
    let linkdown =
        kinds.contains(&NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN) && !kinds.contains(&NETCONFA_FORWARDING);
    Some(Event::Settings { linkdown })
}

/// The attributes behind a header of `header` bytes; ends at the first malformed one.
fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(payload.get(header..).unwrap_or_default()).map_while(Result::ok)
}

/// A prefix from an attribute's address, or the family's unspecified one, and the header's length.
fn prefix(address: IpAddr, length: u8) -> Result<IpNet, DecodeError> {
    let prefix = IpNet::new(address, length);
    prefix
        .map(|prefix| prefix.trunc())
        .map_err(|_| DecodeError::from(format!("no prefix: {address}/{length}")))
}
