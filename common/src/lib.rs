//! What the XDP program and the agent share.
//!
//! `no_std`, no allocation, no floating point: every line here runs both in the kernel (compiled
//! for `bpfel-unknown-none`) and in user space, and is tested on the host.
//!
//! Byte order: addresses are byte arrays in network order, everything else is native-endian
//! (`bpfel`: both sides run on the same little-endian machine).
#![no_std]
#![expect(clippy::inline_always, reason = "the XDP programs make no calls between BPF functions")]

pub mod abi;
pub mod bench;
pub mod checksum;
pub mod fib;
pub mod flowhash;
pub mod nexthop;
pub mod own;
pub mod parse;
pub mod reason;
