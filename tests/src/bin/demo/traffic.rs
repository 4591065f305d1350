//! The same traffic by the plain kernel and by XDP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use underpass::api::model::CounterRow;
use underpass_tests::reference::ReferenceLab;
use underpass_tests::topology;
use underpass_tests::traffic::flood::{self, Flood};
use underpass_tests::traffic::{tcp, udp};

use crate::Check;

/// Passes per side, in turns.
const PASSES: usize = 3;
/// One pass of the flood.
const FLOOD: Flood = Flood { packets: 60_000, limit: Duration::from_secs(4), payload: 64, flows: 16 };
/// Bytes of the TCP transfer.
const TCP_BYTES: u64 = 8 << 20;

/// A way through the lab.
struct Way {
    name: &'static str,
    from: &'static str,
    pod: &'static str,
    agents: &'static [&'static str],
}

const WAYS: &[Way] = &[
    Way {
        name: "client -> spine -> leaf01 -> reflector (hairpin) -> node3 -> pod3",
        from: "client",
        pod: "pod3",
        agents: &["node1", "node2"],
    },
    Way { name: "client -> gw1 -> node3 -> pod3b", from: "gwclient", pod: "pod3b", agents: &["gw1"] },
];

/// What was found on a way.
#[derive(Debug, Serialize)]
pub struct Path {
    /// The way.
    pub way: String,
    /// Agents on it.
    pub agents: Vec<String>,
    /// By the plain kernel (`underpass off`).
    pub kernel: Side,
    /// By XDP (`underpass on`).
    pub xdp: Side,
    /// XDP's rate over the kernel's, medians.
    pub ratio: f64,
    /// Counters of the agents over the XDP passes, by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// One side.
#[derive(Debug, Serialize)]
pub struct Side {
    /// Packets per second that arrived, median over the passes.
    pub rate: f64,
    /// Packets sent in all passes.
    pub sent: u64,
    /// Packets that arrived.
    pub received: u64,
    /// Packets that XDP forwarded on the agents of the way.
    pub forwarded: u64,
    /// Share of the packets that arrived which the fast path forwarded.
    pub fast_share: f64,
    /// TTL at the receiver, from 64.
    pub ttl: Vec<u8>,
    /// Megabits per second of a TCP transfer that was checked byte by byte.
    pub tcp_megabits: f64,
}

/// Sends both sides' traffic over each way, and checks bytes, TTL and who forwarded.
pub fn run(lab: &mut ReferenceLab, checks: &mut Vec<Check>) -> Result<Vec<Path>> {
    WAYS.iter().map(|way| run_way(lab, way, checks)).collect()
}

fn run_way(lab: &mut ReferenceLab, way: &Way, checks: &mut Vec<Check>) -> Result<Path> {
    let mut sides = [Gathered::default(), Gathered::default()];
    let mut reasons = BTreeMap::new();
    for _ in 0..PASSES {
        for (side, gathered) in sides.iter_mut().enumerate() {
            switch(lab, way, side == 1)?;
            checked(lab, way, gathered)?;
            let before = counters(lab, way)?;
            flood(lab, way, gathered)?;
            let after = counters(lab, way)?;
            for (reason, (verdict, packets)) in after {
                let seen = packets - before.get(&reason).map_or(0, |(_, packets)| *packets);
                if verdict == "forwarded" {
                    gathered.forwarded += seen;
                }
                if side == 1 && seen > 0 {
                    *reasons.entry(reason).or_default() += seen;
                }
            }
        }
    }
    let [kernel, xdp] = sides;
    check(way, &kernel, &xdp, checks);
    let (kernel, xdp) = (kernel.side(), xdp.side());
    Ok(Path {
        way: way.name.to_owned(),
        agents: way.agents.iter().map(|&agent| agent.to_owned()).collect(),
        ratio: xdp.rate / kernel.rate.max(f64::MIN_POSITIVE),
        kernel,
        xdp,
        reasons,
    })
}

fn check(way: &Way, kernel: &Gathered, xdp: &Gathered, checks: &mut Vec<Check>) {
    checks.push(Check::new(
        format!("{}: every datagram and byte arrives as sent, both ways of forwarding", way.name),
        kernel.damage.is_empty() && xdp.damage.is_empty(),
        || format!("kernel: {:?}; XDP: {:?}", kernel.damage, xdp.damage),
    ));
    checks.push(Check::new(
        format!("{}: TTL at the receiver is the same by kernel and by XDP", way.name),
        kernel.ttl == xdp.ttl && kernel.ttl.len() == 1,
        || format!("kernel {:?}, XDP {:?}", kernel.ttl, xdp.ttl),
    ));
    checks.push(Check::new(
        format!("{}: XDP forwards nothing while it is off and at least 99 % while it is on", way.name),
        kernel.forwarded == 0 && xdp.fast_share() >= 0.99,
        || format!("off: {} packets; on: {:.1} %", kernel.forwarded, xdp.fast_share() * 100.0),
    ));
}

/// What the passes of one side gave.
#[derive(Default)]
struct Gathered {
    rates: Vec<f64>,
    megabits: Vec<f64>,
    sent: u64,
    received: u64,
    forwarded: u64,
    ttl: Vec<u8>,
    damage: Vec<String>,
}

impl Gathered {
    /// Of the flood; packets that were lost behind the agents make it no more than all.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn fast_share(&self) -> f64 {
        (self.forwarded as f64 / self.received.max(1) as f64).min(1.0)
    }

    fn side(&self) -> Side {
        Side {
            rate: median(&self.rates),
            sent: self.sent,
            received: self.received,
            forwarded: self.forwarded,
            fast_share: self.fast_share(),
            ttl: self.ttl.clone(),
            tcp_megabits: median(&self.megabits),
        }
    }
}

/// Turns the data plane of the agents on the way on or off, with the command that operators use.
fn switch(lab: &mut ReferenceLab, way: &Way, on: bool) -> Result<()> {
    let command = if on { "on" } else { "off" };
    for agent in way.agents {
        let output = lab.agent(agent).cli(&[command])?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "underpass {command} on {agent}: {}", text.trim());
    }
    Ok(())
}

fn counters(lab: &mut ReferenceLab, way: &Way) -> Result<BTreeMap<String, (String, u64)>> {
    let mut by_reason: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for agent in way.agents {
        for CounterRow { verdict, reason, packets, .. } in lab.agent(agent).client().counters()?.counters {
            by_reason.entry(reason).or_insert((verdict, 0)).1 += packets;
        }
    }
    Ok(by_reason)
}

/// UDP and TCP of which every byte is checked.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn checked(lab: &ReferenceLab, way: &Way, gathered: &mut Gathered) -> Result<()> {
    let (from, to) = (lab.netns(way.from), lab.netns(way.pod));
    let stream = udp::send(&from, &to, target(way, 7001)?, udp::Stream::default())?;
    if let Err(error) = stream.check_intact() {
        gathered.damage.push(error.to_string());
    }
    for ttl in stream.ttls.keys() {
        if !gathered.ttl.contains(ttl) {
            gathered.ttl.push(*ttl);
        }
    }
    match tcp::transfer(&from, &to, target(way, 7002)?, TCP_BYTES, Duration::from_secs(30)) {
        Ok(report) => {
            let seconds = report.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
            gathered.megabits.push(report.bytes as f64 * 8.0 / 1e6 / seconds);
        }
        Err(error) => gathered.damage.push(format!("{error:#}")),
    }
    Ok(())
}

/// UDP as fast as one thread sends it.
fn flood(lab: &ReferenceLab, way: &Way, gathered: &mut Gathered) -> Result<()> {
    let (from, to) = (lab.netns(way.from), lab.netns(way.pod));
    let flood = flood::run(&from, &to, target(way, 7003)?, FLOOD)?;
    gathered.rates.push(flood.rate());
    gathered.sent += flood.sent;
    gathered.received += flood.received;
    Ok(())
}

fn target(way: &Way, port: u16) -> Result<SocketAddr> {
    let address = topology::pod_address(way.pod).with_context(|| format!("no pod {}", way.pod))?;
    Ok(SocketAddr::new(IpAddr::V4(address), port))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
