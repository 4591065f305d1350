//! Logs and counters for people.
