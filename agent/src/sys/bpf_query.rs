//! Which BPF programs an interface has at a hook (`BPF_PROG_QUERY`).

use std::io;

use super::bpf_link::bpf;

const BPF_PROG_QUERY: libc::c_int = 16;
/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS` of `enum bpf_attach_type`.
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// The command's part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Number of tcx programs on an interface.
///
/// # Errors
/// The kernel's, but not of kernels before 6.6, which have no tcx.
pub fn tcx_programs(ifindex: u32, egress: bool) -> io::Result<u32> {
    let attach_type = if egress { BPF_TCX_EGRESS } else { BPF_TCX_INGRESS };
    let mut attr = QueryAttr { target_ifindex: ifindex, attach_type, ..QueryAttr::default() };
    match bpf(BPF_PROG_QUERY, &mut attr) {
        Ok(_) => Ok(attr.count),
        // No program was ever attached there, or no tcx at all.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(0),
        // More programs than there was room for ids.
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(attr.count.max(1)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::sys::bpf_link::testing::attach_tcx;

    #[test]
    fn tcx_programs_of_a_device_are_counted() {
        // A namespace of the thread's own: its loopback is nobody else's.
        let counted = thread::spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                let message = format!("skipped: no network namespace of our own: {error}");
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
                println!("{message}");
                return None;
            }
            let lo = 1;
            let before = tcx_programs(lo, false).expect("the kernel answers");
            let link = attach_tcx(lo, BPF_TCX_INGRESS).expect("attached");
            let attached = [false, true].map(|egress| tcx_programs(lo, egress).expect("the kernel answers"));
            drop(link);
            Some((before, attached, tcx_programs(lo, false).expect("the kernel answers")))
        });
        let counted = counted.join().expect("no panic");
        assert!(counted.is_none_or(|counted| counted == (0, [1, 0], 0)), "{counted:?}");
    }
}
