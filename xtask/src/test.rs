//! `cargo xtask test`.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::{process, setup};

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on to `cargo test`: `-p underpass-tests --test lab`.
    #[arg(allow_hyphen_values = true, value_name = "CARGO_ARGS")]
    cargo: Vec<OsString>,
    /// Passed on to the tests: `--nocapture`.
    #[arg(last = true, value_name = "TEST_ARGS")]
    tests: Vec<OsString>,
}

impl Args {
    /// What `cargo test` gets. After a value, clap leaves a `--` and what follows among the values.
    pub fn rest(&self) -> Vec<OsString> {
        let mut rest = self.cargo.clone();
        if !self.tests.is_empty() {
            rest.push("--".into());
            rest.extend_from_slice(&self.tests);
        }
        rest
    }
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
    let rest = args.rest();
    if !rest.iter().take_while(|arg| *arg != "--").any(chooses) {
        test.args(["--workspace", "--exclude", "underpass-ebpf"]);
    }
    test.args(&rest)
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
