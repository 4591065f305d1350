//! A Linux router in the test's own namespace, with the routes that the golden packets' tables stand for,
//! and a packet socket at the far end of each of its ports.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};

use crate::fixture::{EGRESS_MAC, INGRESS_MAC, LEAF_MAC, NEIGHBOUR_MAC};

/// Port by port: the router's own end is called `port1` and so on, the far end `far1`.
pub struct Router {
    /// Interface index of the router's ports.
    pub ports: [u32; 2],
    far: [OwnedFd; 2],
}

impl Router {
    /// Moves the calling thread into a new namespace and sets the router up there. The namespace goes with
    /// the thread.
    pub fn start() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        ip("link set lo up");
        for (number, own) in [(1, INGRESS_MAC), (2, EGRESS_MAC)] {
            ip(&format!("link add port{number} type veth peer name far{number}"));
            // The far ends carry longer frames than the ports, so that length is the router's decision.
            ip(&format!("link set far{number} mtu 9000 up"));
            ip(&format!("link set port{number} address {} mtu 9000 up", colons(own)));
            ip(&format!("address add 10.0.{number}.1/24 dev port{number}"));
            // What the router says by itself would come between the packets.
            sysctl(&format!("ipv6/conf/port{number}/disable_ipv6"), "1");
            sysctl(&format!("ipv6/conf/far{number}/disable_ipv6"), "1");
        }
        for (number, neighbour) in [(1, LEAF_MAC), (2, NEIGHBOUR_MAC)] {
            ip(&format!("neighbour add 10.0.{number}.2 lladdr {} dev port{number}", colons(neighbour)));
        }
        for route in [
            "198.51.100.0/24 via 10.0.2.2 mtu lock 1500",
            "203.0.113.0/24 via 10.0.1.2 mtu lock 1500",
            "192.0.2.0/24 via 10.0.1.2",
            "192.0.3.0/24 via 10.0.2.2",
        ] {
            ip(&format!("route add {route}"));
        }
        sysctl("ipv4/ip_forward", "1");
        sysctl("ipv4/conf/all/rp_filter", "0");
        Self { ports: ["port1", "port2"].map(index), far: ["far1", "far2"].map(listen) }
    }

    /// As [`Self::start`], for the IPv6 packets of [`crate::ipv6`].
    pub fn start_with_ipv6() -> Self {
        let router = Self::start();
        sysctl("ipv6/conf/all/forwarding", "1");
        for (number, neighbour) in [(1, LEAF_MAC), (2, NEIGHBOUR_MAC)] {
            let port = format!("port{number}");
            // Neither addresses by itself nor what goes with them.
            for (name, value) in
                [("addr_gen_mode", "1"), ("accept_dad", "0"), ("disable_ipv6", "0"), ("mtu", "1500")]
            {
                sysctl(&format!("ipv6/conf/{port}/{name}"), value);
            }
            ip(&format!("address add 2001:db8:f{number}::1/64 dev {port} nodad"));
            ip(&format!("-6 neighbour add 2001:db8:f{number}::2 lladdr {} dev {port}", colons(neighbour)));
        }
        for route in [
            "2001:db8:b::/48 via 2001:db8:f2::2",
            "2001:db8:c::/48 via 2001:db8:f1::2",
            "2001:db8:a::/48 via 2001:db8:f1::2",
        ] {
            ip(&format!("-6 route add {route}"));
        }
        router
    }

    /// Sends a frame into the first port and gives what comes out of the port with index `egress`.
    ///
    /// # Panics
    /// When nothing comes for two seconds.
    pub fn forward(&self, frame: &[u8], egress: u32) -> Vec<u8> {
        let out = usize::from(egress == self.ports[1]);
        send(self.far[0].as_raw_fd(), frame, MsgFlags::empty()).expect("sends");
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut buffer = vec![0; 10_000];
        loop {
            match recv(self.far[out].as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                // At the first port's far end the socket also sees what it has sent itself.
                Ok(length) if &buffer[..length] == frame => {}
                // What the router announces by itself (multicast listener reports).
                Ok(_) if buffer[..2] == [0x33, 0x33] => {}
                Ok(length) => return buffer[..length].to_vec(),
                Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "the kernel has not forwarded {frame:02x?}");
                    std::thread::yield_now();
                }
                Err(error) => panic!("receiving failed: {error}"),
            }
        }
    }
}

/// Sets the first port's `rp_filter`, in the namespace of the calling thread.
pub fn set_rp_filter(value: u8) {
    sysctl("ipv4/conf/port1/rp_filter", &value.to_string());
}

/// A packet socket for everything on an interface.
fn listen(interface: &str) -> OwnedFd {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .expect("a packet socket needs CAP_NET_RAW");
    let address = nix::ifaddrs::getifaddrs()
        .expect("interfaces")
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .expect("a link address");
    bind(socket.as_raw_fd(), &address).expect("binds");
    socket
}

fn index(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).expect("just made")
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("`ip` runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}
