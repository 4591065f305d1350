//! What the machine wants done.

use bytes::Bytes;

use super::{Cause, ConnectionId};
use crate::bgp::bad_update::BadUpdate;
use crate::bgp::capabilities::Negotiated;
use crate::rib::model::RibEvent;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start to connect.
    Dial,
    /// Stop connecting.
    CancelDial,
    /// Send on a connection.
    Send(ConnectionId, Bytes),
    /// Close a connection once what was sent is out.
    Close(ConnectionId),
    /// Tell the RIB.
    Rib(RibEvent),
    /// For the log: the session is up.
    Established(Box<Negotiated>),
    /// For the log: a connection ended.
    Ended {
        /// The session was up on it.
        established: bool,
        /// Why.
        cause: Cause,
    },
    /// For the log: an UPDATE with errors.
    BadUpdate(Box<BadUpdate>),
}
