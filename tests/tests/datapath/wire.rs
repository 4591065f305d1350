//! Frames in and out of an interface of the calling thread's namespace.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};

use crate::rig::SOON;

/// A packet socket for everything on an interface.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn open(interface: &str) -> Self {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
                .expect("a packet socket needs CAP_NET_RAW");
        let address = nix::ifaddrs::getifaddrs()
            .expect("interfaces")
            .filter(|entry| entry.interface_name == interface)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .expect("a link address");
        bind(socket.as_raw_fd(), &address).expect("bound");
        Self(socket)
    }

    pub fn send(&self, frame: &[u8]) {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty()).expect("sent");
        assert_eq!(sent, frame.len());
    }

    /// The next IPv4 frame that carries this Ethernet source.
    pub fn receive_from(&self, source_mac: [u8; 6]) -> Vec<u8> {
        let deadline = Instant::now() + SOON;
        let mut buffer = vec![0; 10_000];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) if buffer[6..14] == [&source_mac[..], &[8, 0]].concat() => {
                    return buffer[..length].to_vec();
                }
                Ok(_) => {}
                Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "no frame from {source_mac:02x?}");
                    std::thread::yield_now();
                }
                Err(error) => panic!("receiving failed: {error}"),
            }
        }
    }
}
