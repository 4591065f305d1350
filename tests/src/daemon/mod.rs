//! Routing daemons in namespaces: started, asked, stopped, killed.

pub mod bird;
mod exabgp;
pub mod frr;
mod gobgp;
mod process;
pub mod tools;

use std::net::IpAddr;

use ipnet::IpNet;

pub use bird::Bird;
pub use exabgp::ExaBgp;
pub use frr::Frr;
pub use gobgp::GoBgp;
pub use process::Process;

/// A BGP session as its daemon tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// The peer's address.
    pub peer: IpAddr,
    /// The protocol's name; FRR has none and gives the address.
    pub name: String,
    /// The peer's AS.
    pub remote_as: u32,
    /// State of RFC 4271: "Established", "Active", ...; BIRD's states before BGP starts as they are.
    pub state: String,
    /// Routes received and accepted.
    pub imported: usize,
    /// Routes sent.
    pub exported: usize,
}

impl Session {
    /// Whether routes flow.
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

/// A route in a daemon's table, one per path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Destination.
    pub prefix: IpNet,
    /// Where it comes from: BIRD's protocol, FRR's peer.
    pub source: String,
    /// "unicast", "blackhole", "unreachable", "prohibit".
    pub kind: String,
    /// Next hops, sorted; more than one only for a multipath route that BIRD learned from a kernel.
    pub next_hops: Vec<IpAddr>,
    /// The daemon uses this path (FRR: as the best, or as a further one of the best's multipath).
    pub selected: bool,
}
