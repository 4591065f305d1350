//! The socket that the kernel's notifications come in on, and the thread that reads it.
//!
//! A thread of its own, because a socket that the runtime waits for wakes it up for every single message: with
//! a million routes on their way that costs the kernel more than the routes.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::mpsc;

use super::decode::{Decoder, Event};
use super::requests::{MESSAGE_BUFFER, messages};

/// Multicast groups, `RTNLGRP_*` of linux/rtnetlink.h.
const GROUPS: [(u32, &str); 11] = [
    (1, "link"),
    (3, "neigh"),
    (5, "ipv4_ifaddr"),
    (7, "ipv4_route"),
    (8, "ipv4_rule"),
    (9, "ipv6_ifaddr"),
    (11, "ipv6_route"),
    (19, "ipv6_rule"),
    (24, "ipv4_netconf"),
    (25, "ipv6_netconf"),
    (32, "nexthop"),
];
/// Groups that older kernels do not have.
const OPTIONAL: [u32; 1] = [32];
/// Most datagrams in a batch.
const BATCH: usize = 4096;
/// Batches that wait to be taken; the kernel keeps the rest, as far as its buffer reaches.
const WAITING: usize = 4;
/// With so many datagrams in a batch there will be more soon ...
const FLOOD: usize = 64;
/// ... and they are waited for this long, so that the kernel has nobody to wake up for each.
const GATHER: Duration = Duration::from_millis(1);

/// What was there to read.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events in order.
    pub events: Vec<Event>,
    /// The kernel had to drop notifications (`ENOBUFS`).
    pub overrun: bool,
    /// Messages that could not be read.
    pub undecodable: u64,
}

/// A member of all groups that the state depends on.
#[derive(Debug)]
pub struct Watch {
    batches: mpsc::Receiver<io::Result<Batch>>,
    /// The thread ends when this is closed.
    _running: PipeWriter,
}

impl Watch {
    /// Subscribes in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel refuses the socket or a group.
    pub fn new(receive_buffer: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // The kernel caps what is not forced at `net.core.rmem_max`.
        if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &receive_buffer)?;
        }
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        for (group, name) in GROUPS {
            match socket.add_membership(group) {
                Err(error) if OPTIONAL.contains(&group) => {
                    tracing::info!(group = name, %error, "the kernel does not announce these objects");
                }
                other => other?,
            }
        }
        let (stopped, running) = io::pipe()?;
        let (sender, batches) = mpsc::channel(WAITING);
        let reader = Reader {
            socket,
            stopped,
            buffer: Vec::with_capacity(MESSAGE_BUFFER),
            decoder: Decoder::default(),
        };
        thread::Builder::new().name("netlink".to_owned()).spawn(move || reader.run(&sender))?;
        Ok(Self { batches, _running: running })
    }

    /// Waits until there is something to read, and reads what is there. Cancel-safe.
    ///
    /// # Errors
    /// The socket fails for good.
    pub async fn read(&mut self) -> io::Result<Batch> {
        let ended = || io::Error::other("the thread that reads the kernel's notifications has ended");
        self.batches.recv().await.ok_or_else(ended)?
    }
}

/// What the thread has.
struct Reader {
    socket: Socket,
    stopped: PipeReader,
    buffer: Vec<u8>,
    decoder: Decoder,
}

impl Reader {
    /// Reads until the watch is dropped or the socket fails.
    fn run(mut self, batches: &mpsc::Sender<io::Result<Batch>>) {
        loop {
            let batch = match self.wait() {
                Ok(true) => self.read(),
                Ok(false) => return,
                Err(error) => Err(error),
            };
            let failed = batch.is_err();
            let is_flood = batch.as_ref().is_ok_and(|(_, datagrams)| *datagrams >= FLOOD);
            let batch = batch.map(|(batch, _)| batch);
            let concerns =
                batch.as_ref().map_or(true, |b| b.overrun || b.undecodable > 0 || !b.events.is_empty());
            if concerns && batches.blocking_send(batch).is_err() || failed {
                return;
            }
            if is_flood {
                thread::sleep(GATHER);
            }
        }
    }

    /// Waits for something to read; `false`: nobody wants it any more.
    fn wait(&self) -> io::Result<bool> {
        loop {
            let mut wanted = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut wanted, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => return Ok(!wanted[1].any().unwrap_or(true)),
            }
        }
    }

    /// Reads what is there, and how many datagrams that were.
    fn read(&mut self) -> io::Result<(Batch, usize)> {
        let mut batch = Batch::default();
        for datagrams in 0..BATCH {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((batch, datagrams)),
                result => batch.take(result.map(drop), &self.buffer, &mut self.decoder)?,
            }
        }
        Ok((batch, BATCH))
    }
}

impl Batch {
    /// Takes what one read gave.
    fn take(&mut self, result: io::Result<()>, datagram: &[u8], decoder: &mut Decoder) -> io::Result<()> {
        match result {
            // Larger than the buffer, and cut off.
            Ok(()) if datagram.len() >= MESSAGE_BUFFER => self.overrun = true,
            Ok(()) => self.read(datagram, decoder),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.overrun = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read(&mut self, datagram: &[u8], decoder: &mut Decoder) {
        for (_, message) in messages(datagram) {
            match decoder.decode(message.message_type, message.flags, message.payload) {
                Ok(event) => self.events.extend(event),
                Err(error) => {
                    self.undecodable += 1;
                    tracing::warn!(%error, message_type = message.message_type, "a notification of the kernel cannot be read");
                }
            }
        }
    }
}
