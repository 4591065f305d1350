//! `cargo xtask setup`: finds out what is missing, says why it is needed, installs it.

mod apt;
mod daemons;

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::process;
use crate::toolchain::{self, Compiler};
use daemons::Daemon;

const LINKER_VERSION: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Debian's compiler with a prebuilt `core` for eBPF.
const COMPILER: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
/// What bpf-linker is built against.
const LLVM: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "libzstd-dev"];
/// Clippy of the package `rust-web-clippy`.
const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";
/// Programs that the build and the labs call, and their packages.
const PROGRAMS: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("c++", "g++"),
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("iptables-legacy", "iptables"),
    ("nsenter", "util-linux"),
    ("python3", "python3"),
];

/// Something to install.
enum Step {
    /// Packages of the system.
    Packages { names: Vec<&'static str>, why: &'static str },
    /// bpf-linker, built with cargo.
    Linker,
    /// A routing daemon, unpacked into the tools folder.
    Daemon(&'static Daemon),
}

impl Step {
    /// What and why, one line.
    fn describe(&self) -> String {
        match self {
            Self::Packages { names, why } => format!("packages {}: {why}", names.join(" ")),
            Self::Linker => format!(
                "bpf-linker {LINKER_VERSION} (cargo install, a minute or two): links the eBPF programs"
            ),
            Self::Daemon(daemon) => format!(
                "{} (unpacked, not installed: nothing is started on this machine): {}",
                daemon.package, daemon.why
            ),
        }
    }

    fn install(&self) -> Result<()> {
        match self {
            Self::Packages { names, .. } => apt::install(names),
            Self::Linker => install_linker(),
            Self::Daemon(daemon) => daemon.install(),
        }
    }
}

/// `cargo xtask setup`.
///
/// # Errors
/// Something cannot be installed; the text says what to do.
pub fn run() -> Result<ExitCode> {
    if !ensure()? {
        println!("setup: everything is installed (tools in {})", toolchain::tools_dir().display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing; says nothing and is quick when nothing is. Returns whether there was
/// something to do.
///
/// # Errors
/// As [`run`].
pub fn ensure() -> Result<bool> {
    if plan().is_empty() {
        return Ok(false);
    }
    let tools = toolchain::tools_dir();
    fs::create_dir_all(&tools).with_context(|| {
        format!("cannot create the tools folder {}; set UNDERPASS_TOOLS to another one", tools.display())
    })?;
    // Two set-ups at once: the second waits, then finds less to do.
    let lock = File::create(tools.join(".lock"))
        .with_context(|| format!("cannot write into the tools folder {}", tools.display()))?;
    lock.lock().with_context(|| format!("cannot lock the tools folder {}", tools.display()))?;
    let steps = plan();
    if steps.is_empty() {
        return Ok(true);
    }
    println!("setup: this machine lacks");
    for step in &steps {
        println!("  - {}", step.describe());
    }
    if !process::installed("apt-get") {
        bail!("{}", manual(&steps));
    }
    for step in &steps {
        println!("setup: {}", step.describe());
        step.install()?;
    }
    let left = plan();
    if !left.is_empty() {
        let left: Vec<_> = left.iter().map(Step::describe).collect();
        bail!("still missing after the set-up: {}", left.join("; "));
    }
    println!("setup: done (tools in {})", tools.display());
    Ok(true)
}

/// What is missing, in the order of installation.
fn plan() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut programs: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !process::installed(program)).map(|(_, name)| *name).collect();
    programs.dedup();
    if !programs.is_empty() {
        steps.push(Step::Packages {
            names: programs,
            why: "the C compiler that crates link with, the tools and the Python that labs need",
        });
    }
    let compiler = toolchain::find_compiler();
    if compiler.is_none() {
        steps.push(Step::Packages {
            names: COMPILER.to_vec(),
            why: "a Rust compiler for bpfel-unknown-none with a prebuilt core, beside rustup's",
        });
    }
    if compiler != Some(Compiler::Nightly) && !Path::new(DEBIAN_CLIPPY).is_file() {
        steps.push(Step::Packages { names: vec!["rust-web-clippy"], why: "lints of the eBPF programs" });
    }
    if toolchain::find_linker().is_none() {
        let missing: Vec<_> = LLVM.iter().copied().filter(|name| !apt::is_installed(name)).collect();
        if !missing.is_empty() {
            steps.push(Step::Packages { names: missing, why: "LLVM, which bpf-linker is built against" });
        }
        steps.push(Step::Linker);
    }
    steps.extend(daemons::DAEMONS.iter().filter(|daemon| !daemon.is_installed()).map(Step::Daemon));
    steps
}

/// Builds bpf-linker with the host's cargo into the tools folder.
fn install_linker() -> Result<()> {
    let mut command = process::cargo();
    command
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(toolchain::tools_dir())
        .env("LLVM_PREFIX", LLVM_PREFIX)
        // Its own build: flags meant for this workspace must not reach it.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    process::run(&mut command)
}

/// What to install by hand where there is no apt-get.
fn manual(steps: &[Step]) -> String {
    let list: Vec<_> = steps.iter().map(|step| format!("  - {}", step.describe())).collect();
    format!(
        "no apt-get here, so nothing was installed. The automatic set-up knows Debian 12; elsewhere please \
         provide\n{}\n  The compiler may also be a nightly: `rustup toolchain install nightly --component \
         rust-src`, and `cargo install bpf-linker`. Routing daemons go to {}/{{bird1,bird2,frr,gobgp,exabgp,faketime}}/ with the \
         folder layout of Debian's packages.",
        list.join("\n"),
        toolchain::tools_dir().display()
    )
}
