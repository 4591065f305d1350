//! The routing daemons of the labs, unpacked side by side: Debian's `bird` and `bird2` exclude each
//! other, and installing any of them would start it on this machine. And the library that moves a program's clock.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::process;
use crate::toolchain::tools_dir;

/// A daemon's package and how to see that it works.
pub struct Daemon {
    /// Folder below the tools folder.
    pub folder: &'static str,
    /// Debian package.
    pub package: &'static str,
    /// What labs need it for.
    pub why: &'static str,
    /// Packages of its shared libraries; unpacked beside it where the system lacks them.
    libraries: &'static [&'static str],
    /// What must start, below the folder.
    programs: Programs,
}

/// How a daemon is started.
#[derive(Clone, Copy)]
enum Programs {
    /// Executables.
    Native(&'static [&'static str]),
    /// A module of Debian's Python.
    Python(&'static str),
    /// A shared library that is loaded before all others, below the folder of those of this architecture.
    Preload(&'static str),
}

/// Where Debian's packages put Python modules.
const PYTHON_MODULES: &str = "usr/lib/python3/dist-packages";

/// All daemons.
pub const DAEMONS: &[Daemon] = &[
    Daemon {
        folder: "bird1",
        package: "bird",
        why: "BIRD 1.6.8, the version in Calico's nodes",
        libraries: &[],
        programs: Programs::Native(&["usr/sbin/bird", "usr/sbin/bird6"]),
    },
    Daemon {
        folder: "bird2",
        package: "bird2",
        why: "BIRD 2, for interoperability tests",
        libraries: &[
            "libssh-gcrypt-4",
            "libgcrypt20",
            "libgpg-error0",
            "libgssapi-krb5-2",
            "libkrb5-3",
            "libk5crypto3",
            "libkrb5support0",
            "libcom-err2",
            "libkeyutils1",
        ],
        programs: Programs::Native(&["usr/sbin/bird"]),
    },
    Daemon {
        folder: "frr",
        package: "frr",
        why: "FRR, the leaf and spine switches of the reference lab",
        libraries: &["libyang2", "libc-ares2", "libjson-c5", "libpcre2-8-0", "libcap2", "libcrypt1"],
        programs: Programs::Native(&["usr/lib/frr/zebra", "usr/lib/frr/bgpd", "usr/lib/frr/staticd"]),
    },
    Daemon {
        folder: "gobgp",
        package: "gobgpd",
        why: "GoBGP, for interoperability tests",
        libraries: &[],
        programs: Programs::Native(&["usr/bin/gobgpd", "usr/bin/gobgp"]),
    },
    Daemon {
        folder: "exabgp",
        package: "python3-exabgp",
        why: "ExaBGP, which sends malformed messages in interoperability tests",
        libraries: &[],
        programs: Programs::Python("exabgp"),
    },
    Daemon {
        folder: "faketime",
        package: "libfaketime",
        why: "libfaketime, which gives the agent another wall clock in a fault test",
        libraries: &[],
        programs: Programs::Preload("faketime/libfaketimeMT.so.1"),
    },
];

impl Daemon {
    fn root(&self) -> PathBuf {
        tools_dir().join(self.folder)
    }

    /// Whether an earlier set-up finished it.
    pub fn is_installed(&self) -> bool {
        let root = self.root();
        match self.programs {
            Programs::Native(programs) => programs.iter().all(|program| root.join(program).is_file()),
            Programs::Python(module) => root.join(PYTHON_MODULES).join(module).is_dir(),
            Programs::Preload(library) => architecture(&root).join(library).is_file(),
        }
    }

    /// The commands that show that it works.
    fn checks(&self, root: &Path) -> Vec<Command> {
        let mut commands = match self.programs {
            Programs::Native(programs) => {
                programs.iter().map(|program| Command::new(root.join(program))).collect()
            }
            Programs::Python(module) => {
                let mut python = Command::new(python());
                python.args(["-m", module]).env("PYTHONPATH", root.join(PYTHON_MODULES));
                python.env("PYTHONDONTWRITEBYTECODE", "1");
                vec![python]
            }
            Programs::Preload(library) => {
                let mut any = Command::new("true");
                // The loader complains of a library that it cannot load, and goes on.
                any.env("LD_PRELOAD", architecture(root).join(library));
                vec![any]
            }
        };
        for command in &mut commands {
            command.arg("--version").env("LD_LIBRARY_PATH", library_path(root)).stdin(Stdio::null());
        }
        commands
    }

    /// Unpacks it and checks that its programs find their libraries.
    ///
    /// # Errors
    /// A download fails or a program does not start.
    pub fn install(&self) -> Result<()> {
        let root = self.root();
        // Complete or absent: an interrupted set-up must not pass for a finished one.
        let building = root.with_extension("new");
        if building.exists() {
            fs::remove_dir_all(&building).with_context(|| format!("cannot remove {}", building.display()))?;
        }
        let missing = self.libraries.iter().copied().filter(|library| !apt::is_installed(library));
        let packages: Vec<_> = std::iter::once(self.package).chain(missing).collect();
        apt::unpack(&packages, &building)?;
        for mut command in self.checks(&building) {
            let name = process::describe(&command);
            let output = command.output().with_context(|| format!("cannot start `{name}`"))?;
            if !output.status.success() || output.stderr.starts_with(b"ERROR: ld.so") {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!("`{name}` of {} does not run: {}", self.package, said.trim());
            }
        }
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::rename(&building, &root).with_context(|| format!("cannot put {} in place", root.display()))
    }
}

/// Where Debian's packages put the libraries of this architecture.
fn architecture(root: &Path) -> PathBuf {
    root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH))
}

/// Folders of the unpacked shared libraries, for `LD_LIBRARY_PATH`.
fn library_path(root: &Path) -> std::ffi::OsString {
    let usr = architecture(root);
    let frr = usr.join("frr");
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let dirs = [usr, frr, root.join("lib").join(triple)];
    std::env::join_paths(dirs).unwrap_or_default()
}

/// Debian's Python, which its packages are made for, before one that was installed beside it.
fn python() -> &'static str {
    let debian = "/usr/bin/python3";
    if Path::new(debian).is_file() { debian } else { "python3" }
}
