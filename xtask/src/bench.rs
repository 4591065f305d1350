//! `cargo xtask bench`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{process, setup};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on to the benchmark: `NAME [--quick] [--out FOLDER]`; `help` lists the names.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Builds in release mode and becomes the benchmark.
///
/// # Errors
/// The set-up or the build fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure()?;
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--release", "--locked", "--package", "underpass"]);
    process::run(build.args(["--package", "underpass-bench", "--bins"]))?;
    let target = process::target_dir().join("release");
    let mut bench = Command::new(target.join("underpass-bench"));
    bench.args(&args.rest).env("UNDERPASS_BIN", target.join("underpass"));
    bench.env("UNDERPASS_BENCH_ROOT", process::workspace());
    Err(process::exec(&mut bench))
}
