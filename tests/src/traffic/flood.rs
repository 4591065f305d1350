//! UDP as fast as one thread sends it, for rates.

use std::io::{ErrorKind, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt, sockopt,
};

use super::udp_socket;
use crate::netns::Netns;

/// Datagrams per system call.
const BATCH: usize = 64;
/// The receiver's wait after the last datagram.
const IDLE: Duration = Duration::from_millis(300);
/// Receive buffer, so that a burst is not lost at the socket.
const BUFFER: usize = 16 << 20;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Number of datagrams, at most.
    pub packets: u64,
    /// Time to send them, at most.
    pub limit: Duration,
    /// UDP payload in bytes.
    pub payload: usize,
    /// Number of source ports, that is, flows; they take turns by batches.
    pub flows: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received by the socket.
    pub received: u64,
    /// Time from the first to the last datagram sent.
    pub elapsed: Duration,
}

impl Report {
    /// Datagrams received per second of sending.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.received as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Floods `to` in namespace `receiver` from namespace `from`.
///
/// # Errors
/// Sockets cannot be made or used. Loss is no error.
pub fn run(from: &Netns, receiver: &Netns, to: SocketAddr, flood: Flood) -> Result<Report> {
    let any = SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() }, 0);
    let sink = udp_socket(receiver, to)?;
    setsockopt(&sink, sockopt::RcvBufForce, &BUFFER).context("cannot enlarge the receive buffer")?;
    sink.set_read_timeout(Some(Duration::from_millis(20))).context("cannot set a time-out")?;
    let sources =
        (0..flood.flows.max(1)).map(|_| udp_socket(from, any)).collect::<Result<Vec<UdpSocket>>>()?;
    for source in &sources {
        source.connect(to).with_context(|| format!("no route to {to} in namespace {}", from.name()))?;
    }
    let (sending, received) = (AtomicBool::new(true), AtomicU64::new(0));
    thread::scope(|scope| {
        let count = scope.spawn(|| count(&sink, &sending, &received));
        let sent = transmit(&sources, flood);
        sending.store(false, Ordering::Release);
        count.join().map_err(|_| anyhow!("the receiver panicked"))??;
        let (sent, elapsed) = sent?;
        Ok(Report { sent, received: received.load(Ordering::Acquire), elapsed })
    })
}

fn transmit(sources: &[UdpSocket], flood: Flood) -> Result<(u64, Duration)> {
    let started = Instant::now();
    let datagram = vec![0x55; flood.payload];
    let slices = vec![[IoSlice::new(&datagram)]; BATCH];
    let addresses: Vec<Option<SockaddrStorage>> = vec![None; BATCH];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let none: [ControlMessage<'_>; 0] = [];
    let mut sent = 0;
    for source in sources.iter().cycle() {
        let left = flood.packets - sent;
        if left == 0 || started.elapsed() >= flood.limit {
            break;
        }
        let batch = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
        let socket = source.as_raw_fd();
        let result = sendmmsg(socket, &mut headers, &slices[..batch], &addresses, none, MsgFlags::empty());
        match result {
            Ok(results) => sent += results.count() as u64,
            // An ICMP error about an earlier datagram, or a full queue: both are loss, which is counted
            // at the receiver.
            Err(Errno::ECONNREFUSED | Errno::ENOBUFS | Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot send"),
        }
    }
    Ok((sent, started.elapsed()))
}

fn count(sink: &UdpSocket, sending: &AtomicBool, received: &AtomicU64) -> Result<()> {
    let mut buffer = [0; 2048];
    let mut last = Instant::now();
    loop {
        match sink.recv(&mut buffer) {
            Ok(_) => {
                received.fetch_add(1, Ordering::AcqRel);
                last = Instant::now();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if !sending.load(Ordering::Acquire) && last.elapsed() > IDLE {
                    return Ok(());
                }
            }
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
}
