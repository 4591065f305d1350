//! The one place with unsafe code: system calls that no crate wraps.

pub mod barrier;
pub mod bpf_link;
pub mod bpf_query;
pub mod ethtool;
pub mod mapping;
pub mod tcp;
pub mod xtables;
