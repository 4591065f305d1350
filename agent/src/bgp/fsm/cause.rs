//! Why a connection ended, in words, and what follows from it.

use std::fmt;

use crate::bgp::notification::{self, Notification};

/// Why a connection ended or did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Connecting failed.
    Dial(String),
    /// The peer closed the connection.
    PeerClosed,
    /// The connection broke.
    Lost(String),
    /// We sent a NOTIFICATION.
    Sent(Notification),
    /// We received one.
    Received(Notification),
    /// The peer opened a new connection while this one was up (RFC 4724 §5).
    Replaced,
    /// Our operator took it down.
    AdminDown(Notification),
    /// Our operator reset it.
    AdminReset(Notification),
}

/// What to wait for before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Dial again after the connect-retry pause, accept the peer at once.
    Retry,
    /// Stay idle; `refuse`: do not even accept the peer.
    Hold { refuse: bool },
}

impl Cause {
    /// RFC 4724 §4.2: the peer may have restarted with its forwarding state preserved. A NOTIFICATION is the
    /// end, unless both sides say otherwise (RFC 8538 §4) and it is no hard reset.
    pub(super) const fn may_be_restart(&self, notification_is_restart: bool) -> bool {
        match self {
            Self::PeerClosed | Self::Lost(_) | Self::Replaced => true,
            Self::Sent(notification) | Self::Received(notification) => {
                notification_is_restart && !notification.is_hard_reset()
            }
            Self::Dial(_) | Self::AdminDown(_) | Self::AdminReset(_) => false,
        }
    }

    /// What to tell the peer.
    pub(super) const fn farewell(&self) -> Option<&Notification> {
        match self {
            Self::Sent(notification) | Self::AdminDown(notification) | Self::AdminReset(notification) => {
                Some(notification)
            }
            _ => None,
        }
    }

    /// How this cause delays the next attempt. A peer that went silent or gave way in a collision is welcome at
    /// once; one that sends what we cannot accept is kept away for a while (RFC 4271 §8.1.1).
    pub(super) const fn pause(&self) -> Pause {
        match self {
            Self::Dial(_)
            | Self::PeerClosed
            | Self::Lost(_)
            | Self::Replaced
            | Self::AdminDown(_)
            | Self::AdminReset(_) => Pause::Retry,
            Self::Sent(sent) => match (sent.code, sent.subcode) {
                (notification::HOLD_TIMER_EXPIRED | notification::SEND_HOLD_TIMER_EXPIRED, _)
                | (notification::CEASE, notification::COLLISION) => Pause::Retry,
                _ => Pause::Hold { refuse: true },
            },
            Self::Received(received) => match (received.code, received.subcode) {
                (notification::HOLD_TIMER_EXPIRED, _) | (notification::CEASE, notification::COLLISION) => {
                    Pause::Retry
                }
                _ => Pause::Hold { refuse: false },
            },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => write!(f, "cannot connect: {error}"),
            Self::PeerClosed => f.write_str("the peer closed the connection"),
            Self::Lost(error) => write!(f, "connection lost: {error}"),
            Self::Sent(notification) => write!(f, "sent NOTIFICATION {notification}"),
            Self::Received(notification) => write!(f, "received NOTIFICATION {notification}"),
            Self::Replaced => f.write_str("the peer opened a new connection: it restarted"),
            Self::AdminDown(notification) => write!(f, "taken down here: sent {notification}"),
            Self::AdminReset(notification) => write!(f, "reset here: sent {notification}"),
        }
    }
}
