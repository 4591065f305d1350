//! The socket that notifications arrive on.

use std::future::poll_fn;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, TokioSocket};
use nix::sys::socket::{setsockopt, sockopt};

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
/// Most datagrams that are read before others get a turn.
const BATCH: usize = 4096;

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

/// A socket that is a member of all groups that the state depends on.
pub struct Watch {
    socket: TokioSocket,
    buffer: Vec<u8>,
    decoder: Decoder,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Subscribes in the network namespace of this thread. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses the socket or a group.
    pub fn new(receive_buffer: usize) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        // The kernel caps what is not forced at `net.core.rmem_max`.
        if setsockopt(socket.socket_ref(), sockopt::RcvBufForce, &receive_buffer).is_err() {
            setsockopt(socket.socket_ref(), sockopt::RcvBuf, &receive_buffer)?;
        }
        socket.socket_mut().bind_auto()?;
        for (group, name) in GROUPS {
            match socket.socket_ref().add_membership(group) {
                Err(error) if OPTIONAL.contains(&group) => {
                    tracing::info!(group = name, %error, "the kernel does not announce these objects");
                }
                other => other?,
            }
        }
        Ok(Self { socket, buffer: Vec::with_capacity(MESSAGE_BUFFER), decoder: Decoder::default() })
    }

    /// Waits until there is something to read, and reads what is there. Cancel-safe.
    ///
    /// # Errors
    /// The socket fails for good.
    pub async fn read(&mut self) -> io::Result<Batch> {
        loop {
            let mut batch = Batch::default();
            self.buffer.clear();
            let first = poll_fn(|context| self.socket.poll_recv(context, &mut self.buffer)).await;
            batch.take(first, &self.buffer, &mut self.decoder)?;
            for _ in 0..BATCH {
                self.buffer.clear();
                match self.socket.socket_ref().recv(&mut self.buffer, 0) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    result => batch.take(result.map(drop), &self.buffer, &mut self.decoder)?,
                }
            }
            if batch.overrun || batch.undecodable > 0 || !batch.events.is_empty() {
                return Ok(batch);
            }
        }
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
