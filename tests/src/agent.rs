//! Underpass itself, in a namespace.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use underpass::api::client;
use underpass::api::model::{Counters, Lookup, Peers, Request, Response, Routes, Status};

use nix::sys::signal::Signal;

use crate::daemon::Process;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::wait;

/// Time for the agent to end on SIGTERM.
const SWIFT: Duration = Duration::from_secs(10);

/// A running (or stopped) agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    netns: Netns,
    client: Client,
    environment: Environment,
}

/// Variables of the agent's environment beside those of the test.
pub type Environment = Vec<(&'static str, OsString)>;

impl Agent {
    /// Starts `underpass run` for machine `machine` of the lab. `sections` is the TOML configuration without
    /// `[agent]` and `[log]`: socket, pin folder (on the lab's bpffs) and log are the lab's.
    ///
    /// Does not wait: [`Client::wait_synced`] does.
    ///
    /// # Errors
    /// The program is missing or cannot be started.
    pub fn start(lab: &Lab, machine: &str, sections: &str) -> Result<Self> {
        Self::start_in(lab, machine, sections, Vec::new())
    }

    /// As [`Agent::start`], with these variables in its environment.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_in(lab: &Lab, machine: &str, sections: &str, environment: Environment) -> Result<Self> {
        let dir = lab.machine_dir(machine)?;
        let client = Client::new(&dir)?;
        let bpffs = lab.bpffs().join(machine);
        fs::create_dir_all(&bpffs).with_context(|| format!("cannot create {}", bpffs.display()))?;
        let config = format!(
            "[agent]\nsocket = \"{}\"\nbpffs = \"{}\"\n\n[log]\nfilter = \"{}\"\n\n{sections}",
            client.socket().display(),
            bpffs.display(),
            env::var("UNDERPASS_LAB_LOG").unwrap_or_else(|_| "info".to_owned()),
        );
        fs::write(client.config(), config)
            .with_context(|| format!("cannot write {}", client.config().display()))?;
        let netns = lab.netns(machine);
        let process = spawn(&netns, &client, &environment)?;
        Ok(Self { process, netns, client, environment })
    }

    /// Its socket.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs `underpass ARGUMENTS` in its namespace with its configuration: `["status", "-o", "json"]`.
    /// Works whether it is running or not.
    ///
    /// # Errors
    /// It cannot be started; a failure of the command itself is in the output.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.netns.command(&self.client.program);
        command.args(arguments).arg("-c").arg(self.client.config()).stdin(Stdio::null());
        command.output().with_context(|| format!("cannot run underpass {arguments:?}"))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until it answers and has compiled everything into the maps, with all its BGP sessions
    /// up and all its routes in the kernel.
    ///
    /// # Errors
    /// It has ended, or is not that far after `deadline`.
    pub fn wait_synced(&mut self, deadline: Duration) -> Result<Status> {
        let what = format!("underpass in {} is synced", self.netns.name());
        wait::until(&what, deadline, || {
            self.process.check().map_err(|error| anyhow!(wait::Over).context(error))?;
            let status = self.client.status()?;
            if let Some(datapath) = &status.datapath {
                ensure!(datapath.synced, "maps are behind");
                for port in &datapath.ports {
                    ensure!(port.attached, "port {} is not attached: {:?}", port.interface, port.problem);
                }
                ensure!(!datapath.ports.is_empty(), "no ports");
            }
            if let Some(bgp) = &status.bgp {
                ensure!(bgp.established == bgp.peers, "{} of {} sessions", bgp.established, bgp.peers);
            }
            if let Some(kernel) = &status.kernel {
                ensure!(kernel.synced == kernel.desired, "{} of {} routes", kernel.synced, kernel.desired);
            }
            Ok(status)
        })
    }

    /// SIGHUP: it reads its configuration again.
    ///
    /// # Errors
    /// It has ended.
    pub fn hang_up(&self) -> Result<()> {
        self.process.signal(Signal::SIGHUP)
    }

    /// SIGTERM, then waits.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate(SWIFT)
    }

    /// SIGKILL, then waits.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Starts it again after [`Agent::stop`] or [`Agent::kill`], with the configuration it had.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.netns, &self.client, &self.environment)?;
        Ok(())
    }
}

fn spawn(netns: &Netns, client: &Client, environment: &Environment) -> Result<Process> {
    let mut command = netns.command(&client.program);
    command.arg("run").arg("-c").arg(client.config());
    // The test's own settings are not the agent's.
    command.env_remove("UNDERPASS_LOG").envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start(&format!("underpass in {}", netns.name()), command, &client.dir.join("underpass.log"))
}

/// The agent of a machine, by its socket.
#[derive(Clone, Debug)]
pub struct Client {
    program: PathBuf,
    dir: PathBuf,
}

impl Client {
    /// The agent whose files are in the machine's folder `dir`.
    ///
    /// # Errors
    /// The program is missing.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Self { program: program()?, dir: dir.to_owned() })
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("underpass.sock")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("underpass.toml")
    }

    /// `underpass status`.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn status(&self) -> Result<Status> {
        match self.call(&Request::Status)? {
            Response::Status(status) => Ok(status),
            other => bail!("status answered with {other:?}"),
        }
    }

    /// `underpass peers`.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub fn peers(&self) -> Result<Peers> {
        match self.call(&Request::Peers)? {
            Response::Peers(peers) => Ok(peers),
            other => bail!("peers answered with {other:?}"),
        }
    }

    /// `underpass routes`.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub fn routes(&self) -> Result<Routes> {
        match self.call(&Request::Routes)? {
            Response::Routes(routes) => Ok(routes),
            other => bail!("routes answered with {other:?}"),
        }
    }

    /// `underpass lookup ADDRESS [--in INTERFACE]`.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub fn lookup(&self, address: IpAddr, source: Option<IpAddr>, interface: Option<&str>) -> Result<Lookup> {
        let interface = interface.map(str::to_owned);
        match self.call(&Request::Lookup { address, source, interface })? {
            Response::Lookup(lookup) => Ok(lookup),
            other => bail!("lookup answered with {other:?}"),
        }
    }

    /// `underpass counters`.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub fn counters(&self) -> Result<Counters> {
        match self.call(&Request::Counters)? {
            Response::Counters(counters) => Ok(counters),
            other => bail!("counters answered with {other:?}"),
        }
    }

    fn call(&self, request: &Request) -> Result<Response> {
        match client::call(&self.socket(), request)? {
            Response::Error { message } => bail!("the agent refuses: {message}"),
            response => Ok(response),
        }
    }
}

/// Packets that a counter report says were forwarded by XDP.
pub fn forwarded(counters: &Counters) -> u64 {
    let rows = counters.counters.iter().filter(|row| row.verdict == "forwarded");
    rows.map(|row| row.packets).sum()
}

/// The agent's program: `$UNDERPASS_BIN`, or beside the running test.
///
/// # Errors
/// It is not built.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = env::var_os("UNDERPASS_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = env::current_exe().context("cannot tell our own path")?;
    // target/<profile>/ has the binaries, target/<profile>/deps/ the tests.
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join("underpass")).find(|path| path.is_file());
    found.context("the agent is not built; run `cargo build -p underpass` or use `cargo xtask test`")
}
