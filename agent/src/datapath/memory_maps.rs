//! [`FibMaps`] in memory.
