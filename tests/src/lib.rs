//! Network-namespace labs, packet builders and fake peers for the tests, the demo and the benches.

pub mod agent;
pub mod bpf;
pub mod daemon;
pub mod fake_peer;
pub mod fuzz;
pub mod kernel;
pub mod lab;
pub mod matrix;
pub mod netns;
pub mod packet;
pub mod privilege;
pub mod reference;
pub mod topology;
pub mod traffic;
pub mod twin;
pub mod wait;
pub mod wall_clock;
pub mod xdp;
