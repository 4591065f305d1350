//! The kernel's forwarding state: what it is ([`model`]) and how it is read ([`monitor`]).

pub mod model;
pub mod monitor;
pub mod neighbour;
pub mod query;
pub mod route_writer;
