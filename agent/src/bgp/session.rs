//! One peer's session as the speaker sees it: its task, its orders, its state.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::capabilities::Settings;
use super::fsm::Event;
use super::password::{Password, PasswordError};
use super::peer::{self, Command, Reconfigure, View};
use super::socket::Endpoint;
use super::status::SessionStatus;
use crate::config::model::{Bgp, Peer};
use crate::netlink::model::Family;
use crate::rib::model::RibEvent;

/// Orders that wait for a peer's task.
const COMMANDS: usize = 8;
/// How much later than the send hold timer TCP gives up by default.
const AFTER_SEND_HOLD: Duration = Duration::from_secs(30);
/// TTL towards a peer of the same AS, which may be some hops away.
const INTERNAL_TTL: u8 = 64;
/// TTL towards a peer of another AS, which is on the link.
const EXTERNAL_TTL: u8 = 1;

/// Why an order was not given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No such peer.
    #[error("no peer {0} is configured: `underpass peers` lists them")]
    UnknownPeer(String),
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

/// A session's handle.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) address: IpAddr,
    remote_as: u32,
    /// As the task runs with it.
    pub(super) endpoint: Endpoint,
    commands: mpsc::Sender<Command>,
    view: Arc<Mutex<View>>,
}

impl Session {
    /// The handle, and what its task starts with.
    ///
    /// # Errors
    /// The peer's password cannot be read.
    pub(super) fn new(
        config: &Bgp,
        peer: &Peer,
        incoming: mpsc::Receiver<TcpStream>,
        events: mpsc::Sender<RibEvent>,
    ) -> Result<(Self, peer::Start), PasswordError> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let view = Arc::new(Mutex::new(View { is_down: !peer.enabled, ..View::default() }));
        let endpoint = endpoint(config, peer)?;
        let start = peer::Start {
            name: peer.name.clone(),
            settings: Settings::new(config, peer),
            endpoint: endpoint.clone(),
            enabled: peer.enabled,
            // The standard library's hash seed is the one source of randomness that needs no dependency.
            seed: RandomState::new().hash_one(peer.address),
            incoming,
            commands,
            events,
            view: view.clone(),
        };
        let session = Self {
            name: peer.name.clone(),
            address: peer.address,
            remote_as: peer.remote_as,
            endpoint,
            commands: sender,
            view,
        };
        Ok((session, start))
    }

    /// Takes on another configuration.
    ///
    /// # Errors
    /// The task has too many orders waiting.
    pub(super) fn reconfigure(
        &mut self,
        config: &Bgp,
        peer: &Peer,
        endpoint: Endpoint,
        reset: bool,
    ) -> Result<(), OrderError> {
        (self.name, self.remote_as) = (peer.name.clone(), peer.remote_as);
        self.endpoint = endpoint.clone();
        let settings = Settings::new(config, peer);
        self.order(Command::Reconfigure(Box::new(Reconfigure {
            name: peer.name.clone(),
            settings,
            endpoint,
            reset,
        })))
    }

    /// Gives the task an order without waiting.
    ///
    /// # Errors
    /// It has too many waiting.
    pub(super) fn order(&self, command: Command) -> Result<(), OrderError> {
        self.commands.try_send(command).map_err(|_| OrderError::Busy(self.address))
    }

    /// Gives the task an order; waits for room. A task that is gone has closed its connections already.
    pub(super) async fn order_and_wait(&self, command: Command) {
        let _gone = self.commands.send(command).await;
    }

    /// Asks for a family's routes again.
    ///
    /// # Errors
    /// The session is down, or the peer cannot do that.
    pub(super) fn refresh(&self, family: Family) -> Result<(), OrderError> {
        let negotiated = self.view().session.ok_or(OrderError::NotEstablished(self.address))?.0;
        if !negotiated.route_refresh || !negotiated.families.contains(&family) {
            return Err(OrderError::NotOffered(self.address));
        }
        self.order(Command::Tell(Event::Refresh(family)))
    }

    fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What to tell operators.
    pub(super) fn status(&self, now: Instant) -> SessionStatus {
        let View { state, is_down, session, counters } = self.view();
        let (negotiated, since) = session.unzip();
        SessionStatus {
            name: self.name.clone(),
            address: self.address,
            remote_as: self.remote_as,
            state,
            is_down,
            uptime: since.map(|since| now.saturating_duration_since(since)),
            flaps: counters.flaps,
            updates: counters.updates,
            hold_time: negotiated.as_ref().map(|negotiated| negotiated.hold_time),
            last_error: counters.last_error.map(|cause| cause.to_string()),
            router_id: negotiated.as_ref().map(|negotiated| negotiated.router_id),
            capabilities: negotiated.as_ref().map(|negotiated| negotiated.names()).unwrap_or_default(),
            families: negotiated.as_ref().map(|negotiated| negotiated.families.clone()).unwrap_or_default(),
            add_path: negotiated.as_ref().map(|negotiated| negotiated.add_path.clone()).unwrap_or_default(),
            graceful_restart: negotiated.is_some_and(|negotiated| negotiated.graceful_restart.is_some()),
            end_of_rib: counters.end_of_rib,
            treated_as_withdraw: counters.treated_as_withdraw,
            attributes_discarded: counters.attributes_discarded,
            attributes_ignored: counters.attributes_ignored,
        }
    }
}

/// How a configured peer is reached.
///
/// # Errors
/// Its password cannot be read.
pub(super) fn endpoint(config: &Bgp, peer: &Peer) -> Result<Endpoint, PasswordError> {
    let settings = Settings::new(config, peer);
    let default_ttl = if settings.external() { EXTERNAL_TTL } else { INTERNAL_TTL };
    // A peer whose window stays shut is the send hold timer's, which says so; TCP only comes after it.
    let send_hold = peer.send_hold_time.max(2 * peer.hold_time);
    Ok(Endpoint {
        peer: SocketAddr::new(peer.address, peer.port),
        source: peer.source_address,
        interface: peer.interface.clone(),
        // RFC 5082 §3: send with 255; a packet that has come over n - 1 routers still has 256 - n.
        ttl: if peer.ttl_security.is_some() { u8::MAX } else { peer.ttl.unwrap_or(default_ttl) },
        least_ttl: peer.ttl_security.map_or(0, |hops| u8::MAX - (hops - 1)),
        password: peer.password.as_ref().map(Password::read).transpose()?.map(Arc::new),
        user_timeout: Some(peer.tcp_user_timeout.unwrap_or(send_hold + AFTER_SEND_HOLD)),
    })
}
