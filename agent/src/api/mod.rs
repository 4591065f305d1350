//! The Unix-socket protocol between the CLI and the running agent: one JSON request line, one JSON
//! response line.
//!
//! The server decides nothing: it hands each [`server::Call`] to the agent's main loop, which answers from its
//! own state.

pub mod client;
pub mod model;
pub mod server;

/// Longest request line in bytes, newline included.
pub const REQUEST_LIMIT: usize = 64 * 1024;
