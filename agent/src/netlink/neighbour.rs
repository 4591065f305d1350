//! Asks the kernel to resolve neighbours.

use std::net::IpAddr;
use std::time::Instant;

use super::model::IfIndex;

/// When each neighbour may be asked for again: at once, then after 1 s, 2 s, 4 s, ... up to 32 s. Pure.
#[derive(Clone, Debug, Default)]
pub struct Backoff {}

impl Backoff {
    /// Whether the neighbour is due at `now`; if so, the next time is moved on.
    pub fn due(&mut self, _neighbour: (IfIndex, IpAddr), _now: Instant) -> bool {
        unimplemented!()
    }

    /// Forgets all neighbours that `keep` does not name: the next question is due at once.
    pub fn retain(&mut self, _keep: impl Fn(&(IfIndex, IpAddr)) -> bool) {
        unimplemented!()
    }
}

/// Asks the kernel for neighbours, through a netlink socket of its own.
#[derive(Debug)]
pub struct Solicitor {}

impl Solicitor {
    /// Opens the socket in the current network namespace.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn new() -> std::io::Result<Self> {
        unimplemented!()
    }

    /// Has the kernel resolve `address` on `ifindex`, as `ip neigh add ... nud none use` does; a
    /// valid entry is left as it is.
    ///
    /// # Errors
    /// The kernel refuses (no such interface, neighbour table full).
    pub fn solicit(&mut self, _ifindex: IfIndex, _address: IpAddr) -> std::io::Result<()> {
        unimplemented!()
    }
}
