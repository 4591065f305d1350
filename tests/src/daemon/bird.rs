//! BIRD 1.6 and BIRD 2, over their control sockets.

use std::fs;
use std::io::{BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path as FilePath, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;

use super::{Path, Process, Session, tools};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::wait;

/// Time for a daemon to answer, or to end.
const SWIFT: Duration = Duration::from_secs(10);
/// Time for a daemon to open its socket, which it does once it has read its configuration: a million routes take
/// some.
const READING: Duration = Duration::from_mins(1);

/// Which BIRD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.6.8, IPv4 only; what Calico's BIRD is based on.
    V1,
    /// 1.6.8 for IPv6 only, a program of its own.
    V1Ipv6,
    /// 2.0.
    V2,
}

/// A running (or stopped) BIRD.
#[derive(Debug)]
pub struct Bird {
    process: Process,
    version: Version,
    netns: Netns,
    dir: PathBuf,
    name: String,
    client: Client,
}

impl Bird {
    /// Starts BIRD for machine `machine` of the lab with this configuration, and waits until it answers.
    ///
    /// # Errors
    /// It is not installed, refuses the configuration, or does not answer; the text has its log.
    pub fn start(lab: &Lab, machine: &str, version: Version, config: &str) -> Result<Self> {
        Self::start_as(lab, machine, "bird", version, config)
    }

    /// As [`Bird::start`], under another name: for several in one namespace.
    ///
    /// # Errors
    /// As [`Bird::start`].
    pub fn start_as(
        lab: &Lab,
        machine: &str,
        instance: &str,
        version: Version,
        config: &str,
    ) -> Result<Self> {
        let dir = lab.machine_dir(machine)?;
        write_config(&dir, instance, config)?;
        let netns = lab.netns(machine);
        let process = spawn(&netns, &dir, instance, version, &[])?;
        let client = Client::new(dir.join(format!("{instance}.ctl")));
        let mut bird = Self { process, version, netns, dir, name: instance.to_owned(), client };
        bird.wait_ready()?;
        Ok(bird)
    }

    /// Its control socket.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Loads another configuration, without a restart.
    ///
    /// # Errors
    /// BIRD refuses it.
    pub fn reconfigure(&self, config: &str) -> Result<()> {
        write_config(&self.dir, &self.name, config)?;
        self.client.command("configure").map(drop)
    }

    /// SIGTERM: ends the sessions with a Cease and takes the routes out.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate(SWIFT)
    }

    /// SIGKILL: the peers see the connection end; routes stay in the kernel.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Starts it again after [`Bird::stop`] or [`Bird::kill`], with the configuration it had.
    ///
    /// # Errors
    /// As [`Bird::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.netns, &self.dir, &self.name, self.version, &[])?;
        self.wait_ready()
    }

    /// As [`Bird::restart`], with another configuration, as after a graceful restart: the peers are told that
    /// their routes are still in use here (RFC 4724).
    ///
    /// # Errors
    /// As [`Bird::start`].
    pub fn restart_gracefully(&mut self, config: &str) -> Result<()> {
        write_config(&self.dir, &self.name, config)?;
        self.process = spawn(&self.netns, &self.dir, &self.name, self.version, &["-R"])?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let ready = wait::until("BIRD answers", READING, || match self.process.exited()? {
            Some(status) => Ok(Err(status)),
            None => self.client.command("show status").map(Ok),
        })?;
        if let Err(status) = ready {
            bail!("BIRD in {} has ended ({status}): {}", self.netns.name(), self.process.log_tail());
        }
        Ok(())
    }
}

fn write_config(dir: &FilePath, name: &str, config: &str) -> Result<()> {
    let path = dir.join(format!("{name}.conf"));
    fs::write(&path, format!("log stderr all;\n{config}"))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn spawn(netns: &Netns, dir: &FilePath, name: &str, version: Version, options: &[&str]) -> Result<Process> {
    let (folder, program) = match version {
        Version::V1 => ("bird1", "usr/sbin/bird"),
        Version::V1Ipv6 => ("bird1", "usr/sbin/bird6"),
        Version::V2 => ("bird2", "usr/sbin/bird"),
    };
    let root = tools::package(folder)?;
    let socket = dir.join(format!("{name}.ctl"));
    // Left behind by a kill; BIRD would refuse to start.
    let _ = fs::remove_file(&socket);
    let mut command = netns.command(root.join(program));
    command
        .arg("-f")
        .args(options)
        .arg("-c")
        .arg(dir.join(format!("{name}.conf")))
        .arg("-s")
        .arg(&socket)
        .arg("-P")
        .arg(dir.join(format!("{name}.pid")))
        .env("LD_LIBRARY_PATH", tools::library_path(&root));
    Process::start(&format!("BIRD in {}", netns.name()), command, &dir.join(format!("{name}.log")))
}

/// A BIRD's control socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The control socket at this path.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Runs a command of `birdc` and gives its lines without the reply codes.
    ///
    /// # Errors
    /// No BIRD is there, or it refuses the command.
    pub fn command(&self, command: &str) -> Result<String> {
        let at = || format!("BIRD at {}", self.socket.display());
        let mut stream = UnixStream::connect(&self.socket).with_context(at)?;
        stream.set_read_timeout(Some(SWIFT)).with_context(at)?;
        let mut reader = BufReader::new(stream.try_clone().with_context(at)?);
        reply(&mut reader).with_context(at)?;
        stream.write_all(format!("{command}\n").as_bytes()).with_context(at)?;
        reply(&mut reader).with_context(|| format!("{}: {command}", at()))
    }

    /// BGP sessions, in the order of the configuration.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn sessions(&self) -> Result<Vec<Session>> {
        Ok(parse_protocols(&self.command("show protocols all")?))
    }

    /// The session with this peer.
    ///
    /// # Errors
    /// As [`Client::command`], or there is none.
    pub fn session(&self, peer: IpAddr) -> Result<Session> {
        let found = self.sessions()?.into_iter().find(|session| session.peer == peer);
        found.with_context(|| format!("BIRD at {} has no peer {peer}", self.socket.display()))
    }

    /// All routes of the main table (BIRD 2: `master4`), in the order of BIRD.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn routes(&self) -> Result<Vec<Path>> {
        Ok(parse_routes(&self.command("show route")?))
    }
}

/// Reads one reply: `CODE-text` goes on, ` text` goes on with the same code, `CODE text` ends it.
fn reply(reader: &mut impl std::io::BufRead) -> Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).context("no answer")? == 0 {
            bail!("the connection ended");
        }
        let line = line.trim_end_matches('\n');
        if let Some(rest) = line.strip_prefix([' ', '+']) {
            text.push_str(rest);
            text.push('\n');
            continue;
        }
        let (Some(code), Some(mark)) = (line.get(..4), line.get(4..5)) else { bail!("garbage: {line:?}") };
        let rest = &line[5..];
        match code.as_bytes()[0] {
            b'8' | b'9' => bail!("refused ({code}): {rest}"),
            b'0' if mark == " " => return Ok(text),
            _ => {
                text.push_str(rest);
                text.push('\n');
            }
        }
        if mark == " " {
            return Ok(text);
        }
    }
}

/// Reads `show protocols all`.
fn parse_protocols(text: &str) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut current: Option<(Session, bool)> = None;
    for line in text.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            flush(&mut current, &mut sessions);
            let words: Vec<_> = line.split_whitespace().collect();
            if words.get(1) == Some(&"BGP") {
                let session = Session {
                    peer: IpAddr::from([0, 0, 0, 0]),
                    name: words[0].to_owned(),
                    remote_as: 0,
                    state: words.get(3).copied().unwrap_or_default().to_owned(),
                    imported: 0,
                    exported: 0,
                };
                current = Some((session, false));
            }
            continue;
        }
        let (Some((session, has_peer)), Some((key, value))) = (&mut current, line.split_once(':')) else {
            continue;
        };
        let value = value.trim();
        match key.trim() {
            "BGP state" => value.clone_into(&mut session.state),
            // BIRD 2 adds the interface of a link-local address.
            "Neighbor address" => {
                if let Ok(peer) = value.split('%').next().unwrap_or_default().parse() {
                    session.peer = peer;
                    *has_peer = true;
                }
            }
            "Neighbor AS" => session.remote_as = value.parse().unwrap_or(0),
            "Routes" => {
                let count = |what: &str| {
                    let part = value.split(',').find(|part| part.ends_with(what));
                    part.and_then(|part| part.split_whitespace().next()?.parse().ok()).unwrap_or(0)
                };
                session.imported += count("imported");
                session.exported += count("exported");
            }
            _ => {}
        }
    }
    flush(&mut current, &mut sessions);
    sessions
}

fn flush(current: &mut Option<(Session, bool)>, sessions: &mut Vec<Session>) {
    if let Some((session, true)) = current.take() {
        sessions.push(session);
    }
}

/// Reads `show route` of either version.
fn parse_routes(text: &str) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    let mut prefix: Option<IpNet> = None;
    for line in text.lines().filter(|line| !line.starts_with("Table ")) {
        if let Some(hop) = line.strip_prefix('\t') {
            // A further line of the path: a next hop of a multipath route, or of BIRD 2's.
            if let Some(path) = paths.last_mut() {
                path.next_hops.extend(gateway(hop));
                path.next_hops.sort_unstable();
            }
            continue;
        }
        let rest = if line.starts_with(' ') {
            line.trim_start()
        } else {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            prefix = first.parse().ok();
            rest.trim_start()
        };
        let Some(prefix) = prefix else { continue };
        let Some((what, source)) = rest.split_once('[') else { continue };
        let kind = match what.split_whitespace().next().unwrap_or_default() {
            kind @ ("blackhole" | "unreachable" | "prohibit") => kind,
            _ => "unicast",
        };
        paths.push(Path {
            prefix,
            source: source.split_whitespace().next().unwrap_or_default().to_owned(),
            kind: kind.to_owned(),
            next_hops: gateway(what).into_iter().collect(),
            selected: source.split_once(']').is_some_and(|(_, flags)| flags.trim_start().starts_with('*')),
        });
    }
    paths
}

/// The address after "via".
fn gateway(text: &str) -> Option<IpAddr> {
    let mut words = text.split_whitespace();
    words.find(|word| *word == "via")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests;
