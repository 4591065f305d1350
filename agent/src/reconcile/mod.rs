//! Brings the kernel FIB and the XDP tables to the desired state: reads back, diffs, touches only
//! what differs, recognises its own objects after a restart.

pub mod kernel;
pub mod xdp;
