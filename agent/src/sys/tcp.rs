//! Options of TCP sockets that no crate sets: MD5 signatures and the least TTL of what comes in.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// `TCP_MD5SIG` (include/uapi/linux/tcp.h).
const TCP_MD5SIG: libc::c_int = 14;
/// `TCP_MD5SIG_MAXKEYLEN`.
pub const MAX_MD5_KEY: usize = 80;
/// `IP_MINTTL` (include/uapi/linux/in.h).
const IP_MINTTL: libc::c_int = 21;
/// `IPV6_MINHOPCOUNT` (include/uapi/linux/in6.h).
const IPV6_MINHOPCOUNT: libc::c_int = 73;

/// `struct tcp_md5sig` (include/uapi/linux/tcp.h).
#[repr(C, align(8))]
struct Md5Signature {
    /// `struct sockaddr_storage`.
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    ifindex: libc::c_int,
    key: [u8; MAX_MD5_KEY],
}

/// Signs what goes to `peer` and demands signatures of what comes from it (RFC 2385). An empty key takes
/// the demand back. On a listening socket it holds for connections from `peer`, several peers side by side.
///
/// # Errors
/// A key of more than [`MAX_MD5_KEY`] octets is `EINVAL`; an empty one where there is none is `ENOENT`; a
/// kernel without `CONFIG_TCP_MD5SIG` says `ENOPROTOOPT`.
pub fn set_md5_key(socket: &impl AsFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let mut padded = [0; MAX_MD5_KEY];
    padded
        .get_mut(..key.len())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?
        .copy_from_slice(key);
    let option = Md5Signature {
        address: storage(peer),
        flags: 0,
        prefix_length: 0,
        key_length: u16::try_from(key.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        ifindex: 0,
        key: padded,
    };
    set_option(socket, libc::IPPROTO_TCP, TCP_MD5SIG, &option)
}

/// A `struct sockaddr_in` or `sockaddr_in6` with port 0, in a `sockaddr_storage`.
fn storage(address: IpAddr) -> [u8; 128] {
    let mut bytes = [0; 128];
    let family = match address {
        IpAddr::V4(address) => {
            bytes[4..8].copy_from_slice(&address.octets());
            libc::AF_INET
        }
        IpAddr::V6(address) => {
            bytes[8..24].copy_from_slice(&address.octets());
            libc::AF_INET6
        }
    };
    let family = libc::sa_family_t::try_from(family).unwrap_or(0);
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes
}

/// Drops what arrives with a smaller TTL or hop limit (RFC 5082).
///
/// # Errors
/// What `setsockopt` says.
pub fn set_least_ttl(socket: &impl AsFd, peer: IpAddr, least: u8) -> io::Result<()> {
    let value = libc::c_int::from(least);
    match peer {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, IP_MINTTL, &value),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &value),
    }
}

fn set_option<T>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(0);
    // SAFETY: the pointer is to `length` initialised bytes that live through the call; the kernel only
    // reads them. `T` is plain data of the layout that the option asks for.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
