//! XDP links: the `bpf(2)` commands around `bpf_link` that the loader crate does not offer as such
//! (it attaches by netlink behind the caller's back when the kernel refuses a link, and does not
//! tell which interface a link belongs to).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// `enum bpf_cmd`, `bpf_attach_type` and `bpf_link_type` of include/uapi/linux/bpf.h.
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_XDP: u32 = 37;
const BPF_LINK_TYPE_XDP: u32 = 6;
/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` of `include/uapi/linux/if_link.h`: there or not at all.
const XDP_FLAGS_SKB_MODE: u32 = 2;
const XDP_FLAGS_DRV_MODE: u32 = 4;

/// What a link joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Interface, or 0 when it was deleted and the link is defunct.
    pub ifindex: u32,
    /// Id of the program that runs.
    pub program_id: u32,
}

/// Where a link runs its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

/// An XDP program attached to an interface. Dropping it closes the descriptor; the program stays
/// attached as long as the link is pinned or open somewhere.
#[derive(Debug)]
pub struct XdpLink {
    fd: OwnedFd,
}

#[repr(C)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct LinkCreateAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Head of `struct bpf_link_info` with the `xdp` member of its union.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    ifindex: u32,
    tail: u32,
}

impl XdpLink {
    /// Attaches `program` to the interface in exactly this mode, by a link and in no other way.
    ///
    /// # Errors
    /// The kernel's: `EBUSY` or `EEXIST` another program is attached, `EOPNOTSUPP` the driver has
    /// no XDP, `ERANGE` or `EINVAL` the driver's limits (MTU, queues), `EINVAL` no such interface.
    pub fn attach(program: BorrowedFd<'_>, ifindex: u32, mode: Mode) -> io::Result<Self> {
        let mut attr = LinkCreateAttr {
            prog_fd: number(program),
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags: match mode {
                Mode::Native => XDP_FLAGS_DRV_MODE,
                Mode::Generic => XDP_FLAGS_SKB_MODE,
            },
        };
        bpf(BPF_LINK_CREATE, &mut attr).map(Self::own)
    }

    /// Opens a pinned link.
    ///
    /// # Errors
    /// The kernel's, or `InvalidData` when the file is something else than an XDP link.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        let mut attr = ObjectAttr { pathname: address(path.as_ptr()), bpf_fd: 0, file_flags: 0 };
        let link = bpf(BPF_OBJ_GET, &mut attr).map(Self::own)?;
        link.info().map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("not an XDP link: {error}"))
        })?;
        Ok(link)
    }

    /// Pins the link: it outlives this process.
    ///
    /// # Errors
    /// The kernel's: `EEXIST` the path exists, `EPERM` it is not on a bpffs or has a dot in its name.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let mut attr =
            ObjectAttr { pathname: address(path.as_ptr()), bpf_fd: number(self.fd.as_fd()), file_flags: 0 };
        bpf(BPF_OBJ_PIN, &mut attr).map(drop)
    }

    /// Replaces the program without a packet in between seeing none.
    ///
    /// # Errors
    /// The kernel's: `ENOLINK` the interface is gone.
    pub fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut attr = LinkUpdateAttr {
            link_fd: number(self.fd.as_fd()),
            new_prog_fd: number(program),
            flags: 0,
            old_prog_fd: 0,
        };
        bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
    }

    /// The interface and the program.
    ///
    /// # Errors
    /// The kernel's, or `InvalidData` when the link is not an XDP link.
    pub fn info(&self) -> io::Result<LinkInfo> {
        let mut info = RawLinkInfo::default();
        let mut attr = InfoAttr {
            bpf_fd: number(self.fd.as_fd()),
            info_len: u32::try_from(size_of::<RawLinkInfo>()).unwrap_or(0),
            info: address(&raw mut info),
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
        if info.kind != BPF_LINK_TYPE_XDP {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a BPF link of type {}", info.kind),
            ));
        }
        Ok(LinkInfo { ifindex: info.ifindex, program_id: info.prog_id })
    }

    fn own(fd: libc::c_int) -> Self {
        // SAFETY: the kernel just returned this descriptor to us and nobody else knows it.
        Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } }
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// One `bpf(2)` call; `attr` is the command's part of `union bpf_attr`, padded to eight bytes.
pub(super) fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is a live `repr(C)` struct that starts like `union bpf_attr` for the command
    // (the kernel takes the rest as zero), and the pointers in it outlive the call: every caller
    // keeps what they point to on its stack.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "descriptor out of range"))
}

/// Programs of tests.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
    /// `r0 = -1; exit`: on to the next (`TCX_NEXT`).
    const NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

    /// The command's part of `union bpf_attr`, as far as it is needed.
    #[repr(C)]
    struct LoadAttr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
    }

    /// Attaches a program that decides nothing to an interface; it stays as long as the result.
    pub fn attach_tcx(ifindex: u32, attach_type: u32) -> io::Result<OwnedFd> {
        let mut attr = LoadAttr {
            prog_type: BPF_PROG_TYPE_SCHED_CLS,
            insn_cnt: 2,
            insns: address(NEXT.as_ptr()),
            license: address(c"MIT".as_ptr()),
        };
        let program = XdpLink::own(bpf(BPF_PROG_LOAD, &mut attr)?).fd;
        let mut attr = LinkCreateAttr {
            prog_fd: number(program.as_fd()),
            target_ifindex: ifindex,
            attach_type,
            flags: 0,
        };
        Ok(XdpLink::own(bpf(BPF_LINK_CREATE, &mut attr)?).fd)
    }
}
