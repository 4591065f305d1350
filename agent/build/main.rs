//! Compiles the eBPF crate and hands the objects to the agent (`UNDERPASS_OBJECT`) and, for the
//! benchmarks, to dependents (`DEP_UNDERPASS_EBPF_RIVALS`).

mod toolchain;

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let workspace = manifest.parent().expect("agent/ is inside the workspace");
    let toolchain = match toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            // Nothing else is printed, so that cargo shows this line and no more.
            println!(
                "cargo::error=the eBPF toolchain is incomplete: missing {missing}; run `cargo xtask setup`"
            );
            return;
        }
    };
    for path in ["ebpf", "common/src", "common/Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-changed=build");
    for name in ["UNDERPASS_TOOLS", "XDG_CACHE_HOME", "HOME", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }

    // One target folder for all profiles of the workspace: the objects are always release builds.
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("bpf");
    let status = toolchain.cargo(workspace, &target_dir, "build").status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            eprintln!(
                "building the eBPF programs failed ({status}); if the toolchain changed, run `cargo xtask setup`"
            );
            exit(1)
        }
        Err(error) => {
            eprintln!("cannot start the eBPF compiler: {error}; run `cargo xtask setup`");
            exit(1)
        }
    }
    let built = target_dir.join(toolchain::TARGET).join("release");
    let agent = copy(&built, &out, "underpass");
    let rivals = copy(&built, &out, "rivals");
    println!("cargo::rustc-env=UNDERPASS_OBJECT={}", agent.display());
    println!("cargo::metadata=RIVALS={}", rivals.display());
}

/// Copies an object out of the shared target folder, so that a later build of another profile
/// does not change it under a finished one.
fn copy(built: &Path, out: &Path, name: &str) -> PathBuf {
    let to = out.join(format!("{name}.o"));
    std::fs::copy(built.join(name), &to).unwrap_or_else(|error| {
        eprintln!("the eBPF object {name} is missing after its build: {error}");
        exit(1)
    });
    to
}
