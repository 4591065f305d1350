//! Waiting for something to become true, with a deadline.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Pause between two looks.
const STEP: Duration = Duration::from_millis(50);

/// Waiting is of no use any more: what is waited for has ended. [`until`] gives up at once when the error of a
/// look has this in it.
#[derive(Clone, Copy, Debug)]
pub struct Over;

impl fmt::Display for Over {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("there is nothing to wait for")
    }
}

/// Calls `look` until it gives a value.
///
/// `look` says with an error what is not yet so; the last one is in the error after `deadline`.
///
/// # Errors
/// `deadline` has passed, or the last look said [`Over`]; the text names `what`.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if error.is::<Over>() => return Err(error).with_context(|| what.to_owned()),
            Err(error) if started.elapsed() >= deadline => {
                return Err(error).with_context(|| format!("{what}: not so after {deadline:?}"));
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn nobody_waits_for_what_has_ended() {
        let started = Instant::now();
        let ended = || Err::<(), _>(anyhow!(Over).context("it has ended (exit status: 2)"));
        let error = until("it is ready", Duration::from_mins(1), ended).expect_err("it never will");
        assert_eq!(
            format!("{error:#}"),
            "it is ready: it has ended (exit status: 2): there is nothing to wait for"
        );
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
