//! BGP sessions (RFC 4271). We receive; we announce nothing.
//!
//! ```text
//! listener ──stream──▶ peer (task) ◀─▶ connection (socket and buffers)
//!                        │  ▲
//!                  event ▼  │ action          wire: bytes ◀─▶ messages, the only user of the codec crate
//!                       fsm (pure) ─────────▶ capabilities: what two OPENs agree on
//!                        │                    update: UPDATE ─▶ events, RFC 7606
//!                        ▼
//!                 mpsc::Sender<RibEvent>
//! ```
//!
//! One task per peer and one per listening address. A peer's task owns its sockets and its clock; the state
//! machine in `fsm` decides, without either. The channel to the RIB is bounded: while it is full, the task stops
//! reading (TCP slows the peer down) and goes on sending KEEPALIVEs.

pub mod capabilities;
mod connection;
pub mod fsm;
mod listener;
mod log_limit;
pub mod notification;
mod peer;
mod socket;
mod status;
#[cfg(test)]
mod testing;
pub mod timers;
pub mod update;
pub mod wire;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::model::{Bgp, Peer};
use crate::netlink::model::Family;
use crate::rib::model::{PeerId, RibEvent};
use capabilities::Settings;
use listener::Door;
use notification::Notification;
use peer::{Command, View};
use socket::Endpoint;

pub use listener::Rejected;
pub use status::{SessionStatus, State};

/// How long [`Speaker::shutdown`] waits for the sessions.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// Orders that wait for a peer's task.
const COMMANDS: usize = 8;
/// Connections that wait for a peer's task.
const CONNECTIONS: usize = 2;
/// TTL towards a peer of the same AS, which may be some hops away.
const INTERNAL_TTL: u8 = 64;
/// TTL towards a peer of another AS, which is on the link.
const EXTERNAL_TTL: u8 = 1;

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
    /// The peer cannot do it, or not for this family.
    #[error("peer {0} offers no route refresh for this family: reset the session instead")]
    NotOffered(IpAddr),
    /// The session's task has a queue of orders.
    #[error("session with {0} is busy: try again")]
    Busy(IpAddr),
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

/// All sessions of the agent. Dropping it closes the connections without a NOTIFICATION.
#[derive(Debug)]
pub struct Speaker {
    sessions: Vec<Session>,
    tasks: JoinSet<()>,
    listeners: JoinSet<()>,
    listening: Vec<SocketAddr>,
    rejected: Arc<Rejected>,
}

#[derive(Debug)]
struct Session {
    name: String,
    address: IpAddr,
    remote_as: u32,
    commands: mpsc::Sender<Command>,
    view: Arc<Mutex<View>>,
}

impl Speaker {
    /// Binds the listening addresses and starts a task per peer. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// A listening address is taken, or a peer is configured twice.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the speaker owns its end: the channel closes when the last session ends"
    )]
    pub fn start(config: &Bgp, events: mpsc::Sender<RibEvent>) -> Result<Self, StartError> {
        for (position, peer) in config.peers.iter().enumerate() {
            if config.peers[..position].iter().any(|other| other.address == peer.address) {
                return Err(StartError::DuplicatePeer(peer.address));
            }
        }
        let sockets = config.listen.iter().map(|address| listen(*address)).collect::<Result<Vec<_>, _>>()?;
        let mut speaker = Self {
            sessions: Vec::new(),
            tasks: JoinSet::new(),
            listeners: JoinSet::new(),
            listening: sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect(),
            rejected: Arc::default(),
        };
        let mut doors = HashMap::new();
        for peer in &config.peers {
            let (sender, incoming) = mpsc::channel(CONNECTIONS);
            doors.insert(peer.address, Door { local: peer.source_address, connections: sender });
            speaker.start_peer(config, peer, incoming, events.clone());
        }
        let doors = Arc::new(doors);
        for socket in sockets {
            speaker.listeners.spawn(listener::run(socket, doors.clone(), speaker.rejected.clone()));
        }
        Ok(speaker)
    }

    fn start_peer(
        &mut self,
        config: &Bgp,
        peer: &Peer,
        incoming: mpsc::Receiver<TcpStream>,
        events: mpsc::Sender<RibEvent>,
    ) {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let view = Arc::new(Mutex::new(View::default()));
        let settings = Settings::new(config, peer);
        let default_ttl = if settings.external() { EXTERNAL_TTL } else { INTERNAL_TTL };
        self.sessions.push(Session {
            name: peer.name.clone(),
            address: peer.address,
            remote_as: peer.remote_as,
            commands: sender,
            view: view.clone(),
        });
        self.tasks.spawn(peer::run(peer::Start {
            name: peer.name.clone(),
            settings,
            endpoint: Endpoint {
                peer: SocketAddr::new(peer.address, peer.port),
                source: peer.source_address,
                ttl: peer.ttl.unwrap_or(default_ttl),
            },
            // The standard library's hash seed is the one source of randomness that needs no dependency.
            seed: RandomState::new().hash_one(peer.address),
            incoming,
            commands,
            events,
            view,
        }));
    }

    /// The sessions, in the order of the configuration.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let now = Instant::now();
        self.sessions.iter().map(|session| session.status(now)).collect()
    }

    /// Connections that no peer's task was given, by reason.
    pub fn rejected(&self) -> &Rejected {
        &self.rejected
    }

    /// The addresses that are listened on; a port that was configured as 0 is known here.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Asks the peer to send its routes of a family again (RFC 2918). A peer with enhanced route refresh
    /// (RFC 7313) marks begin and end, which the RIB is told as [`RibEvent::RefreshStarted`] and
    /// [`RibEvent::EndOfRib`].
    ///
    /// # Errors
    /// The peer is unknown, its session is down, or it cannot do that.
    pub fn refresh(&self, peer: PeerId, family: Family) -> Result<(), RefreshError> {
        let session = self.sessions.iter().find(|session| session.address == peer);
        let session = session.ok_or(RefreshError::UnknownPeer(peer))?;
        let negotiated = session.view().session.ok_or(RefreshError::NotEstablished(peer))?.0;
        if !negotiated.route_refresh || !negotiated.families.contains(&family) {
            return Err(RefreshError::NotOffered(peer));
        }
        session.commands.try_send(Command::Refresh(family)).map_err(|_| RefreshError::Busy(peer))
    }

    /// Ends all sessions and waits, for two seconds at most, until the NOTIFICATIONs are out. The RIB is told
    /// nothing: what was learned stays in the kernel.
    pub async fn shutdown(mut self, kind: ShutdownKind) {
        let notification = match kind {
            ShutdownKind::Stop => Some(Notification::cease(notification::ADMINISTRATIVE_SHUTDOWN)),
            ShutdownKind::Deconfigured => Some(Notification::cease(notification::PEER_DECONFIGURED)),
            ShutdownKind::Restart => None,
        };
        self.listeners.abort_all();
        let farewell = async {
            for session in &self.sessions {
                // A task that is gone has closed its connections already.
                let _ = session.commands.send(Command::Stop(notification.clone())).await;
            }
            while self.tasks.join_next().await.is_some() {}
        };
        if timeout(SHUTDOWN, farewell).await.is_err() {
            tracing::warn!("BGP sessions did not end in time; their connections are cut");
        }
    }
}

impl Session {
    fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn status(&self, now: Instant) -> SessionStatus {
        let View { state, session, counters } = self.view();
        let (negotiated, since) = session.unzip();
        SessionStatus {
            name: self.name.clone(),
            address: self.address,
            remote_as: self.remote_as,
            state,
            uptime: since.map(|since| now.saturating_duration_since(since)),
            flaps: counters.flaps,
            updates: counters.updates,
            hold_time: negotiated.as_ref().map(|negotiated| negotiated.hold_time),
            last_error: counters.last_error.map(|cause| cause.to_string()),
            router_id: negotiated.as_ref().map(|negotiated| negotiated.router_id),
            families: negotiated.as_ref().map(|negotiated| negotiated.families.clone()).unwrap_or_default(),
            add_path: negotiated.as_ref().map(|negotiated| negotiated.add_path.clone()).unwrap_or_default(),
            end_of_rib: counters.end_of_rib,
            treated_as_withdraw: counters.treated_as_withdraw,
            attributes_discarded: counters.attributes_discarded,
        }
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
