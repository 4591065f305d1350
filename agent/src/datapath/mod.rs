//! The XDP side: loading, attaching, maps, lease, counters and the probe.
//!
//! # Design
//! Programs are loaded once per agent; maps and links are pinned below the ABI's folder, so that both
//! outlive the agent: a new agent adopts the maps, reads them back and swaps its program into the
//! links without losing a packet. A dead agent cannot outlive the kernel's truth for long: the lease
//! runs out and every packet is passed.
//!
//! # Invariants
//! * By a `bpf_link`, in the driver, or in the stack where the configuration allows it and that is
//!   exact, or not at all; a program that is not ours is never touched.
//! * A kill switch that is off stays off until the operator turns it on.
//! * One agent per folder.

pub mod attach;
pub mod bpf_maps;
pub mod control;
pub mod counters;
pub mod device;
mod ethtool;
pub mod facts;
pub mod flat;
mod genetlink;
pub mod growth;
pub mod lease;
pub mod loader;
pub mod maps;
pub mod memory_maps;
pub mod pins;
pub mod ports;
pub mod prefix_table;
pub mod preflight;
pub mod probe;
pub mod settle;

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya_obj::{Object, ProgramSection};
use nix::fcntl::Flock;
use underpass_common::abi::map;

use self::bpf_maps::BpfMaps;
use self::control::{ControlError, ControlWord, Switch};
use self::counters::Totals;
use self::loader::LoadError;
use self::maps::MapError;
use self::pins::PinError;
use self::ports::Numbers;
pub use self::ports::PortFacts;
pub use self::prefix_table::Engine;
use self::preflight::Policy;
use self::probe::{Answer, ProbeError};
use crate::netlink::model::IfIndex;

/// The eBPF object with the programs named in [`underpass_common::abi::program`].
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("UNDERPASS_OBJECT"));

/// Pause between two readings of the tick counter while its rate is measured.
const TICK_POLL: Duration = Duration::from_micros(500);
/// Shortest distance of the two readings that the rate is computed from: six ticks at 100 Hz, which is
/// enough to tell all known rates apart.
const TICK_SPAN: Duration = Duration::from_millis(60);
/// The rate is given up after this long.
const TICK_DEADLINE: Duration = Duration::from_secs(2);

/// The data plane cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// Loading.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The pin folder.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A table.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Lease and kill switch.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The probe.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The kernel's tick rate cannot be measured.
    #[error(
        "cannot measure the kernel's tick rate (last readings {first:?} and {second:?}): the lease \
         would be of unknown length"
    )]
    TickRate {
        /// First reading.
        first: lease::Reading,
        /// Second reading.
        second: lease::Reading,
    },
}

/// The loaded data plane of this agent.
pub struct Datapath {
    engine: Engine,
    maps: BpfMaps,
    control: ControlWord,
    folder: PathBuf,
    numbers: Numbers,
    hz: u64,
    policy: Policy,
    _claim: Flock<File>,
}

impl Datapath {
    /// Loads programs and maps below `bpffs` (made if missing), or adopts the maps that are there.
    /// Nothing is attached and nothing forwarded yet.
    ///
    /// # Errors
    /// `bpffs` is not on a BPF file system or used by another agent, a pinned map does not fit, or the
    /// kernel refuses; each error names what and the remedy.
    pub fn load(bpffs: &Path, engine: Engine) -> Result<Self, DatapathError> {
        let folder = pins::create(bpffs)?;
        let claim = pins::claim(bpffs)?;
        let mut ebpf = loader::load(&folder, engine)?;
        let mut control = ControlWord::new(bpf_maps::take(&mut ebpf, map::CONTROL)?, folder.clone());
        let hz = measure_hz(&mut ebpf, engine)?;
        let maps = BpfMaps::take(ebpf, folder.clone(), engine)?;
        // Kept as long as the maps are: a restart moves no flow.
        control.update(|control| {
            if control.flow_seed == 0 {
                control.flow_seed = fresh_seed();
            }
        })?;
        let numbers = Numbers::adopt(maps.ports()?.iter().map(|row| (row.ifindex, row.number)));
        let policy = Policy { generic: false, frags: takes_frags(engine) };
        tracing::info!(folder = %folder.display(), hz, frags = policy.frags, "XDP programs loaded");
        Ok(Self { engine, maps, control, folder, numbers, hz, policy, _claim: claim })
    }

    /// Whether ports without native XDP may run the program in generic mode; not unless this was called.
    pub const fn allow_generic(&mut self, allowed: bool) {
        self.policy.generic = allowed;
    }

    /// Attaches the program to a port, or swaps it into the link that an earlier agent left. What does
    /// not work is told in [`PortFacts::problem`]; nothing that is not ours is touched.
    pub fn attach(&mut self, ifindex: IfIndex, name: &str) -> PortFacts {
        let facts = self.try_attach(ifindex, name);
        facts.unwrap_or_else(|error| {
            self.numbers.release(ifindex);
            PortFacts::refused(ifindex, name, error.to_string())
        })
    }

    fn try_attach(&mut self, ifindex: IfIndex, name: &str) -> Result<PortFacts, attach::AttachError> {
        let no_room = |reason| attach::AttachError::NoRoom { name: name.to_owned(), reason };
        let number = self.numbers.take(ifindex).map_err(no_room)?;
        let program = loader::xdp(self.maps.ebpf(), self.engine.forward())
            .map_err(|error| no_room(error.to_string()))?;
        let attached = attach::attach(program, &self.folder, ifindex, self.policy)?;
        Ok(PortFacts::attached(ifindex, name, number, attached))
    }

    /// Looks again what an attached port can do; a veth's abilities change with its peer. Call it when
    /// the link or its peer may have changed. A port that lost its program (detached by hand, or another
    /// interface of the same index) is no longer attached.
    pub fn refresh(&mut self, facts: &PortFacts) -> PortFacts {
        if !facts.attached {
            return facts.clone();
        }
        match attach::attached(&self.folder, facts.ifindex, self.policy) {
            Err(error @ attach::AttachError::Detached { .. }) => {
                self.numbers.release(facts.ifindex);
                PortFacts::refused(facts.ifindex, &facts.name, error.to_string())
            }
            Ok(attached) => PortFacts::attached(facts.ifindex, &facts.name, facts.number, attached),
            Err(error) => PortFacts {
                ingress: false,
                egress: false,
                tx: false,
                problem: Some(error.to_string()),
                ..facts.clone()
            },
        }
    }

    /// Detaches the program from a port and forgets its number: for an interface that is gone or no
    /// longer to be managed, after the reconciler has closed it.
    ///
    /// # Errors
    /// The link's pin cannot be removed.
    pub fn detach(&mut self, ifindex: IfIndex) -> Result<(), DatapathError> {
        attach::detach(&self.folder, ifindex)?;
        self.numbers.release(ifindex);
        Ok(())
    }

    /// Interfaces that have a program of ours or a number: after [`Self::load`] those that an earlier
    /// agent left, among them such as are gone.
    ///
    /// # Errors
    /// The pin folder cannot be read.
    pub fn known(&self) -> Result<BTreeSet<IfIndex>, DatapathError> {
        let mut known = BTreeSet::from_iter(self.numbers.interfaces());
        known.extend(attach::interfaces(&self.folder)?);
        Ok(known)
    }

    /// Interfaces that have a program of ours.
    ///
    /// # Errors
    /// The pin folder cannot be read.
    pub fn attached(&self) -> Result<Vec<IfIndex>, DatapathError> {
        Ok(attach::interfaces(&self.folder)?)
    }

    /// The tables.
    pub const fn maps(&mut self) -> &mut BpfMaps {
        &mut self.maps
    }

    /// Renews the dead-man lease: packets are forwarded for `length` from now.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn renew_lease(&mut self, length: Duration) -> Result<(), DatapathError> {
        let until = lease::until(self.jiffies()?, self.hz, length);
        self.control.update(|control| control.lease_until = until)?;
        Ok(())
    }

    /// Whole seconds left on the lease.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lease_seconds(&mut self) -> Result<u64, DatapathError> {
        let until = self.control.get()?.lease_until;
        Ok(lease::seconds_left(until, self.jiffies()?, self.hz))
    }

    /// Turns a data plane on that was never touched; to be called after the first sync. One that the
    /// operator turned off stays off.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn arm(&mut self) -> Result<Switch, DatapathError> {
        let control = self.control.update(|control| {
            if Switch::from_word(control.enabled) == Switch::Fresh {
                control.enabled = Switch::On.word();
            }
        })?;
        Ok(Switch::from_word(control.enabled))
    }

    /// Whether the kill switch lets packets be forwarded.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enabled(&self) -> Result<bool, DatapathError> {
        Ok(Switch::from_word(self.control.get()?.enabled) == Switch::On)
    }

    /// Sets the kill switch; [`control::set_enabled`] does it without an agent.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<(), DatapathError> {
        let switch = if enabled { Switch::On } else { Switch::Off };
        self.control.update(|control| control.enabled = switch.word())?;
        Ok(())
    }

    /// Counters by port number and reason, summed over all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self) -> Result<Totals, DatapathError> {
        let read = counters::read(self.maps.counters());
        Ok(read.map_err(|error| MapError::new(map::COUNTERS, "read", "all", std::io::Error::other(error)))?)
    }

    /// What the program would do with `frame` (see [`probe::udp_frame`]) from `ingress`.
    ///
    /// # Errors
    /// The kernel does not run the probe.
    pub fn probe(&mut self, ingress: IfIndex, frame: &[u8]) -> Result<Answer, DatapathError> {
        Ok(probe::run(loader::xdp(self.maps.ebpf(), self.engine.probe())?, ingress, frame)?)
    }

    fn jiffies(&mut self) -> Result<u64, DatapathError> {
        jiffies(self.maps.ebpf(), self.engine)
    }
}

/// A seed of the flow hash that no other node is likely to have.
fn fresh_seed() -> u32 {
    // Keyed by the system's random numbers, once per value.
    let random = RandomState::new().hash_one(std::process::id());
    u32::try_from(random >> 32).unwrap_or_default().max(1)
}

/// Whether the forwarding program of the object takes frames in several buffers.
fn takes_frags(engine: Engine) -> bool {
    let object = Object::parse(OBJECT).ok();
    let program = object.as_ref().and_then(|object| object.programs.get(engine.forward()));
    program.is_some_and(|program| matches!(program.section, ProgramSection::Xdp { frags: true, .. }))
}

/// The kernel's tick counter, by way of the probe program.
fn jiffies(ebpf: &mut Ebpf, engine: Engine) -> Result<u64, DatapathError> {
    // The answer is filled in whatever the verdict: any frame will do.
    Ok(probe::run(loader::xdp(ebpf, engine.probe())?, 0, &[0; 60])?.jiffies)
}

/// Ticks per second: two readings of the counter, each just after it changed.
fn measure_hz(ebpf: &mut Ebpf, engine: Engine) -> Result<u64, DatapathError> {
    let start = Instant::now();
    let mut edge_after = |earliest: Duration| -> Result<lease::Reading, DatapathError> {
        let mut last = jiffies(ebpf, engine)?;
        loop {
            thread::sleep(TICK_POLL);
            let jiffies = jiffies(ebpf, engine)?;
            let time = start.elapsed();
            if time > TICK_DEADLINE || (jiffies != last && time >= earliest) {
                return Ok(lease::Reading { jiffies, time });
            }
            last = jiffies;
        }
    };
    let first = edge_after(Duration::ZERO)?;
    loop {
        let second = edge_after(start.elapsed() + TICK_SPAN)?;
        if let Some(hz) = lease::hz(first, second) {
            return Ok(hz);
        }
        // A busy machine may have delayed one of the readings: a longer span evens it out.
        if start.elapsed() > TICK_DEADLINE {
            return Err(DatapathError::TickRate { first, second });
        }
    }
}
