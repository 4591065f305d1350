//! The loops of lookups, one program per engine.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::{TestRun as _, TestRunOptions};
use nix::net::if_::if_nametoindex;
use underpass_common::bench::{self, Lookups};
use underpass_tests::netns::Netns;

use super::Method;
use crate::object;
use crate::rig::Path;
use crate::routers::rival;
use crate::routes::{Family, Routes};
use crate::traffic::pin;

/// What looks addresses up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Nothing: the loop alone.
    Nothing,
    /// `bpf_fib_lookup`: route, next hop and neighbour.
    FibHelper,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie,
    /// The flat table of Underpass.
    Flat,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::FibHelper, Self::LpmTrie, Self::Flat];

    /// Name in tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nothing => "loop",
            Self::FibHelper => "bpf_fib_lookup",
            Self::LpmTrie => "lpm-trie",
            Self::Flat => "flat",
        }
    }

    /// Number of the colour of the column that uses it.
    pub const fn colour(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::FibHelper => 1,
            Self::LpmTrie => 2,
            Self::Flat => 3,
        }
    }

    const fn program(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Nothing, Family::Ipv4) => bench::program::LOOKUP_NOTHING,
            (Self::Nothing, Family::Ipv6) => bench::program::LOOKUP_NOTHING6,
            (Self::FibHelper, Family::Ipv4) => bench::program::LOOKUP_FIB,
            (Self::FibHelper, Family::Ipv6) => bench::program::LOOKUP_FIB6,
            (Self::LpmTrie, Family::Ipv4) => bench::program::LOOKUP_LPM,
            (Self::LpmTrie, Family::Ipv6) => bench::program::LOOKUP_LPM6,
            (Self::Flat, Family::Ipv4) => bench::program::LOOKUP_FLAT,
            (Self::Flat, Family::Ipv6) => bench::program::LOOKUP_FLAT6,
        }
    }
}

/// Loaded loops with filled tables.
pub struct Loops {
    object: Ebpf,
    family: Family,
    router: Netns,
    ifindex: u32,
}

impl Loops {
    /// Loads the programs over the flat table of `bytes` that is pinned at `pin`, and fills the trie.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn load(path: &Path, routes: &Routes, pin: &std::path::Path, bytes: u32) -> anyhow::Result<Self> {
        let family = routes.set.family;
        let mut object = object::open_with_table(pin, bytes)?;
        for engine in Engine::ALL {
            object::load(&mut object, engine.program(family))?;
        }
        rival::fill_trie(&mut object, routes, path.source.1)?;
        let ifindex = path.router.enter(|| if_nametoindex(path.ingress.as_str()))??;
        Ok(Self { object, family, router: path.router.clone(), ifindex })
    }

    /// The addresses to look up.
    ///
    /// # Errors
    /// They are not as many as the loops take.
    pub fn aim(&mut self, destinations: &[IpAddr]) -> anyhow::Result<()> {
        object::aim(&mut self.object, self.family, destinations)
    }

    /// Nanoseconds per turn of an engine's loop. In the router's namespace: the helper asks the FIB of the
    /// caller's.
    ///
    /// # Errors
    /// The kernel refuses, or the engine did not find what it was asked for.
    pub fn pass(&mut self, engine: Engine, method: &Method) -> anyhow::Result<f64> {
        let Self { object, family, router, ifindex } = self;
        let name = engine.program(*family);
        let run = Lookups { count: method.lookups_per_pass, ifindex: *ifindex, ..Lookups::default() };
        let answer: Lookups = router.enter(|| {
            pin(method.cpu)?;
            Array::try_from(object::map(object, bench::map::LOOKUPS)?)?.set(0, run, 0)?;
            let options = TestRunOptions { data_in: Some(&[0; 64]), ..TestRunOptions::default() };
            let program = object::xdp(object, name)?;
            program.test_run(options).with_context(|| format!("cannot run {name}"))?;
            let map: Array<_, Lookups> = object::map(object, bench::map::LOOKUPS)?.try_into()?;
            anyhow::Ok(map.get(&0, 0)?)
        })??;
        // Every address has a target of at least 1; the helper counts the routes that it found.
        let least = u64::from(method.lookups_per_pass);
        let found = match engine {
            Engine::FibHelper => answer.sum == least,
            Engine::Nothing | Engine::LpmTrie | Engine::Flat => answer.sum >= least,
        };
        ensure!(found, "{} found {} of {least} addresses", engine.label(), answer.sum);
        Ok(crate::traffic::as_f64(answer.elapsed) / f64::from(method.lookups_per_pass))
    }
}
