//! The forwarders on the routers: rival programs, and an agent that runs there as it does anywhere.

pub mod rival;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use serde::Deserialize;
use underpass_tests::agent::Agent;

use self::rival::Rival;
use crate::column::Column;
use crate::memory;
use crate::rig::{Path, Rig};
use crate::traffic::Traffic;

/// Time for the agent to compile all routes after its start.
const READY: Duration = Duration::from_mins(3);

/// Everything that forwards besides the kernel.
pub struct Routers {
    /// Programs and maps live as long as this does.
    _rivals: Vec<Rival>,
    /// Stops when this is dropped.
    agent: Option<Agent>,
    /// From the agent's start to all routes in its maps.
    pub ready_in: Option<Duration>,
    /// The agent's resident memory then, in KiB.
    pub agent_resident_kib: Option<u64>,
    program_ids: [Option<u32>; Column::ALL.len()],
}

/// What BPF statistics say about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramTime {
    /// Time in the program.
    pub time: Duration,
    /// Runs.
    pub runs: u64,
}

impl Routers {
    /// Attaches the rivals, starts the agent on its path's router and waits until it has compiled the
    /// routes. `spread` is how many of the destinations go to each next hop; every column has to do the
    /// same with them.
    ///
    /// # Errors
    /// A program is refused, the agent ends or is not ready in time, or a column does not forward.
    pub fn start(rig: &Rig, traffic: &mut Traffic, spread: &[u64], cpu: usize) -> anyhow::Result<Self> {
        let mut rivals = Vec::new();
        for path in &rig.paths {
            let Some(program) = path.column.rival() else { continue };
            rivals.push(Rival::start(path, program, rig)?);
        }
        let mut routers = Self {
            _rivals: rivals,
            agent: None,
            ready_in: None,
            agent_resident_kib: None,
            program_ids: [None; Column::ALL.len()],
        };
        routers.start_agent(rig)?;
        for path in &rig.paths {
            routers.prove(rig, traffic, path, spread, cpu)?;
            routers.program_ids[path.column.index()] = program_id(path)?;
        }
        Ok(routers)
    }

    fn start_agent(&mut self, rig: &Rig) -> anyhow::Result<()> {
        let Some(path) = rig.paths.iter().find(|path| path.column.is_agent()) else { return Ok(()) };
        let started = Instant::now();
        let machine = path.router.name().strip_prefix(&format!("{}-", rig.lab.id()));
        let machine = machine.context("the router is a machine of the lab")?;
        let mut agent = Agent::start(&rig.lab, machine, &agent_config(rig))?;
        agent.wait_synced(READY)?;
        self.ready_in = Some(started.elapsed());
        self.agent_resident_kib = memory::resident_kib(agent.process().pid());
        self.agent = Some(agent);
        Ok(())
    }

    /// Bytes that the kernel accounts to the maps of a column's program; `None` for the kernel's column.
    ///
    /// # Errors
    /// The program is gone, or a map cannot be asked.
    pub fn map_bytes(&self, column: Column) -> anyhow::Result<Option<u64>> {
        self.program(column)?.map(|info| memory::maps_of(&info)).transpose()
    }

    /// What the statistics say about a column's program; `None` for the kernel's column.
    ///
    /// # Errors
    /// The program is gone.
    pub fn program_time(&self, column: Column) -> anyhow::Result<Option<ProgramTime>> {
        let info = self.program(column)?;
        Ok(info.map(|info| ProgramTime { time: info.run_time(), runs: info.run_count() }))
    }

    fn program(&self, column: Column) -> anyhow::Result<Option<ProgramInfo>> {
        let Some(id) = self.program_ids[column.index()] else { return Ok(None) };
        let found = loaded_programs().filter_map(Result::ok).find(|info| info.id() == id);
        found.map(Some).with_context(|| format!("the program of the column {} is gone", column.label()))
    }

    /// Sends one frame to every destination; all have to arrive by the way that the column is about, and
    /// at the next hop that the longest match says.
    fn prove(
        &self,
        rig: &Rig,
        traffic: &mut Traffic,
        path: &Path,
        spread: &[u64],
        cpu: usize,
    ) -> anyhow::Result<()> {
        let frames: u64 = spread.iter().sum();
        let pass = traffic.pass(path, rig, &[cpu], u32::try_from(frames)?)?;
        // A pass has a batch more than was asked for, and the floor looks nothing up.
        let most = u64::from(underpass_common::bench::BATCH);
        let same = pass
            .by_next_hop
            .iter()
            .zip(spread)
            .all(|(found, wanted)| (*wanted..=wanted + most).contains(found));
        if pass.delivered == pass.sent && (same || path.column == Column::Floor) {
            return Ok(());
        }
        let agent = self.agent.as_ref().filter(|_| path.column.is_agent());
        let counters = agent.map(|agent| agent.client().counters()).transpose()?;
        let reasons: Vec<_> = counters
            .iter()
            .flat_map(|report| &report.counters)
            .map(|row| format!("{} {}", row.packets, row.reason))
            .collect();
        bail!(
            "the column {} does not forward as it should: of {} frames {} arrived, {} by the wrong way, {} with a wrong MAC or TTL; by next hop {:?}, expected {spread:?}; counters: {reasons:?}",
            path.column.label(),
            pass.sent,
            pass.delivered,
            pass.by_other_way,
            pass.unexpected,
            pass.by_next_hop,
        )
    }
}

/// The agent's configuration, as an operator would write it.
fn agent_config(rig: &Rig) -> String {
    let paths = rig.paths.iter().filter(|path| path.column.is_agent());
    let ports: BTreeSet<_> = paths.flat_map(|path| [&path.ingress, &path.egress]).collect();
    let ports = Vec::from_iter(ports);
    let ranges: Vec<_> = rig.set().ranges().iter().map(ToString::to_string).collect();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "[datapath]\nports = {ports:?}\naccelerate = {ranges:?}");
    text
}

/// The id of the program on a path's ingress port; `None` for the kernel's column.
fn program_id(path: &Path) -> anyhow::Result<Option<u32>> {
    #[derive(Deserialize)]
    struct Link {
        xdp: Option<Attached>,
    }
    #[derive(Deserialize)]
    struct Attached {
        prog: Program,
    }
    #[derive(Deserialize)]
    struct Program {
        id: u32,
    }
    let port = &path.ingress;
    let links: Vec<Link> = path.router.ip_json(&format!("link show dev {port}"))?;
    let attached = links.into_iter().next().and_then(|link| link.xdp).map(|attached| attached.prog.id);
    ensure!(
        attached.is_some() != path.column.is_kernel(),
        "{port} has {} program",
        if attached.is_some() { "a" } else { "no" }
    );
    Ok(attached)
}
