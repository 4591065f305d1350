//! A wall clock of its own for one program (libfaketime). Its monotonic clock is the machine's.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::daemon::tools;

/// A clock that is ahead of the machine's, or behind it.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// One that shows the machine's time, with its file in `folder`.
    ///
    /// # Errors
    /// The library is not there, or the file cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        let library =
            tools::package("faketime")?.join("usr/lib").join(triple).join("faketime/libfaketimeMT.so.1");
        ensure!(library.is_file(), "{} is missing; run `cargo xtask setup`", library.display());
        let clock = Self { library, offset: folder.join("wall-clock") };
        clock.jump_to(0)?;
        Ok(clock)
    }

    /// From now on it is so many seconds ahead of the machine's.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn jump_to(&self, seconds: i64) -> Result<()> {
        let new = self.offset.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))
            .and_then(|()| fs::rename(&new, &self.offset))
            .with_context(|| format!("cannot write {}", self.offset.display()))
    }

    /// Environment of a program that lives by it.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.clone().into()),
            // The file is read for every look at the clock.
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ]
    }
}
