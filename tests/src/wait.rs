//! Waiting for something to become true, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Pause between two looks.
const STEP: Duration = Duration::from_millis(50);

/// Calls `look` until it gives a value.
///
/// `look` says with an error what is not yet so; the last one is in the error after `deadline`.
///
/// # Errors
/// `deadline` has passed; the text names `what`.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() >= deadline => {
                return Err(error).with_context(|| format!("{what}: not so after {deadline:?}"));
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}
