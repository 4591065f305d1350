//! Accepts connections and hands them to the peer that they come from.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::log_limit::Limit;

/// Pause after `accept` failed, for instance for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Where the connections from a peer go.
#[derive(Clone, Debug)]
pub struct Door {
    /// Only connections to this address of ours.
    pub local: Option<IpAddr>,
    /// The peer's task.
    pub connections: mpsc::Sender<TcpStream>,
}

/// The doors of all peers, by address. They change when the configuration does.
#[derive(Debug, Default)]
pub struct Doors(RwLock<HashMap<IpAddr, Door>>);

impl Doors {
    /// Opens a peer's door, or replaces it.
    pub fn open(&self, peer: IpAddr, door: Door) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(peer, door);
    }

    /// Changes the address that a peer must connect to.
    pub fn move_to(&self, peer: IpAddr, local: Option<IpAddr>) {
        if let Some(door) = self.0.write().unwrap_or_else(PoisonError::into_inner).get_mut(&peer) {
            door.local = local;
        }
    }

    /// Closes a peer's door.
    pub fn close(&self, peer: IpAddr) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn of(&self, peer: IpAddr) -> Option<Door> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}

/// Connections that were not handed on.
#[derive(Debug, Default)]
pub struct Rejected {
    unknown: AtomicU64,
    wrong_address: AtomicU64,
    busy: AtomicU64,
}

impl Rejected {
    /// From addresses that are not configured.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// From a peer, to another address of ours than its `source_address`.
    pub fn wrong_address(&self) -> u64 {
        self.wrong_address.load(Ordering::Relaxed)
    }

    /// From a peer, faster than they were taken.
    pub fn busy(&self) -> u64 {
        self.busy.load(Ordering::Relaxed)
    }
}

/// Accepts until the task is aborted.
pub(super) async fn run(listener: Arc<TcpListener>, doors: Arc<Doors>, rejected: Arc<Rejected>) {
    let mut log = Limit::default();
    loop {
        match listener.accept().await {
            Ok((stream, source)) => admit(stream, source, &doors, &rejected, &mut log),
            Err(error) => {
                tracing::warn!(%error, "cannot accept BGP connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(stream: TcpStream, source: SocketAddr, doors: &Doors, rejected: &Rejected, log: &mut Limit) {
    let Some(door) = doors.of(source.ip()) else {
        rejected.unknown.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = log.allow(Instant::now()) {
            tracing::info!(%source, suppressed, "closed a BGP connection from an address that is no peer's");
        }
        return;
    };
    let local = stream.local_addr().map(|address| address.ip()).ok();
    if door.local.is_some_and(|expected| local != Some(expected)) {
        rejected.wrong_address.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = log.allow(Instant::now()) {
            tracing::info!(%source, ?local, expected = ?door.local, suppressed,
                "closed a BGP connection: the peer must connect to our source_address");
        }
        return;
    }
    if door.connections.try_send(stream).is_err() {
        rejected.busy.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%source, "closed a BGP connection: the one before is not yet taken");
    }
}
