//! Underpass: keeps the kernel FIB right and compiles the kernel's decisions into XDP.
//!
//! Data flows one way:
//!
//! ```text
//! BGP peers -> bgp -> rib -> reconcile::kernel -> kernel FIB <- BIRD, FRR, operators
//!                                                   |
//! netlink::monitor <--------------------------------+
//!     -> netlink::model::State -> fib::compile -> reconcile::xdp -> datapath (BPF maps) -> XDP
//! ```
//!
//! Decisions (`bgp::fsm`, `rib`, `fib`, the diffs in `reconcile`) are pure: no sockets, no clock, no
//! async. Sockets, netlink and maps sit at the rim.

pub mod api;
pub mod bgp;
pub mod calico;
pub mod cli;
pub mod config;
pub mod datapath;
pub mod few;
pub mod fib;
pub mod guard;
pub mod intern;
pub mod netlink;
pub mod obs;
pub mod prefix_map;
pub mod reconcile;
pub mod rib;
pub mod run;
pub mod sys;
