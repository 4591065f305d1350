//! Legacy iptables tables by `getsockopt`, as `iptables-legacy-save` reads them.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

// linux/netfilter_ipv4/ip_tables.h and its IPv6 twin.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// Length of a table's name.
const NAME: usize = 32;
/// `struct ipt_get_entries` before its entries, which are aligned to 8 bytes.
const ENTRIES_HEADER: usize = 40;
/// A table changes between the two calls: the second then says so.
const ATTEMPTS: u32 = 5;

/// A table as the kernel hands it out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    /// Name.
    pub table: String,
    /// Bit n: the table has a base chain at hook n.
    pub valid_hooks: u32,
    /// Offsets of their first entries.
    pub hook_entry: [u32; 5],
    /// Offsets of their policies.
    pub underflow: [u32; 5],
    /// Entries, one behind the other.
    pub entries: Vec<u8>,
}

/// `struct ipt_getinfo`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Info {
    name: [u8; NAME],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    entries: u32,
    size: u32,
}

/// Reads a table that exists (asking for another would create it), in the network namespace of this
/// thread.
///
/// # Errors
/// The kernel's: `EPERM` without `CAP_NET_ADMIN`.
pub fn read(ipv6: bool, table: &str) -> io::Result<Blob> {
    let (socket, level) = if ipv6 {
        (UdpSocket::bind("[::]:0")?, libc::IPPROTO_IPV6)
    } else {
        (UdpSocket::bind("0.0.0.0:0")?, libc::IPPROTO_IP)
    };
    let mut name = [0; NAME];
    let length = table.len().min(NAME - 1);
    name[..length].copy_from_slice(&table.as_bytes()[..length]);
    for _ in 0..ATTEMPTS {
        let mut info = Info { name, ..Info::default() };
        // SAFETY: `Info` is `repr(C)` without padding, and the kernel writes at most its size into it.
        unsafe { get(socket.as_raw_fd(), level, GET_INFO, (&raw mut info).cast(), size_of::<Info>())? };
        let size = usize::try_from(info.size).map_err(io::Error::other)?;
        let mut buffer = vec![0_u8; ENTRIES_HEADER + size];
        buffer[..NAME].copy_from_slice(&name);
        buffer[NAME..NAME + 4].copy_from_slice(&info.size.to_ne_bytes());
        // SAFETY: the kernel writes at most the buffer's length into it.
        let read = unsafe { get(socket.as_raw_fd(), level, GET_ENTRIES, buffer.as_mut_ptr(), buffer.len()) };
        match read {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(error),
            Ok(()) => {
                return Ok(Blob {
                    table: table.to_owned(),
                    valid_hooks: info.valid_hooks,
                    hook_entry: info.hook_entry,
                    underflow: info.underflow,
                    entries: buffer.split_off(ENTRIES_HEADER),
                });
            }
        }
    }
    Err(io::Error::other("the table changes faster than it can be read"))
}

/// # Safety
/// `value` is valid for writes of `length` bytes.
unsafe fn get(
    socket: libc::c_int,
    level: libc::c_int,
    option: libc::c_int,
    value: *mut u8,
    length: usize,
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(length).map_err(io::Error::other)?;
    // SAFETY: by the contract of this function; `length` lives as long as the call.
    let result = unsafe { libc::getsockopt(socket, level, option, value.cast(), &raw mut length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
