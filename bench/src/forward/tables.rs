//! The rigs of a run, one after the other, and what was measured on them.

use serde::{Deserialize, Serialize};
use underpass_common::bench::DESTINATIONS;

use super::rows::{self, Row};
use super::scaling::{self, Scaling};
use crate::column::Column;
use crate::measure::{Measurement, Plan};
use crate::random::SplitMix64;
use crate::rig::Rig;
use crate::routers::Routers;
use crate::routes::{Family, Kind, Popularity, RouteSet};
use crate::traffic::Traffic;

/// How long it took until a table could be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetUp {
    /// The route set.
    pub routes: RouteSet,
    /// Seconds for `ip -batch` to give the kernel its routes.
    pub kernel_seconds: f64,
    /// Seconds from the agent's start until all is compiled and in its maps.
    pub agent_seconds: Option<f64>,
    /// The agent's resident memory then, in KiB.
    pub agent_resident_kib: Option<u64>,
}

/// What has been measured so far.
pub struct Session {
    plan: Plan,
    seed: u64,
    /// The tables.
    pub rows: Vec<Row>,
    /// The curve.
    pub curve: Vec<Row>,
    /// The hairpin.
    pub hairpin: Vec<Row>,
    /// One and two processors.
    pub scaling: Vec<Scaling>,
    /// Times of the floor, by table.
    pub floors: Vec<Vec<f64>>,
    /// How the tables came about.
    pub set_up: Vec<SetUp>,
}

/// A rig with everything in place.
struct Ready {
    rig: Rig,
    traffic: Traffic,
    routers: Routers,
    random: SplitMix64,
}

impl Session {
    /// A session without results.
    pub const fn new(plan: Plan, seed: u64) -> Self {
        Self {
            plan,
            seed,
            rows: Vec::new(),
            curve: Vec::new(),
            hairpin: Vec::new(),
            scaling: Vec::new(),
            floors: Vec::new(),
            set_up: Vec::new(),
        }
    }

    /// All columns at a route set, and when it is to be `scaled`, on two processors too.
    ///
    /// # Errors
    /// The rig cannot be raised, or a column does not forward.
    pub fn table(
        &mut self,
        set: RouteSet,
        popularities: &[Popularity],
        columns: &[Column],
        scaled: bool,
    ) -> anyhow::Result<()> {
        let mut ready = self.ready(set, |routes| Rig::raise(columns, routes))?;
        if scaled {
            self.scale(&mut ready)?;
        }
        for popularity in popularities {
            let Ready { rig, traffic, random, .. } = &mut ready;
            traffic.aim(&popularity.destinations(&rig.routes, DESTINATIONS, random))?;
            let rows = self.measure(&mut ready, *popularity)?;
            self.rows.extend(rows);
        }
        Ok(())
    }

    /// A point of the curve.
    ///
    /// # Errors
    /// As [`Self::table`].
    pub fn curve(&mut self, set: RouteSet, columns: &[Column]) -> anyhow::Result<()> {
        let mut ready = self.ready(set, |routes| Rig::raise(columns, routes))?;
        let rows = self.measure(&mut ready, Popularity::Uniform)?;
        self.curve.extend(rows);
        Ok(())
    }

    /// Takes the points that are among the tables over into the curve.
    pub fn finish_curve(&mut self) {
        let kernel = Column::Kernel.label();
        let fits = |row: &&Row| {
            (row.family, row.kind, row.destinations) == (Family::Ipv4, Kind::Internet, Popularity::Uniform)
                && row.column != kernel
        };
        self.curve.extend(self.rows.iter().filter(fits).cloned());
        self.curve.sort_by_key(|row| row.routes);
    }

    /// One and two processors, on a rig of its own.
    ///
    /// # Errors
    /// As [`Self::table`].
    pub fn scaling(&mut self, set: RouteSet, columns: &[Column]) -> anyhow::Result<()> {
        let mut ready = self.ready(set, |routes| Rig::raise(columns, routes))?;
        self.scale(&mut ready)
    }

    /// All columns with the ingress port as egress port.
    ///
    /// # Errors
    /// As [`Self::table`].
    pub fn hairpin(&mut self, set: RouteSet, columns: &[Column]) -> anyhow::Result<()> {
        let mut ready = self.ready(set, |routes| Rig::raise_hairpin(columns, routes))?;
        self.hairpin = self.measure(&mut ready, Popularity::Uniform)?;
        Ok(())
    }

    fn scale(&mut self, ready: &mut Ready) -> anyhow::Result<()> {
        println!("{}: one processor and two", ready.rig.set());
        let other = if self.plan.cpu == 0 { 1 } else { self.plan.cpu - 1 };
        let Ready { rig, traffic, random, .. } = ready;
        self.scaling = scaling::measure(rig, traffic, &self.plan, [self.plan.cpu, other], random)?;
        Ok(())
    }

    /// Raises a rig, starts its forwarders, and lets each prove that it forwards.
    fn ready(
        &mut self,
        set: RouteSet,
        raise: impl FnOnce(crate::routes::Routes) -> anyhow::Result<Rig>,
    ) -> anyhow::Result<Ready> {
        println!("{set}: raising the rig");
        let mut random = SplitMix64::new(self.seed ^ u64::from(set.routes));
        let routes = set.routes(&mut random);
        let destinations = Popularity::Uniform.destinations(&routes, DESTINATIONS, &mut random);
        let spread = routes.spread(&destinations)?;
        let rig = raise(routes)?;
        let mut traffic = Traffic::prepare(&rig, &destinations)?;
        let routers = Routers::start(&rig, &mut traffic, &spread, self.plan.cpu)?;
        let set_up = SetUp {
            routes: set,
            kernel_seconds: rig.installed_in.as_secs_f64(),
            agent_seconds: routers.ready_in.map(|time| time.as_secs_f64()),
            agent_resident_kib: routers.agent_resident_kib,
        };
        println!(
            "{set}: in the kernel after {:.1} s, in the agent's maps after {:.1} s; every column reaches all {DESTINATIONS} destinations",
            set_up.kernel_seconds,
            set_up.agent_seconds.unwrap_or_default()
        );
        self.set_up.push(set_up);
        Ok(Ready { rig, traffic, routers, random })
    }

    fn measure(&mut self, ready: &mut Ready, popularity: Popularity) -> anyhow::Result<Vec<Row>> {
        let Ready { rig, traffic, routers, random } = ready;
        let measured = Measurement::take(&self.plan, random, rig, traffic, routers)?;
        self.floors.push(measured.kept(Column::Floor));
        rows::rows(rig, routers, popularity, &measured)
    }
}
