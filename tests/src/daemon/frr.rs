//! FRR: zebra and bgpd of one machine, over their vty sockets (what `vtysh` speaks).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Path, Process, Session, tools};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::wait;

/// Time for a daemon to open its socket, or to end.
const SWIFT: Duration = Duration::from_secs(10);

/// Debian's FRR insists on a group `frrvty`, and on folders in /var. A mount namespace of its own has
/// both without a change to the machine. Arguments: run folder, unpacked package, library path,
/// daemon, the daemon's arguments.
const START: &str = r#"
dir=$0 package=$1 libraries=$2 daemon=$3
shift 3
mount --bind "$dir/group" /etc/group &&
mount --bind "$package" "$dir/frr" &&
mount --bind "$dir/var" /var &&
LD_LIBRARY_PATH=$libraries exec "$dir/frr/usr/lib/frr/$daemon" "$@"
"#;

/// zebra and bgpd of a machine.
#[derive(Debug)]
pub struct Frr {
    zebra: Process,
    bgpd: Process,
    netns: Netns,
    dir: PathBuf,
    client: Client,
}

impl Frr {
    /// Starts zebra and bgpd for machine `machine` of the lab; `config` is bgpd's. Waits until both answer.
    ///
    /// # Errors
    /// FRR is not installed, or does not answer; the text has its log.
    pub fn start(lab: &Lab, machine: &str, config: &str) -> Result<Self> {
        let dir = lab.machine_dir(machine)?;
        prepare(&dir, config)?;
        let netns = lab.netns(machine);
        let zebra = spawn(&netns, &dir, "zebra")?;
        let bgpd = spawn(&netns, &dir, "bgpd")?;
        let client = Client::new(&dir);
        let mut frr = Self { zebra, bgpd, netns, dir, client };
        frr.wait_ready()?;
        Ok(frr)
    }

    /// Its vty sockets.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Kills bgpd: the peers see the connection end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_bgpd(&mut self) -> Result<()> {
        self.bgpd.kill().map(drop)
    }

    /// SIGTERM to bgpd: ends the sessions with a Cease.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_bgpd(&mut self) -> Result<()> {
        self.bgpd.terminate(SWIFT).map(drop)
    }

    /// Starts bgpd again, with the configuration it had.
    ///
    /// # Errors
    /// As [`Frr::start`].
    pub fn restart_bgpd(&mut self) -> Result<()> {
        self.bgpd = spawn(&self.netns, &self.dir, "bgpd")?;
        self.wait_ready()
    }

    /// As [`Frr::restart_bgpd`], with another configuration.
    ///
    /// # Errors
    /// As [`Frr::start`].
    pub fn restart_bgpd_with(&mut self, config: &str) -> Result<()> {
        let path = self.dir.join("bgpd.conf");
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        self.restart_bgpd()
    }

    fn wait_ready(&mut self) -> Result<()> {
        wait::until("FRR answers", SWIFT, || {
            self.client.command("zebra", "show version")?;
            self.client.command("bgpd", "show version")
        })
        .with_context(|| {
            let tails = (self.zebra.log_tail(), self.bgpd.log_tail());
            format!("FRR in {}:\n{}\n{}", self.netns.name(), tails.0, tails.1)
        })?;
        self.zebra.check()?;
        self.bgpd.check()
    }
}

fn prepare(dir: &FilePath, config: &str) -> Result<()> {
    let at = || format!("cannot prepare {} for FRR", dir.display());
    for folder in ["frr", "var/run", "var/tmp"] {
        fs::create_dir_all(dir.join(folder)).with_context(at)?;
    }
    let groups = fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
    fs::write(dir.join("group"), format!("{groups}frrvty:x:64999:root\n")).with_context(at)?;
    fs::write(dir.join("zebra.conf"), "").with_context(at)?;
    fs::write(dir.join("bgpd.conf"), config).with_context(at)
}

fn spawn(netns: &Netns, dir: &FilePath, daemon: &str) -> Result<Process> {
    let package = tools::package("frr")?;
    // The package is bind-mounted below `dir`, as the mount over /var may hide it.
    let libraries = tools::library_path(&dir.join("frr"));
    let _ = fs::remove_file(dir.join(format!("{daemon}.vty")));
    let mut command = netns.command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", START])
        .arg(dir)
        .arg(package)
        .arg(libraries)
        .args([daemon, "-u", "root", "-g", "root", "-A", "127.0.0.1", "-P", "0", "--log", "stdout"])
        .arg("-f")
        .arg(dir.join(format!("{daemon}.conf")))
        .arg("-i")
        .arg(dir.join(format!("{daemon}.pid")))
        .arg("-z")
        .arg(dir.join("zserv.api"))
        .arg("--vty_socket")
        .arg(dir);
    let name = format!("{daemon} in {}", netns.name());
    Process::start(&name, command, &dir.join(format!("{daemon}.log")))
}

/// The vty sockets of an FRR.
#[derive(Clone, Debug)]
pub struct Client {
    dir: PathBuf,
}

impl Client {
    /// The vty sockets in folder `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Runs a command in `daemon` ("zebra", "bgpd") at enable level and gives its output.
    ///
    /// # Errors
    /// The daemon is not there, or refuses the command.
    pub fn command(&self, daemon: &str, command: &str) -> Result<String> {
        self.commands(daemon, &[command])
    }

    /// Runs several commands one after the other: `["configure terminal", "router bgp 65009", ..]`.
    ///
    /// # Errors
    /// As [`Client::command`]; the rest is not run.
    pub fn commands(&self, daemon: &str, commands: &[&str]) -> Result<String> {
        let socket = self.dir.join(format!("{daemon}.vty"));
        let at = || format!("FRR at {}", socket.display());
        let mut stream = UnixStream::connect(&socket).with_context(at)?;
        stream.set_read_timeout(Some(SWIFT)).with_context(at)?;
        let mut text = String::new();
        for command in std::iter::once(&"enable").chain(commands) {
            stream.write_all(format!("{command}\0").as_bytes()).with_context(at)?;
            let (answer, status) = answer(&mut stream).with_context(at)?;
            if status != 0 {
                bail!("{}: `{command}` refused ({status}): {}", at(), answer.trim());
            }
            text.push_str(&answer);
        }
        Ok(text)
    }

    /// Runs a `show .. json` command of bgpd.
    ///
    /// # Errors
    /// As [`Client::command`], or the answer has another shape.
    pub fn json<T: DeserializeOwned>(&self, command: &str) -> Result<T> {
        let text = self.command("bgpd", command)?;
        serde_json::from_str(&text).with_context(|| format!("unexpected answer to `{command}`: {text}"))
    }

    /// IPv4 sessions, sorted by peer.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub fn sessions(&self) -> Result<Vec<Session>> {
        let summary: Summary = self.json("show bgp summary json")?;
        let peers = summary.ipv4.map(|family| family.peers).unwrap_or_default();
        let mut sessions: Vec<_> = peers.into_iter().map(|(peer, state)| state.session(peer)).collect();
        sessions.sort();
        Ok(sessions)
    }

    /// The session with this peer.
    ///
    /// # Errors
    /// As [`Client::json`], or there is none.
    pub fn session(&self, peer: IpAddr) -> Result<Session> {
        let found = self.sessions()?.into_iter().find(|session| session.peer == peer);
        found.with_context(|| format!("FRR at {} has no peer {peer}", self.dir.display()))
    }

    /// All IPv4 paths, sorted by prefix.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub fn routes(&self) -> Result<Vec<Path>> {
        let table: Table = self.json("show bgp ipv4 unicast json")?;
        let mut paths: Vec<_> = table
            .routes
            .into_iter()
            .flat_map(|(prefix, paths)| paths.into_iter().map(move |path| path.path(prefix)))
            .collect();
        paths.sort();
        Ok(paths)
    }
}

/// An answer ends with three zero bytes and the status of the command.
fn answer(stream: &mut UnixStream) -> Result<(String, u8)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let got = stream.read(&mut chunk).context("no answer")?;
        if got == 0 {
            bail!("the connection ended");
        }
        bytes.extend_from_slice(&chunk[..got]);
        if let [text @ .., 0, 0, 0, status] = bytes.as_slice() {
            return Ok((String::from_utf8_lossy(text).into_owned(), *status));
        }
    }
}

#[derive(Deserialize)]
struct Summary {
    #[serde(rename = "ipv4Unicast")]
    ipv4: Option<SummaryFamily>,
}

#[derive(Deserialize)]
struct SummaryFamily {
    peers: BTreeMap<IpAddr, SummaryPeer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryPeer {
    remote_as: u32,
    state: String,
    #[serde(default)]
    pfx_rcd: usize,
    #[serde(default)]
    pfx_snt: usize,
}

impl SummaryPeer {
    fn session(self, peer: IpAddr) -> Session {
        Session {
            peer,
            name: peer.to_string(),
            remote_as: self.remote_as,
            state: self.state,
            imported: self.pfx_rcd,
            exported: self.pfx_snt,
        }
    }
}

#[derive(Deserialize)]
struct Table {
    routes: BTreeMap<IpNet, Vec<TablePath>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TablePath {
    #[serde(default)]
    bestpath: bool,
    #[serde(default)]
    multipath: bool,
    peer_id: String,
    #[serde(default)]
    nexthops: Vec<TableHop>,
}

#[derive(Deserialize)]
struct TableHop {
    ip: IpAddr,
}

impl TablePath {
    fn path(self, prefix: IpNet) -> Path {
        let mut next_hops: Vec<_> = self.nexthops.into_iter().map(|hop| hop.ip).collect();
        next_hops.sort_unstable();
        Path {
            prefix,
            source: self.peer_id,
            kind: "unicast".to_owned(),
            next_hops,
            selected: self.bestpath || self.multipath,
        }
    }
}
