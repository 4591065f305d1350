//! A TCP transfer whose bytes are checked at the receiver.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::fill;
use crate::netns::Netns;

/// Bytes per write, and the unit of the pattern.
const CHUNK: usize = 16 * 1024;

/// What a transfer was like.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Bytes received, all as sent.
    pub bytes: u64,
    /// From the first SYN to the receiver's answer.
    pub elapsed: Duration,
}

/// Connects from one namespace to `to` in another, sends `bytes` bytes, and has the receiver confirm
/// how many came and that all were right.
///
/// # Errors
/// No connection, a wrong or a missing byte, or not done after `deadline`.
pub fn transfer(
    from: &Netns,
    receiver: &Netns,
    to: SocketAddr,
    bytes: u64,
    deadline: Duration,
) -> Result<Report> {
    let listener = receiver
        .enter(|| TcpListener::bind(to))?
        .with_context(|| format!("cannot bind TCP {to} in namespace {}", receiver.name()))?;
    listener.set_nonblocking(true).context("cannot make the listener non-blocking")?;
    let started = Instant::now();
    let until = started + deadline;
    thread::scope(|scope| {
        let receive = scope.spawn(move || receive(&listener, until));
        let confirmed = send(from, to, bytes, until);
        let received = receive.join().map_err(|_| anyhow!("the receiver panicked"))?;
        // The receiver knows better why a transfer broke.
        let received = received?;
        ensure!(confirmed? == bytes && received == bytes, "{received} of {bytes} bytes arrived");
        Ok(Report { bytes, elapsed: started.elapsed() })
    })
}

fn send(from: &Netns, to: SocketAddr, bytes: u64, until: Instant) -> Result<u64> {
    let mut stream = from
        .enter(|| TcpStream::connect_timeout(&to, left(until)?).context("no connection"))?
        .with_context(|| format!("TCP to {to} from namespace {}", from.name()))?;
    let mut chunk = [0; CHUNK];
    let mut rest = bytes;
    for number in 0.. {
        if rest == 0 {
            break;
        }
        let length = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
        fill(&mut chunk, number);
        stream.set_write_timeout(Some(left(until)?)).context("cannot set a time-out")?;
        stream.write_all(&chunk[..length]).context("cannot send")?;
        rest -= length as u64;
    }
    stream.shutdown(Shutdown::Write).context("cannot end the transfer")?;
    stream.set_read_timeout(Some(left(until)?)).context("cannot set a time-out")?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).context("the receiver does not confirm")?;
    Ok(u64::from_be_bytes(answer))
}

fn receive(listener: &TcpListener, until: Instant) -> Result<u64> {
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                left(until).context("nobody connected")?;
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("cannot accept"),
        }
    };
    stream.set_nonblocking(false).context("cannot make the connection blocking")?;
    let (mut expected, mut chunk) = ([0; CHUNK], [0; CHUNK]);
    let mut total = 0;
    for number in 0.. {
        fill(&mut expected, number);
        let mut filled = 0;
        while filled < CHUNK {
            stream.set_read_timeout(Some(left(until)?)).context("cannot set a time-out")?;
            let got = stream.read(&mut chunk[filled..]).context("cannot receive")?;
            if got == 0 {
                break;
            }
            filled += got;
        }
        if chunk[..filled] != expected[..filled] {
            bail!("a byte between {total} and {} differs from what was sent", total + filled as u64);
        }
        total += filled as u64;
        if filled < CHUNK {
            break;
        }
    }
    stream.write_all(&total.to_be_bytes()).context("cannot confirm")?;
    Ok(total)
}

/// Time left, never zero.
fn left(until: Instant) -> Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "the deadline has passed");
    Ok(left)
}
