//! The configuration file (TOML). Unknown keys are refused with line and key.

pub mod model;

pub use model::Config;
