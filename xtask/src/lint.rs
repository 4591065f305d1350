//! `cargo xtask lint`.

use std::process::ExitCode;

use anyhow::{Result, anyhow};

use crate::{process, setup, toolchain};

/// Checks formatting and lints of all crates; everything is checked before the first failure ends
/// the command.
///
/// # Errors
/// A check fails or cannot be started.
pub fn run() -> Result<ExitCode> {
    setup::ensure()?;
    let workspace = process::workspace();
    let mut failed = Vec::new();
    let mut check = |what: &str, command: &mut std::process::Command| {
        println!("lint: {what}");
        if let Err(error) = process::run(command) {
            eprintln!("lint: {error:#}");
            failed.push(what.to_owned());
        }
    };
    check("formatting", process::cargo().args(["fmt", "--all", "--check"]));
    check(
        "host clippy",
        process::cargo()
            .args(["clippy", "--quiet", "--locked", "--workspace", "--exclude", "underpass-ebpf"])
            .args(["--all-targets", "--", "-D", "warnings"]),
    );
    let toolchain = toolchain::find()
        .map_err(|missing| anyhow!("missing {missing}; run `cargo xtask setup` to install it"))?;
    let bpf_target = process::target_dir().join("bpf-lint");
    check(
        "eBPF clippy",
        toolchain.cargo(&workspace, &bpf_target, "clippy").args(["--quiet", "--", "-D", "warnings"]),
    );
    if process::installed("cargo-deny") && workspace.join("deny.toml").is_file() {
        // Advisories need their database from the network: `cargo deny check advisories` by hand.
        check(
            "licences, bans and sources",
            process::cargo().args(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]),
        );
    } else {
        println!("lint: licences, bans and sources skipped: cargo-deny or deny.toml is absent");
    }
    if failed.is_empty() {
        println!("lint: clean");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("lint: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}
