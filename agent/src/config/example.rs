//! The example that `underpass config example` prints.

/// A commented configuration with every key. Lines that start with `#` and no space are settings:
/// those of `[agent]`, `[log]`, `[kernel]` and the optional keys show the defaults, those of `[bgp]`
/// are an example.
pub const EXAMPLE: &str = include_str!("example.toml");
