//! The routing daemons of the labs, unpacked side by side: Debian's `bird` and `bird2` exclude each
//! other, and installing any of them would start it on this machine.

use std::fs;
use std::path::PathBuf;
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
    /// Programs that must start, below the folder.
    programs: &'static [&'static str],
}

/// All daemons.
pub const DAEMONS: &[Daemon] = &[
    Daemon {
        folder: "bird1",
        package: "bird",
        why: "BIRD 1.6.8, the version in Calico's nodes",
        libraries: &[],
        programs: &["usr/sbin/bird"],
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
        programs: &["usr/sbin/bird"],
    },
    Daemon {
        folder: "frr",
        package: "frr",
        why: "FRR, the leaf and spine switches of the reference lab",
        libraries: &["libyang2", "libc-ares2", "libjson-c5", "libpcre2-8-0", "libcap2", "libcrypt1"],
        programs: &["usr/lib/frr/zebra", "usr/lib/frr/bgpd", "usr/lib/frr/staticd"],
    },
];

impl Daemon {
    fn root(&self) -> PathBuf {
        tools_dir().join(self.folder)
    }

    /// Whether an earlier set-up finished it.
    pub fn is_installed(&self) -> bool {
        self.programs.iter().all(|program| self.root().join(program).is_file())
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
        for program in self.programs {
            let mut command = Command::new(building.join(program));
            command.arg("--version").env("LD_LIBRARY_PATH", library_path(&building));
            let output = command
                .stdin(Stdio::null())
                .output()
                .with_context(|| format!("cannot start `{}`", process::describe(&command)))?;
            if !output.status.success() {
                bail!(
                    "{program} of {} does not run: {}",
                    self.package,
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
        }
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::rename(&building, &root).with_context(|| format!("cannot put {} in place", root.display()))
    }
}

/// Folders of the unpacked shared libraries, for `LD_LIBRARY_PATH`.
fn library_path(root: &std::path::Path) -> std::ffi::OsString {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let dirs = [
        root.join("usr/lib").join(&triple),
        root.join("usr/lib").join(&triple).join("frr"),
        root.join("lib").join(&triple),
    ];
    std::env::join_paths(dirs).unwrap_or_default()
}
