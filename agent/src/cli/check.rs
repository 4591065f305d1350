//! `underpass config check`.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::output::{self, Exit, OutputFormat};
use crate::api::model::SCHEMA;
use crate::config::{self, LoadError, Problem, Severity};

/// Prints "ok" or every problem of a configuration file.
///
/// # Errors
/// The file cannot be read.
pub(super) fn check(path: &Path, format: OutputFormat) -> anyhow::Result<Exit> {
    let (problems, exit) = match config::load(path) {
        Ok((_, warnings)) => (warnings, Exit::Fine),
        Err(LoadError::Invalid { problems, .. }) => (problems, Exit::Problem),
        Err(error @ LoadError::Read { .. }) => return Err(error.into()),
    };
    match format {
        OutputFormat::Table => output::print(&text(path, &problems, exit))?,
        OutputFormat::Json => output::print_json(&json!({
            "schema": SCHEMA,
            "file": path,
            "ok": exit == Exit::Fine,
            "problems": problems.iter().map(report).collect::<Vec<_>>(),
        }))?,
    };
    Ok(exit)
}

fn text(path: &Path, problems: &[Problem], exit: Exit) -> String {
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(text, "{}:{problem}", path.display());
    }
    if exit == Exit::Fine {
        text.push_str("ok\n");
    }
    text
}

fn report(problem: &Problem) -> serde_json::Value {
    json!({
        "line": problem.position.line,
        "column": problem.position.column,
        "key": problem.key,
        "severity": match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "message": problem.message,
    })
}
