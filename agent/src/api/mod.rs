//! The Unix-socket protocol between the CLI and the running agent: one JSON request line, one JSON
//! response line.

pub mod model;
