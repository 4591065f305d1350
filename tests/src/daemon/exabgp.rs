//! `ExaBGP`: sends what its configuration says, malformed or not.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Process, tools};
use crate::lab::Lab;

/// A running `ExaBGP`.
#[derive(Debug)]
pub struct ExaBgp {
    process: Process,
}

impl ExaBgp {
    /// Starts `ExaBGP` for machine `machine` of the lab with this configuration.
    ///
    /// # Errors
    /// It is not installed, or cannot be started.
    pub fn start(lab: &Lab, machine: &str, config: &str) -> Result<Self> {
        let dir = lab.machine_dir(machine)?;
        let path = dir.join("exabgp.conf");
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        let python = tools::python_module("exabgp")?;
        let netns = lab.netns(machine);
        let mut command = netns.command(python.get_program());
        command
            .args(python.get_args())
            .arg(&path)
            .envs(python.get_envs().filter_map(|(key, value)| Some((key, value?))))
            // No named pipes for its command line, and no other user: it is root of its namespace only.
            .env("exabgp.api.cli", "false")
            .env("exabgp.daemon.drop", "false");
        let name = format!("ExaBGP in {}", netns.name());
        Ok(Self { process: Process::start(&name, command, &dir.join("exabgp.log"))? })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
