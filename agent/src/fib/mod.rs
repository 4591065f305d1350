//! From the kernel's state to what the XDP program needs. Pure.

pub mod compile;
pub mod model;
