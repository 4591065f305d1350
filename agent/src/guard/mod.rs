//! Rules of the kernel that could decide about packets that XDP forwards: netfilter (nftables, what
//! iptables-nft writes there, legacy iptables), XFRM policies, traffic control.
//!
//! # Design
//! [`reader`] reads every source, [`judge`] says which rules could decide, and for which family and
//! ingress port; those ports carry a flag in their row by which the program leaves the packets to the
//! kernel. It is read again when nftables announces a change, and every [`POLL`] for what does not
//! announce itself.
//!
//! # Invariants
//! * Only provable irrelevance is irrelevant. A source that cannot be read closes, and so does a reading
//!   that does not end.
//! * A port is closed until it was judged, together with all the ports there are.
//! * Closing is immediate; opening waits until nothing was found for [`CALM`].
//! * Announcements only say that there is something to read: one that is lost loses nothing.

mod attributes;
pub mod bypass;
mod doorbell;
pub mod judge;
pub mod legacy;
pub mod model;
pub mod nft;
mod nft_rule;
mod nft_value;
pub mod reader;
mod socket;
pub mod tc;
#[cfg(test)]
mod tests;
mod transit;
mod walk;
pub mod xfrm;
mod xtables;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use glob_match::glob_match;
use tokio::task::{JoinError, JoinHandle};
use tracing::{info, warn};
use underpass_common::nexthop::{PORT_GUARDED4, PORT_GUARDED6};

use self::bypass::Bypass;
use self::doorbell::Doorbell;
use self::judge::{Finding, Judgement, judge};
use self::model::Scene;
use self::reader::Reader;
use crate::config::model::{Datapath, Services};
use crate::netlink::model::{Family, IfIndex, State};

/// How often everything is read.
const POLL: Duration = Duration::from_secs(2);
/// A change of nftables is read after this: most come in several messages.
const SETTLE: Duration = Duration::from_millis(20);
/// Reading takes at most one part in this many of the time, when changes are announced all the time...
const PAUSE_FACTOR: u32 = 4;
/// ...but a change never waits longer for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A reading that takes longer is no longer believed in.
const STALE: Duration = Duration::from_secs(4);
/// What was closed opens when nothing was found for so long.
const CALM: Duration = Duration::from_secs(3);

/// Packets that have a flag of their own: a family, from a port.
type Packets = (Family, IfIndex);

/// Watches the rules. One per agent, owned by the half that forwards.
#[derive(Debug)]
pub struct Guard {
    patterns: Vec<String>,
    bypass: Vec<Bypass>,
    scene: Scene,
    /// `None` while a reading runs.
    reader: Option<Reader>,
    running: Option<Running>,
    finished: Option<Result<Reading, JoinError>>,
    doorbell: Option<Doorbell>,
    due: Instant,
    /// `None`: nobody can tell.
    judgement: Option<Judgement>,
    /// When packets were last to be left to the kernel.
    found: BTreeMap<Packets, Instant>,
    flags: BTreeMap<IfIndex, u32>,
    /// How long the last reading took.
    took: Duration,
}

#[derive(Debug)]
struct Running {
    task: JoinHandle<Reading>,
    started: Instant,
}

#[derive(Debug)]
struct Reading {
    reader: Reader,
    judgement: Judgement,
    took: Duration,
}

impl Guard {
    /// Reads and judges in the network namespace of this thread, which blocks. Must be called inside a
    /// tokio runtime whose threads are in the same namespace.
    pub fn start(config: &Datapath, state: &State, now: Instant) -> Self {
        let scene = Scene {
            ports: BTreeMap::new(),
            accelerate: config.accelerate.clone(),
            services: match config.services {
                Services::Pass => config.service_ranges.clone(),
                Services::Forward => Vec::new(),
            },
        };
        let doorbell = Doorbell::new().inspect_err(
            |error| info!(%error, "nftables does not announce changes: they are seen every 2 s"),
        );
        let mut guard = Self {
            patterns: config.ports.clone(),
            bypass: config.bypass.clone(),
            scene,
            reader: None,
            running: None,
            finished: None,
            doorbell: doorbell.ok(),
            due: now + POLL,
            judgement: None,
            found: BTreeMap::new(),
            flags: BTreeMap::new(),
            took: Duration::ZERO,
        };
        guard.follow(state, now);
        let reading = read(Reader::default(), &guard.scene, &guard.bypass);
        guard.take(reading, now);
        guard.due = now + POLL;
        guard.set_flags(now);
        guard
    }

    /// Takes over the ports that there are; new ones are closed until they are judged.
    pub fn follow(&mut self, state: &State, now: Instant) {
        let managed = state.links.values().filter(|link| {
            link.mac.is_some()
                && !link.loopback
                && self.patterns.iter().any(|pattern| glob_match(pattern, &link.name))
        });
        let ports: BTreeMap<IfIndex, String> = managed.map(|link| (link.index, link.name.clone())).collect();
        if ports != self.scene.ports {
            self.scene.ports = ports;
            self.due = now;
            self.set_flags(now);
        }
    }

    /// `PORT_GUARDED4` and `PORT_GUARDED6` of the ports' rows.
    pub const fn flags(&self) -> &BTreeMap<IfIndex, u32> {
        &self.flags
    }

    /// What was found, also what the operator has named.
    pub fn findings(&self) -> &[Finding] {
        self.judgement.as_ref().map_or(&[], |judgement| &judgement.findings)
    }

    /// Entries of `datapath.bypass` that name nothing at present.
    pub fn idle_bypasses(&self) -> &[String] {
        self.judgement.as_ref().map_or(&[], |judgement| &judgement.idle_bypasses)
    }

    /// How long the last reading took.
    pub const fn took(&self) -> Duration {
        self.took
    }

    /// Why nothing can be told at present.
    pub fn problem(&self) -> Option<String> {
        let ports = !self.scene.ports.is_empty();
        (ports && self.judgement.is_none()).then(|| {
            "the kernel's rules could not be read in time, so packets stay with the kernel: the agent tries \
             again"
                .to_owned()
        })
    }

    /// Waits until [`Self::work`] has something to do. Cancel-safe.
    pub async fn ready(&mut self) {
        if let Some(running) = &mut self.running {
            let stale = tokio::time::Instant::from_std(running.started + STALE);
            let waits = tokio::time::Instant::now() < stale;
            tokio::select! {
                outcome = &mut running.task => {
                    self.finished = Some(outcome);
                    self.running = None;
                }
                () = tokio::time::sleep_until(stale), if waits => {}
            }
            return;
        }
        let due = tokio::time::Instant::from_std(self.due);
        tokio::select! {
            rung = ring(self.doorbell.as_mut()) => {
                if let Err(error) = rung {
                    warn!(%error, "nftables no longer announces changes: they are seen every 2 s");
                    self.doorbell = None;
                }
                let pause = (self.took * PAUSE_FACTOR).clamp(SETTLE, LONGEST_PAUSE);
                self.due = self.due.min(Instant::now() + pause);
            }
            () = tokio::time::sleep_until(due) => {}
        }
    }

    /// Takes the result of a reading, starts the next. Gives whether [`Self::flags`] are others now.
    pub fn work(&mut self, state: &State, now: Instant) -> bool {
        self.follow(state, now);
        match self.finished.take() {
            Some(Ok(reading)) => self.take(reading, now),
            Some(Err(error)) => {
                warn!(%error, "reading the kernel's rules failed: packets stay with the kernel");
                self.judgement = None;
                self.reader = Some(Reader::default());
            }
            None => {}
        }
        match &self.running {
            Some(running) if now >= running.started + STALE && self.judgement.take().is_some() => {
                warn!("reading the kernel's rules takes too long: packets stay with the kernel");
            }
            None if now >= self.due => {
                let reader = self.reader.take().unwrap_or_default();
                let (scene, bypass) = (self.scene.clone(), self.bypass.clone());
                let task = tokio::task::spawn_blocking(move || read(reader, &scene, &bypass));
                self.running = Some(Running { task, started: now });
                self.due = now + POLL;
            }
            _ => {}
        }
        self.set_flags(now)
    }

    fn take(&mut self, reading: Reading, now: Instant) {
        let Reading { reader, judgement, took } = reading;
        self.reader = Some(reader);
        self.took = took;
        let known = |finding: &Finding, of: Option<&Judgement>| {
            of.is_some_and(|judgement| {
                judgement.findings.iter().any(|own| {
                    (&own.place, &own.id, &own.text) == (&finding.place, &finding.id, &finding.text)
                })
            })
        };
        for finding in judgement.findings.iter().filter(|own| !known(own, self.judgement.as_ref())).take(10) {
            let bypassed = finding.bypassed.as_deref();
            let Finding { place, id, text, why, .. } = finding;
            info!(place, id, rule = text, why, bypassed, "a rule of the kernel could decide about packets");
        }
        let gone = self
            .judgement
            .iter()
            .flat_map(|before| &before.findings)
            .filter(|own| !known(own, Some(&judgement)));
        for Finding { place, id, text, .. } in gone.take(10) {
            info!(place, id, rule = text, "a rule of the kernel is gone");
        }
        for packets in judgement.closed() {
            self.found.insert(packets, now);
        }
        if judgement.scene != self.scene {
            self.due = now;
        }
        self.judgement = Some(judgement);
    }

    fn set_flags(&mut self, now: Instant) -> bool {
        self.found.retain(|_, last| now.saturating_duration_since(*last) < CALM);
        let judged = self.judgement.as_ref().filter(|judgement| judgement.scene == self.scene);
        let mut closed: BTreeSet<Packets> = judged.map(Judgement::closed).unwrap_or_default();
        closed.extend(self.found.keys());
        let flag =
            |family, port, bit| if judged.is_none() || closed.contains(&(family, port)) { bit } else { 0 };
        let flags = self.scene.ports.keys().map(|port| {
            let ipv4 = flag(Family::Ipv4, *port, PORT_GUARDED4);
            (*port, ipv4 | flag(Family::Ipv6, *port, PORT_GUARDED6))
        });
        let flags = flags.collect();
        let changed = self.flags != flags;
        self.flags = flags;
        changed
    }
}

/// The next announcement, or never.
async fn ring(doorbell: Option<&mut Doorbell>) -> io::Result<()> {
    match doorbell {
        Some(doorbell) => doorbell.ring().await,
        None => std::future::pending().await,
    }
}

fn read(mut reader: Reader, scene: &Scene, bypass: &[Bypass]) -> Reading {
    let started = Instant::now();
    let rules = reader.read(scene);
    let judgement = judge(&rules, scene, bypass);
    Reading { reader, judgement, took: started.elapsed() }
}
