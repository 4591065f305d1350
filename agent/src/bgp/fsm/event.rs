//! What the machine is told.

use std::net::IpAddr;
use std::time::Duration;

use crate::bgp::capabilities::Settings;
use crate::bgp::notification::Notification;
use crate::bgp::wire::Message;
use crate::netlink::model::Family;

/// Names a connection for as long as the process lives.
pub type ConnectionId = u64;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We.
    Outgoing,
    /// The peer.
    Incoming,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The operator wants the session.
    Start,
    /// The operator ends the session; the NOTIFICATION, if any, goes to the peer. The RIB is told nothing.
    Stop(Option<Notification>),
    /// The operator takes the session down, with words for the peer's operator (RFC 9003), until
    /// [`Event::Start`]. The RIB forgets the peer's paths.
    AdminDown(String),
    /// The operator resets the session, with words for the peer's operator. The RIB keeps the paths until
    /// they are announced again.
    AdminReset(String),
    /// The operator changed the configuration; `reset`: what is in use cannot go on with it.
    Reconfigure {
        /// What holds from now on.
        settings: Box<Settings>,
        /// End what is in use: Cease, Other Configuration Change. The RIB keeps the paths until they are
        /// announced again.
        reset: bool,
    },
    /// The peer sends more than its bound: Cease, Maximum Number of Prefixes Reached. The RIB forgets the peer's
    /// paths.
    PrefixLimit {
        /// Family of the first prefix beyond the bound.
        family: Family,
        /// The bound.
        limit: u32,
        /// Stay idle for this long; `None`: until [`Event::Start`].
        restart: Option<Duration>,
    },
    /// A TCP connection is there.
    Connected {
        /// Its name.
        id: ConnectionId,
        /// Who opened it.
        direction: Direction,
        /// Our address on it.
        local: IpAddr,
    },
    /// The attempt to connect failed.
    DialFailed(String),
    /// A message came in.
    Received(ConnectionId, Message),
    /// Something else came in: this is the answer to it.
    Invalid(ConnectionId, Notification),
    /// The connection is gone, with the kernel's words unless the peer simply closed it.
    Closed(ConnectionId, Option<String>),
    /// The peer has taken nothing from us for the send hold time (RFC 9687).
    SendBlocked(ConnectionId),
    /// We no longer read, because the RIB has not taken what was read before.
    ReadingPaused,
    /// We read again.
    ReadingResumed,
    /// Ask for all routes of a family (RFC 2918).
    Refresh(Family),
    /// A deadline may have passed.
    Tick,
}
