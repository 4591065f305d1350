//! Finds a compiler for `bpfel-unknown-none` and bpf-linker.
//!
//! Compiled twice: into the agent's build script, which builds the eBPF objects, and into `xtask`,
//! which installs what is missing.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The eBPF target that everything is built for.
pub const TARGET: &str = "bpfel-unknown-none";

/// Flags of the eBPF build. Kernels of the supported range run instruction set v3, and all 64-bit
/// machines load unaligned words: headers are read word by word instead of byte by byte.
const RUSTFLAGS: &str = "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3 \
                         -C target-feature=+allows-misaligned-mem-access";

/// A compiler that can build for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Debian's `rustc-web` and `libstd-rust-web-dev-bpf`: a stable compiler with a prebuilt `core`.
    Debian {
        /// `/usr/bin`, where cargo and rustc are.
        bin: PathBuf,
    },
    /// A rustup nightly with the `rust-src` component: builds `core` itself.
    Nightly,
}

/// Everything needed to build the eBPF crate.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// bpf-linker.
    pub linker: PathBuf,
}

/// Folder for tools that `cargo xtask setup` installs: `$UNDERPASS_TOOLS`, else
/// `underpass/tools` below the user's cache folder, else `/var/cache/underpass/tools`.
pub fn tools_dir() -> PathBuf {
    if let Some(dir) = env::var_os("UNDERPASS_TOOLS") {
        return PathBuf::from(dir);
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"));
    cache.join("underpass").join("tools")
}

/// The compiler to use, Debian's before a nightly, or `None`.
pub fn find_compiler() -> Option<Compiler> {
    let bin = PathBuf::from("/usr/bin");
    if bin.join("cargo").is_file() {
        let sysroot = Command::new(bin.join("rustc")).args(["--print", "sysroot"]).output().ok();
        let sysroot = sysroot.filter(|out| out.status.success());
        if let Some(out) = sysroot {
            let root = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
            if root.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
                return Some(Compiler::Debian { bin });
            }
        }
    }
    let nightly = Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output().ok()?;
    let root = PathBuf::from(String::from_utf8_lossy(&nightly.stdout).trim());
    (nightly.status.success() && root.join("lib/rustlib/src/rust/library/core").is_dir())
        .then_some(Compiler::Nightly)
}

/// bpf-linker from [`tools_dir`] or from `PATH`, or `None`.
pub fn find_linker() -> Option<PathBuf> {
    let own = tools_dir().join("bin/bpf-linker");
    if own.is_file() {
        return Some(own);
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join("bpf-linker")).find(|candidate| candidate.is_file())
}

/// Compiler and linker.
///
/// # Errors
/// The list of what is missing, one line.
pub fn find() -> Result<Toolchain, String> {
    match (find_compiler(), find_linker()) {
        (Some(compiler), Some(linker)) => Ok(Toolchain { compiler, linker }),
        (compiler, linker) => {
            let mut missing = Vec::new();
            if compiler.is_none() {
                missing.push("a Rust compiler for bpfel-unknown-none");
            }
            if linker.is_none() {
                missing.push("bpf-linker");
            }
            Err(missing.join(" and "))
        }
    }
}

impl Toolchain {
    /// The cargo command that runs `subcommand` (`build`, `clippy`) on the eBPF crate in `workspace`,
    /// with output below `target_dir`. The environment of an outer cargo is taken away from it.
    pub fn cargo(&self, workspace: &Path, target_dir: &Path, subcommand: &str) -> Command {
        let mut command = match &self.compiler {
            Compiler::Debian { bin } => {
                let mut command = Command::new(bin.join("cargo"));
                command.arg(subcommand);
                command
            }
            Compiler::Nightly => {
                let mut command = Command::new("cargo");
                command.args(["+nightly", subcommand, "-Zbuild-std=core"]);
                command
            }
        };
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO") && text != "CARGO_HOME"
                || text.starts_with("RUST") && text != "RUSTUP_HOME"
            {
                command.env_remove(&name);
            }
        }
        if let Compiler::Debian { bin } = &self.compiler {
            command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", bin.join("rustc"));
        }
        command
            .env("PATH", self.path())
            .env("RUSTFLAGS", RUSTFLAGS)
            .current_dir(workspace)
            .args(["--release", "--locked", "--package", "underpass-ebpf", "--target", TARGET])
            .arg("--target-dir")
            .arg(target_dir);
        command
    }

    /// `PATH` with the linker's folder (and Debian's compilers, for cargo's subcommands) in front.
    fn path(&self) -> OsString {
        let mut dirs = Vec::new();
        if let Compiler::Debian { bin } = &self.compiler {
            dirs.push(bin.clone());
        }
        dirs.extend(self.linker.parent().map(Path::to_path_buf));
        let old = env::var_os("PATH").unwrap_or_default();
        dirs.extend(env::split_paths(&old));
        env::join_paths(dirs).unwrap_or(old)
    }
}
