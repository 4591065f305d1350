//! NOTIFICATION: error codes, subcodes and their words (RFC 4271 §4.5 and §6).

use std::fmt;

use bytes::Bytes;

use super::wire;
use crate::netlink::model::Family;

/// Error code 1, Message Header Error (RFC 4271 §6.1).
pub const HEADER: u8 = 1;
/// Error code 2, OPEN Message Error (RFC 4271 §6.2).
pub const OPEN: u8 = 2;
/// Error code 3, UPDATE Message Error (RFC 4271 §6.3).
pub const UPDATE: u8 = 3;
/// Error code 4, Hold Timer Expired (RFC 4271 §6.5).
pub const HOLD_TIMER_EXPIRED: u8 = 4;
/// Error code 5, Finite State Machine Error; the subcode is the state (RFC 6608).
pub const FSM: u8 = 5;
/// Error code 6, Cease (RFC 4486).
pub const CEASE: u8 = 6;
/// Error code 7, ROUTE-REFRESH Message Error (RFC 7313 §5).
pub const ROUTE_REFRESH: u8 = 7;
/// Error code 8, Send Hold Timer Expired (RFC 9687).
pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;

/// Header subcode: the marker is not all ones.
pub const NOT_SYNCHRONIZED: u8 = 1;
/// Header subcode: length out of range.
pub const BAD_LENGTH: u8 = 2;
/// Header subcode: unknown message type.
pub const BAD_TYPE: u8 = 3;

/// UPDATE subcode: lengths contradict each other, or an attribute is there twice.
pub const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
/// UPDATE subcode: an attribute that claims to be well-known is not.
pub const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
/// UPDATE subcode: a mandatory attribute is missing.
pub const MISSING_WELL_KNOWN: u8 = 3;
/// UPDATE subcode: an optional attribute has a wrong value.
pub const OPTIONAL_ATTRIBUTE: u8 = 9;

/// OPEN subcode: the peer is not of the AS that is configured.
pub const BAD_PEER_AS: u8 = 2;
/// OPEN subcode: zero, or our own inside of one AS (RFC 6286 §2.2).
pub const BAD_IDENTIFIER: u8 = 3;
/// OPEN subcode: a hold time of one or two seconds.
pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
/// OPEN subcode: no family in common (RFC 5492 §5).
pub const UNSUPPORTED_CAPABILITY: u8 = 7;

/// Cease subcode (RFC 4486 §4).
pub const MAXIMUM_PREFIXES: u8 = 1;
/// Cease subcode (RFC 4486 §4).
pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
/// Cease subcode (RFC 4486 §4).
pub const PEER_DECONFIGURED: u8 = 3;
/// Cease subcode (RFC 4486 §4).
pub const ADMINISTRATIVE_RESET: u8 = 4;
/// Cease subcode (RFC 4486 §4).
pub const CONNECTION_REJECTED: u8 = 5;
/// Cease subcode (RFC 4486 §4).
pub const OTHER_CONFIGURATION_CHANGE: u8 = 6;
/// Cease subcode (RFC 4486 §4).
pub const COLLISION: u8 = 7;
/// Cease subcode: an end that is no restart; the data is the NOTIFICATION meant (RFC 8538 §3.1).
pub const HARD_RESET: u8 = 9;

/// Longest shutdown communication in octets (RFC 9003 §2).
pub const MAX_TEXT: usize = 255;

/// SAFI of unicast (RFC 4760 §6).
const UNICAST: u8 = 1;

/// A NOTIFICATION, sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data field.
    pub data: Bytes,
    /// What exactly was wrong, for our own log; not sent.
    pub detail: String,
}

impl Notification {
    /// A NOTIFICATION without data. `detail` is for our log.
    pub fn new(code: u8, subcode: u8, detail: impl Into<String>) -> Self {
        Self { code, subcode, data: Bytes::new(), detail: detail.into() }
    }

    /// The same with a data field.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Bytes>) -> Self {
        self.data = data.into();
        self
    }

    /// Cease with a subcode.
    pub fn cease(subcode: u8) -> Self {
        Self::new(CEASE, subcode, "")
    }

    /// Cease, Maximum Number of Prefixes Reached, with the family and the bound (RFC 4486 §4).
    pub fn maximum_prefixes(family: Family, bound: u32) -> Self {
        let afi: u16 = match family {
            Family::Ipv4 => 1,
            Family::Ipv6 => 2,
        };
        let data = [&afi.to_be_bytes()[..], &[UNICAST], &bound.to_be_bytes()].concat();
        Self::new(CEASE, MAXIMUM_PREFIXES, format!("more than {bound}")).with_data(data)
    }

    /// Cease, Administrative Shutdown or Reset, with words for the other operator (RFC 9003 §2). What is
    /// beyond [`MAX_TEXT`] octets is cut between characters; no text is no data.
    pub fn cease_with_text(subcode: u8, text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(MAX_TEXT)];
        let notification = Self::new(CEASE, subcode, text);
        match u8::try_from(text.len()) {
            Ok(length @ 1..) => notification.with_data([&[length], text.as_bytes()].concat()),
            _ => notification,
        }
    }

    /// The same as a hard reset, for a peer that would take it for a restart otherwise (RFC 8538 §3.1).
    #[must_use]
    pub fn into_hard_reset(self) -> Self {
        let data = [&[self.code, self.subcode], &self.data[..]].concat();
        Self { code: CEASE, subcode: HARD_RESET, data: data.into(), detail: self.to_string() }
    }

    /// An end for good, even where NOTIFICATIONs count as restarts.
    pub const fn is_hard_reset(&self) -> bool {
        self.code == CEASE && self.subcode == HARD_RESET
    }
}

/// "6/2 Cease: Administrative Shutdown (maintenance)".
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.code, self.subcode, wire::words(self.code, self.subcode))?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}
