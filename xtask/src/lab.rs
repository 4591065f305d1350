//! `cargo xtask lab`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{process, setup};

/// Arguments of `cargo xtask lab`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `up [--name N] [--no-agents]`, `down`, `status`, `exec NODE -- CMD`; `help` says more.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Builds the agent and the lab program and becomes the latter.
///
/// # Errors
/// The set-up or the build fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure()?;
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--locked", "--package", "underpass", "--package", "underpass-tests"]);
    process::run(build.arg("--bins"))?;
    let target = process::target_dir().join("debug");
    let mut lab = Command::new(target.join("lab"));
    lab.args(&args.rest).env("UNDERPASS_BIN", target.join("underpass"));
    Err(process::exec(&mut lab))
}
