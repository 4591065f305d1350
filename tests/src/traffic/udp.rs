//! UDP datagrams with sequence numbers, whose payload and TTL are checked at the receiver.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use super::{fill, udp_socket};
use crate::netns::Netns;

/// Bytes of the sequence number before the pattern.
const HEADER: usize = 8;
/// Receive buffer in bytes: a receiver that has to wait for a CPU loses nothing.
const BUFFER: usize = 16 << 20;
/// The receiver's wait after the last datagram was sent or seen.
const IDLE: Duration = Duration::from_millis(700);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Number of datagrams.
    pub count: u64,
    /// UDP payload in bytes, at least 8.
    pub payload: usize,
    /// Number of source ports that take turns: as many flows.
    pub flows: usize,
    /// Pause between two datagrams.
    pub gap: Duration,
    /// Longest time for the whole stream.
    pub deadline: Duration,
}

impl Default for Stream {
    /// 200 datagrams of 200 bytes in 8 flows, 5,000 per second.
    fn default() -> Self {
        Self {
            count: 200,
            payload: 200,
            flows: 8,
            gap: Duration::from_micros(200),
            deadline: Duration::from_secs(10),
        }
    }
}

/// What arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Datagrams sent.
    pub sent: u64,
    /// Different datagrams received intact.
    pub received: u64,
    /// Datagrams received more than once.
    pub duplicates: u64,
    /// Datagrams that arrived after a later one of the same flow.
    pub reordered: u64,
    /// Datagrams of ours with other bytes or another length than sent.
    pub corrupt: u64,
    /// Datagrams by their TTL at the receiver.
    pub ttls: BTreeMap<u8, u64>,
    /// Source addresses seen.
    pub sources: BTreeSet<IpAddr>,
}

impl Report {
    /// Checks that everything arrived once, intact and in the order of each flow.
    ///
    /// # Errors
    /// It did not; the text has the report.
    pub fn check_intact(&self) -> Result<()> {
        let intact = self.received == self.sent && self.duplicates + self.reordered + self.corrupt == 0;
        ensure!(intact, "not everything arrived as sent: {self:?}");
        Ok(())
    }
}

/// Sends `stream` from one namespace to `to` in another, where it is received.
///
/// # Errors
/// Sockets cannot be made or used. Loss is no error: see [`Report::check_intact`].
pub fn send(from: &Netns, receiver: &Netns, to: SocketAddr, stream: Stream) -> Result<Report> {
    ensure!(stream.payload >= HEADER, "a payload has at least {HEADER} bytes");
    ensure!(stream.flows > 0, "at least one flow");
    let any = SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() }, 0);
    let sink = udp_socket(receiver, to)?;
    setsockopt(&sink, sockopt::RcvBufForce, &BUFFER).context("cannot enlarge the receive buffer")?;
    let asked = match to {
        SocketAddr::V4(_) => setsockopt(&sink, sockopt::Ipv4RecvTtl, &true),
        SocketAddr::V6(_) => setsockopt(&sink, sockopt::Ipv6RecvHopLimit, &true),
    };
    asked.context("cannot ask for the TTL of datagrams")?;
    sink.set_read_timeout(Some(Duration::from_millis(50))).context("cannot set a time-out")?;
    let sources = (0..stream.flows).map(|_| udp_socket(from, any)).collect::<Result<Vec<UdpSocket>>>()?;
    for source in &sources {
        source.connect(to).with_context(|| format!("no route to {to} in namespace {}", from.name()))?;
    }
    thread::scope(|scope| {
        let receive = scope.spawn(|| receive(&sink, stream));
        let sent = transmit(&sources, stream);
        let mut report = receive.join().map_err(|_| anyhow!("the receiver panicked"))??;
        report.sent = sent?;
        Ok(report)
    })
}

fn transmit(sources: &[UdpSocket], stream: Stream) -> Result<u64> {
    let started = Instant::now();
    let mut datagram = vec![0; stream.payload];
    let mut due = started;
    for sequence in 0..stream.count {
        if started.elapsed() > stream.deadline {
            return Ok(sequence);
        }
        datagram[..HEADER].copy_from_slice(&sequence.to_be_bytes());
        fill(&mut datagram[HEADER..], sequence);
        let flow = usize::try_from(sequence).context("too many datagrams")? % sources.len();
        match sources[flow].send(&datagram) {
            Ok(_) => {}
            // An ICMP error about an earlier datagram; this one was not sent.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                sources[flow].send(&datagram).context("cannot send")?;
            }
            Err(error) => return Err(error).context("cannot send"),
        }
        due += stream.gap;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(stream.count)
}

fn receive(sink: &UdpSocket, stream: Stream) -> Result<Report> {
    let started = Instant::now();
    let planned = stream.gap * u32::try_from(stream.count).unwrap_or(u32::MAX);
    let mut last = started;
    let mut report = Report::default();
    let mut seen = BTreeSet::new();
    let mut newest = BTreeMap::new();
    let mut buffer = vec![0; stream.payload + 1];
    let mut expected = vec![0; stream.payload - HEADER];
    while report.received < stream.count && started.elapsed() < stream.deadline {
        let Some((length, ttl, source)) = receive_one(sink, &mut buffer)? else {
            let waited_for_all = started.elapsed() > planned + IDLE;
            if waited_for_all && last.elapsed() > IDLE {
                break;
            }
            continue;
        };
        last = Instant::now();
        let sequence = buffer.first_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        fill(&mut expected, sequence);
        if length != stream.payload || sequence >= stream.count || buffer[HEADER..length] != expected {
            report.corrupt += 1;
            continue;
        }
        if !seen.insert(sequence) {
            report.duplicates += 1;
            continue;
        }
        report.received += 1;
        *report.ttls.entry(ttl).or_default() += 1;
        report.sources.insert(source.ip());
        let newest = newest.entry(source).or_insert(sequence);
        report.reordered += u64::from(sequence < *newest);
        *newest = sequence.max(*newest);
    }
    Ok(report)
}

/// One datagram: length, TTL, source. `None` after the socket's time-out.
fn receive_one(sink: &UdpSocket, buffer: &mut [u8]) -> Result<Option<(usize, u8, SocketAddr)>> {
    let mut control = nix::cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = match recvmsg::<SockaddrStorage>(
        sink.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    ) {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        Err(error) => return Err(error).context("cannot receive"),
    };
    let ttl = message.cmsgs().context("the control messages do not fit")?.find_map(|message| match message {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => u8::try_from(ttl).ok(),
        _ => None,
    });
    let address = message.address.context("a datagram without a source")?;
    let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::V4((*v4).into()),
        (None, Some(v6)) => SocketAddr::V6((*v6).into()),
        (None, None) => return Err(anyhow!("a datagram from no IP address")),
    };
    Ok(Some((message.bytes, ttl.unwrap_or(0), address)))
}
