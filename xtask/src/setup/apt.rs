//! Debian packages: installed, or only unpacked.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Wait for another apt instead of failing.
const LOCK: &str = "DPkg::Lock::Timeout=300";

/// Whether dpkg has the package installed.
pub fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output()
        .is_ok_and(|out| out.status.success() && out.stdout == b"installed")
}

/// Installs packages.
///
/// # Errors
/// Not root, or apt-get fails.
pub fn install(packages: &[&str]) -> Result<()> {
    let uid = fs::metadata("/proc/self").context("cannot tell the user: /proc is not mounted")?.uid();
    if uid != 0 {
        bail!("installing packages needs root; run as root: apt-get install {}", packages.join(" "));
    }
    update();
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    process::run(&mut command).context("Debian 12 with its security suite is expected in the apt sources")
}

/// Downloads `packages` and unpacks them below `root` without running anything of them.
///
/// # Errors
/// A package is unknown or cannot be unpacked.
pub fn unpack(packages: &[&str], root: &Path) -> Result<()> {
    update();
    let downloads = root.join(".packages");
    fs::create_dir_all(&downloads).with_context(|| format!("cannot create {}", downloads.display()))?;
    let mut command = apt_get();
    command.arg("download").args(packages).current_dir(&downloads);
    process::run(&mut command)?;
    let files = fs::read_dir(&downloads).with_context(|| format!("cannot read {}", downloads.display()))?;
    for file in files {
        let file = file.with_context(|| format!("cannot read {}", downloads.display()))?.path();
        process::run(Command::new("dpkg").arg("--extract").arg(&file).arg(root))?;
    }
    fs::remove_dir_all(&downloads).with_context(|| format!("cannot remove {}", downloads.display()))
}

/// Refreshes the package lists, once per run. A failure is left to the command that needs them: a
/// third-party source may be down while Debian's is not.
fn update() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = process::run(apt_get().arg("update")) {
            eprintln!("setup: {error:#}; going on with the package lists at hand");
        }
    });
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // As root apt downloads as the user _apt, which cannot write into our folders.
    command
        .args(["--quiet", "--quiet", "--option", LOCK, "--option", "APT::Sandbox::User=root"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}
