//! What keeps the speaker, or one of its sessions, from starting or changing.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::bgp::password::PasswordError;
use crate::bgp::session::OrderError;

/// Why the speaker cannot start, or cannot take on a configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listening address cannot be bound.
    #[error("cannot listen on {address}: {source}; {remedy}")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What to do.
        remedy: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The same peer is configured twice.
    #[error("peer {0} is configured twice: sessions are told apart by the peer's address, remove one")]
    DuplicatePeer(IpAddr),
    /// The password of a peer cannot be read.
    #[error("peer {peer}: {source}")]
    Password {
        /// Configured name.
        peer: String,
        /// What is wrong.
        source: PasswordError,
    },
    /// The kernel does not take the bounds of `ttl_security` for a listening address.
    #[error("ttl_security: cannot bound the hops of those who connect: {source}; let those peers be dialled")]
    Hops {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not take a password for a listening address.
    #[error("peer {peer}: cannot expect signatures: {source}; the kernel needs CONFIG_TCP_MD5SIG")]
    Signature {
        /// Configured name.
        peer: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a session goes on with its old configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReconfigureError {
    /// What would keep it from starting.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its task takes no orders.
    #[error(transparent)]
    Order(#[from] OrderError),
}
