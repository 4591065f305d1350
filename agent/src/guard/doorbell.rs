//! The announcements of nftables, of which only their arrival counts.

use std::future::poll_fn;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, TokioSocket};

use crate::netlink::requests::MESSAGE_BUFFER;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Most datagrams that are taken off before others get a turn.
const BATCH: usize = 1024;

/// A socket that becomes readable when a rule changes.
pub struct Doorbell {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doorbell").finish_non_exhaustive()
    }
}

impl Doorbell {
    /// Subscribes in the network namespace of this thread. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses the socket or the group.
    pub fn new() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_ref().add_membership(GROUP)?;
        Ok(Self { socket, buffer: Vec::with_capacity(MESSAGE_BUFFER) })
    }

    /// Waits for an announcement, and takes off what is there. An overrun rings as well: the kernel had
    /// more to say. Cancel-safe.
    ///
    /// # Errors
    /// The socket fails for good.
    pub async fn ring(&mut self) -> io::Result<()> {
        self.buffer.clear();
        let first = poll_fn(|context| self.socket.poll_recv(context, &mut self.buffer)).await;
        if let Err(error) = first
            && error.raw_os_error() != Some(libc::ENOBUFS)
        {
            return Err(error);
        }
        for _ in 0..BATCH {
            self.buffer.clear();
            if self.socket.socket_ref().recv(&mut self.buffer, 0).is_err() {
                break;
            }
        }
        Ok(())
    }
}
