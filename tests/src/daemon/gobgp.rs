//! `GoBGP`, over its command line.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Process, tools};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::wait;

/// Time for the daemon to answer.
const SWIFT: Duration = Duration::from_secs(10);
/// Where it answers, on the loopback of its namespace.
const API: &str = "127.0.0.1:50051";

/// A running (or killed) gobgpd.
#[derive(Debug)]
pub struct GoBgp {
    process: Process,
    netns: Netns,
    dir: PathBuf,
}

impl GoBgp {
    /// Starts gobgpd for machine `machine` of the lab with this TOML configuration, and waits until it answers.
    ///
    /// # Errors
    /// It is not installed, refuses the configuration, or does not answer; the text has its log.
    pub fn start(lab: &Lab, machine: &str, config: &str) -> Result<Self> {
        let dir = lab.machine_dir(machine)?;
        write_config(&dir, config)?;
        let netns = lab.netns(machine);
        let process = spawn(&netns, &dir, &[])?;
        let mut daemon = Self { process, netns, dir };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// Runs `gobgp ARGUMENTS`, divided at spaces, and gives what it printed.
    ///
    /// # Errors
    /// The daemon is not there, or refuses.
    pub fn command(&self, arguments: &str) -> Result<String> {
        let program = tools::package("gobgp")?.join("usr/bin/gobgp");
        self.netns.run(&program.to_string_lossy(), arguments.split_whitespace())
    }

    /// SIGKILL: the peers see the connection end. Routes are lost with it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts it again, as after a graceful restart: the peers are told that their routes are still in use
    /// here (RFC 4724).
    ///
    /// # Errors
    /// As [`GoBgp::start`].
    pub fn restart_gracefully(&mut self, config: &str) -> Result<()> {
        write_config(&self.dir, config)?;
        self.process = spawn(&self.netns, &self.dir, &["--graceful-restart"])?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        wait::until("GoBGP answers", SWIFT, || {
            self.process.check().map_err(|error| error.context(wait::Over))?;
            self.command("global")
        })
        .map(drop)
        .with_context(|| format!("GoBGP in {}:\n{}", self.netns.name(), self.process.log_tail()))
    }
}

fn write_config(dir: &FilePath, config: &str) -> Result<()> {
    let path = dir.join("gobgpd.toml");
    fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))
}

fn spawn(netns: &Netns, dir: &FilePath, options: &[&str]) -> Result<Process> {
    let program = tools::package("gobgp")?.join("usr/bin/gobgpd");
    let mut command = netns.command(program);
    command
        .arg("-f")
        .arg(dir.join("gobgpd.toml"))
        .args(["--config-type", "toml", "--api-hosts", API, "--pprof-disable", "--log-plain"])
        .args(options);
    Process::start(&format!("GoBGP in {}", netns.name()), command, &dir.join("gobgpd.log"))
}
