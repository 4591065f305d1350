//! The kernel's own answer for one packet (`ip route get`).

use std::net::IpAddr;

use super::model::{IfIndex, RouteType};

/// What the kernel would do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelAnswer {
    /// The route lookup has a result.
    Route {
        /// Type: unicast is forwarded, local delivered, ...
        kind: RouteType,
        /// Table that it is from.
        table: u32,
        /// Egress, or `None`.
        egress: Option<IfIndex>,
        /// Gateway, or `None` when the destination is on-link.
        gateway: Option<IpAddr>,
    },
    /// The kernel refuses: the text of the error ("Network is unreachable (os error 101)").
    Refused(String),
}

/// Asks the kernel, through a netlink socket of its own.
#[derive(Debug)]
pub struct Query {}

impl Query {
    /// Opens the socket in the current network namespace.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn new() -> std::io::Result<Self> {
        unimplemented!()
    }

    /// What the kernel would do with a packet to `address` from `source` that comes in on `ingress`
    /// (`RTM_GETROUTE` with `RTA_IIF`; without ingress: a packet of our own).
    ///
    /// # Errors
    /// The socket fails; a refusal of the kernel is an answer, not an error.
    pub fn route_get(
        &mut self,
        _address: IpAddr,
        _source: Option<IpAddr>,
        _ingress: Option<IfIndex>,
    ) -> std::io::Result<KernelAnswer> {
        unimplemented!()
    }
}
