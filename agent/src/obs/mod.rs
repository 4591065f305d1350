//! Logs and counters for people.

pub mod log;
