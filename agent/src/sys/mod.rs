//! The one place with unsafe code: system calls that no crate wraps.
