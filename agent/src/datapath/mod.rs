//! The XDP side: loading, attaching, maps, lease, counters and the probe.

pub mod maps;

/// The eBPF object with the programs named in [`underpass_common::abi::program`].
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("UNDERPASS_OBJECT"));
