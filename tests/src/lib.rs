//! Network-namespace labs, packet builders and fake peers for the tests, the demo and the benches.

pub mod bpf;
pub mod packet;
