//! The far end of a router's port: frames go in and come out byte for byte.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};

use crate::netns::Netns;

/// Room for frames that nobody has read yet, in bytes.
const BUFFER: usize = 16 << 20;
/// Longest frame that is read whole.
const LONGEST: usize = 16_384;
/// `sll_pkttype` of frames that the interface sends (`PACKET_OUTGOING`).
const OUTGOING: u8 = 4;

/// A packet socket on one interface.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    name: String,
}

impl Wire {
    /// Opens `interface` of a namespace.
    ///
    /// # Errors
    /// There is no such interface, or the privilege is missing.
    pub fn open(netns: &Netns, interface: &str) -> Result<Self> {
        let open = || -> Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
                .context("a packet socket needs CAP_NET_RAW")?;
            let address = nix::ifaddrs::getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| entry.address?.as_link_addr().copied())
                .with_context(|| format!("no interface {interface}"))?;
            bind(socket.as_raw_fd(), &address).context("cannot bind")?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("cannot enlarge the buffer")?;
            Ok(socket)
        };
        let socket = netns.enter(open)?.with_context(|| format!("{interface} of {}", netns.name()))?;
        Ok(Self { socket, name: interface.to_owned() })
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// It is longer than the interface takes, or the receiver's queue is full.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())
            .map(drop)
            .with_context(|| format!("cannot send {} bytes on {}", frame.len(), self.name))
    }

    /// Gives every frame that has come in since to `take`. Returns how many there were.
    ///
    /// # Errors
    /// The interface is gone, or a frame is too long.
    pub fn drain(&self, mut take: impl FnMut(&[u8])) -> Result<usize> {
        let (mut buffer, mut count) = (vec![0; LONGEST], 0);
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    if length == LONGEST {
                        bail!("a frame on {} has {LONGEST} bytes or more", self.name);
                    }
                    if from.is_none_or(|from| from.pkttype() != OUTGOING) {
                        take(&buffer[..length]);
                        count += 1;
                    }
                }
                // Told once, when the interface goes down.
                Err(Errno::ENETDOWN) => {}
                Err(Errno::EAGAIN | Errno::ENXIO | Errno::ENODEV) => return Ok(count),
                Err(error) => return Err(error).with_context(|| format!("cannot receive on {}", self.name)),
            }
        }
    }
}
