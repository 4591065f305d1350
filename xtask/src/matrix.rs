//! `cargo xtask matrix`.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{process, setup};

/// As in `tests/src/matrix.rs`.
const FOLDER: &str = "UNDERPASS_MATRIX_OUT";
/// Most of a cell's time is waiting for timers of the daemons.
const THREADS: &str = "--test-threads=8";
/// The tests of the tables themselves, which are about to change.
const NOT_TABLE: [&str; 2] = ["--skip", "table::"];

/// Runs the interop matrix and puts its tables into `docs/interop.md`.
///
/// # Errors
/// The set-up or the build fails, or a test does: the document stays as it is.
pub fn run() -> Result<ExitCode> {
    setup::ensure()?;
    let mut build = process::cargo();
    build.args(["build", "--locked", "--package", "underpass", "--package", "underpass-tests", "--bins"]);
    process::run(&mut build)?;
    let results = process::target_dir().join("matrix");
    let at = || format!("cannot empty {}", results.display());
    if results.exists() {
        fs::remove_dir_all(&results).with_context(at)?;
    }
    fs::create_dir_all(&results).with_context(at)?;
    let debug = process::target_dir().join("debug");
    let mut test = process::cargo();
    test.args(["test", "--locked", "--package", "underpass-tests", "--test", "matrix", "--", THREADS])
        .args(NOT_TABLE)
        .env(FOLDER, &results)
        .env("UNDERPASS_BIN", debug.join("underpass"))
        .env("RUST_LIB_BACKTRACE", "0");
    process::run(&mut test)?;
    let document = process::workspace().join("docs/interop.md");
    process::run(Command::new(debug.join("matrix")).arg(&document).env(FOLDER, &results))?;
    println!("matrix: the tables are in {}", document.display());
    Ok(ExitCode::SUCCESS)
}
