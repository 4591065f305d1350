//! `SIOCETHTOOL`, for the one answer that the ethtool family of netlink lacks: the driver's name.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

// include/uapi/linux/ethtool.h and include/uapi/linux/sockios.h
const ETHTOOL_GDRVINFO: u32 = 3;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// `version`, `fw_version`, `bus_info`, `erom_version`, `reserved2` and four counts.
    rest: [u8; 32 * 4 + 12 + 5 * 4],
}

/// The name of the interface's driver (`ethtool -i`).
///
/// # Errors
/// The kernel's: `ENODEV` no such interface, `EOPNOTSUPP` a device that does not tell; `EINVAL` the
/// name is too long.
pub fn driver(interface: &str) -> io::Result<String> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut info).cast() },
    };
    // SAFETY: `request` is a whole `struct ifreq` whose data pointer is to a whole and writable
    // `struct ethtool_drvinfo`; both live until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = CStr::from_bytes_until_nul(&info.driver).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_has_the_size_that_the_kernel_writes() {
        assert_eq!(size_of::<DriverInfo>(), 196);
    }

    #[test]
    fn missing_interface_is_an_error() {
        assert_eq!(driver("no-such-if").expect_err("none").raw_os_error(), Some(libc::ENODEV));
        assert!(driver("a-name-that-is-too-long").is_err());
    }
}
