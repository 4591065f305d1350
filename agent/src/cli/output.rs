//! Standard output that survives a closed pipe, and exit codes.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

/// `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// Tables for people
    #[default]
    Table,
    /// The report as one JSON object
    Json,
}

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0.
    Fine,
    /// 1: a problem was found, or the agent failed.
    Problem,
    /// 2: wrong usage or configuration, or nobody to ask.
    CannotTell,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Problem => 1,
            Exit::CannotTell => 2,
        })
    }
}

/// Prints text as it is. A reader that went away (`underpass routes | head`) is no error.
pub(super) fn print(text: &str) -> anyhow::Result<Exit> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(Exit::Fine),
    }
}

/// Prints a report as one indented JSON object.
pub(super) fn print_json(report: &impl Serialize) -> anyhow::Result<Exit> {
    let mut text = serde_json::to_string_pretty(report).context("cannot write the report as JSON")?;
    text.push('\n');
    print(&text)
}

/// Prints an error with its causes to standard error.
pub(super) fn print_error(error: &anyhow::Error) {
    // Nobody to tell when standard error is gone too.
    let _ = writeln!(io::stderr().lock(), "error: {}", describe(error));
}

/// An error and its causes in one line. Many messages already hold their cause's: those are not
/// said twice.
pub(super) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {name}: {source}; try again")]
    struct ReadError {
        name: &'static str,
        source: io::Error,
    }

    #[test]
    fn causes_are_said_once() {
        let read = || ReadError { name: "a", source: io::Error::other("disk on fire") };
        for (error, expected) in [
            (anyhow::Error::from(read()), "cannot read a: disk on fire; try again"),
            (
                anyhow::Error::from(read()).context("no start"),
                "no start: cannot read a: disk on fire; try again",
            ),
            (anyhow::anyhow!("inner").context("outer"), "outer: inner"),
        ] {
            assert_eq!(describe(&error), expected);
        }
    }
}
