//! The reference cluster's hairpin against the cluster without it.
//!
//! Calico's reflectors name themselves as next hop towards the leaf, so that packets for other nodes' pods
//! enter and leave a reflector by one port. `nextHopMode: Keep` on that peering takes the hairpin away for
//! nothing. Three clusters stand side by side, and a client behind the spine floods a pod on a node that is
//! no reflector, in turns.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use underpass_tests::reference::{Options, ReferenceLab};
use underpass_tests::topology::calico;
use underpass_tests::traffic::flood::{self, Flood};

use crate::measure::DELIVERED_AT_LEAST;
use crate::random::SplitMix64;
use crate::report::{aligned, estimate};
use crate::stats::{Estimate, Summary, pair_ratios};

/// The flooded pod, on node3.
const POD: (&str, &str) = ("pod3", "10.233.66.2:7000");
/// Where the flood comes from.
const CLIENT: &str = "client";
/// One pass.
const FLOOD: Flood = Flood { packets: 60_000, limit: Duration::from_secs(2), payload: 18, flows: 16 };

/// How a packet gets from the leaf to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Leaf, reflector (its kernel forwards), node.
    HairpinKernel,
    /// Leaf, reflector (Underpass forwards), node.
    HairpinUnderpass,
    /// Leaf, node: `next hop keep`.
    Direct,
}

impl Variant {
    const ALL: [Self; 3] = [Self::HairpinKernel, Self::HairpinUnderpass, Self::Direct];

    const fn label(self) -> &'static str {
        match self {
            Self::HairpinKernel => "hairpin by the kernel",
            Self::HairpinUnderpass => "hairpin by Underpass",
            Self::Direct => "no hairpin (next hop keep)",
        }
    }

    fn options(self) -> Options {
        let agents = if self == Self::HairpinUnderpass { vec!["node1", "node2"] } else { Vec::new() };
        let calico = calico::Options { next_hop_keep: self == Self::Direct };
        Options { agents, calico, ..Options::default() }
    }
}

/// A cluster's rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    /// The cluster.
    pub variant: Variant,
    /// Time of sending divided by the datagrams that the pod received: the whole way from socket to socket.
    pub ns_per_datagram: Summary,
    /// Rate divided by that of the cluster whose kernel makes the hairpin, in pairs.
    pub ratio_to_hairpin_kernel: Option<Estimate>,
    /// Datagrams received divided by datagrams sent.
    pub delivered: Summary,
    /// Whether a pass delivered less than 0.99.
    pub lossy: bool,
}

/// Raises the three clusters and floods them in turns.
///
/// # Errors
/// A cluster does not come up.
pub fn measure(rounds: u32, random: &mut SplitMix64) -> anyhow::Result<Vec<Keep>> {
    let mut labs = Vec::new();
    for variant in Variant::ALL {
        let lab = ReferenceLab::converged(&variant.options());
        labs.push(lab.with_context(|| format!("{}: the cluster does not come up", variant.label()))?);
    }
    let to: SocketAddr = POD.1.parse().context("the pod has an address")?;
    let pass = |variant: Variant| {
        let lab = &labs[variant as usize];
        flood::run(&lab.netns(CLIENT), &lab.netns(POD.0), to, FLOOD)
    };
    // Neighbours get resolved, and the agents learn them.
    for variant in Variant::ALL {
        pass(variant)?;
    }
    let mut reports: [Vec<flood::Report>; 3] = Default::default();
    for _ in 0..rounds {
        let mut order = Variant::ALL;
        random.shuffle(&mut order);
        for variant in order {
            reports[variant as usize].push(pass(variant)?);
        }
    }
    let times = |variant: Variant| -> Vec<Option<f64>> {
        reports[variant as usize]
            .iter()
            .map(|report| Some(1e9 / report.rate()).filter(|ns| ns.is_finite()))
            .collect()
    };
    let reference = times(Variant::HairpinKernel);
    Variant::ALL
        .into_iter()
        .map(|variant| {
            let own = times(variant);
            let all: Vec<f64> = own.iter().copied().flatten().collect();
            let shares: Vec<f64> = reports[variant as usize].iter().map(share).collect();
            let delivered = Summary::of(&shares).context("there was no pass")?;
            Ok(Keep {
                variant,
                ns_per_datagram: Summary::of(&all)
                    .with_context(|| format!("{}: nothing arrived", variant.label()))?,
                ratio_to_hairpin_kernel: if variant == Variant::HairpinKernel {
                    Some(Estimate::ONE)
                } else {
                    Estimate::of(&pair_ratios(&own, &reference))
                },
                delivered,
                lossy: delivered.min < DELIVERED_AT_LEAST,
            })
        })
        .collect()
}

fn share(report: &flood::Report) -> f64 {
    crate::traffic::as_f64(report.received) / crate::traffic::as_f64(report.sent.max(1))
}

/// The rows as a table for people.
pub fn table(rows: &[Keep]) -> String {
    let header =
        ["leaf to node", "ns/datagram", "range", "rate / hairpin by the kernel", "delivered", "worst", ""];
    let mut cells = vec![header.map(str::to_owned)];
    for row in rows {
        cells.push([
            row.variant.label().to_owned(),
            format!("{:.0}", row.ns_per_datagram.median),
            format!("{:.0}-{:.0}", row.ns_per_datagram.min, row.ns_per_datagram.max),
            estimate(row.ratio_to_hairpin_kernel, 2),
            format!("{:.4}", row.delivered.median),
            format!("{:.4}", row.delivered.min),
            if row.lossy { "LOSSY: below 0.99".to_owned() } else { String::new() },
        ]);
    }
    aligned(&cells, 1)
}
