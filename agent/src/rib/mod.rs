//! Routing information base: Adj-RIB-In per peer, best path, ECMP, import guards. Pure.

pub mod model;
