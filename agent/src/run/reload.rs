//! Another configuration for the running agent, by SIGHUP or `underpass reload`.
//!
//! The file is read and judged first, and what differs is worked out by [`crate::config::diff`]: a file with
//! an error, a password that cannot be read or an address that cannot be listened on changes nothing.

use std::fmt::Display;
use std::time::Instant;

use tracing::{error, info, warn};

use super::Agent;
use super::forwarding::Forwarding;
use crate::api::model::{Reloaded, ReloadedChange, SCHEMA};
use crate::config::Config;
use crate::config::diff::{Depth, Diff, Fate, PeerDiff, diff};

/// What came of another configuration for the fast path.
#[derive(Debug, PartialEq, Eq)]
enum Restart<T> {
    /// It runs with the new configuration.
    Done(T),
    /// It could not, and runs with the old one; why.
    WentBack(T, String),
    /// It runs with neither; why.
    Failed(String),
}

impl Agent {
    /// Takes on what the configuration file says now, but for the fast path when that cannot.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub(super) fn reload(&mut self) -> anyhow::Result<Reloaded> {
        let (read, warnings) = self.source.load()?;
        for warning in warnings {
            warn!("{}:{warning}", self.source.path.display());
        }
        let mut new = self.config.take_on(&read);
        if let (Some(routing), Some(bgp)) = (&mut self.routing, &new.bgp) {
            routing.prepare(bgp)?;
        }
        let mut problems = Vec::new();
        if let Err(problem) = self.reload_forwarding(&new) {
            new.datapath.clone_from(&self.config.datapath);
            problems.push(problem);
        }
        let differs = diff(&self.config, &new);
        let mut report = describe(&differs, diff(&self.config, &read).needs_restart);
        if let (Some(routing), Some(bgp)) = (&mut self.routing, &new.bgp) {
            problems.extend(routing.reload(&new, bgp, &differs));
        }
        self.config = new;
        report.problems = problems;
        info!(changes = report.changes.len(), needs_restart = ?report.needs_restart, "configuration read again");
        for problem in &report.problems {
            error!("configuration: {problem}");
        }
        Ok(report)
    }

    /// A fast path with the new configuration takes over what is pinned; packets are forwarded by it all the
    /// while, as over a restart of the agent. One that does not run is tried again, whether anything differs
    /// or not.
    ///
    /// # Errors
    /// The fast path runs with the old configuration or not at all; why.
    fn reload_forwarding(&mut self, new: &Config) -> Result<(), String> {
        let (Some(old), Some(new)) = (&self.config.datapath, &new.datapath) else { return Ok(()) };
        if old == new && self.forwarding.is_some() {
            return Ok(());
        }
        let (agent, state, now) = (&self.config.agent, self.monitor.state(), Instant::now());
        // Gives the pins back: only one may have them.
        self.forwarding = None;
        let (forwarding, result) =
            match restart(new, old, |config| Forwarding::start(config, agent, state, now)) {
                Restart::Done(forwarding) => (Some(forwarding), Ok(())),
                Restart::WentBack(forwarding, problem) => (Some(forwarding), Err(problem)),
                Restart::Failed(problem) => (None, Err(problem)),
            };
        self.forwarding = forwarding;
        self.no_fast_path = if self.forwarding.is_some() { None } else { result.clone().err() };
        result
    }
}

/// Starts with the new configuration, or else with the old one.
fn restart<C: PartialEq, T, E: Display>(
    new: &C,
    old: &C,
    mut start: impl FnMut(&C) -> Result<T, E>,
) -> Restart<T> {
    let problem = match start(new) {
        Ok(started) => return Restart::Done(started),
        Err(problem) => problem,
    };
    if new == old {
        return Restart::Failed(format!("no fast path: {problem}"));
    }
    match start(old) {
        Ok(started) => {
            Restart::WentBack(started, format!("the fast path goes on with the old [datapath]: {problem}"))
        }
        Err(again) => {
            Restart::Failed(format!("no fast path: {problem}; nor with the old [datapath]: {again}"))
        }
    }
}

fn describe(diff: &Diff, needs_restart: Vec<&'static str>) -> Reloaded {
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
        needs_restart: needs_restart.into_iter().map(str::to_owned).collect(),
        problems: Vec::new(),
    }
}

/// The RIB has something new that is no peer's.
fn changes_selection(diff: &Diff) -> bool {
    diff.peers.iter().all(PeerDiff::is_unchanged)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts with these configurations, by number, and no others.
    fn starts(working: &[u32]) -> (Restart<u32>, Vec<u32>) {
        let mut tried = Vec::new();
        let result = restart(&2, &1, |config| {
            tried.push(*config);
            if working.contains(config) { Ok(*config) } else { Err(format!("{config} is broken")) }
        });
        (result, tried)
    }

    #[test]
    fn the_old_configuration_is_gone_back_to_only_when_the_new_one_fails() {
        assert_eq!(starts(&[1, 2]), (Restart::Done(2), vec![2]));
        let (result, tried) = starts(&[1]);
        let Restart::WentBack(1, why) = result else { panic!("{result:?}") };
        assert_eq!(why, "the fast path goes on with the old [datapath]: 2 is broken");
        assert_eq!(tried, [2, 1]);
        let (result, _) = starts(&[]);
        let Restart::Failed(why) = result else { panic!("{result:?}") };
        assert_eq!(why, "no fast path: 2 is broken; nor with the old [datapath]: 1 is broken");
    }

    #[test]
    fn one_that_failed_is_tried_once_when_nothing_differs() {
        let mut tries = 0;
        let result: Restart<()> = restart(&1, &1, |_| {
            tries += 1;
            Err("broken")
        });
        assert_eq!(result, Restart::Failed("no fast path: broken".to_owned()));
        assert_eq!(tries, 1);
    }
}
