//! `underpass config check`.

use std::fmt::Write;
use std::path::Path;

use super::output::{self, Exit};
use crate::config::{self, LoadError};

/// Prints "ok" or every problem of a configuration file.
///
/// # Errors
/// The file cannot be read.
pub(super) fn check(path: &Path) -> anyhow::Result<Exit> {
    match config::load(path) {
        Ok((_, warnings)) => {
            let mut text = String::new();
            for warning in warnings {
                let _ = writeln!(text, "{}:{warning}", path.display());
            }
            text.push_str("ok\n");
            output::print(&text)
        }
        Err(error @ LoadError::Invalid { .. }) => {
            output::print(&format!("{error}\n"))?;
            Ok(Exit::Problem)
        }
        Err(error @ LoadError::Read { .. }) => Err(error.into()),
    }
}
