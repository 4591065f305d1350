//! The kernel's forwarding state: what it is ([`model`]), how it is read ([`monitor`]), and questions
//! to the kernel ([`query`], [`neighbour`]).
//!
//! Pure: [`decode`] (messages to events), `encode` (requests to messages), [`apply`] (events to state), [`install`] (dumps to state).

pub mod apply;
pub mod decode;
pub mod dump;
mod encode;
pub mod install;
pub mod model;
pub mod monitor;
pub mod neighbour;
mod order;
pub mod query;
pub mod requests;
pub mod route_writer;
pub mod routes;
mod settings;
#[cfg(test)]
pub(crate) mod text;
mod watch;
