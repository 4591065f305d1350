//! `cargo xtask demo`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{process, setup};

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on to the demo: `--json`, `--keep`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Builds in release mode and becomes the demo.
///
/// # Errors
/// The set-up or the build fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure()?;
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--release", "--locked", "--package", "underpass"]);
    process::run(build.args(["--package", "underpass-tests", "--bins"]))?;
    let target = process::target_dir().join("release");
    let mut demo = Command::new(target.join("demo"));
    demo.args(&args.rest).env("UNDERPASS_BIN", target.join("underpass"));
    Err(process::exec(&mut demo))
}
