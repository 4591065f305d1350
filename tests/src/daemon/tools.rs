//! Where `cargo xtask setup` put the daemons.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

#[path = "../../../agent/build/toolchain.rs"]
#[expect(dead_code, reason = "only the tools folder is of interest here")]
mod toolchain;

/// The unpacked package in `folder` ("bird1", "bird2", "frr", "gobgp", "exabgp",
/// "faketime").
///
/// # Errors
/// It is not there.
pub fn package(folder: &str) -> Result<PathBuf> {
    let root = toolchain::tools_dir().join(folder);
    if !root.is_dir() {
        bail!("{} is missing; run `cargo xtask setup`", root.display());
    }
    Ok(root)
}

/// `LD_LIBRARY_PATH` for the programs of a package unpacked to `root`.
pub fn library_path(root: &Path) -> OsString {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let usr = root.join("usr/lib").join(&triple);
    std::env::join_paths([usr.clone(), usr.join("frr"), root.join("lib").join(&triple)]).unwrap_or_default()
}

/// A Python program that is unpacked, to be run by Debian's Python: its packages are made for that one.
///
/// # Errors
/// It is not there.
pub fn python_module(folder: &str) -> Result<Command> {
    let root = package(folder)?;
    let debian = "/usr/bin/python3";
    let mut command = Command::new(if Path::new(debian).is_file() { debian } else { "python3" });
    command
        .args(["-m", folder])
        .env("PYTHONPATH", root.join("usr/lib/python3/dist-packages"))
        // The tools folder stays as the set-up left it.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}
