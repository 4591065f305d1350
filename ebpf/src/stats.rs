//! Counters by port and reason: per CPU, no atomics, read by the agent when somebody asks.

use underpass_common::abi::counter_index;
use underpass_common::reason::Reason;

use crate::maps::UP_COUNTERS;

/// Counts one packet of `bytes` for a port number (0: not a managed port).
#[inline(always)]
pub fn count(port_number: u32, reason: Reason, bytes: u64) {
    if let Some(counter) = UP_COUNTERS.get_ptr_mut(counter_index(port_number, reason as u32)) {
        // SAFETY: the element belongs to this CPU, and XDP programs do not preempt each other on it.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes;
        }
    }
}
