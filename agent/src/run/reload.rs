//! Another configuration for the running agent, by SIGHUP or `underpass reload`.
//!
//! The file is read and judged first, and what differs is worked out by [`crate::config::diff`]: a file with
//! an error, a password that cannot be read or an address that cannot be listened on changes nothing.

use std::time::Instant;

use anyhow::Context as _;
use tracing::{error, info, warn};

use super::Agent;
use super::forwarding::Forwarding;
use crate::api::model::{Reloaded, ReloadedChange, SCHEMA};
use crate::config::Config;
use crate::config::diff::{Depth, Diff, Fate, PeerDiff, diff};
use crate::config::model::Kernel;

impl Agent {
    /// Takes on what the configuration file says now.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub(super) fn reload(&mut self) -> anyhow::Result<Reloaded> {
        let (new, warnings) = self.source.load()?;
        for warning in warnings {
            warn!("{}:{warning}", self.source.path.display());
        }
        let diff = diff(&self.config, &new);
        let mut report = describe(&diff);
        if let (Some(routing), Some(bgp)) = (&mut self.routing, &new.bgp) {
            report.problems = routing.reload(bgp, &diff)?;
        }
        if diff.datapath
            && let Err(problem) = self.restart_forwarding(&new)
        {
            report.problems.push(format!("no fast path: {problem:#}"));
        }
        self.take_on(new);
        info!(changes = report.changes.len(), needs_restart = ?report.needs_restart, "configuration read again");
        for problem in &report.problems {
            error!("configuration: {problem}");
        }
        Ok(report)
    }

    /// What needs a restart goes on as it was, and differs again at the next reload.
    fn take_on(&mut self, new: Config) {
        let old = &self.config;
        let both = |old: bool, new: bool| old && new;
        self.config = Config {
            agent: old.agent.clone(),
            log: old.log.clone(),
            datapath: if both(old.datapath.is_some(), new.datapath.is_some()) {
                new.datapath
            } else {
                old.datapath.clone()
            },
            bgp: if both(old.bgp.is_some(), new.bgp.is_some()) { new.bgp } else { old.bgp.clone() },
            kernel: Kernel { flush_on_stop: new.kernel.flush_on_stop, ..old.kernel },
        };
    }

    /// A fast path with the new configuration takes over what is pinned; packets are forwarded by it all the
    /// while, as over a restart of the agent. If it cannot start, the old one comes back.
    fn restart_forwarding(&mut self, new: &Config) -> anyhow::Result<()> {
        let (Some(old), Some(new)) = (&self.config.datapath, &new.datapath) else { return Ok(()) };
        let (agent, state, now) = (&self.config.agent, self.monitor.state(), Instant::now());
        self.forwarding = None;
        match Forwarding::start(new, agent, state, now) {
            Ok(forwarding) => self.forwarding = Some(forwarding),
            Err(problem) => {
                self.forwarding =
                    Some(Forwarding::start(old, agent, state, now).with_context(|| format!("{problem}"))?);
                return Err(problem).context("the old [datapath] goes on");
            }
        }
        Ok(())
    }
}

fn describe(diff: &Diff) -> Reloaded {
    let mut changes: Vec<ReloadedChange> = diff.peers.iter().filter_map(describe_peer).collect();
    let mut add = |differs: bool, object: &str, action: &str| {
        if differs {
            changes.push(ReloadedChange {
                object: object.to_owned(),
                action: action.to_owned(),
                keys: Vec::new(),
            });
        }
    };
    add(diff.listen, "bgp.listen", "changed in place");
    add(diff.rib && changes_selection(diff), "bgp", "changed in place");
    add(diff.flush_on_stop, "kernel.flush_on_stop", "changed in place");
    add(diff.datapath, "datapath", "taken over by a new fast path");
    Reloaded {
        schema: SCHEMA,
        changes,
        needs_restart: diff.needs_restart.iter().map(|key| (*key).to_owned()).collect(),
        problems: Vec::new(),
    }
}

/// The RIB has something new that is no peer's.
fn changes_selection(diff: &Diff) -> bool {
    diff.peers.iter().all(|peer| matches!(peer.fate, Fate::Changed { depth: Depth::None, .. }))
}

fn describe_peer(peer: &PeerDiff) -> Option<ReloadedChange> {
    let (action, keys) = match &peer.fate {
        Fate::Added => ("added", &Vec::new()),
        Fate::Removed => ("removed", &Vec::new()),
        Fate::Changed { depth, keys, .. } => match depth {
            Depth::None => return None,
            Depth::InPlace => ("changed in place", keys),
            Depth::Refresh => ("asked for its routes again", keys),
            Depth::Reset => ("reset", keys),
        },
    };
    Some(ReloadedChange {
        object: format!("peer {} ({})", peer.name, peer.peer),
        action: action.to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    })
}
