//! Accepts connections and hands them to the peer that they come from.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Pause after `accept` failed, for instance for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// At most one line about strangers in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Where the connections from a peer go.
#[derive(Clone, Debug)]
pub struct Door {
    /// Only connections to this address of ours.
    pub local: Option<IpAddr>,
    /// The peer's task.
    pub connections: mpsc::Sender<TcpStream>,
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
pub(super) async fn run(listener: TcpListener, doors: Arc<HashMap<IpAddr, Door>>, rejected: Arc<Rejected>) {
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

fn admit(
    stream: TcpStream,
    source: SocketAddr,
    doors: &HashMap<IpAddr, Door>,
    rejected: &Rejected,
    log: &mut Limit,
) {
    let Some(door) = doors.get(&source.ip()) else {
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

/// Lets one line through per [`LOG_INTERVAL`] and counts the others.
#[derive(Debug, Default)]
struct Limit {
    last: Option<Instant>,
    suppressed: u64,
}

impl Limit {
    fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_limit_counts_what_it_holds_back() {
        let start = Instant::now();
        let mut limit = Limit::default();
        let steps = [(0, Some(0)), (1, None), (9, None), (10, Some(2)), (11, None), (30, Some(1))];
        for (second, expected) in steps {
            assert_eq!(limit.allow(start + Duration::from_secs(second)), expected, "at {second} s");
        }
    }
}
