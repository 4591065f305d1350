//! The example that `underpass config example` prints.

/// A commented configuration with every key. Lines that start with `#` and no space are settings:
/// those of `[agent]`, `[log]`, `[kernel]` and the optional keys show the defaults, those of `[bgp]`
/// are an example.
pub const EXAMPLE: &str = include_str!("example.toml");

/// The settings that are commented out in the example, made active.
#[cfg(test)]
pub fn in_full() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            setting.to_owned()
        }
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}
