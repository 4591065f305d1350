//! All sessions of the agent.

mod error;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::fsm::Event;
use super::listener::{self, Door, Doors, Rejected};
use super::notification::{self, Notification};
use super::password::Password;
use super::peer::{self, Command};
use super::session::{self, OrderError, Session};
use super::socket;
use super::status::SessionStatus;
use crate::config::model::{Bgp, Peer};
use crate::netlink::model::Family;
use crate::rib::model::{PeerId, RibEvent};

pub use error::{ReconfigureError, StartError};

/// How long [`Speaker::shutdown`] waits for the sessions.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// Connections that wait for a peer's task.
const CONNECTIONS: usize = 2;

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

impl ShutdownKind {
    fn notification(self) -> Option<Notification> {
        match self {
            Self::Stop => Some(Notification::cease(notification::ADMINISTRATIVE_SHUTDOWN)),
            Self::Deconfigured => Some(Notification::cease(notification::PEER_DECONFIGURED)),
            Self::Restart => None,
        }
    }
}

#[derive(Debug)]
struct Listening {
    configured: SocketAddr,
    socket: Arc<TcpListener>,
    task: AbortHandle,
}

/// All sessions of the agent. Dropping it closes the connections without a NOTIFICATION.
#[derive(Debug)]
pub struct Speaker {
    events: mpsc::Sender<RibEvent>,
    sessions: Vec<Session>,
    tasks: JoinSet<()>,
    listening: Vec<Listening>,
    listeners: JoinSet<()>,
    doors: Arc<Doors>,
    rejected: Arc<Rejected>,
}

impl Speaker {
    /// Binds the listening addresses and starts a task per peer. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// A listening address is taken, a password cannot be read, or a peer is configured twice.
    pub fn start(config: &Bgp, events: mpsc::Sender<RibEvent>) -> Result<Self, StartError> {
        for (position, peer) in config.peers.iter().enumerate() {
            if config.peers[..position].iter().any(|other| other.address == peer.address) {
                return Err(StartError::DuplicatePeer(peer.address));
            }
        }
        let mut speaker = Self {
            events,
            sessions: Vec::new(),
            tasks: JoinSet::new(),
            listening: Vec::new(),
            listeners: JoinSet::new(),
            doors: Arc::default(),
            rejected: Arc::default(),
        };
        speaker.listen_on(&config.listen)?;
        for peer in &config.peers {
            speaker.add(config, peer)?;
        }
        Ok(speaker)
    }

    /// Looks whether the passwords of a configuration can be read.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(config: &Bgp) -> Result<(), StartError> {
        for peer in &config.peers {
            session::endpoint(config, peer)
                .map_err(|source| StartError::Password { peer: peer.name.clone(), source })?;
        }
        Ok(())
    }

    /// Listens on these addresses and no others. Passwords are set for the peers that are there.
    ///
    /// # Errors
    /// An address cannot be bound: then what was listened on before still is.
    pub fn listen_on(&mut self, addresses: &[SocketAddr]) -> Result<(), StartError> {
        let is_new = |address: &&SocketAddr| !self.listening.iter().any(|old| old.configured == **address);
        let new = addresses.iter().filter(is_new);
        let new = new.map(|address| Ok((*address, listen(*address)?))).collect::<Result<Vec<_>, _>>()?;
        for (_, socket) in &new {
            self.bound_hops(socket)?;
            for session in &self.sessions {
                expect_password(
                    socket,
                    &session.name,
                    session.address,
                    session.endpoint.password.as_deref(),
                )?;
            }
        }
        self.listening.retain(|old| {
            let stays = addresses.contains(&old.configured);
            if !stays {
                old.task.abort();
            }
            stays
        });
        for (configured, socket) in new {
            let socket = Arc::new(socket);
            let run = listener::run(socket.clone(), self.doors.clone(), self.rejected.clone());
            let task = self.listeners.spawn(run);
            self.listening.push(Listening { configured, socket, task });
        }
        Ok(())
    }

    /// Starts the session with a peer.
    ///
    /// # Errors
    /// Its password cannot be read or set.
    pub fn add(&mut self, config: &Bgp, peer: &Peer) -> Result<(), StartError> {
        let (sender, incoming) = mpsc::channel(CONNECTIONS);
        let (session, start) = Session::new(config, peer, incoming, self.events.clone())
            .map_err(|source| StartError::Password { peer: peer.name.clone(), source })?;
        self.expect_password(&peer.name, peer.address, start.endpoint.password.as_deref())?;
        self.doors.open(peer.address, Door { local: peer.source_address, connections: sender });
        self.sessions.push(session);
        self.bound_all_hops()?;
        self.tasks.spawn(peer::run(start));
        Ok(())
    }

    /// Ends the session with a peer that is no longer configured: Cease, Peer De-configured.
    pub fn remove(&mut self, peer: PeerId) {
        self.doors.close(peer);
        if let Err(error) = self.expect_password(&peer.to_string(), peer, None) {
            tracing::warn!(%error, "a password stays on a listening socket");
        }
        if let Some(position) = self.sessions.iter().position(|session| session.address == peer) {
            let session = self.sessions.remove(position);
            if let Err(error) = self.bound_all_hops() {
                tracing::warn!(%error, "a bound of a peer that is gone stays");
            }
            // Dropping the handle ends the task as well, only without a NOTIFICATION.
            let _busy = session.order(Command::Stop(ShutdownKind::Deconfigured.notification()));
        }
    }

    /// Gives a session another configuration; `reset`: what is in use cannot go on with it.
    ///
    /// # Errors
    /// Its password cannot be read or set, or its task is busy: then it goes on as before.
    pub fn reconfigure(&mut self, config: &Bgp, peer: &Peer, reset: bool) -> Result<(), ReconfigureError> {
        let endpoint = session::endpoint(config, peer)
            .map_err(|source| StartError::Password { peer: peer.name.clone(), source })?;
        self.expect_password(&peer.name, peer.address, endpoint.password.as_deref())?;
        self.doors.move_to(peer.address, peer.source_address);
        let unknown = || OrderError::UnknownPeer(peer.address.to_string());
        let session = self.sessions.iter_mut().find(|session| session.address == peer.address);
        session.ok_or_else(unknown)?.reconfigure(config, peer, endpoint, reset)?;
        Ok(self.bound_all_hops()?)
    }

    /// Puts the sessions in the order of the configuration.
    pub fn arrange(&mut self, peers: &[Peer]) {
        self.sessions.sort_by_key(|session| peers.iter().position(|peer| peer.address == session.address));
    }

    fn bound_all_hops(&self) -> Result<(), StartError> {
        self.listening.iter().try_for_each(|old| self.bound_hops(&old.socket))
    }

    fn bound_hops(&self, listener: &TcpListener) -> Result<(), StartError> {
        let bounds = self.sessions.iter().map(|session| (session.address, session.endpoint.least_ttl));
        let bounds: Vec<_> = bounds.filter(|(_, least)| *least > 0).collect();
        socket::bound_hops(listener, &bounds).map_err(|source| StartError::Hops { source })
    }

    fn expect_password(
        &self,
        name: &str,
        peer: PeerId,
        password: Option<&Password>,
    ) -> Result<(), StartError> {
        self.listening.iter().try_for_each(|old| expect_password(&old.socket, name, peer, password))
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
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.listening.iter().filter_map(|listening| listening.socket.local_addr().ok()).collect()
    }

    /// Finds a peer by its name or address.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, peer: &str) -> Result<PeerId, OrderError> {
        let address: Option<IpAddr> = peer.parse().ok();
        let found = self
            .sessions
            .iter()
            .find(|session| session.name == peer || Some(session.address) == address)
            .ok_or_else(|| OrderError::UnknownPeer(peer.to_owned()))?;
        Ok(found.address)
    }

    /// Asks the peer to send its routes of a family again (RFC 2918). A peer with enhanced route refresh
    /// (RFC 7313) marks begin and end, which the RIB is told as [`RibEvent::RefreshStarted`] and
    /// [`RibEvent::EndOfRib`].
    ///
    /// # Errors
    /// The peer is unknown, its session is down, or it cannot do that.
    pub fn refresh(&self, peer: PeerId, family: Family) -> Result<(), OrderError> {
        self.session(peer)?.refresh(family)
    }

    /// As [`Self::refresh`], for every family that is negotiated.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub fn refresh_all(&self, peer: PeerId) -> Result<(), OrderError> {
        let session = self.session(peer)?;
        let families = session.status(Instant::now()).families;
        if families.is_empty() {
            return Err(OrderError::NotEstablished(peer));
        }
        families.into_iter().try_for_each(|family| session.refresh(family))
    }

    /// Takes a session down until [`Self::up`]: Cease, Administrative Shutdown, with words for the peer's
    /// operator (RFC 9003). The RIB forgets what the peer said.
    ///
    /// # Errors
    /// The peer is unknown or its task busy.
    pub fn down(&self, peer: PeerId, text: String) -> Result<(), OrderError> {
        self.session(peer)?.order(Command::Tell(Event::AdminDown(text)))
    }

    /// Lets a session come up again.
    ///
    /// # Errors
    /// The peer is unknown or its task busy.
    pub fn up(&self, peer: PeerId) -> Result<(), OrderError> {
        self.session(peer)?.order(Command::Tell(Event::Start))
    }

    /// Resets a session: Cease, Administrative Reset, with words for the peer's operator (RFC 9003). Its
    /// routes stay until the peer has sent them again.
    ///
    /// # Errors
    /// The peer is unknown or its task busy.
    pub fn reset(&self, peer: PeerId, text: String) -> Result<(), OrderError> {
        self.session(peer)?.order(Command::Tell(Event::AdminReset(text)))
    }

    /// Ends the session of a peer that sends more than its bound: Cease, Maximum Number of Prefixes Reached with
    /// the family and the bound (RFC 4486 §4). It stays down for `restart`, or until [`Self::up`]. A session that
    /// is not established is left alone.
    ///
    /// # Errors
    /// The peer is unknown or its task busy.
    pub fn prefix_limit(
        &self,
        peer: PeerId,
        family: Family,
        limit: u32,
        restart: Option<Duration>,
    ) -> Result<(), OrderError> {
        self.session(peer)?.order(Command::Tell(Event::PrefixLimit { family, limit, restart }))
    }

    fn session(&self, peer: PeerId) -> Result<&Session, OrderError> {
        let session = self.sessions.iter().find(|session| session.address == peer);
        session.ok_or_else(|| OrderError::UnknownPeer(peer.to_string()))
    }

    /// Ends all sessions and waits, for two seconds at most, until the NOTIFICATIONs are out. The RIB is told
    /// nothing: what was learned stays in the kernel.
    pub async fn shutdown(mut self, kind: ShutdownKind) {
        self.listeners.abort_all();
        let farewell = async {
            for session in &self.sessions {
                session.order_and_wait(Command::Stop(kind.notification())).await;
            }
            while self.tasks.join_next().await.is_some() {}
        };
        if timeout(SHUTDOWN, farewell).await.is_err() {
            tracing::warn!("BGP sessions did not end in time; their connections are cut");
        }
    }
}

fn expect_password(
    listener: &TcpListener,
    name: &str,
    peer: PeerId,
    password: Option<&Password>,
) -> Result<(), StartError> {
    socket::expect_password(listener, peer, password)
        .map_err(|source| StartError::Signature { peer: name.to_owned(), source })
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
