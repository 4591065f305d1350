//! `cargo xtask test`.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::{process, setup};

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on to `cargo test`: `-p underpass-tests --test lab`, `-- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Builds the agent and runs the tests, by default of every crate.
///
/// # Errors
/// The set-up or the build fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure()?;
    let started = Instant::now();
    let mut build = process::cargo();
    // The same selection of crates as the tests': cargo then builds their dependencies once.
    build.args(["build", "--locked", "--workspace", "--exclude", "underpass-ebpf", "--bins"]);
    process::run(&mut build)?;

    let mut test = process::cargo();
    test.args(["test", "--locked", "--no-fail-fast"]);
    let chooses = |arg: &OsString| ["-p", "--package", "--workspace", "--all"].iter().any(|flag| arg == flag);
    if !args.rest.iter().take_while(|arg| *arg != "--").any(chooses) {
        test.args(["--workspace", "--exclude", "underpass-ebpf"]);
    }
    test.args(&args.rest)
        .env("UNDERPASS_BIN", process::target_dir().join("debug/underpass"))
        // A backtrace for every error that a poll loop swallows would cost more than the tests.
        .env("RUST_LIB_BACKTRACE", "0");
    let result = process::run(&mut test);
    let seconds = started.elapsed().as_secs();
    match result {
        Ok(()) => {
            println!("test: all passed in {seconds} s");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("test: failed after {seconds} s: {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}
