//! The daemons that receive, and what each tells of itself.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use underpass_tests::agent::Agent;
use underpass_tests::daemon::Bird;
use underpass_tests::daemon::bird::Version;
use underpass_tests::wait;

use super::segment::{AUTONOMOUS_SYSTEM, MACHINE, RECEIVER, SEGMENT, Segment, reflector};
use crate::memory::peak_kib;

/// Time for a daemon to be ready for sessions.
const READY: Duration = Duration::from_secs(20);

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// The agent with `[datapath]` and `[bgp]`.
    Underpass,
    /// The agent with `[bgp]` alone: what BIRD does.
    UnderpassBgp,
    /// BIRD 2.
    Bird2,
}

impl Daemon {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Underpass, Self::UnderpassBgp, Self::Bird2];

    /// Name for tables and charts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Underpass => "underpass",
            Self::UnderpassBgp => "underpass-bgp",
            Self::Bird2 => "bird2",
        }
    }
}

/// A running receiver.
pub struct Receiver {
    pid: u32,
    kind: Kind,
}

enum Kind {
    Agent { agent: Agent, base: usize },
    Bird(Bird),
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Paths taken in.
    pub paths: usize,
    /// Prefixes in the maps, less those that were there before; `None` without a fast path.
    pub xdp: Option<usize>,
    /// Prefixes on their way to the kernel; `None` where the daemon does not tell.
    pub pending: Option<usize>,
    /// Times that everything was read again because notifications were lost.
    pub resyncs: u64,
    /// The daemon says that all is as it should be.
    pub settled: bool,
}

impl Receiver {
    /// Starts one on the segment, for so many reflectors, and waits until it is ready for their sessions.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(
        segment: &Segment,
        daemon: Daemon,
        reflectors: usize,
        ranges: &[IpNet],
    ) -> anyhow::Result<Self> {
        if daemon == Daemon::Bird2 {
            let bird = Bird::start(&segment.lab, MACHINE, Version::V2, &bird_config(reflectors))?;
            return Ok(Self { pid: bird.process().pid(), kind: Kind::Bird(bird) });
        }
        let ranges = if daemon == Daemon::Underpass { ranges } else { &[] };
        let mut agent = Agent::start(&segment.lab, MACHINE, &agent_config(reflectors, ranges))?;
        let base = wait::until("the agent is ready", READY, || {
            let status = agent.client().status()?;
            let Some(datapath) = status.datapath else { return Ok(0) };
            let attached = datapath.ports.iter().all(|port| port.attached && port.tx);
            anyhow::ensure!(datapath.synced && attached, "not synced: {datapath:?}");
            Ok(datapath.prefixes)
        })?;
        Ok(Self { pid: agent.process().pid(), kind: Kind::Agent { agent, base } })
    }

    /// How far it is.
    ///
    /// # Errors
    /// It does not answer.
    pub fn progress(&self) -> anyhow::Result<Progress> {
        match &self.kind {
            Kind::Bird(bird) => {
                let paths = bird.client().sessions()?.iter().map(|session| session.imported).sum();
                Ok(Progress { paths, settled: true, ..Progress::default() })
            }
            Kind::Agent { agent, base } => {
                let status = agent.client().status()?;
                let kernel = status.kernel.context("the agent has no routes of its own")?;
                let datapath = status.datapath.as_ref();
                Ok(Progress {
                    paths: status.bgp.map_or(0, |bgp| bgp.paths),
                    xdp: datapath.map(|datapath| datapath.prefixes.saturating_sub(*base)),
                    pending: Some(kernel.pending),
                    resyncs: datapath.map_or(0, |datapath| datapath.resyncs),
                    settled: kernel.synced == kernel.desired
                        && datapath.is_none_or(|datapath| datapath.synced),
                })
            }
        }
    }

    /// Processor time that it has used, in seconds.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        crate::memory::cpu_seconds(self.pid)
    }

    /// Most resident memory that it had, in units of 10^6 bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn peak_mb(&self) -> anyhow::Result<f64> {
        let kib = peak_kib(self.pid).context("the receiver has ended")?;
        Ok(crate::traffic::as_f64(kib) * 1024.0 / 1e6)
    }

    /// Ends the agent, whose routes and maps stay; BIRD goes on.
    ///
    /// # Errors
    /// It does not end.
    pub fn leave(&mut self) -> anyhow::Result<()> {
        match &mut self.kind {
            Kind::Agent { agent, .. } => agent.stop().map(drop),
            Kind::Bird(_) => Ok(()),
        }
    }
}

/// An agent that waits for the reflectors. Without `ranges` it has no fast path.
fn agent_config(reflectors: usize, ranges: &[IpNet]) -> String {
    let mut text = String::new();
    if !ranges.is_empty() {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[datapath]\nports = [\"eth0\"]\naccelerate = {ranges:?}\n");
    }
    let _ = write!(
        text,
        "[bgp]\nlocal_as = {AUTONOMOUS_SYSTEM}\nrouter_id = \"{RECEIVER}\"\nlisten = [\"{RECEIVER}\"]\n\n\
         [bgp.import]\nprefixes = [{{ prefix = \"0.0.0.0/0\", min = 8, max = 32 }}]\n\
         next_hops = [\"{SEGMENT}\"]\n"
    );
    for number in 1..=reflectors {
        let _ = write!(
            text,
            "\n[[bgp.peers]]\naddress = \"{}\"\nremote_as = {AUTONOMOUS_SYSTEM}\npassive = true\n\
             max_prefixes = 2000000\n",
            reflector(number)
        );
    }
    text
}

/// BIRD with what it takes for the same, and nothing that would cost it time: no scan of the kernel's table
/// within the pass, no multipath.
fn bird_config(reflectors: usize) -> String {
    let mut text = format!(
        "router id {RECEIVER};\nprotocol device {{ }}\n\
         protocol kernel {{ scan time 3600; ipv4 {{ import none; export all; }}; }}\n"
    );
    for number in 1..=reflectors {
        let _ = write!(
            text,
            "protocol bgp reflector{number} {{\n direct;\n passive;\n \
             local {RECEIVER} as {AUTONOMOUS_SYSTEM};\n neighbor {} as {AUTONOMOUS_SYSTEM};\n \
             ipv4 {{ import all; export none; }};\n}}\n",
            reflector(number)
        );
    }
    text
}
