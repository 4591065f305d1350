//! A BGP speaker that only announces and withdraws, over TCP: the generator of the storm.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use underpass_tests::fake_peer::{KEEPALIVE, OPEN, Open, message, update};

use super::segment::{AUTONOMOUS_SYSTEM, RECEIVER, next_hop, reflector};

/// Port of BGP.
const PORT: u16 = 179;
/// Time for the session to come up, and for the receiver to take a turn's messages.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is said that the speaker lives. The receivers' hold times are longer than a run.
const KEEPALIVES: Duration = Duration::from_secs(10);
/// How often the socket's queue is looked at: the kernel goes through all of its sockets for that.
const LOOKS: Duration = Duration::from_millis(200);
/// Prefixes of a message of the table before the storm.
const AT_ONCE: usize = 200;

/// An established session.
#[derive(Debug)]
pub struct Speaker {
    stream: TcpStream,
    last_keepalive: Instant,
    last_look: Instant,
    /// Most bytes that lay in the socket after a turn.
    pub most_unsent: usize,
}

impl Speaker {
    /// Connects to the receiver and exchanges OPEN and KEEPALIVE. To be called in the reflector's namespace.
    ///
    /// # Errors
    /// The receiver does not take the session.
    pub fn connect() -> anyhow::Result<Self> {
        let to = SocketAddr::new(IpAddr::V4(RECEIVER), PORT);
        let mut stream =
            TcpStream::connect_timeout(&to, PATIENCE).context("cannot connect to the receiver")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let open = Open::new(AUTONOMOUS_SYSTEM, reflector(1), 240);
        stream.write_all(&open.bytes())?;
        expect(&mut stream, OPEN)?;
        stream.write_all(&message(KEEPALIVE, &[]))?;
        expect(&mut stream, KEEPALIVE)?;
        // What the receiver says from now on is read and thrown away, as long as the connection lives.
        let mut incoming = stream.try_clone()?;
        incoming.set_read_timeout(None)?;
        thread::spawn(move || std::io::copy(&mut incoming, &mut std::io::sink()));
        let now = Instant::now();
        Ok(Self { stream, last_keepalive: now, last_look: now, most_unsent: 0 })
    }

    /// Announces a table, and that it is complete. To be called in the reflector's namespace.
    ///
    /// # Errors
    /// The connection fails.
    pub fn announce_all(&mut self, routes: impl Iterator<Item = (IpNet, u32)>) -> anyhow::Result<()> {
        let mut by_hop: std::collections::BTreeMap<u32, Vec<IpNet>> = std::collections::BTreeMap::new();
        for (prefix, hop) in routes {
            by_hop.entry(hop).or_default().push(prefix);
        }
        for (hop, prefixes) in by_hop {
            let mut messages = Vec::new();
            prefixes.chunks(AT_ONCE).for_each(|chunk| Self::announcement(hop, chunk, &mut messages));
            self.send(&messages)?;
        }
        let end_of_rib = update(&[], &[], &[]);
        self.send(&end_of_rib)
    }

    /// Appends an UPDATE that announces prefixes by a next hop.
    pub fn announcement(hop: u32, prefixes: &[IpNet], messages: &mut Vec<u8>) {
        let path = 65000 + hop % 16;
        let as_path = [&[0x40, 2, 6, 2, 1][..], &path.to_be_bytes()].concat();
        let next_hop = [&[0x40, 3, 4][..], &next_hop(hop).octets()].concat();
        let attributes: [&[u8]; 4] = [&[0x40, 1, 1, 0], &as_path, &next_hop, &[0x40, 5, 4, 0, 0, 0, 100]];
        let nlri: Vec<u8> = prefixes.iter().flat_map(|prefix| nlri(*prefix)).collect();
        messages.extend(update(&[], &attributes, &nlri));
    }

    /// Appends an UPDATE that withdraws a prefix.
    pub fn withdrawal(prefix: IpNet, messages: &mut Vec<u8>) {
        messages.extend(update(&nlri(prefix), &[], &[]));
    }

    /// Sends, and a KEEPALIVE now and then. Waits as long as the receiver takes nothing. To be
    /// called in the reflector's namespace.
    ///
    /// # Errors
    /// The connection fails.
    pub fn send(&mut self, messages: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(messages).context("the receiver does not take more")?;
        if self.last_keepalive.elapsed() >= KEEPALIVES {
            self.stream.write_all(&message(KEEPALIVE, &[])).context("the receiver does not take more")?;
            self.last_keepalive = Instant::now();
        }
        if self.last_look.elapsed() >= LOOKS {
            self.most_unsent = self.most_unsent.max(unsent(&self.stream)?);
            self.last_look = Instant::now();
        }
        Ok(())
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // Ends the thread that reads, too.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Reads a message, which has to be of this type.
fn expect(stream: &mut TcpStream, kind: u8) -> anyhow::Result<()> {
    let mut header = [0; 19];
    stream.read_exact(&mut header).context("the receiver ends the connection")?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; length.saturating_sub(header.len())];
    stream.read_exact(&mut body).context("the receiver ends the connection")?;
    if header[18] != kind {
        bail!("the receiver sends type {} instead of {kind}: {body:?}", header[18]);
    }
    Ok(())
}

/// A prefix as in an UPDATE (RFC 4271 §4.3): its length, and as many octets as that needs.
fn nlri(prefix: IpNet) -> Vec<u8> {
    let length = prefix.prefix_len();
    let IpAddr::V4(address) = prefix.network() else { return Vec::new() };
    let octets = address.octets();
    let mut bytes = vec![length];
    bytes.extend_from_slice(&octets[..usize::from(length.div_ceil(8))]);
    bytes
}

/// Bytes that the socket has and the other side has not acknowledged. To be called in the socket's namespace.
fn unsent(stream: &TcpStream) -> anyhow::Result<usize> {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").context("cannot read /proc/net/tcp")?;
    let found = tx_queue(&table, stream.local_addr()?.port());
    found.context("/proc/net/tcp does not have the session")
}

/// `tx_queue` of the socket with this local port.
fn tx_queue(table: &str, port: u16) -> Option<usize> {
    let port = format!(":{port:04X}");
    let line = table
        .lines()
        .find(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)))?;
    let (unsent, _) = line.split_whitespace().nth(4)?.split_once(':')?;
    usize::from_str_radix(unsent, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_take_as_few_octets_as_they_can() {
        let cases: [(&str, &[u8]); 4] = [
            ("16.0.0.0/8", &[8, 16]),
            ("16.1.128.0/17", &[17, 16, 1, 128]),
            ("16.1.2.0/24", &[24, 16, 1, 2]),
            ("16.1.2.3/32", &[32, 16, 1, 2, 3]),
        ];
        for (prefix, bytes) in cases {
            assert_eq!(nlri(prefix.parse().expect("a prefix")), bytes, "{prefix}");
        }
    }

    #[test]
    fn the_queue_of_a_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                     0: 020013C6:B3A0 010013C6:00B3 01 000001FF:00000000 00:00000000\n";
        assert_eq!(tx_queue(table, 0xb3a0), Some(511));
        assert_eq!(tx_queue(table, 179), None);
    }
}
