//! `cargo xtask matrix`, second half: the tables of `docs/interop.md` from what the tests left.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context as _, Result};
use underpass_tests::daemon::tools;
use underpass_tests::matrix::{self, Results};
use underpass_tests::netns;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Argument: the document. The folder of results is in the environment.
fn run() -> Result<()> {
    let document = env::args_os().nth(1).map(PathBuf::from).context("usage: matrix DOCUMENT")?;
    let folder = env::var_os(matrix::FOLDER).with_context(|| format!("{} is not set", matrix::FOLDER))?;
    let tables = Results::read(Path::new(&folder))?.render(&versions()?)?;
    let at = || format!("cannot use {}", document.display());
    let text = fs::read_to_string(&document).with_context(at)?;
    fs::write(&document, matrix::replace(&text, &tables)?).with_context(at)
}

/// Names and versions as the programs tell them, in the order of the rows.
fn versions() -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for (title, folder, program, word) in [
        ("BIRD", "bird1", "usr/sbin/bird", "version"),
        ("BIRD", "bird2", "usr/sbin/bird", "version"),
        ("FRR", "frr", "usr/lib/frr/bgpd", "version"),
        ("GoBGP", "gobgp", "usr/bin/gobgpd", "version"),
    ] {
        let root = tools::package(folder)?;
        let mut command = Command::new(root.join(program));
        command.arg("--version").env("LD_LIBRARY_PATH", tools::library_path(&root));
        versions.push(format!("{title} {}", version(&mut command, word)?));
    }
    let mut exabgp = tools::python_module("exabgp")?;
    versions.push(format!("ExaBGP {}", version(exabgp.arg("--version"), ":")?));
    Ok(versions)
}

/// The word after `word` in the first line of what a program prints; some print it to standard error.
fn version(command: &mut Command, word: &str) -> Result<String> {
    let output = netns::output_and_errors(command)?;
    let line = output.lines().next().unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|found| *found != word).skip(1);
    words.next().map(str::to_owned).with_context(|| format!("no version in {line:?} of {command:?}"))
}
