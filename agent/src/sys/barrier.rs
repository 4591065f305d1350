//! RCU grace periods from user space.

use std::io;

/// `MEMBARRIER_CMD_GLOBAL`.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Returns when every CPU has left the XDP programs (any RCU read-side section) that it was in when
/// this was called: the command is a `synchronize_rcu()` (`kernel/sched/membarrier.c`). Takes about
/// 10 ms.
///
/// # Errors
/// `EINVAL` on a kernel that runs with `nohz_full`, `ENOSYS` without membarrier.
pub fn synchronize_rcu() -> io::Result<()> {
    // SAFETY: membarrier takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn waits_for_a_grace_period_or_says_that_the_kernel_cannot() {
        match super::synchronize_rcu() {
            Ok(()) => {}
            Err(error) => assert!(
                matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM)),
                "unexpected answer: {error}"
            ),
        }
    }
}
